//! The signed text about a block: a [signed note](https://c2sp.org/signed-note) with Ed25519 signatures.
//!
//! ```text
//! rotator/audit/01234567-89ab-cdef-0123-456789abcdef
//! 7
//! <base64 of the block's hash>
//!
//! — <key name> <base64 of four bytes that name the key, and the signature>
//! ```
//!
//! Signed are the bytes of the first three lines, each with its newline. Signing and checking a signature is the caller's:
//! keys stay outside of this crate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::{Hash, hex};

/// Ed25519 in the registry of signed-note.
const ED25519: u8 = 1;
const ORIGIN: &str = "rotator/audit/";

/// Why a text is no note of ours, or no verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("a note is three lines, a blank one, and a line for each signature")]
    Form,
    #[error("the note is about something else than a block of an audit log")]
    Origin,
    #[error("the note has no signature of the form \u{2014} name base64")]
    Signature,
    #[error("a verifier key has the form name+hash+base64")]
    Key,
    #[error("the verifier key's hash isn't that of its name and key")]
    KeyHash,
    #[error("only Ed25519 keys are known")]
    Algorithm,
    #[error("a key's name has one character at least, and neither white space nor a plus sign")]
    KeyName,
}

/// The text that is signed for a block.
pub fn body(tenant: &[u8; 16], number: u64, hash: &Hash) -> String {
    format!(
        "{ORIGIN}{}\n{number}\n{}\n",
        hex::uuid(tenant),
        STANDARD.encode(hash)
    )
}

/// The note: `body` with one signature by the key.
pub fn compose(body: &str, key: &VerifierKey, signature: &[u8; 64]) -> String {
    let mut signed = key.id().to_vec();
    signed.extend_from_slice(signature);
    format!(
        "{body}\n\u{2014} {} {}\n",
        key.name(),
        STANDARD.encode(signed)
    )
}

/// A note taken apart. Nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    pub tenant: [u8; 16],
    pub number: u64,
    /// The hash that the note says the block has.
    pub hash: Hash,
    /// What is signed.
    pub body: &'a str,
    /// At least one.
    pub signatures: Vec<Signature<'a>>,
}

/// A signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature<'a> {
    pub key_name: &'a str,
    /// Which of the keys of that name; see [`VerifierKey::id`].
    pub key_id: [u8; 4],
    pub signature: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Takes a note apart; a text that differs in any byte from what [`compose`] gives is refused.
    pub fn parse(text: &'a str) -> Result<Note<'a>, NoteError> {
        let gap = text.find("\n\n").ok_or(NoteError::Form)?;
        let (body, signed) = (&text[..=gap], &text[gap + 2..]);
        let mut lines = body.lines();
        let (Some(origin), Some(number), Some(hash), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(NoteError::Form);
        };
        let tenant = origin
            .strip_prefix(ORIGIN)
            .and_then(hex::parse_uuid)
            .ok_or(NoteError::Origin)?;
        let number = number.parse::<u64>().map_err(|_| NoteError::Form)?;
        let hash: Hash = STANDARD
            .decode(hash)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(NoteError::Form)?;
        if self::body(&tenant, number, &hash) != body {
            return Err(NoteError::Form);
        }
        let signatures = signed
            .strip_suffix('\n')
            .ok_or(NoteError::Signature)?
            .split('\n')
            .map(Signature::parse)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Note {
            tenant,
            number,
            hash,
            body,
            signatures,
        })
    }

    /// Signatures that claim to be by this key.
    pub fn signatures_by(&self, key: &VerifierKey) -> impl Iterator<Item = &Signature<'a>> {
        self.signatures
            .iter()
            .filter(|signature| signature.key_name == key.name() && signature.key_id == key.id())
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Result<Signature<'a>, NoteError> {
        let (key_name, encoded) = line
            .strip_prefix("\u{2014} ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or(NoteError::Signature)?;
        check_name(key_name).map_err(|_| NoteError::Signature)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Signature)?;
        let (key_id, signature) = bytes.split_first_chunk().ok_or(NoteError::Signature)?;
        Ok(Signature {
            key_name,
            key_id: *key_id,
            signature: signature.to_vec(),
        })
    }
}

/// The public half of a signing key and its name: what a verifier is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public_key: [u8; 32],
}

impl VerifierKey {
    /// An Ed25519 key. The name usually tells the installation, like `rotator.acme.example`.
    pub fn new(name: &str, public_key: [u8; 32]) -> Result<VerifierKey, NoteError> {
        check_name(name)?;
        Ok(VerifierKey {
            name: name.to_owned(),
            public_key,
        })
    }

    /// Reads `name+hash+base64`, the form in which [`std::fmt::Display`] writes it.
    pub fn parse(text: &str) -> Result<VerifierKey, NoteError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let id = hex::decode::<4>(id).ok_or(NoteError::Key)?;
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let (algorithm, public_key) = key.split_first().ok_or(NoteError::Key)?;
        if *algorithm != ED25519 {
            return Err(NoteError::Algorithm);
        }
        let public_key = public_key.try_into().map_err(|_| NoteError::Key)?;
        let key = VerifierKey::new(name, public_key)?;
        if key.id() != id {
            return Err(NoteError::KeyHash);
        }
        Ok(key)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The four bytes that name this key in a signature: the start of SHA-256 over name, newline, algorithm and key.
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', ED25519])
            .chain_update(self.public_key)
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(&self.public_key);
        write!(
            f,
            "{}+{}+{}",
            self.name,
            hex::encode(&self.id()),
            STANDARD.encode(key)
        )
    }
}

fn check_name(name: &str) -> Result<(), NoteError> {
    if name.is_empty()
        || name
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '+')
    {
        return Err(NoteError::KeyName);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
