//! How often this backend has encrypted with a key, against the blocks of uses it has reserved for it.
//!
//! A block is a row that the running transaction inserts, so nobody waits for anybody; it counts once that commits, while
//! an encryption counts at once and for ever: whoever rolls back has used the key all the same. So a block is taken back
//! with the (sub)transaction that reserved it, uses are not, and what was used without a block is a debt that the next
//! one pays. Where no block can be written (a read-only transaction, a standby) uses are
//! lent, up to one. Once a session has ended (`settle`), the sum of all blocks is never less than what it used, but for
//! debts of backends that were killed.

/// The first block of a backend; each later one doubles.
const FIRST_BLOCK: u64 = 64;
pub const LARGEST_BLOCK: u64 = 65_536;

/// A block that is not committed yet.
struct Pending {
    /// Nesting of the (sub)transaction it belongs to.
    level: i32,
    amount: u64,
}

/// The account of one key.
#[derive(Default)]
pub struct Uses {
    used: u64,
    /// What is reserved, `pending` included.
    granted: u64,
    /// How far `used` may rise: `granted`, or more while lent.
    limit: u64,
    pending: Vec<Pending>,
    blocks: u32,
}

impl Uses {
    /// Counts one more encryption; false when a block has to be reserved first.
    #[inline]
    pub fn count(&mut self) -> bool {
        let may = self.used < self.limit;
        self.used += u64::from(may);
        may
    }

    /// What was used without a block.
    pub fn debt(&self) -> u64 {
        self.used.saturating_sub(self.granted)
    }

    /// How many uses to reserve now: the debt and a block.
    pub fn wanted(&self) -> u64 {
        self.debt() + (FIRST_BLOCK << self.blocks.min(10)).min(LARGEST_BLOCK)
    }

    /// Takes a block that the transaction at `level` has reserved; false when there is still nothing left to use.
    pub fn grant(&mut self, amount: u64, level: i32) -> bool {
        self.pending.push(Pending { level, amount });
        self.granted += amount;
        self.limit = self.granted;
        self.blocks += 1;
        self.used < self.limit
    }

    /// Lets the transaction use the key without a block; false when it owes one already.
    pub fn lend(&mut self) -> bool {
        self.limit = self.granted + LARGEST_BLOCK;
        self.used < self.limit
    }

    /// A subtransaction at `level` has become part of the one around it.
    pub fn commit_subtransaction(&mut self, level: i32) {
        for block in &mut self.pending {
            block.level = block.level.min(level - 1);
        }
    }

    /// A subtransaction at `level` was rolled back.
    pub fn abort_subtransaction(&mut self, level: i32) {
        self.take_back(level);
    }

    pub fn end_transaction(&mut self, committed: bool) {
        if committed {
            self.pending.clear();
        }
        self.take_back(i32::MIN);
        self.limit = self.granted;
    }

    /// Takes back what was reserved at `level` and below; what is lent stays so until the transaction ends.
    fn take_back(&mut self, level: i32) {
        let lent = self.limit - self.granted;
        let granted = &mut self.granted;
        self.pending.retain(|block| {
            let stays = block.level < level;
            *granted -= if stays { 0 } else { block.amount };
            stays
        });
        self.limit = self.granted + lent;
    }

    /// Whether forgetting this account would forget uses.
    pub fn matters(&self) -> bool {
        self.debt() > 0 || !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses the key `times` times, reserving at `level` as needed; gives what was reserved.
    fn spend(uses: &mut Uses, times: u64, level: i32) -> u64 {
        let mut reserved = 0;
        for _ in 0..times {
            if !uses.count() {
                let wanted = uses.wanted();
                assert!(uses.grant(wanted, level));
                assert!(uses.count());
                reserved += wanted;
            }
        }
        reserved
    }

    #[test]
    fn blocks_double_up_to_the_largest() {
        let mut uses = Uses::default();
        assert_eq!(spend(&mut uses, 1, 1), 64);
        assert_eq!(spend(&mut uses, 63, 1), 0);
        assert_eq!(spend(&mut uses, 1, 1), 128);
        assert_eq!(spend(&mut uses, 127 + 256 + 512, 1), 256 + 512);
        spend(&mut uses, 10_000_000, 1);
        assert_eq!(uses.wanted(), LARGEST_BLOCK);
    }

    #[test]
    fn what_a_rolled_back_transaction_used_is_paid_by_the_next() {
        let mut uses = Uses::default();
        spend(&mut uses, 100, 1);
        uses.end_transaction(false);
        assert!(uses.matters());
        assert!(!uses.count());
        assert_eq!(uses.wanted(), 100 + 256);
        spend(&mut uses, 1, 1);
        uses.end_transaction(true);
        assert!(!uses.matters());
        uses.end_transaction(false);
        assert!(uses.count(), "what is committed stays");
    }

    #[test]
    fn a_block_shares_the_fate_of_its_subtransaction() {
        let mut uses = Uses::default();
        spend(&mut uses, 64, 1);
        spend(&mut uses, 10, 3);
        uses.commit_subtransaction(3);
        uses.abort_subtransaction(3);
        assert!(uses.count(), "it belongs to level 2 now");
        uses.abort_subtransaction(2);
        assert!(!uses.count());
        assert_eq!(uses.debt(), 11, "the first block is left");
        uses.end_transaction(true);
        assert_eq!(uses.debt(), 11);
    }

    #[test]
    fn one_block_is_lent_for_a_transaction() {
        let mut uses = Uses::default();
        assert!(uses.lend());
        for _ in 0..LARGEST_BLOCK {
            assert!(uses.count());
        }
        assert!(!uses.count());
        assert!(!uses.lend());
        uses.end_transaction(true);
        assert!(!uses.count());
        assert!(!uses.lend());
        assert!(uses.matters());
        assert_eq!(spend(&mut uses, 1, 1), LARGEST_BLOCK + FIRST_BLOCK);
        uses.end_transaction(true);
        assert!(!uses.matters());
    }

    #[test]
    fn a_rolled_back_savepoint_leaves_what_is_lent() {
        let mut uses = Uses::default();
        spend(&mut uses, 1, 1);
        uses.end_transaction(true);
        assert!(uses.lend());
        uses.abort_subtransaction(2);
        for _ in 0..LARGEST_BLOCK {
            assert!(uses.count());
        }
        uses.end_transaction(true);
        assert_eq!(uses.debt(), LARGEST_BLOCK + 1 - 64);
    }

    #[test]
    fn a_grant_of_less_than_the_debt_gives_nothing_to_use() {
        let mut uses = Uses::default();
        spend(&mut uses, 64, 1);
        uses.end_transaction(false);
        assert!(!uses.grant(10, 1));
        assert!(!uses.count());
    }
}
