//! A data key under a master key, and the check value that names it.
//!
//! Wrapped key: `0x01 | nonce 12 | ciphertext 32 | tag 16`, AES-256-GCM with associated data `rotator.wrap.v1`, tenant,
//! key id (8 bytes big endian), purpose, master key id; each part after its length. A wrapped key moved to another
//! tenant, id or purpose does not unwrap.
//!
//! GCM does not commit to its key: a ciphertext can be made that opens under two. The check value, 16 bytes of
//! HKDF-SHA-256 over the data key, is stored beside the wrapped key and verified at each unwrapping.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::aead::{Cipher, NONCE, TAG};
use super::{KeyBytes, TenantId, equal_in_constant_time, nonce, push_part};

const FORMAT: u8 = 1;
const DOMAIN: &[u8] = b"rotator.wrap.v1";
const WRAPPED: usize = 1 + NONCE + 32 + TAG;
pub const CHECK_VALUE: usize = 16;

/// The master key does not open this data key, or gives another one than was made.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongMasterKey;

/// What a wrapped key is bound to.
pub struct Binding<'a> {
    pub tenant: &'a TenantId,
    pub key_id: i64,
    pub purpose: &'a str,
    pub master_key_id: &'a str,
}

impl Binding<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        push_part(&mut bytes, DOMAIN);
        push_part(&mut bytes, self.tenant);
        push_part(&mut bytes, &self.key_id.to_be_bytes());
        push_part(&mut bytes, self.purpose.as_bytes());
        push_part(&mut bytes, self.master_key_id.as_bytes());
        bytes
    }
}

/// Sixteen bytes that tell one key from another without telling anything about it.
pub fn check_value(key: &KeyBytes) -> [u8; CHECK_VALUE] {
    let mut value = [0; CHECK_VALUE];
    Hkdf::<Sha256>::new(None, key.expose())
        .expand(b"rotator.check.v1", &mut value)
        .expect("16 bytes are below HKDF's limit of 255 * 32");
    value
}

/// Wraps `key` under `master`.
pub fn wrap(
    master: &KeyBytes,
    binding: &Binding<'_>,
    key: &KeyBytes,
) -> Result<Vec<u8>, nonce::NoEntropy> {
    let mut fresh = [0; NONCE];
    nonce::fill(&mut fresh)?;
    let mut wrapped = vec![0; WRAPPED];
    wrapped[0] = FORMAT;
    wrapped[1..1 + NONCE].copy_from_slice(&fresh);
    let (ciphertext, tag) = wrapped[1 + NONCE..].split_at_mut(32);
    let made = Cipher::new(master)
        .encrypt(
            &fresh,
            &binding.associated_data().as_slice(),
            key.expose(),
            ciphertext,
        )
        .expect("32 bytes into 32 bytes, far below GCM's limit");
    tag.copy_from_slice(&made);
    Ok(wrapped)
}

/// Unwraps and verifies the check value.
pub fn unwrap(
    master: &KeyBytes,
    binding: &Binding<'_>,
    wrapped: &[u8],
    expected_check_value: &[u8],
) -> Result<KeyBytes, WrongMasterKey> {
    let (&format, rest) = wrapped.split_first().ok_or(WrongMasterKey)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(WrongMasterKey)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(WrongMasterKey)?;
    if format != FORMAT || ciphertext.len() != 32 {
        return Err(WrongMasterKey);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    Cipher::new(master)
        .decrypt(
            nonce,
            &binding.associated_data().as_slice(),
            ciphertext,
            tag,
            &mut bytes[..],
        )
        .map_err(|_| WrongMasterKey)?;
    let key = KeyBytes::take(&mut bytes);
    if equal_in_constant_time(&check_value(&key), expected_check_value) {
        Ok(key)
    } else {
        Err(WrongMasterKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = [7; 16];
    const BINDING: Binding<'static> = Binding {
        tenant: &TENANT,
        key_id: 5,
        purpose: "data",
        master_key_id: "2026",
    };

    #[test]
    fn round_trip() {
        let master = KeyBytes::generate().expect("entropy");
        let key = KeyBytes::generate().expect("entropy");
        let wrapped = wrap(&master, &BINDING, &key).expect("entropy");
        let again = unwrap(&master, &BINDING, &wrapped, &check_value(&key)).expect("unwraps");
        assert!(equal_in_constant_time(again.expose(), key.expose()));
    }

    #[test]
    fn bound_to_everything_it_names() {
        let master = KeyBytes::generate().expect("entropy");
        let key = KeyBytes::generate().expect("entropy");
        let check = check_value(&key);
        let wrapped = wrap(&master, &BINDING, &key).expect("entropy");
        for binding in [
            Binding {
                tenant: &[8; 16],
                ..BINDING
            },
            Binding {
                key_id: 6,
                ..BINDING
            },
            Binding {
                purpose: "index",
                ..BINDING
            },
            Binding {
                master_key_id: "2027",
                ..BINDING
            },
        ] {
            assert!(unwrap(&master, &binding, &wrapped, &check).is_err());
        }
        let other = KeyBytes::generate().expect("entropy");
        assert!(unwrap(&other, &BINDING, &wrapped, &check).is_err());
    }

    #[test]
    fn tampering_and_a_wrong_check_value_are_noticed() {
        let master = KeyBytes::generate().expect("entropy");
        let key = KeyBytes::generate().expect("entropy");
        let check = check_value(&key);
        let wrapped = wrap(&master, &BINDING, &key).expect("entropy");
        for byte in 0..wrapped.len() {
            let mut bad = wrapped.clone();
            bad[byte] ^= 1;
            assert!(unwrap(&master, &BINDING, &bad, &check).is_err());
            assert!(unwrap(&master, &BINDING, &wrapped[..byte], &check).is_err());
        }
        assert!(unwrap(&master, &BINDING, &wrapped, &[0; CHECK_VALUE]).is_err());
        assert!(unwrap(&master, &BINDING, &wrapped, &check[..15]).is_err());
    }
}
