//! The audit log as lines of JSON: for archives, for other tools, and for verification where no database is.
//!
//! First a line `export` about the whole, then for each tenant a line `tenant`, its blocks in the order of their numbers,
//! each followed by its events in the order of their ids, and the events that are in no block; a line `end` last, so that
//! an export that was cut off is seen to be. Hashes are hexadecimal, leaves base64; times are UTC; transaction ids, which
//! go beyond what some readers of JSON keep, are texts. `changes` is as the database prints it, never parsed on the way.

use std::io::{BufRead, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rotator_audit::{Event, Hash, hex};
use serde_json::value::RawValue;

use super::copy::{Block, HeaderText};
use super::lines::{BlockLine, EventLine, Line, StartLine, Text, time};

/// The form of these lines.
pub const VERSION: u32 = 1;
/// Far beyond the longest line: a block of 10,000 events takes 600 KB.
const LONGEST: u64 = 256 * 1024 * 1024;

/// About the whole export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The moment that the database was read as of, by its clock: microseconds since 1970.
    pub as_of: i64,
    /// Events of transactions below this one are in a block, each of them; unknown after a restore.
    pub position: Option<u64>,
    /// All tenants of the database, not some.
    pub all_tenants: bool,
}

/// A block as the database has it, whatever it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub block: Block,
    /// What the database says its hash is.
    pub hash: Hash,
    pub first_id: i64,
    pub last_id: i64,
    pub note: Option<String>,
}

/// What there is in a log, one after the other.
pub enum Item<'a> {
    Start(Start),
    Tenant([u8; 16]),
    Block(Box<Stored>),
    /// With the number of its block.
    Event(Event<'a>, Option<u64>),
    End,
}

/// Why a line can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("line {0} is no line of an export")]
    Line(u64),
    #[error("it is an export of version {0}, and this program knows {VERSION}")]
    Version(u32),
    #[error("it ends before its end: it was cut off")]
    CutOff,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Writes items as lines.
