//! The keys that sign sealed blocks: Ed25519, written as lines like those of Go's `sumdb/note` and C2SP's signed-note
//! (<https://c2sp.org/signed-note>), so that other tools can check a signature, too.
//!
//! The private line stands in `ROTATOR_AUDIT_KEY`, outside of the database; the public one is for whoever verifies. What
//! is signed, and how the text of a signature looks: crate `rotator-audit`. Wiped from memory when dropped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rotator_audit::{Note, VerifierKey, hex, note};
use zeroize::Zeroizing;

const PRIVATE: &str = "PRIVATE+KEY+";
/// The only algorithm there is in these lines, in front of the bytes of a key.
const ED25519_KIND: u8 = 1;

/// What is wrong with a key's line; never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is not a line that begins with PRIVATE+KEY+")]
    NotPrivate,
    #[error("it is a private key; the public one is needed")]
    Private,
    #[error("it is damaged")]
    Damaged,
    #[error("a name has letters, digits and . _ / - in it, 1 to 64 of them")]
    Name,
    #[error("the operating system gives no random bytes")]
    NoChance,
}

/// What signs.
pub struct SigningKey {
    public: PublicKey,
    pair: Ed25519KeyPair,
}

/// What verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifierKey);

/// A fresh key: the private line and the public one.
///
/// # Errors
/// The name can't be one, or there is no chance to be had.
pub fn fresh(name: &str) -> Result<(Zeroizing<String>, PublicKey), KeyError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyError::NoChance)?;
    let public = public_of(name, &pair(&seed)?)?;
    // Room for all of it at once: what grows leaves copies behind.
    let mut line = Zeroizing::new(String::with_capacity(160));
    line.push_str(PRIVATE);
    line.push_str(name);
    line.push_str(&format!("+{}+", hex::encode(&public.0.id())));
    let mut bytes = Zeroizing::new([0_u8; 33]);
    bytes[0] = ED25519_KIND;
    bytes[1..].copy_from_slice(seed.as_slice());
    STANDARD.encode_string(bytes.as_slice(), &mut line);
    Ok((line, public))
}

impl SigningKey {
    /// Reads a private line.
    ///
    /// # Errors
    /// It isn't one, or was changed.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let rest = text
            .trim()
            .strip_prefix(PRIVATE)
            .ok_or(KeyError::NotPrivate)?;
        // The base64 may have a + in it, the name has none.
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(hash), Some(data)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyError::Damaged);
        };
        let bytes = STANDARD.decode(data).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| KeyError::Damaged)?;
        let Some((&ED25519_KIND, seed)) = bytes.split_first() else {
            return Err(KeyError::Damaged);
        };
        let seed: &[u8; 32] = seed.try_into().map_err(|_| KeyError::Damaged)?;
        let pair = pair(seed)?;
        let public = public_of(name, &pair)?;
        if hex::encode(&public.0.id()) != hash {
            return Err(KeyError::Damaged);
        }
        Ok(Self { public, pair })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a text: its note, text and signature together.
    pub fn sign(&self, body: &str) -> String {
        let mut signature = [0; 64];
        // Ed25519 has no other length.
        signature.copy_from_slice(self.pair.sign(body.as_bytes()).as_ref());
        note::compose(body, &self.public.0, &signature)
    }
}

impl PublicKey {
    /// Reads a public line.
    ///
    /// # Errors
    /// It isn't one, or was changed.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with(PRIVATE) {
            return Err(KeyError::Private);
        }
        let key = VerifierKey::parse(text).map_err(|_| KeyError::Damaged)?;
        Ok(Self(key))
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Whether this key signed the note.
    pub fn signed(&self, note: &Note<'_>) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0.public_key());
        note.signatures_by(&self.0)
            .any(|one| key.verify(note.body.as_bytes(), &one.signature).is_ok())
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn pair(seed: &[u8; 32]) -> Result<Ed25519KeyPair, KeyError> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Damaged)
}

fn public_of(name: &str, pair: &Ed25519KeyPair) -> Result<PublicKey, KeyError> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
    if !fits {
        return Err(KeyError::Name);
    }
    let public: [u8; 32] = pair
        .public_key()
        .as_ref()
        .try_into()
        .map_err(|_| KeyError::Damaged)?;
    VerifierKey::new(name, public)
        .map(PublicKey)
        .map_err(|_| KeyError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_what_its_public_line_verifies() {
        let (line, public) = fresh("rotator/audit").unwrap();
        let key = SigningKey::parse(&line).unwrap();
        let shown = key.public().to_string();
        assert_eq!(shown, public.to_string());
        assert!(shown.starts_with("rotator/audit+"), "{shown}");
        let text = key.sign(&note::body(&[7; 16], 1, &[1; 32]));
        let public = PublicKey::parse(&shown).unwrap();
        assert!(public.signed(&Note::parse(&text).unwrap()), "{text}");
        let changed = text.replace("\n1\n", "\n2\n");
        assert!(!public.signed(&Note::parse(&changed).unwrap()));
        let (_, other) = fresh("rotator/audit").unwrap();
        assert!(!other.signed(&Note::parse(&text).unwrap()));
    }

    /// The example in the documentation of Go's note package.
    #[test]
    fn lines_are_those_of_go() {
        let private =
            "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let public = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key = SigningKey::parse(private).unwrap();
        assert_eq!(key.public().to_string(), public);
        assert_eq!(PublicKey::parse(public).unwrap(), *key.public());
        let text = key.sign("If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n");
        assert!(text.ends_with("\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"), "{text}");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        let (line, public) = fresh("a").unwrap();
        assert!(matches!(
            SigningKey::parse("secret"),
            Err(KeyError::NotPrivate)
        ));
        let renamed = line.replacen("+a+", "+b+", 1);
        assert!(matches!(
            SigningKey::parse(&renamed),
            Err(KeyError::Damaged)
        ));
        assert_eq!(PublicKey::parse(&line), Err(KeyError::Private));
        assert_eq!(PublicKey::parse("a+b"), Err(KeyError::Damaged));
        let renamed = public.to_string().replacen("a+", "b+", 1);
        assert_eq!(PublicKey::parse(&renamed), Err(KeyError::Damaged));
        assert!(matches!(fresh("a b"), Err(KeyError::Name)));
        assert!(matches!(fresh("a+b"), Err(KeyError::Name)));
    }
}
