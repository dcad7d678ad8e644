//! A block and its place: whether it is what it says, follows the one before, is the one that was signed, and whether the
//! copies have more.

use rotator_audit::{Header, Note, hex};

use super::super::copies::Entry;
use super::super::copy::Block;
use super::super::export::Stored;
use super::super::findings::Kind;
use super::{Tenant, Verifier};

/// The first bad row, if it can be told, and a sentence.
pub(super) type Fault = (Option<i64>, String);

impl Verifier {
    /// What is wrong with a block and its place in the chain: the row, if it can be told, and a sentence.
    pub(super) fn fault(&self, tenant: &Tenant, stored: &Stored) -> Option<Fault> {
        let (block, header) = (&stored.block, &stored.block.header);
        let number = header.number;
        let expected = tenant.number + 1;
        let what = if header.tenant != tenant.id {
            format!("block {number} belongs to another tenant")
        } else if number != expected {
            let first = self
                .copied(&tenant.id, expected)
                .map(|entry| entry.first_id);
            return Some((
                first,
                format!("block {expected} is missing: the next one is block {number}"),
            ));
        } else if header.previous != tenant.hash {
            format!(
                "block {number} does not follow block {}: one of the two was replaced",
                tenant.number
            )
        } else if let Err(unsound) = block.check() {
            format!("block {number} was changed: {unsound}")
        } else if stored.hash != header.hash() {
            format!("block {number} was changed: its hash is not that of its fields")
        } else if Some(&stored.first_id) != block.ids.first()
            || Some(&stored.last_id) != block.ids.last()
        {
            format!("block {number} was changed: it names other events as its first and last")
        } else {
            return None;
        };
        let row = self.copied_block(&tenant.id, number);
        Some((row.and_then(|copy| copy.first_difference(block)), what))
    }

    /// Whether the signed copy has another block, or none where it should.
    pub(super) fn unlike_copy(&self, block: &Block) -> Option<Fault> {
        let header = &block.header;
        let copies = self.copies.of(&header.tenant)?;
        let within = copies.first_key_value()?.0 <= &header.number
            && &header.number <= copies.last_key_value()?.0;
        match copies.get(&header.number) {
            Some(entry) if entry.hash == header.hash() => None,
            Some(entry) => {
                let copy = self.copies.block(entry);
                let row = copy.and_then(|copy| copy.first_difference(block));
                let what = format!(
                    "block {} is not the one that was signed: the copy has another",
                    header.number
                );
                Some((row, what))
            }
            None if within => Some((
                None,
                format!("block {} is missing in the signed copy", header.number),
            )),
            None => None,
        }
    }

    pub(super) fn signature(
        &mut self,
        tenant: &mut Tenant,
        header: &Header,
        note: Option<&str>,
        block: &Block,
    ) -> Option<Fault> {
        let first = block.ids.first().copied();
        let Some(note) = note else {
            tenant.unsigned.get_or_insert((
                header.number,
                header.sealed_at,
                first.unwrap_or_default(),
            ));
            return None;
        };
        let number = header.number;
        if let Some((unsigned, _, first)) = tenant.unsigned {
            let what = format!(
                "the signature of block {unsigned} was removed: block {number} after it has one"
            );
            return Some((Some(first), what));
        }
        let Ok(note) = Note::parse(note) else {
            return Some((
                None,
                format!("the signature of block {number} was changed: it can't be read"),
            ));
        };
        if (note.tenant, note.number, note.hash) != (header.tenant, number, header.hash()) {
            return Some((
                None,
                format!(
                    "block {number} is not the one that was signed: its signature names another hash"
                ),
            ));
        }
        if !self.keys.is_empty() && !self.keys.iter().any(|key| key.signed(&note)) {
            return Some((
                None,
                format!("block {number} is not signed by the given key"),
            ));
        }
        tenant.signed = number;
        self.findings.signed += 1;
        None
    }

    /// What the copies have beyond the last block of a tenant.
    pub(super) fn missing_at_end(&mut self, id: [u8; 16], last: u64, as_of: i64) {
        let Some(copies) = self.copies.of(&id) else {
            return;
        };
        let missing = copies
            .range(last + 1..)
            .find(|(_, entry)| entry.seen_at < as_of);
        let newest = copies.last_key_value().map_or(last, |(number, _)| *number);
        if let Some((number, entry)) = missing {
            let (number, first) = (*number, entry.first_id);
            let what = format!(
                "the log ends with block {last}, and block {number} up to {newest} were signed: \
                 rows were removed from its end (event {first} and later), or an older dump was restored"
            );
            self.bad(id, Kind::Gone, Some(first), Some(number), what);
        } else if newest > last {
            let what = format!(
                "tenant {}: blocks {} to {newest} were signed after this log was read",
                hex::uuid(&id),
                last + 1
            );
            self.findings.notes.push(what);
        }
    }

    fn copied(&self, tenant: &[u8; 16], number: u64) -> Option<&Entry> {
        self.copies.of(tenant)?.get(&number)
    }

    fn copied_block(&self, tenant: &[u8; 16], number: u64) -> Option<Block> {
        self.copies.block(self.copied(tenant, number)?)
    }
}