pub struct Writer<W: Write> {
    out: W,
    events: u64,
    blocks: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            events: 0,
            blocks: 0,
        }
    }

    /// Events and blocks so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.events, self.blocks)
    }

    /// # Errors
    /// What it is written to takes no more.
    pub fn write(&mut self, item: &Item<'_>) -> std::io::Result<()> {
        match item {
            Item::Start(start) => {
                let now = Timestamp::now().as_microsecond();
                self.line(&Line::Export(StartLine {
                    version: VERSION,
                    as_of: time(start.as_of).into(),
                    written_at: time(now).into(),
                    sealed_below: start.position.map(|position| position.to_string()),
                    all_tenants: start.all_tenants,
                }))
            }
            Item::Tenant(tenant) => self.line(&Line::Tenant {
                tenant_id: hex::uuid(tenant).into(),
            }),
            Item::Block(stored) => {
                self.blocks += 1;
                let (header, block) = (&stored.block.header, &stored.block);
                self.line(&Line::Block(Box::new(BlockLine {
                    tenant_id: hex::uuid(&header.tenant),
                    number: header.number,
                    header: HeaderText::of(header),
                    hash: hex::encode(&stored.hash),
                    first_id: stored.first_id,
                    last_id: stored.last_id,
                    note: stored.note.clone(),
                    ids: block.ids.clone(),
                    leaves: STANDARD.encode(block.leaves.as_flattened()),
                })))
            }
            Item::Event(event, block) => {
                self.events += 1;
                let tenant = hex::uuid(&event.tenant);
                let changes: &RawValue = serde_json::from_str(event.changes)?;
                self.line(&Line::Event(EventLine {
                    id: event.id,
                    tenant_id: &tenant,
                    occurred_at: time(event.occurred_at).into(),
                    transaction_id: event.transaction_id.to_string().into(),
                    actor: event.actor.into(),
                    source: event.source.into(),
                    action: event.action.into(),
                    entity: event.entity.into(),
                    entity_id: event.entity_id.map(|text| Text(text.into())),
                    changes,
                    request_id: event.request_id.map(|text| Text(text.into())),
                    block: *block,
                }))
            }
            Item::End => {
                let (events, blocks) = self.counts();
                self.line(&Line::End { events, blocks })?;
                self.out.flush()
            }
        }
    }

    fn line(&mut self, line: &Line<'_>) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// Reads lines as items, and gives each to `take`, which may stop it with an error of its own.
///
/// # Errors
/// A line that is none, a missing end, or what `take` gave.
pub fn read<E: From<ExportError>>(
    mut from: impl BufRead,
    mut take: impl FnMut(Item<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut line = Vec::new();
    let (mut number, mut events, mut blocks) = (0, 0, 0);
    let mut ended = false;
    loop {
        line.clear();
        let read = std::io::Read::take(&mut from, LONGEST).read_until(b'\n', &mut line);
        if read.map_err(ExportError::from)? == 0 {
            break;
        }
        number += 1;
        let bad = || E::from(ExportError::Line(number));
        if ended {
            return Err(bad());
        }
        // A line without its newline is the last of an export that was cut off.
        if line.last() != Some(&b'\n') {
            return Err(ExportError::CutOff.into());
        }
        // Once for the whole line: its strings are then taken as they are.
        let text = std::str::from_utf8(&line).map_err(|_| bad())?;
        let parsed: Line<'_> = serde_json::from_str(text).map_err(|_| bad())?;
        if (number == 1) != matches!(parsed, Line::Export(_)) {
            return Err(bad());
        }
        match parsed {
            Line::Export(start) if start.version != VERSION => {
                return Err(ExportError::Version(start.version).into());
            }
            Line::Export(start) => take(Item::Start(start.read().ok_or_else(bad)?))?,
            Line::Tenant { tenant_id } => {
                take(Item::Tenant(hex::parse_uuid(&tenant_id).ok_or_else(bad)?))?;
            }
            Line::Block(block) => {
                blocks += 1;
                take(Item::Block(Box::new(block.read().ok_or_else(bad)?)))?;
            }
            Line::Event(event) => {
                events += 1;
                let (event, block) = event.read().ok_or_else(bad)?;
                take(Item::Event(event, block))?;
            }
            Line::End {
                events: e,
                blocks: b,
            } => {
                if (e, b) != (events, blocks) {
                    return Err(ExportError::CutOff.into());
                }
                ended = true;
            }
        }
    }
    if !ended {
        return Err(ExportError::CutOff.into());
    }
    take(Item::End)
}

#[cfg(test)]
mod tests {
    use super::super::copy::tests::block;
    use super::*;

    fn event(id: i64) -> Event<'static> {
        Event {
            tenant: [7; 16],
            id,
            occurred_at: 1_790_000_000_000_001,
            transaction_id: u64::MAX,
            actor: "db:\"alice\"\n",
            source: "sql",
            action: "secret.registered",
            entity: "secret",
            entity_id: Some("é\u{1}"),
            changes: r#"{"n": 12345678901234567890.10, "s": "\u0001"}"#,
            request_id: None,
        }
    }

    fn written() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        let start = Start {
            as_of: 5,
            position: Some(700),
            all_tenants: true,
        };
        let block = block(1, rotator_audit::NO_PREVIOUS, 1);
        let stored = Stored {
            hash: block.header.hash(),
            first_id: 1000,
            last_id: 1000,
            note: None,
            block,
        };
        for item in [
            Item::Start(start),
            Item::Tenant([7; 16]),
            Item::Block(Box::new(stored)),
            Item::Event(event(1000), Some(1)),
            Item::Event(event(1001), None),
            Item::End,
        ] {
            writer.write(&item).unwrap();
        }
        writer.out
    }

    fn leaves(text: &[u8]) -> Result<Vec<Hash>, ExportError> {
        let mut leaves = Vec::new();
        read(text, |item| {
            if let Item::Event(event, _) = item {
                leaves.push(rotator_audit::leaf(&event).unwrap());
            }
            Ok::<(), ExportError>(())
        })?;
        Ok(leaves)
    }

    #[test]
    fn what_is_read_hashes_as_what_was_written() {
        let text = written();
        let expected = [1000, 1001].map(|id| rotator_audit::leaf(&event(id)).unwrap());
        assert_eq!(leaves(&text).unwrap(), expected);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(
            text.contains(r#""occurred_at":"2026-09-21T14:13:20.000001Z""#),
            "{text}"
        );
    }

    #[test]
    fn what_was_cut_off_or_is_something_else_is_told() {
        let text = written();
        for length in [0, text.len() - 1, text.len() - 30, 400] {
            let read = leaves(&text[..length]);
            assert!(
                matches!(read, Err(ExportError::CutOff)),
                "{length} {read:?}"
            );
        }
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let without = |line: usize| {
            let mut lines = lines.clone();
            lines.remove(line);
            lines.join("\n") + "\n"
        };
        assert!(matches!(
            leaves(without(4).as_bytes()),
            Err(ExportError::CutOff)
        ));
        assert!(matches!(
            leaves(without(0).as_bytes()),
            Err(ExportError::Line(1))
        ));
        assert!(matches!(leaves(b"{}\n"), Err(ExportError::Line(1))));
        let newer = text.replacen("\"version\":1", "\"version\":2", 1);
        assert!(matches!(
            leaves(newer.as_bytes()),
            Err(ExportError::Version(2))
        ));
    }
}
