//! A signed block as it stands outside of the database: one line of JSON, the same in the append-only file and in S3.
//!
//! It holds what is signed (the header's fields, from which anybody computes the hash that the note names) and the leaves
//! with the ids of their events, so that a verifier can say which row differs and not only which block. Leaves are hashes:
//! a copy tells nobody what happened. The line begins with tenant, number and hash: [`prefix`] is enough to see whether two
//! copies are of the same block.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rotator_audit::{Hash, Header, Note, hex};
use serde::{Deserialize, Serialize};

/// A sealed block with what it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub header: Header,
    /// Ascending.
    pub ids: Vec<i64>,
    /// As many, in the same order.
    pub leaves: Vec<Hash>,
}

/// Why a block is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    #[error("it says how many events it has, and has another number")]
    Count,
    #[error("its events are not in the order of their ids")]
    Order,
    #[error("its root is not that of its leaves")]
    Root,
}

impl Block {
    /// The leaves from their bytes, one after the other.
    pub fn leaves(bytes: &[u8]) -> Option<Vec<Hash>> {
        let (leaves, rest) = bytes.as_chunks::<32>();
        rest.is_empty().then(|| leaves.to_vec())
    }

    /// Whether header, ids and leaves go together.
    ///
    /// # Errors
    /// What doesn't.
    pub fn check(&self) -> Result<(), Unsound> {
        let count = self.leaves.len();
        if self.ids.len() != count || self.header.events != count as u64 || count == 0 {
            return Err(Unsound::Count);
        }
        if !self.ids.is_sorted_by(|one, next| one < next) {
            return Err(Unsound::Order);
        }
        if rotator_audit::root(&self.leaves) != self.header.root {
            return Err(Unsound::Root);
        }
        Ok(())
    }

    /// The first event, in order of ids, that is in one of the two alone or has another leaf.
    pub fn first_difference(&self, other: &Self) -> Option<i64> {
        let mut pairs = self
            .ids
            .iter()
            .zip(&self.leaves)
            .zip(other.ids.iter().zip(&other.leaves));
        let differs = pairs.find(|(one, other)| one != other);
        let shorter = self.ids.len().min(other.ids.len());
        differs
            .map(|((one, _), (other, _))| *one.min(other))
            .or_else(|| self.ids.get(shorter).or(other.ids.get(shorter)).copied())
    }
}

/// The fields of a header as texts and numbers that every reader of JSON keeps.
#[derive(Deserialize, Serialize)]
pub(super) struct HeaderText {
    pub events: u64,
    pub root: String,
    pub previous: String,
    /// Microseconds since 1970.
    pub sealed_at: i64,
    /// Transaction ids go beyond what a double holds.
    pub below: String,
    pub next: String,
}

impl HeaderText {
    pub fn of(header: &Header) -> Self {
        Self {
            events: header.events,
            root: hex::encode(&header.root),
            previous: hex::encode(&header.previous),
            sealed_at: header.sealed_at,
            below: header.below.to_string(),
            next: header.next.to_string(),
        }
    }

    pub fn read(&self, tenant: [u8; 16], number: u64) -> Option<Header> {
        Some(Header {
            tenant,
            number,
            events: self.events,
            root: hex::decode(&self.root)?,
            previous: hex::decode(&self.previous)?,
            sealed_at: self.sealed_at,
            below: self.below.parse().ok()?,
            next: self.next.parse().ok()?,
        })
    }
}

/// In the order of the line.
#[derive(Deserialize, Serialize)]
struct Line {
    tenant_id: String,
    number: u64,
    hash: String,
    note: String,
    #[serde(flatten)]
    header: HeaderText,
    /// Microseconds since 1970, by the database's clock: when the sidecar saw the block committed.
    seen_at: i64,
    ids: Vec<i64>,
    leaves: String,
}

/// How the line of this block begins, whoever wrote it.
pub fn prefix(header: &Header) -> String {
    format!(
        r#"{{"tenant_id":"{}","number":{},"hash":"{}","#,
        hex::uuid(&header.tenant),
        header.number,
        hex::encode(&header.hash())
    )
}

/// The line of a signed block, with its newline.
pub fn line(block: &Block, note: &str, seen_at: i64) -> String {
    let line = Line {
        tenant_id: hex::uuid(&block.header.tenant),
        number: block.header.number,
        hash: hex::encode(&block.header.hash()),
        note: note.to_owned(),
        header: HeaderText::of(&block.header),
        seen_at,
        ids: block.ids.clone(),
        leaves: STANDARD.encode(block.leaves.as_flattened()),
    };
    // Texts and numbers into memory: that can't fail.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

/// A line read back. That header, leaves and note belong together was checked; who signed it was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub block: Block,
    pub note: String,
    pub seen_at: i64,
}

