//! Cryptography without PostgreSQL: nothing here knows of pgrx, SQL or files.
//!
//! [`aead`] seals and opens envelopes by way of `cipher`, AES-256-GCM under one key, whose fast path for short messages
//! is `short`. [`wrap`] protects data keys under a master key, [`blind_index`] makes equality searchable, [`nonce`] hands
//! out the operating system's random bytes. Key material lives in [`KeyBytes`], which can be neither printed, copied nor
//! compared, and is wiped when dropped. Unit tests sit beside the code; `vectors` has the published ones, `mutation` feeds
//! broken ciphertexts to the parser.

pub mod aead;
pub mod blind_index;
mod cipher;
#[cfg(test)]
mod mutation;
pub mod nonce;
mod short;
#[cfg(test)]
mod vectors;
pub mod wrap;

use ctutils::CtEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A tenant's id, as the 16 bytes of its UUID.
pub type TenantId = [u8; 16];

/// 32 secret bytes: a master key, a data key or an index key.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct KeyBytes([u8; 32]);

impl KeyBytes {
    /// Takes the bytes over and wipes where they came from.
    pub fn take(source: &mut [u8; 32]) -> KeyBytes {
        let key = KeyBytes(*source);
        source.zeroize();
        key
    }

    /// A fresh key from the operating system's generator.
    pub fn generate() -> Result<KeyBytes, nonce::NoEntropy> {
        let mut key = KeyBytes([0; 32]);
        nonce::fill(&mut key.0)?;
        Ok(key)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Compares without telling by its running time where two values differ.
pub fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.ct_eq(right).to_bool()
}

/// Appends one part of associated data: its length as four bytes, big endian, then the part itself, so that no two
/// lists of parts give the same bytes. Parts are far below 4 GiB: PostgreSQL's values end at 1 GiB.
pub(crate) fn push_part(buffer: &mut impl Extend<u8>, part: &[u8]) {
    buffer.extend((part.len() as u32).to_be_bytes());
    buffer.extend(part.iter().copied());
}
