//! The envelope of an encrypted field, and the hot path that opens and seals it.
//!
//! ```text
//! 0x01 | key id, 8 bytes big endian | nonce 12 | AES-256-GCM ciphertext | tag 16
//! ```
//! Associated data is five parts, each after its length as four bytes (big endian): `rotator.field.v1`, tenant, label
//! of the column, row id, and the header (format byte and key id). So a ciphertext moved to another row, column or
//! tenant, or given another key id, does not open. Nothing in it depends on the database it lives in: a dump restores
//! anywhere. AES-GCM is NIST SP 800-38D; the 96-bit random nonces allow 2^32 messages a key.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use super::{KeyBytes, TenantId};

pub const FORMAT: u8 = 1;
pub const HEADER: usize = 9;
pub const NONCE: usize = 12;
pub const TAG: usize = 16;
/// How much longer an envelope is than its plaintext.
pub const OVERHEAD: usize = HEADER + NONCE + TAG;

const DOMAIN: &[u8; 16] = b"rotator.field.v1";
/// Fixed part of the associated data: five lengths, domain, tenant, row id, header.
const AAD_FIXED: usize = 5 * 4 + DOMAIN.len() + 16 + 16 + HEADER;
/// Associated data up to this length (labels up to 79 bytes) needs no allocation.
const AAD_ON_STACK: usize = 160;

/// The ciphertext is malformed, was changed, or belongs elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAuthentic;

/// A key with its schedule expanded once; the schedule is wiped when dropped.
pub struct Cipher(Aes256Gcm);

impl Cipher {
    pub fn new(key: &KeyBytes) -> Cipher {
        Cipher(Aes256Gcm::new(key.expose().into()))
    }

    /// Encrypts `plaintext` into `ciphertext` (same length) and gives the tag.
    #[inline]
    pub(crate) fn encrypt(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        plaintext: &[u8],
        ciphertext: &mut [u8],
    ) -> Result<[u8; TAG], NotAuthentic> {
        let buffer = InOutBuf::new(plaintext, ciphertext).map_err(|_| NotAuthentic)?;
        let tag = self
            .0
            .encrypt_inout_detached(<&Nonce<_>>::from(nonce), aad, buffer)
            .map_err(|_| NotAuthentic)?;
        Ok(tag.into())
    }

    /// Checks the tag, then decrypts `ciphertext` into `plaintext` (same length), which stays untouched on failure.
    #[inline]
    pub(crate) fn decrypt(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG],
        plaintext: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        let buffer = InOutBuf::new(ciphertext, plaintext).map_err(|_| NotAuthentic)?;
        self.0
            .decrypt_inout_detached(<&Nonce<_>>::from(nonce), aad, buffer, <&Tag>::from(tag))
            .map_err(|_| NotAuthentic)
    }
}

/// Where a field lives: what its ciphertext is bound to.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub tenant: &'a TenantId,
    pub label: &'a [u8],
    pub row_id: &'a [u8; 16],
}

impl Place<'_> {
    /// Builds the associated data on the stack (on the heap for very long labels) and passes it on.
    #[inline]
    fn with_associated_data<R>(&self, header: &[u8; HEADER], then: impl FnOnce(&[u8]) -> R) -> R {
        let length = AAD_FIXED + self.label.len();
        if length <= AAD_ON_STACK {
            let mut stack = [0; AAD_ON_STACK];
            self.write_associated_data(header, &mut stack[..length]);
            then(&stack[..length])
        } else {
            let mut heap = vec![0; length];
            self.write_associated_data(header, &mut heap);
            then(&heap)
        }
    }

    /// `target` is `AAD_FIXED + label` long.
    #[inline]
    fn write_associated_data(&self, header: &[u8; HEADER], target: &mut [u8]) {
        let mut rest = target;
        put_part(&mut rest, DOMAIN);
        put_part(&mut rest, self.tenant);
        put_part(&mut rest, self.label);
        put_part(&mut rest, self.row_id);
        put_part(&mut rest, header);
    }
}

/// As `push_part`, into memory that is there; inlined so that parts of a known length are plain stores.
#[inline(always)]
fn put_part(rest: &mut &mut [u8], part: &[u8]) {
    let (length, after) = std::mem::take(rest).split_at_mut(4);
    length.copy_from_slice(&(part.len() as u32).to_be_bytes());
    let (body, after) = after.split_at_mut(part.len());
    body.copy_from_slice(part);
    *rest = after;
}

/// An envelope taken apart, not yet authenticated.
pub struct Envelope<'a> {
    header: &'a [u8; HEADER],
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

impl<'a> Envelope<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Envelope<'a>, NotAuthentic> {
        let (header, rest) = bytes.split_first_chunk().ok_or(NotAuthentic)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(NotAuthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(NotAuthentic)?;
        if header[0] != FORMAT {
            return Err(NotAuthentic);
        }
        Ok(Envelope {
            header,
            nonce,
            ciphertext,
            tag,
        })
    }

    /// Which key the envelope says it was sealed with; authenticated only by opening it.
    pub fn key_id(&self) -> i64 {
        let [_, id @ ..] = *self.header;
        i64::from_be_bytes(id)
    }

