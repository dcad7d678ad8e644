//! The functions of the audit log that `serve` calls: sealed blocks that nobody has signed yet, their signatures, and
//! refusals of links. The other side of the agreement: `sql/api/audit*.sql`. Elsewhere: signing (`serve/audit.rs`), what
//! commands read of the log (`cli/audit/`).

use std::time::Duration;

use rotator_audit::{Header, hex};
use serde::Deserialize;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use super::calls::{column, first};
use super::{DbError, Session};
use crate::audit::Block;

/// Up to some dozen megabytes of leaves.
const BLOCKS_LIMIT: Duration = Duration::from_secs(60);
const RECORD_LIMIT: Duration = Duration::from_secs(20);
const PAGE_LIMIT: Duration = Duration::from_secs(8);

/// Microseconds since 1970 of a `timestamptz`, without a detour over a type that knows fewer dates than PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        /// From 1970 to 2000, where PostgreSQL begins to count.
        const EPOCH: i64 = 946_684_800_000_000;
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(since_2000.wrapping_add(EPOCH)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

/// A sealed block that waits for a signature.
pub struct UnsignedBlock {
    pub block: Block,
    /// When it was seen, committed, by the database's clock: microseconds since 1970.
    pub seen_at: i64,
}

impl Session {
    /// The oldest blocks without a signature, of each tenant in the order of their numbers.
    pub async fn unsigned_audit_blocks(
        &self,
        max_blocks: i32,
    ) -> Result<Vec<UnsignedBlock>, DbError> {
        let statement = "select tenant_id, block_id, header::text, event_ids, leaves, clock_timestamp() \
                         from rotator.unsigned_audit_blocks(max_blocks => $1)";
        let parameters = [(
            &max_blocks as &(dyn tokio_postgres::types::ToSql + Sync),
            Type::INT4,
        )];
        let rows = self.query(BLOCKS_LIMIT, statement, &parameters).await?;
        rows.iter().map(unsigned).collect()
    }

    /// Notes the signature of a block; gives whether it is the one that counts. Safe to repeat.
    pub async fn record_audit_signature(
        &self,
        header: &Header,
        note: &str,
        key_name: &str,
        copies: &[String],
    ) -> Result<bool, DbError> {
        const NAME: &str = "record_audit_signature";
        let statement = "select rotator.record_audit_signature(\
                         tenant_id => $1, block_id => $2, note => $3, key_name => $4, copies => $5)";
        let tenant = Uuid::from_bytes(header.tenant);
        let number = i64::try_from(header.number).unwrap_or(i64::MAX);
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 5] = [
            (&tenant, Type::UUID),
            (&number, Type::INT8),
            (&note, Type::TEXT),
            (&key_name, Type::TEXT),
            (&copies, Type::TEXT_ARRAY),
        ];
        let rows = self.query(RECORD_LIMIT, statement, &parameters).await?;
        column(first(&rows, NAME)?, 0, NAME)
    }

    /// Notes in the audit log that the holder of a link was refused; `false` for a link that nobody knows.
    pub async fn record_link_refusal(
        &self,
        token: &str,
        action: &str,
        reason: &str,
    ) -> Result<bool, DbError> {
        const NAME: &str = "record_link_refusal";
        let statement = "select rotator.record_link_refusal(token => $1, action => $2, reason => $3, via => 'link')";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
            (&token, Type::TEXT),
            (&action, Type::TEXT),
            (&reason, Type::TEXT),
        ];
        let rows = self.query(PAGE_LIMIT, statement, &parameters).await?;
        column(first(&rows, NAME)?, 0, NAME)
    }
}

fn unsigned(row: &Row) -> Result<UnsignedBlock, DbError> {
    const NAME: &str = "unsigned_audit_blocks";
    let (tenant, number): (Uuid, i64) = (column(row, 0, NAME)?, column(row, 1, NAME)?);
    let text: &str = column(row, 2, NAME)?;
    // Null where somebody took them away: that is for the signer to tell.
    let (ids, leaves): (Option<Vec<i64>>, Option<&[u8]>) =
        (column(row, 3, NAME)?, column(row, 4, NAME)?);
    let shape = |problem: &str| DbError::Shape {
        function: NAME,
        problem: format!("block {number} of tenant {tenant}: {problem}"),
    };
    let header = header(tenant, number, text).ok_or_else(|| shape("its header can't be read"))?;
    let Micros(seen_at) = column(row, 5, NAME)?;
    Ok(UnsignedBlock {
        block: Block {
            header,
            ids: ids.unwrap_or_default(),
            leaves: Block::leaves(leaves.unwrap_or_default())
                .ok_or_else(|| shape("its leaves can't be read"))?,
        },
        seen_at,
    })
}

fn header(tenant: Uuid, number: i64, text: &str) -> Option<Header> {
    #[derive(Deserialize)]
    struct Text {
        events: u64,
        root: String,
        previous: String,
        sealed_at: i64,
        below: String,
        next: String,
    }
    let text: Text = serde_json::from_str(text).ok()?;
    Some(Header {
        tenant: tenant.into_bytes(),
        number: u64::try_from(number).ok()?,
        events: text.events,
        root: hex::decode(&text.root)?,
        previous: hex::decode(&text.previous)?,
        sealed_at: text.sealed_at,
        below: text.below.parse().ok()?,
        next: text.next.parse().ok()?,
    })
}
