//! The header of a block: what was sealed, and what came before.

use sha2::{Digest, Sha256};

use crate::Hash;
use crate::field::push;

const BLOCK: u8 = 2;
const DOMAIN: &[u8] = b"rotator.audit.block.v1";

/// A block of a tenant's chain. Blocks of one tenant are numbered 1, 2, …, and each names the hash of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub tenant: [u8; 16],
    pub number: u64,
    /// How many events it holds.
    pub events: u64,
    /// [`crate::root`] over their leaves, in order of the events' ids.
    pub root: Hash,
    /// Hash of the block before; [`crate::NO_PREVIOUS`] for the first.
    pub previous: Hash,
    /// Microseconds since 1970-01-01 00:00 UTC.
    pub sealed_at: i64,
    /// Every transaction with an id below this one had ended when the block was sealed (`pg_snapshot_xmin`); 0 for a block
    /// that gathered what an upgraded or restored database had not sealed: ids of its transactions may be another server's.
    pub below: u64,
    /// The id that the next transaction would have had when the block was sealed: above all that had begun.
    pub next: u64,
}

impl Header {
    /// The hash of this block, which its successor and its signature name.
    pub fn hash(&self) -> Hash {
        let mut encoding = Vec::with_capacity(256);
        encoding.push(BLOCK);
        encoding.extend_from_slice(DOMAIN);
        push(&mut encoding, &self.tenant);
        push(&mut encoding, &self.number.to_be_bytes());
        push(&mut encoding, &self.events.to_be_bytes());
        push(&mut encoding, &self.root);
        push(&mut encoding, &self.previous);
        push(&mut encoding, &self.sealed_at.to_be_bytes());
        push(&mut encoding, &self.below.to_be_bytes());
        push(&mut encoding, &self.next.to_be_bytes());
        Sha256::digest(&encoding).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NO_PREVIOUS, hex};

    fn sample() -> Header {
        Header {
            tenant: [7; 16],
            number: 1,
            events: 3,
            root: [1; 32],
            previous: NO_PREVIOUS,
            sealed_at: 1_790_000_060_000_000,
            below: 7_532,
            next: 7_540,
        }
    }

    /// What was sealed once must verify for ever: this value was worked out by hand with another SHA-256.
    #[test]
    fn the_hash_of_a_known_block_never_changes() {
        assert_eq!(hex::encode(&sample().hash()), KNOWN);
    }

    const KNOWN: &str = "26659564ef9d220d7a1c93c093bff06c97e521e1372567056d2513f1d40f907c";

    #[test]
    fn each_field_counts() {
        let base = sample();
        let others = [
            Header {
                tenant: [8; 16],
                ..base
            },
            Header { number: 2, ..base },
            Header { events: 4, ..base },
            Header {
                root: [2; 32],
                ..base
            },
            Header {
                previous: [1; 32],
                ..base
            },
            Header {
                root: NO_PREVIOUS,
                previous: [1; 32],
                ..base
            },
            Header {
                sealed_at: 1_790_000_060_000_001,
                ..base
            },
            Header { below: 0, ..base },
            Header {
                below: 7_540,
                next: 7_532,
                ..base
            },
            Header {
                next: 7_541,
                ..base
            },
        ];
        let mut hashes: Vec<Hash> = others.iter().chain([&base]).map(Header::hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), others.len() + 1);
    }
}
