//! What the behaviours start from: a tenant named acme with a session for everybody who has a part, and the few calls
//! that nearly all of them make. Moving time is `tick(as_of)`, or dates in the past; nothing here sleeps.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rotator_tests::{TestDb, scalar, settled, until};
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

pub struct Acme {
    pub db: TestDb,
    /// A login role with rotator_admin that uses acme: ticks at any time, acts as its admin.
    pub operator: Client,
    /// A member who may register, change and rotate.
    pub editor: Client,
    /// Who delivers: rotator_sidecar, and no member of anything.
    pub worker: Client,
}

impl Acme {
    pub async fn new() -> Result<Self> {
        Self::in_zone("UTC").await
    }

    pub async fn in_zone(zone: &str) -> Result<Self> {
        let db = TestDb::new().await?;
        db.tenant_in("acme", zone).await?;
        let operator = db.login_role("operator", &["rotator_admin"]).await?;
        let operator = db.connect_as(&operator).await?;
        operator
            .execute("select rotator.use_tenant('acme')", &[])
            .await?;
        let editor = db.session("acme", "editor").await?;
        let worker = db.login_role("worker", &["rotator_sidecar"]).await?;
        let worker = db.connect_as(&worker).await?;
        Ok(Self {
            db,
            operator,
            editor,
            worker,
        })
    }

    /// Registers a secret; `with` is the rest of the arguments, as SQL.
    pub async fn register(&self, name: &str, with: &str) -> Result<Uuid> {
        register(&self.editor, name, with).await
    }

    /// One that has its seven-day reminder due: it expires in five days, and rotates every 90.
    pub async fn due(&self, name: &str) -> Result<Uuid> {
        self.register(
            name,
            "expiry_date => now() + interval '5 days', rotation_interval => '90 days'",
        )
        .await
    }

    pub async fn tick(&self) -> Result<Value> {
        settled(&self.db.admin).await?;
        scalar(&self.operator, "select rotator.tick()", &[]).await
    }

    /// A tick at another time, as SQL.
    pub async fn tick_at(&self, as_of: &str) -> Result<Value> {
        settled(&self.db.admin).await?;
        let sql = format!("select rotator.tick(as_of => {as_of})");
        scalar(&self.operator, &sql, &[]).await
    }

    /// What members see, as an array of objects.
    pub async fn rows(&self, sql: &str) -> Result<Value> {
        rows(&self.editor, sql).await
    }

    pub async fn claim(&self) -> Result<Vec<Claim>> {
        claim(&self.worker, 100, "1 minute").await
    }

    /// The only claim there is to have.
    pub async fn claim_one(&self) -> Result<Claim> {
        let mut claims = self.claim().await?;
        anyhow::ensure!(claims.len() == 1, "one claim expected: {claims:?}");
        claims.pop().context("there is one")
    }

    pub async fn complete(&self, claim: &Claim) -> Result<bool> {
        scalar(
            &self.worker,
            "select rotator.complete_notification($1, $2, 'vendor-1')",
            &[&claim.id, &claim.claim_id],
        )
        .await
    }

    pub async fn fail(&self, claim: &Claim, reason: &str) -> Result<bool> {
        scalar(
            &self.worker,
            "select rotator.fail_notification($1, $2, 'it did not work', $3)",
            &[&claim.id, &claim.claim_id, &reason],
        )
        .await
    }

    /// Whatever waits for its time may be claimed now: as if the hour had passed.
    pub async fn end_waiting(&self) -> Result<()> {
        self.db
            .admin
            .batch_execute("update rotator_internal.notification set available_at = now() - interval '1 second', leased_until = now() - interval '1 second'")
            .await?;
        Ok(())
    }

    /// The content of every table, as hashes: equal before and after means that nothing was stored.
    pub async fn fingerprint(&self) -> Result<BTreeMap<String, String>> {
        let tables = self
            .db
            .admin
            .query(
                "select oid::regclass::text from pg_class
                 where relkind = 'r' and relnamespace = 'rotator_internal'::regnamespace",
                &[],
            )
            .await?;
        let mut hashes = BTreeMap::new();
        for table in tables {
            let table: String = table.get(0);
            let sql = format!(
                "select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {table} as t"
            );
            hashes.insert(table, scalar(&self.db.admin, &sql, &[]).await?);
        }
        Ok(hashes)
    }
}

#[derive(Clone, Debug)]
pub struct Claim {
    pub id: Uuid,
    pub claim_id: Uuid,
    pub channel: String,
    pub recipient: Option<String>,
    pub message: Value,
    pub attempt: i32,
    pub link_token: String,
}

pub async fn claim(worker: &Client, max_rows: i32, lease: &str) -> Result<Vec<Claim>> {
    let rows = worker
        .query(
            "select id, claim_id, channel, recipient, message, attempt, link_token
             from rotator.claim_notifications('worker-1', $1, $2::text::interval)",
            &[&max_rows, &lease],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Claim {
            id: row.get(0),
            claim_id: row.get(1),
            channel: row.get(2),
            recipient: row.get(3),
            message: row.get(4),
            attempt: row.get(5),
            link_token: row.get::<_, Option<String>>(6).unwrap_or_default(),
        })
        .collect())
}

pub async fn register(session: &Client, name: &str, with: &str) -> Result<Uuid> {
    let sql = format!("select rotator.register_secret($1, {with})");
    scalar(session, &sql, &[&name]).await
}

/// The rows of a query as an array of objects.
pub async fn rows(session: &Client, sql: &str) -> Result<Value> {
    let sql = format!("select coalesce(jsonb_agg(to_jsonb(q)), '[]') from ({sql}) as q");
    scalar(session, &sql, &[]).await
}

/// Until that backend waits for a lock: it has read what it wants to change.
pub async fn wait_for_lock(acme: &Acme, backend: i32) -> Result<()> {
    until(
        Duration::from_secs(10),
        "one session to wait for another",
        async || waits_for_lock(acme, backend).await,
    )
    .await
}

pub async fn waits_for_lock(acme: &Acme, backend: i32) -> Result<bool> {
    let sql =
        "select coalesce(wait_event_type = 'Lock', false) from pg_stat_activity where pid = $1";
    scalar(&acme.db.admin, sql, &[&backend]).await
}