/// Why a line is no copy of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCopy {
    /// The end of it was never written, or it is something else.
    #[error("it is no whole line of a copy")]
    Torn,
    #[error("it contradicts itself")]
    Changed,
}

/// Reads a line, with or without its newline.
///
/// # Errors
/// It is torn, or somebody changed it.
pub fn parse(text: &[u8]) -> Result<Copied, NoCopy> {
    let line: Line = serde_json::from_slice(text).map_err(|_| NoCopy::Torn)?;
    let read = || {
        let tenant = hex::parse_uuid(&line.tenant_id)?;
        let block = Block {
            header: line.header.read(tenant, line.number)?,
            leaves: Block::leaves(&STANDARD.decode(&line.leaves).ok()?)?,
            ids: line.ids,
        };
        let hash = block.header.hash();
        let note = Note::parse(&line.note).ok()?;
        let about = (note.tenant, note.number, note.hash) == (tenant, line.number, hash);
        (about && hex::encode(&hash) == line.hash && block.check().is_ok()).then_some(block)
    };
    Ok(Copied {
        block: read().ok_or(NoCopy::Changed)?,
        note: line.note,
        seen_at: line.seen_at,
    })
}

/// The hash that a line says its block has, if it begins like one: for finding it again in a long file.
pub fn named(text: &[u8]) -> Option<([u8; 16], u64, Hash)> {
    #[derive(Deserialize)]
    struct Begin<'a> {
        tenant_id: &'a str,
        number: u64,
        hash: &'a str,
    }
    let begin: Begin<'_> = serde_json::from_slice(text).ok()?;
    Some((
        hex::parse_uuid(begin.tenant_id)?,
        begin.number,
        hex::decode(begin.hash)?,
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use rotator_audit::{NO_PREVIOUS, note};

    use super::super::key::{SigningKey, fresh};
    use super::*;

    /// Block `number` of a tenant after one with the hash `previous`, of so many events.
    pub fn block(number: u64, previous: Hash, events: u8) -> Block {
        let leaves: Vec<Hash> = (0..events).map(|event| [event; 32]).collect();
        let first = i64::try_from(number).unwrap() * 1000;
        Block {
            header: Header {
                tenant: [7; 16],
                number,
                events: u64::from(events),
                root: rotator_audit::root(&leaves),
                previous,
                sealed_at: 1_790_000_000_000_000,
                below: 700,
                next: 710,
            },
            ids: (0..i64::from(events)).map(|event| first + event).collect(),
            leaves,
        }
    }

    pub fn signed(key: &SigningKey, block: &Block) -> String {
        let header = &block.header;
        key.sign(&note::body(&header.tenant, header.number, &header.hash()))
    }

    #[test]
    fn a_line_is_read_back_and_begins_as_it_can_be_found() {
        let (key, _) = fresh("a").unwrap();
        let key = SigningKey::parse(&key).unwrap();
        let block = block(3, NO_PREVIOUS, 5);
        let text = line(&block, &signed(&key, &block), 42);
        assert!(text.starts_with(&prefix(&block.header)), "{text}");
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
        let copied = parse(text.as_bytes()).unwrap();
        assert_eq!((&copied.block, copied.seen_at), (&block, 42));
        assert!(key.public().signed(&Note::parse(&copied.note).unwrap()));
        assert_eq!(
            named(text.as_bytes()),
            Some(([7; 16], 3, block.header.hash()))
        );
    }

    #[test]
    fn what_was_changed_or_torn_is_told() {
        let (key, _) = fresh("a").unwrap();
        let key = SigningKey::parse(&key).unwrap();
        let block = block(3, NO_PREVIOUS, 5);
        let text = line(&block, &signed(&key, &block), 42);
        for length in [0, 1, 40, text.len() - 2] {
            assert_eq!(
                parse(&text.as_bytes()[..length]),
                Err(NoCopy::Torn),
                "{length}"
            );
        }
        for (from, to) in [
            ("\"number\":3", "\"number\":4"),
            ("\"events\":5", "\"events\":6"),
            ("\"below\":\"700\"", "\"below\":\"701\""),
            ("[3000,3001", "[3001,3000"),
            ("[3000,", "["),
            ("\"leaves\":\"A", "\"leaves\":\"B"),
            ("\"sealed_at\":179", "\"sealed_at\":178"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert_eq!(parse(changed.as_bytes()), Err(NoCopy::Changed), "{from}");
        }
    }
}
