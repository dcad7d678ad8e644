//! The lines of an export as they stand in it, and what they mean. What there is, in which order: `export.rs`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rotator_audit::{Event, hex};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::copy::{Block, HeaderText};
use super::export::{Start, Stored};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Export(StartLine<'a>),
    Tenant {
        tenant_id: Cow<'a, str>,
    },
    Block(Box<BlockLine>),
    #[serde(borrow)]
    Event(EventLine<'a>),
    End {
        events: u64,
        blocks: u64,
    },
}

#[derive(Deserialize, Serialize)]
pub(super) struct StartLine<'a> {
    pub version: u32,
    pub as_of: Cow<'a, str>,
    /// By the clock of whoever exports: for people.
    pub written_at: Cow<'a, str>,
    pub sealed_below: Option<String>,
    pub all_tenants: bool,
}

#[derive(Deserialize, Serialize)]
pub(super) struct BlockLine {
    pub tenant_id: String,
    pub number: u64,
    #[serde(flatten)]
    pub header: HeaderText,
    pub hash: String,
    pub first_id: i64,
    pub last_id: i64,
    pub note: Option<String>,
    pub ids: Vec<i64>,
    pub leaves: String,
}

#[derive(Deserialize, Serialize)]
pub(super) struct EventLine<'a> {
    pub id: i64,
    pub tenant_id: &'a str,
    #[serde(borrow)]
    pub occurred_at: Cow<'a, str>,
    #[serde(borrow)]
    pub transaction_id: Cow<'a, str>,
    #[serde(borrow)]
    pub actor: Cow<'a, str>,
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    #[serde(borrow)]
    pub entity: Cow<'a, str>,
    #[serde(borrow)]
    pub entity_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub changes: &'a RawValue,
    #[serde(borrow)]
    pub request_id: Option<Text<'a>>,
    pub block: Option<u64>,
}

/// Borrowed also inside of an option.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl StartLine<'_> {
    pub fn read(&self) -> Option<Start> {
        let position = self.sealed_below.as_deref().map(str::parse).transpose();
        Some(Start {
            as_of: micros(&self.as_of)?,
            position: position.ok()?,
            all_tenants: self.all_tenants,
        })
    }
}

impl BlockLine {
    pub fn read(self) -> Option<Stored> {
        let tenant = hex::parse_uuid(&self.tenant_id)?;
        Some(Stored {
            block: Block {
                header: self.header.read(tenant, self.number)?,
                ids: self.ids,
                leaves: Block::leaves(&STANDARD.decode(&self.leaves).ok()?)?,
            },
            hash: hex::decode(&self.hash)?,
            first_id: self.first_id,
            last_id: self.last_id,
            note: self.note,
        })
    }
}

impl EventLine<'_> {
    pub fn read(&self) -> Option<(Event<'_>, Option<u64>)> {
        let event = Event {
            tenant: uuid::Uuid::try_parse(self.tenant_id).ok()?.into_bytes(),
            id: self.id,
            occurred_at: micros(&self.occurred_at)?,
            transaction_id: self.transaction_id.parse().ok()?,
            actor: &self.actor,
            source: &self.source,
            action: &self.action,
            entity: &self.entity,
            entity_id: self.entity_id.as_ref().map(|text| &*text.0),
            changes: self.changes.get(),
            request_id: self.request_id.as_ref().map(|text| &*text.0),
        };
        Some((event, self.block))
    }
}

/// Microseconds since 1970 as people write them; as a number where no calendar goes that far.
pub fn time(micros: i64) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        Err(_) => micros.to_string(),
    }
}

pub(super) fn micros(text: &str) -> Option<i64> {
    if let Ok(micros) = text.parse::<i64>() {
        return Some(micros);
    }
    let at: Timestamp = text.parse().ok()?;
    // What has more digits than we write would be read as something else than it says.
    (at.subsec_nanosecond() % 1000 == 0).then(|| at.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for at in [0, 1, -1, 1_790_000_000_123_456, i64::MAX, i64::MIN] {
            assert_eq!(micros(&time(at)), Some(at));
        }
        assert_eq!(micros("2026-01-01T00:00:00.0000001Z"), None);
    }
}
