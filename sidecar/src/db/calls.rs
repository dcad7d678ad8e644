//! The extension's functions that `serve` and the link pages call: one Rust function for each, nothing else. They are
//! the whole of what the role `rotator_sidecar` may do.
//!
//! Elsewhere: what commands call (`cli/`). The other side of the agreement: `sql/api/`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{DbError, RawMessage, Session};

/// How long the queue's functions may take. They are short; a server that is silent longer is given up.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// One tick of up to 5000 rows, on a server that is busy.
const TICK_LIMIT: Duration = Duration::from_secs(120);
/// A batch is short; counting a big table of the host's, and looking through it a last time, is not.
const REENCRYPT_LIMIT: Duration = Duration::from_secs(600);
/// A page is read by a person who waits.
const PAGE_LIMIT: Duration = Duration::from_secs(8);

/// One notification leased to us: who gets what over which channel.
pub struct Claim {
    pub id: Uuid,
    pub claim_id: Uuid,
    pub channel: String,
    /// Decrypted: never logged, never in an error.
    pub recipient: String,
    pub message: RawMessage,
    pub attempt: i32,
    /// This attempt's own token: never logged.
    pub link_token: Option<String>,
    pub traceparent: Option<String>,
}

/// How one delivery ended, as `complete_notifications` reads it.
#[derive(Clone, Debug, Serialize)]
pub struct Completion {
    pub id: Uuid,
    pub claim_id: Uuid,
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// A claim that is given back until later, as `postpone_notifications` reads it.
#[derive(Clone, Debug, Serialize)]
pub struct Postponed {
    id: Uuid,
    claim_id: Uuid,
    /// Seconds.
    wait: String,
    error: String,
}

impl Postponed {
    pub fn new(claim: &Claim, wait: Duration, error: String) -> Self {
        Self {
            id: claim.id,
            claim_id: claim.claim_id,
            wait: format!("{:.3}", wait.as_secs_f64()),
            error,
        }
    }
}

/// The state of the queue and the clock of the engine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EngineStatus {
    #[serde(default)]
    pub extension_version: Option<String>,
    #[serde(default)]
    pub library_version: Option<String>,
    #[serde(default)]
    pub seconds_since_tick: Option<f64>,
    #[serde(default)]
    pub queued: i64,
    #[serde(default)]
    pub oldest_due_seconds: Option<f64>,
    #[serde(default)]
    pub dead: i64,
    /// Reached nobody, and that still matters.
    #[serde(default)]
    pub undeliverable: i64,
    /// When the latest of these was given up; as the database writes it.
    #[serde(default)]
    pub undeliverable_at: Option<String>,
}

/// What one tick did.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TickReport {
    #[serde(default)]
    pub due: i64,
    #[serde(default)]
    pub alerts_opened: i64,
    #[serde(default)]
    pub queued: i64,
    #[serde(default)]
    pub cancelled: i64,
    /// There is more to do: tick again.
    #[serde(default)]
    pub more: bool,
}

/// What one batch of re-encryption came to.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct ReencryptReport {
    /// Rows re-encrypted now.
    pub done: u64,
    /// Rows known to be left, of all rotations; 0 when there is nothing to do now.
    pub remaining: u64,
    /// Rotations that wait: for an older transaction, or after an error.
    #[serde(default)]
    pub waiting: u64,
    #[serde(default)]
    pub rotation: Option<i64>,
}

/// What somebody asks for who holds a link.
#[derive(Clone, Copy)]
pub struct Redemption<'a> {
    pub token: &'a str,
    /// `show` changes nothing; `acknowledge`, `snooze` and `rotated` do.
    pub action: &'a str,
    pub note: Option<&'a str>,
    /// For `snooze`: an instant (RFC 3339).
    pub until: Option<&'a str>,
    /// A date (YYYY-MM-DD) and the time zone whose midnight is meant.
    pub next_expiry: Option<(&'a str, &'a str)>,
}

impl<'a> Redemption<'a> {
    /// That action, with nothing that belongs to it.
    pub const fn plain(token: &'a str, action: &'a str) -> Self {
        Self {
            token,
            action,
            note: None,
            until: None,
            next_expiry: None,
        }
    }
}

impl Session {
    /// The version of the extension in this database, if it is there. Any login may ask.
    pub async fn extension_version(&self) -> Result<Option<String>, DbError> {
        let statement = "select extversion from pg_catalog.pg_extension where extname = 'rotator'";
        let rows = self.query(CALL_LIMIT, statement, &[]).await?;
        rows.first()
            .map(|row| column(row, 0, "pg_extension"))
            .transpose()
    }

    pub async fn engine_status(&self) -> Result<EngineStatus, DbError> {
        let rows = self
            .query(CALL_LIMIT, "select rotator.engine_status()", &[])
            .await?;
        document(&rows, "engine_status")
    }

    pub async fn tick(&self) -> Result<TickReport, DbError> {
        let rows = self.query(TICK_LIMIT, "select rotator.tick()", &[]).await?;
        document(&rows, "tick")
    }

    /// Re-encrypts up to `max_rows` rows of the rotation whose turn it is.
    pub async fn reencrypt_step(&self, max_rows: i32) -> Result<ReencryptReport, DbError> {
        let statement = "select rotator.reencrypt_step(max_rows => $1)";
        let rows = self
            .query(REENCRYPT_LIMIT, statement, &[(&max_rows, Type::INT4)])
            .await?;
        document(&rows, "reencrypt_step")
    }

