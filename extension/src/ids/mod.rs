//! Ids that sort by time, and tokens that nobody guesses. Pure; `native` exports them to SQL.

#[cfg(feature = "postgres")]
mod native;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::crypto::nonce::{self, NoEntropy};

/// Makes UUIDs of version 7 (RFC 9562, 5.7 with method 3 of 6.2): 48 bits of milliseconds, 12 bits of the fraction of
/// that millisecond, 62 random bits. Inside one process each is greater than the one before, also when the clock stands
/// still or steps back.
pub struct Sequence {
    last: u64,
}

impl Sequence {
    pub const fn new() -> Sequence {
        Sequence { last: 0 }
    }

    /// The id for `unix_micros` (microseconds since 1970, before 1970 counts as 1970).
    pub fn next(&mut self, unix_micros: i64, random: [u8; 8]) -> [u8; 16] {
        let micros = u64::try_from(unix_micros).unwrap_or(0);
        let now = ((micros / 1000) << 12) | ((micros % 1000) * 4096 / 1000);
        self.last = now.max(self.last + 1);
        let high = ((self.last >> 12) << 16) | 0x7000 | (self.last & 0xfff);
        let low = (u64::from_be_bytes(random) >> 2) | (0b10 << 62);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        id
    }
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence::new()
    }
}

/// A link token: 32 random bytes as 43 characters of base64url.
pub fn token() -> Result<Zeroizing<String>, NoEntropy> {
    let mut bytes = Zeroizing::new([0; 32]);
    nonce::fill(&mut bytes[..])?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_time_version_and_variant() {
        let id = Sequence::new().next(1_700_000_000_123_456, [0xff; 8]);
        let millis = u64::from_be_bytes([0, 0, id[0], id[1], id[2], id[3], id[4], id[5]]);
        assert_eq!(millis, 1_700_000_000_123);
        assert_eq!(id[6] >> 4, 7);
        assert_eq!(id[8] >> 6, 0b10);
        let fraction = (u64::from(id[6] & 0xf) << 8) | u64::from(id[7]);
        assert_eq!(fraction, 456 * 4096 / 1000);
    }

    #[test]
    fn rises_when_the_clock_does_not() {
        let mut sequence = Sequence::new();
        let mut last = [0; 16];
        for micros in (0..10_000).chain([5, 5, 5, -1, i64::MIN]) {
            let id = sequence.next(1_700_000_000_000_000_i64.saturating_add(micros), [0; 8]);
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn tokens_are_43_characters_and_differ() {
        let (one, two) = (token().expect("entropy"), token().expect("entropy"));
        assert_eq!(one.len(), 43);
        assert!(
            one.bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        );
        assert_ne!(*one, *two);
    }
}
