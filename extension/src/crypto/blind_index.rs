//! Equality over encrypted text: a keyed hash of the normalised value.
//!
//! `HMAC-SHA-256(HKDF-SHA-256(index key, info = label), normalise(value))`. The index key is the tenant's own and each
//! column derives another from it, so equal values show as equal within one column of one tenant and nowhere else.
//! Normalisation is Unicode NFKC, lower case, and white space trimmed and collapsed. It is part of what is stored:
//! changing it, or moving to Unicode tables that change it, means recomputing every index.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::KeyBytes;

/// What "the same name" means.
pub fn normalise(value: &str) -> Zeroizing<String> {
    let mut normalised = Zeroizing::new(String::with_capacity(value.len()));
    let lowered = Zeroizing::new(Zeroizing::new(value.nfkc().collect::<String>()).to_lowercase());
    for word in lowered.split_whitespace() {
        if !normalised.is_empty() {
            normalised.push(' ');
        }
        normalised.push_str(word);
    }
    normalised
}

/// The index of `value` in the column called `label`.
pub fn blind_index(index_key: &KeyBytes, label: &[u8], value: &str) -> [u8; 32] {
    keyed_hash(index_key, label, normalise(value).as_bytes())
}

/// The same of the very bytes, for what commits to a value and must tell `Stripe` from `stripe`. With a label of its own.
pub fn keyed_hash(index_key: &KeyBytes, label: &[u8], value: &[u8]) -> [u8; 32] {
    let mut column_key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, index_key.expose())
        .expand(label, &mut column_key[..])
        .expect("32 bytes are below HKDF's limit of 255 * 32");
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&column_key[..]).expect("HMAC takes keys of any length");
    mac.update(value);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyBytes {
        KeyBytes::take(&mut [byte; 32])
    }

    #[test]
    fn same_names_are_equal() {
        for (left, right) in [
            ("Stripe Live", "stripe live"),
            ("  stripe   live\t", "stripe live"),
            ("ＳＴＲＩＰＥ live", "stripe live"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("stripe\u{a0}live", "stripe live"),
            ("ﬁle", "file"),
            ("ÄPFEL", "äpfel"),
        ] {
            assert_eq!(*normalise(left), *normalise(right));
        }
        for (left, right) in [
            ("stripe-live", "stripe live"),
            ("cafe", "café"),
            ("a b", "ab"),
        ] {
            assert_ne!(*normalise(left), *normalise(right));
        }
    }

    #[test]
    fn differs_between_tenants_and_columns() {
        let here = blind_index(&key(1), b"secret.name", "x");
        assert_eq!(here, blind_index(&key(1), b"secret.name", " X "));
        assert_ne!(here, blind_index(&key(2), b"secret.name", "x"));
        assert_ne!(here, blind_index(&key(1), b"contact.recipient", "x"));
    }

    /// Computed once with another implementation (Python's hmac): indexes already stored must keep matching.
    #[test]
    fn value_is_pinned() {
        let index = blind_index(&key(1), b"secret.name", "Stripe Live");
        let hex: String = index.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "03c6fdbe26091ad30f8787c1dfd65e13901d458b8390bda3d248ec0919fc908a"
        );
    }
}
