//! Random bytes of the operating system, drawn in blocks.
//!
//! One `getrandom` call for each nonce costs about as much as the encryption itself, so [`RandomBlock`] draws 4 KiB at a
//! time. A block must never be shared by two processes, or two backends would use the same nonces under the same key:
//! each draw names the process it is for, and a block that belongs to another one (a forked copy) is thrown away.
//! Keys and tokens don't come from the block but from [`fill`], so no copy of them stays behind in it.

/// The operating system gave no random bytes.
#[derive(Debug)]
pub struct NoEntropy;

const BLOCK: usize = 4096;

/// A process's own supply of random bytes; every byte is handed out once.
pub struct RandomBlock {
    bytes: [u8; BLOCK],
    used: usize,
    owner: i32,
}

impl RandomBlock {
    /// An empty block: the first draw fills it.
    pub const fn new() -> RandomBlock {
        RandomBlock {
            bytes: [0; BLOCK],
            used: BLOCK,
            owner: 0,
        }
    }

    /// The next `N` bytes for process `pid`.
    #[inline]
    pub fn draw<const N: usize>(&mut self, pid: i32) -> Result<[u8; N], NoEntropy> {
        const { assert!(N <= BLOCK) };
        if self.owner != pid || BLOCK - self.used < N {
            self.refill(pid)?;
        }
        let mut drawn = [0; N];
        drawn.copy_from_slice(&self.bytes[self.used..self.used + N]);
        self.used += N;
        Ok(drawn)
    }

    #[cold]
    fn refill(&mut self, pid: i32) -> Result<(), NoEntropy> {
        self.used = BLOCK; // stays empty should the next line fail
        fill(&mut self.bytes)?;
        self.used = 0;
        self.owner = pid;
        Ok(())
    }
}

impl Default for RandomBlock {
    fn default() -> RandomBlock {
        RandomBlock::new()
    }
}

/// Fills `target` straight from the operating system's generator.
pub fn fill(target: &mut [u8]) -> Result<(), NoEntropy> {
    getrandom::fill(target).map_err(|_| NoEntropy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn never_hands_out_a_byte_twice() {
        let mut block = RandomBlock::new();
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            assert!(seen.insert(block.draw::<12>(1).expect("entropy")));
        }
    }

    #[test]
    fn a_forked_copy_starts_afresh() {
        let mut parent = RandomBlock::new();
        parent.draw::<12>(1).expect("entropy");
        let mut child = RandomBlock {
            bytes: parent.bytes,
            used: parent.used,
            owner: parent.owner,
        };
        let of_parent = parent.draw::<12>(1).expect("entropy");
        let of_child = child.draw::<12>(2).expect("entropy");
        assert_ne!(of_parent, of_child);
        assert_ne!(parent.bytes, child.bytes);
    }
}