    /// Leases up to `max_rows` notifications to `worker` for `lease`.
    pub async fn claim_notifications(
        &self,
        worker: &str,
        max_rows: i32,
        lease: Duration,
    ) -> Result<Vec<Claim>, DbError> {
        let statement = "select id, claim_id, channel, recipient, message, attempt, link_token, traceparent \
                         from rotator.claim_notifications($1, $2, $3::interval)";
        let lease = format!("{} seconds", lease.as_secs());
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
            (&worker, Type::TEXT),
            (&max_rows, Type::INT4),
            (&lease, Type::TEXT),
        ];
        let rows = self.query(CALL_LIMIT, statement, &parameters).await?;
        rows.iter().map(claim).collect()
    }

    /// Reports results; gives the ids that were accepted. Safe to repeat: the same claim's repeat changes nothing.
    pub async fn complete_notifications(
        &self,
        results: &[Completion],
    ) -> Result<Vec<(Uuid, bool)>, DbError> {
        const NAME: &str = "complete_notifications";
        let results = serde_json::to_string(results).map_err(|error| DbError::Shape {
            function: NAME,
            problem: error.to_string(),
        })?;
        let statement = "select id, accepted from rotator.complete_notifications($1::jsonb)";
        let rows = self
            .query(CALL_LIMIT, statement, &[(&results, Type::TEXT)])
            .await?;
        rows.iter()
            .map(|row| Ok((column(row, 0, NAME)?, column(row, 1, NAME)?)))
            .collect()
    }

    /// Gives back claims that were never started; their attempt does not count.
    pub async fn release_notifications(
        &self,
        ids: &[Uuid],
        claims: &[Uuid],
    ) -> Result<i32, DbError> {
        const NAME: &str = "release_notifications";
        let statement = "select rotator.release_notifications($1, $2)";
        let rows = self
            .query(
                CALL_LIMIT,
                statement,
                &[(&ids, Type::UUID_ARRAY), (&claims, Type::UUID_ARRAY)],
            )
            .await?;
        column(first(&rows, NAME)?, 0, NAME)
    }

    /// Gives back claims that were never started until later; gives how many were still ours.
    pub async fn postpone_notifications(&self, claims: &[Postponed]) -> Result<i32, DbError> {
        const NAME: &str = "postpone_notifications";
        let claims = serde_json::to_string(claims).map_err(|error| DbError::Shape {
            function: NAME,
            problem: error.to_string(),
        })?;
        let statement = "select rotator.postpone_notifications($1::jsonb)";
        let rows = self
            .query(CALL_LIMIT, statement, &[(&claims, Type::TEXT)])
            .await?;
        column(first(&rows, NAME)?, 0, NAME)
    }

    /// Shows or uses a link. Errors: PT404 unknown, PT410 expired or of an older cycle, 22023 bad input.
    pub async fn redeem_link(&self, request: Redemption<'_>) -> Result<Value, DbError> {
        const NAME: &str = "redeem_link";
        let statement = "select rotator.redeem_link(token => $1, action => $2, note => $3, via => 'link', \
                         next_expiry_date => $4::date::timestamp at time zone $5, until => $6::timestamptz)";
        let (date, zone) = request.next_expiry.unzip();
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 6] = [
            (&request.token, Type::TEXT),
            (&request.action, Type::TEXT),
            (&request.note, Type::TEXT),
            (&date, Type::TEXT),
            (&zone, Type::TEXT),
            (&request.until, Type::TEXT),
        ];
        let rows = self.query(PAGE_LIMIT, statement, &parameters).await?;
        column(first(&rows, NAME)?, 0, NAME)
    }
}

fn claim(row: &Row) -> Result<Claim, DbError> {
    const NAME: &str = "claim_notifications";
    Ok(Claim {
        id: column(row, 0, NAME)?,
        claim_id: column(row, 1, NAME)?,
        channel: column(row, 2, NAME)?,
        // What can't be decrypted is null: that delivery fails, and doesn't hold up its batch.
        recipient: column::<Option<String>>(row, 3, NAME)?.unwrap_or_default(),
        message: column::<Option<RawMessage>>(row, 4, NAME)?.unwrap_or_default(),
        attempt: column(row, 5, NAME)?,
        link_token: column(row, 6, NAME)?,
        traceparent: column(row, 7, NAME)?,
    })
}

pub(super) fn first<'a>(rows: &'a [Row], function: &'static str) -> Result<&'a Row, DbError> {
    rows.first().ok_or_else(|| DbError::Shape {
        function,
        problem: "no row".to_owned(),
    })
}

pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    position: usize,
    function: &'static str,
) -> Result<T, DbError> {
    row.try_get(position).map_err(|error| DbError::Shape {
        function,
        problem: error.to_string(),
    })
}

fn document<T: for<'de> Deserialize<'de>>(
    rows: &[Row],
    function: &'static str,
) -> Result<T, DbError> {
    let value: Value = column(first(rows, function)?, 0, function)?;
    serde_json::from_value(value).map_err(|error| DbError::Shape {
        function,
        problem: error.to_string(),
    })
}
