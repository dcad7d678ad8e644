//! Goes through a log, block by block and event by event, and names the first row that isn't what was sealed. Where the log
//! comes from (an export, the database) doesn't matter; it is held in memory one block at a time.
//!
//! By themselves blocks prove that nothing was changed since without changing every hash after it. The signature proves it
//! against somebody who did that, too; the copies also show what is missing at the end, and which row differs. What order
//! says: `history.rs`; the copies: `copies.rs`; a block and its place: `verify/chain.rs`.

mod chain;

use std::collections::HashSet;

use rotator_audit::{Event, Hash, Header, NO_PREVIOUS, hex, leaf};

use super::copies::Copies;
use super::export::{Item, Start, Stored};
use super::findings::{Bad, Findings, Kind};
use super::history::History;
use super::key::PublicKey;
use super::lines::time;

/// A block is signed within seconds. After so long somebody should know why it isn't, in microseconds.
const UNSIGNED_FOR: i64 = 24 * 3600 * 1_000_000;

/// The state of a verification.
pub struct Verifier {
    keys: Vec<PublicKey>,
    copies: Copies,
    allow_unsigned: bool,
    start: Option<Start>,
    tenant: Option<Tenant>,
    seen: HashSet<[u8; 16]>,
    findings: Findings,
}

#[derive(Default)]
struct Tenant {
    id: [u8; 16],
    number: u64,
    hash: Hash,
    history: History,
    open: Option<Open>,
    unsigned: Option<(u64, i64, i64)>,
    signed: u64,
    /// Nothing that follows can be judged by the chain.
    broken: bool,
}

/// The block whose events come now.
struct Open {
    header: Header,
    ids: Vec<i64>,
    leaves: Vec<Hash>,
    /// Where in them we are.
    next: usize,
    /// Its own fault, in `findings.bad`, whose row its events may still tell.
    suspect: Option<usize>,
}

impl Verifier {
    /// With no keys signatures are not checked, only what they are about.
    pub fn new(keys: Vec<PublicKey>, copies: Copies, allow_unsigned: bool) -> Self {
        let mut findings = Findings::default();
        for problem in &copies.problems {
            findings.add(Bad {
                tenant: None,
                event: None,
                block: None,
                what: problem.clone(),
                kind: Kind::Other,
            });
        }
        if copies.torn > 0 {
            findings.notes.push(format!(
                "{} torn lines in the copies were passed over",
                copies.torn
            ));
        }
        Self {
            keys,
            copies,
            allow_unsigned,
            start: None,
            tenant: None,
            seen: HashSet::new(),
            findings,
        }
    }

    /// The next item of the log.
    pub fn take(&mut self, item: Item<'_>) {
        match item {
            Item::Start(start) => self.start = Some(start),
            Item::Tenant(id) => {
                self.end_tenant();
                self.findings.tenants += 1;
                if !self.seen.insert(id) {
                    self.bad(
                        id,
                        Kind::Extra,
                        None,
                        None,
                        "it is in the log twice".to_owned(),
                    );
                }
                self.tenant = Some(Tenant {
                    id,
                    hash: NO_PREVIOUS,
                    ..Tenant::default()
                });
            }
            Item::Block(stored) => self.block(*stored),
            Item::Event(event, block) => self.event(&event, block),
            Item::End => self.end(),
        }
    }

    /// What came out of it.
    pub fn finish(self) -> Findings {
        self.findings
    }

    fn block(&mut self, stored: Stored) {
        self.close();
        self.findings.blocks += 1;
        let Some(mut tenant) = self.tenant.take() else {
            return self.stray("a block");
        };
        let Stored { block, note, .. } = &stored;
        let header = block.header;
        let fault = match tenant.broken {
            true => None,
            false => self
                .fault(&tenant, &stored)
                .or_else(|| self.unlike_copy(block)),
        };
        let fault = fault.or_else(|| self.signature(&mut tenant, &header, note.as_deref(), block));
        let mut suspect = None;
        if let Some((event, what)) = fault.filter(|_| !tenant.broken) {
            // The rest of the chain hangs on this one: it would only repeat what is said here.
            tenant.broken = true;
            let exact = event.is_some();
            let event = event.or_else(|| block.ids.first().copied());
            suspect = (!exact).then_some(self.findings.bad.len());
            self.bad(tenant.id, Kind::Other, event, Some(header.number), what);
        }
        tenant.number = header.number;
        tenant.hash = header.hash();
        tenant.open = Some(Open {
            header,
            ids: stored.block.ids,
            leaves: stored.block.leaves,
            next: 0,
            suspect,
        });
        self.tenant = Some(tenant);
    }

    fn event(&mut self, event: &Event<'_>, block: Option<u64>) {
        let Some(mut tenant) = self.tenant.take() else {
            return self.stray("an event");
        };
        self.judge(&mut tenant, event, block);
        self.tenant = Some(tenant);
    }