    /// Length of the plaintext.
    pub fn len(&self) -> usize {
        self.ciphertext.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ciphertext.is_empty()
    }

    /// Decrypts into `plaintext`, which must be [`Envelope::len`] long and stays untouched on failure.
    #[inline]
    pub fn open_into(
        &self,
        cipher: &Cipher,
        place: Place<'_>,
        plaintext: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        place.with_associated_data(self.header, |aad| {
            cipher.decrypt(self.nonce, aad, self.ciphertext, self.tag, plaintext)
        })
    }
}

/// Encrypts `plaintext` into `envelope`, which must be `plaintext.len() + OVERHEAD` long.
#[inline]
pub fn seal_into(
    cipher: &Cipher,
    key_id: i64,
    nonce: &[u8; NONCE],
    place: Place<'_>,
    plaintext: &[u8],
    envelope: &mut [u8],
) -> Result<(), NotAuthentic> {
    let (header, rest) = envelope
        .split_first_chunk_mut::<HEADER>()
        .ok_or(NotAuthentic)?;
    let (nonce_out, rest) = rest.split_first_chunk_mut::<NONCE>().ok_or(NotAuthentic)?;
    let (ciphertext, tag_out) = rest.split_last_chunk_mut::<TAG>().ok_or(NotAuthentic)?;
    header[0] = FORMAT;
    header[1..].copy_from_slice(&key_id.to_be_bytes());
    *nonce_out = *nonce;
    *tag_out = place.with_associated_data(header, |aad| {
        cipher.encrypt(nonce, aad, plaintext, ciphertext)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = [7; 16];
    const ROW: [u8; 16] = [9; 16];
    const PLACE: Place<'static> = Place {
        tenant: &TENANT,
        label: b"secret.name",
        row_id: &ROW,
    };

    fn cipher(byte: u8) -> Cipher {
        Cipher::new(&KeyBytes::take(&mut [byte; 32]))
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut envelope = vec![0; plaintext.len() + OVERHEAD];
        seal_into(&cipher(1), 42, &[3; NONCE], PLACE, plaintext, &mut envelope).expect("seals");
        envelope
    }

    fn opened(envelope: &[u8], place: Place<'_>) -> Result<Vec<u8>, NotAuthentic> {
        let envelope = Envelope::parse(envelope)?;
        let mut plaintext = vec![0; envelope.len()];
        envelope.open_into(&cipher(1), place, &mut plaintext)?;
        Ok(plaintext)
    }

    #[test]
    fn round_trip_of_all_lengths() {
        for length in 0..600 {
            let plaintext: Vec<u8> = (0..length).map(|i| i as u8).collect();
            assert_eq!(opened(&sealed(&plaintext), PLACE), Ok(plaintext));
        }
    }

    #[test]
    fn names_its_key() {
        assert_eq!(Envelope::parse(&sealed(b"x")).expect("parses").key_id(), 42);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sealed(b"stripe live key");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&bad, PLACE), Err(NotAuthentic), "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let good = sealed(b"stripe live key");
        for length in 0..good.len() {
            assert_eq!(opened(&good[..length], PLACE), Err(NotAuthentic));
        }
        let mut longer = good;
        longer.push(0);
        assert_eq!(opened(&longer, PLACE), Err(NotAuthentic));
    }

    #[test]
    fn opens_only_at_its_place() {
        let good = sealed(b"stripe live key");
        for place in [
            Place {
                tenant: &[8; 16],
                ..PLACE
            },
            Place {
                label: b"secret.purpose",
                ..PLACE
            },
            Place {
                label: b"secret.nam",
                ..PLACE
            },
            Place {
                row_id: &[8; 16],
                ..PLACE
            },
        ] {
            assert_eq!(opened(&good, place), Err(NotAuthentic));
        }
    }

    #[test]
    fn long_labels_bind_the_same_bytes() {
        let label = vec![b'l'; AAD_ON_STACK];
        let place = Place {
            label: &label,
            ..PLACE
        };
        let header = [1; HEADER];
        let on_heap = place.with_associated_data(&header, <[u8]>::to_vec);
        assert_eq!(on_heap.len(), AAD_FIXED + label.len());
        let short = Place {
            label: b"ab",
            ..PLACE
        };
        let mut expected = Vec::new();
        for part in [&DOMAIN[..], &TENANT, b"ab", &ROW, &header] {
            super::super::push_part(&mut expected, part);
        }
        assert_eq!(
            short.with_associated_data(&header, <[u8]>::to_vec),
            expected
        );
    }

    /// McGrew and Viega, test case 16 without its associated data is case 14: AES-256, zero key, one zero block.
    #[test]
    fn published_vector() {
        let mut ciphertext = [0; 16];
        let tag = Cipher::new(&KeyBytes::take(&mut [0; 32]))
            .encrypt(&[0; 12], b"", &[0; 16], &mut ciphertext)
            .expect("encrypts");
        assert_eq!(ciphertext[..4], [0xce, 0xa7, 0x40, 0x3d]);
        assert_eq!(tag[..4], [0xd0, 0xd1, 0xc8, 0xa7]);
    }
}
