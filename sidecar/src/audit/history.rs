//! What the order of things says about an event. Ids and transaction ids are handed out in order, a transaction's before
//! that of its first event, and a block has every event of the transactions that had ended: so an event of a transaction
//! that began after a block was sealed can neither have a lower id than an event of that block nor be much older.
//!
//! Both hold on one server only. Blocks that gathered what an upgrade or a restore had left unsealed have `below` 0 and
//! take no part.

use rotator_audit::{Event, Header};

/// How far the clock may have been set back, in microseconds.
const CLOCK: i64 = 300 * 1_000_000;

/// What is known of the blocks so far, of one tenant.
#[derive(Default)]
pub struct History {
    /// Highest id up to a block, and its `next`; both grow.
    highest: Vec<(i64, u64)>,
    /// `next` of a block and when it was sealed; both grow.
    sealed: Vec<(u64, i64)>,
}

impl History {
    /// What is wrong about an event of a block that was sealed on this server after those that were added.
    pub fn objection(&self, event: &Event<'_>) -> Option<&'static str> {
        let above = self.highest.partition_point(|(id, _)| *id <= event.id);
        if let Some((_, next)) = self.highest.get(above)
            && event.transaction_id >= *next
        {
            return Some("was inserted later than its id says");
        }
        let before = self
            .sealed
            .partition_point(|(next, _)| *next <= event.transaction_id);
        if let Some((_, sealed_at)) = before.checked_sub(1).and_then(|last| self.sealed.get(last))
            && event.occurred_at < sealed_at.saturating_sub(CLOCK)
        {
            return Some("was inserted later than its time says");
        }
        None
    }

    /// A block is over, with this highest id.
    pub fn add(&mut self, header: &Header, highest: i64) {
        if header.below == 0 {
            return;
        }
        // Restored to a server with lower transaction ids: what was before says nothing about what comes.
        if self
            .sealed
            .last()
            .is_some_and(|(next, _)| *next > header.next)
        {
            self.sealed.clear();
        }
        if self.highest.last().is_none_or(|(id, _)| *id < highest) {
            self.highest.push((highest, header.next));
        }
        match self.sealed.last_mut() {
            Some((next, at)) if *next == header.next => *at = header.sealed_at.max(*at),
            Some((_, at)) if *at > header.sealed_at => {}
            _ => self.sealed.push((header.next, header.sealed_at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn header(next: u64, sealed_at: i64) -> Header {
        Header {
            tenant: [0; 16],
            number: 1,
            events: 1,
            root: [0; 32],
            previous: [0; 32],
            sealed_at,
            below: 1,
            next,
        }
    }

    fn event(id: i64, transaction_id: u64, occurred_at: i64) -> Event<'static> {
        Event {
            tenant: [0; 16],
            id,
            occurred_at,
            transaction_id,
            actor: "",
            source: "",
            action: "",
            entity: "",
            entity_id: None,
            changes: "{}",
            request_id: None,
        }
    }

    #[test]
    fn a_late_commit_is_fine_and_a_backdated_row_is_not() {
        let mut history = History::default();
        history.add(&header(100, 60 * MINUTE), 10);
        history.add(&header(200, 120 * MINUTE), 20);
        for (id, transaction, at) in [
            (5, 99, 50 * MINUTE),
            (15, 150, 90 * MINUTE),
            (21, 90, 0),
            (21, 300, 116 * MINUTE),
        ] {
            assert_eq!(history.objection(&event(id, transaction, at)), None, "{id}");
        }
        for (id, transaction, at) in [(5, 100, 50 * MINUTE), (15, 200, 200 * MINUTE)] {
            let said = history.objection(&event(id, transaction, at));
            assert!(said.is_some_and(|said| said.ends_with("id says")), "{id}");
        }
        let said = history.objection(&event(21, 300, 114 * MINUTE));
        assert!(said.is_some_and(|said| said.ends_with("time says")));
    }

    #[test]
    fn a_move_to_a_server_with_lower_ids_raises_no_alarm() {
        let mut history = History::default();
        history.add(&header(1_000_000, 60 * MINUTE), 10);
        let gathered = Header {
            below: 0,
            ..header(500, 90 * MINUTE)
        };
        history.add(&gathered, 12);
        assert_eq!(history.objection(&event(13, 510, 91 * MINUTE)), None);
        history.add(&header(520, 100 * MINUTE), 14);
        assert_eq!(history.objection(&event(15, 1_000, 101 * MINUTE)), None);
        assert!(history.objection(&event(14, 530, 50 * MINUTE)).is_some());
    }
}
