//! The envelope of an encrypted field or host value, and the hot path that opens and seals it.
//!
//! ```text
//! 0x01 | key id, 8 bytes big endian | nonce 12 | AES-256-GCM ciphertext | tag 16
//! ```
//! Associated data is five parts, each after its length as four bytes (big endian): the [`Domain`], tenant, label of the
//! column, row (the id of rotator's own, the key of the host's), and the header (format byte and key id). So a ciphertext
//! moved to another row, column, tenant or domain, or given another key id, does not open. Nothing in it depends on the
//! database it lives in: a dump restores anywhere. AES-GCM is NIST SP 800-38D; the 96-bit random nonces allow 2^32 messages a key.

use super::TenantId;
use super::cipher::AssociatedData;
pub use super::cipher::{Cipher, NONCE, NotAuthentic, TAG};

pub const FORMAT: u8 = 1;
pub const HEADER: usize = 9;
/// How much longer an envelope is than its plaintext.
pub const OVERHEAD: usize = HEADER + NONCE + TAG;

/// Fixed part of the associated data: five lengths, tenant, header.
const AAD_FIXED: usize = 5 * 4 + 16 + HEADER;

/// Whose ciphertext it is; what is sealed in one domain opens in no other.
#[derive(Clone, Copy)]
pub struct Domain(&'static [u8]);

impl Domain {
    /// rotator's own tables.
    pub const FIELD: Domain = Domain(b"rotator.field.v1");
    /// Columns of the host application.
    pub const HOST: Domain = Domain(b"rotator.host.v1");
}

/// Where a value lives: what its ciphertext is bound to.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub domain: Domain,
    pub tenant: &'a TenantId,
    pub label: &'a [u8],
    pub row: &'a [u8],
}

/// A place and the header of the envelope that lies there.
struct Bound<'a> {
    place: Place<'a>,
    header: &'a [u8; HEADER],
}

impl AssociatedData for Bound<'_> {
    #[inline(always)]
    fn size(&self) -> usize {
        let Place {
            domain, label, row, ..
        } = self.place;
        AAD_FIXED + domain.0.len() + label.len() + row.len()
    }

    #[inline]
    fn write(&self, target: &mut [u8]) {
        let mut rest = target;
        put_part(&mut rest, self.place.domain.0);
        put_part(&mut rest, self.place.tenant);
        put_part(&mut rest, self.place.label);
        put_part(&mut rest, self.place.row);
        put_part(&mut rest, self.header);
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

/// The key that a header names, if it is of our format.
#[inline]
pub fn header_key_id(header: &[u8; HEADER]) -> Option<i64> {
    let [format, id @ ..] = *header;
    (format == FORMAT).then_some(i64::from_be_bytes(id))
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
        let header = self.header;
        let bound = Bound { place, header };
        cipher.decrypt(self.nonce, &bound, self.ciphertext, self.tag, plaintext)
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
    let bound = Bound { place, header };
    *tag_out = cipher.encrypt(nonce, &bound, plaintext, ciphertext)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::KeyBytes;

    const TENANT: TenantId = [7; 16];
    const ROW: [u8; 16] = [9; 16];
    const PLACE: Place<'static> = Place {
        domain: Domain::FIELD,
        tenant: &TENANT,
        label: b"secret.name",
        row: &ROW,
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
                row: &[8; 16],
                ..PLACE
            },
            Place {
                row: &ROW[..15],
                ..PLACE
            },
            Place {
                domain: Domain::HOST,
                ..PLACE
            },
        ] {
            assert_eq!(opened(&good, place), Err(NotAuthentic));
        }
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_is_bound() {
        let at = |label, row| Place {
            domain: Domain::HOST,
            tenant: &TENANT,
            label,
            row,
        };
        // The last two would be one if a fixed separator stood between the parts.
        let splits: [(&[u8], &[u8]); 6] = [
            (b"ab", b"c"),
            (b"a", b"bc"),
            (b"abc", b""),
            (b"", b"abc"),
            (b"a\0\0\0\0b", b"c"),
            (b"a", b"b\0\0\0\0c"),
        ];
        for (sealed_at, (label, row)) in splits.into_iter().enumerate() {
            let mut envelope = [0; 1 + OVERHEAD];
            seal_into(
                &cipher(1),
                42,
                &[3; NONCE],
                at(label, row),
                b"x",
                &mut envelope,
            )
            .expect("seals");
            for (opened_at, (label, row)) in splits.into_iter().enumerate() {
                assert_eq!(
                    opened(&envelope, at(label, row)).is_ok(),
                    sealed_at == opened_at
                );
            }
        }
    }

    #[test]
    fn bytes_that_are_bound() {
        let label = [b'l'; 255];
        for label in [&b"ab"[..], b"", &label] {
            let place = Place { label, ..PLACE };
            let header = &[1; HEADER];
            let bound = Bound { place, header };
            let mut bytes = vec![0xff; bound.size()];
            bound.write(&mut bytes);
            let mut expected = Vec::new();
            for part in [b"rotator.field.v1", &TENANT[..], label, &ROW, header] {
                super::super::push_part(&mut expected, part);
            }
            assert_eq!(bytes, expected);
        }
    }

    /// Computed once with another implementation (Python's cryptography): what is stored must stay readable.
    #[test]
    fn envelope_is_pinned() {
        for (length, tag) in [
            (15, 0xf7bd8183f27fc990c32ddaed9b783bd7_u128),
            (200, 0x46488d468f478cfabb0098a69fe74a2c_u128),
        ] {
            let envelope = sealed(&vec![b'x'; length]);
            assert_eq!(
                envelope[..21],
                [
                    1, 0, 0, 0, 0, 0, 0, 0, 42, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3
                ]
            );
            assert_eq!(envelope[envelope.len() - TAG..], tag.to_be_bytes());
        }
    }
}