    fn judge(&mut self, tenant: &mut Tenant, event: &Event<'_>, block: Option<u64>) {
        let (id, at) = (event.id, tenant.id);
        let Some(block) = block else {
            self.close_of(tenant);
            self.findings.unsealed += 1;
            let position = self.start.as_ref().and_then(|start| start.position);
            if event.tenant != tenant.id {
                self.bad(
                    at,
                    Kind::Extra,
                    Some(id),
                    None,
                    format!("event {id} belongs to another tenant"),
                );
            } else if position.is_some_and(|position| event.transaction_id < position) {
                let what = format!(
                    "event {id} was inserted: all events of its time are sealed, and it is in no block"
                );
                self.bad(at, Kind::Extra, Some(id), None, what);
            }
            return;
        };
        let Some(open) = tenant
            .open
            .as_mut()
            .filter(|open| open.header.number == block)
        else {
            let what = format!("event {id} is of block {block}, which is missing");
            return self.bad(at, Kind::Other, Some(id), Some(block), what);
        };
        while open
            .ids
            .get(open.next)
            .is_some_and(|expected| *expected < id)
        {
            let gone = open.ids[open.next];
            open.next += 1;
            self.gone(at, gone, open);
        }
        if open.ids.get(open.next) != Some(&id) {
            let what = format!("event {id} was inserted into block {block}, or is in it twice");
            return self.row(at, open, Kind::Extra, id, what);
        }
        let expected = open.leaves[open.next];
        open.next += 1;
        self.findings.checked += 1;
        if event.tenant != tenant.id || leaf(event) != Ok(expected) {
            self.row(
                at,
                open,
                Kind::Other,
                id,
                format!("event {id} was changed after it was sealed in block {block}"),
            );
        } else if open.header.below > 0
            && !tenant.broken
            && let Some(objection) = tenant.history.objection(event)
        {
            self.row(at, open, Kind::Other, id, format!("event {id} {objection}"));
        }
    }

    /// A row of the open block is bad; if the block is known to be, this is where.
    fn row(&mut self, tenant: [u8; 16], open: &mut Open, kind: Kind, id: i64, what: String) {
        match open
            .suspect
            .take()
            .and_then(|suspect| self.findings.bad.get_mut(suspect))
        {
            Some(bad) => {
                bad.event = Some(id);
                bad.what = format!("{} ({what})", bad.what);
            }
            None => self.bad(tenant, kind, Some(id), Some(open.header.number), what),
        }
    }

    fn gone(&mut self, tenant: [u8; 16], id: i64, open: &mut Open) {
        let what = format!("event {id} of block {} is missing", open.header.number);
        self.row(tenant, open, Kind::Gone, id, what);
    }

    /// The events of the open block are over.
    fn close(&mut self) {
        if let Some(mut tenant) = self.tenant.take() {
            self.close_of(&mut tenant);
            self.tenant = Some(tenant);
        }
    }

    fn close_of(&mut self, tenant: &mut Tenant) {
        let Some(mut open) = tenant.open.take() else {
            return;
        };
        while let Some(&gone) = open.ids.get(open.next) {
            open.next += 1;
            self.gone(tenant.id, gone, &mut open);
        }
        if let Some(last) = open.ids.last() {
            tenant.history.add(&open.header, *last);
        }
    }

    fn end_tenant(&mut self) {
        self.close();
        let Some(tenant) = self.tenant.take() else {
            return;
        };
        let (id, last) = (tenant.id, tenant.number);
        let as_of = self.start.as_ref().map_or(i64::MAX, |start| start.as_of);
        if !tenant.broken {
            self.missing_at_end(id, last, as_of);
        }
        if let Some((number, sealed_at, first)) = tenant.unsigned
            && !self.keys.is_empty()
            && !self.allow_unsigned
            && !tenant.broken
            && sealed_at < as_of.saturating_sub(UNSIGNED_FOR)
        {
            let what = format!(
                "block {number}, sealed at {}, has no signature: it was never signed, or the signature was removed",
                time(sealed_at)
            );
            self.bad(id, Kind::Other, Some(first), Some(number), what);
        }
        if let Some(copies) = self.copies.of(&id)
            && let Some((copied, _)) = copies.last_key_value()
            && tenant.signed > *copied
        {
            let what = format!(
                "tenant {}: the copies end at block {copied}, before the last signed block {}; \
                                take them after the export",
                hex::uuid(&id),
                tenant.signed
            );
            self.findings.notes.push(what);
        }
    }

    fn end(&mut self) {
        self.end_tenant();
        if self.start.as_ref().is_some_and(|start| start.all_tenants) {
            let mut absent: Vec<[u8; 16]> = self
                .copies
                .tenants()
                .filter(|id| !self.seen.contains(*id))
                .copied()
                .collect();
            absent.sort_unstable();
            let as_of = self.start.as_ref().map_or(i64::MAX, |start| start.as_of);
            for id in absent {
                self.missing_at_end(id, 0, as_of);
            }
        }
        self.findings.tell_moves();
    }

    fn stray(&mut self, what: &str) {
        self.bad(
            [0; 16],
            Kind::Other,
            None,
            None,
            format!("{what} stands before any tenant"),
        );
    }

    fn bad(
        &mut self,
        tenant: [u8; 16],
        kind: Kind,
        event: Option<i64>,
        block: Option<u64>,
        what: String,
    ) {
        self.findings.add(Bad {
            tenant: Some(tenant),
            event,
            block,
            what,
            kind,
        });
    }
}
