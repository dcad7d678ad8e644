//! What the behaviours start from: a tenant named acme, an operator who acts in it, an owner named dana who is reached
//! where the test says, and what can be asked about a notification. Nothing here sleeps; time is moved in the queue.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rotator_tests::{Role, TestDb, eventually, scalar, settled};
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

/// Long enough for a delivery on a busy machine, far shorter than a lease.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Acme {
    pub db: TestDb,
    /// A login role with rotator_admin, which uses acme in this session.
    pub operator: Client,
    pub operator_role: Role,
}

/// A row of `rotator.notifications`.
#[derive(Debug)]
pub struct Notification {
    pub id: Uuid,
    pub state: String,
    pub attempts: i32,
    pub last_error: Option<String>,
    pub provider_message_id: Option<String>,
}

/// A try to deliver it, in the order they were made.
#[derive(Debug, PartialEq, Eq)]
pub struct Attempt {
    pub outcome: Option<String>,
    pub error: Option<String>,
    pub provider_message_id: Option<String>,
}

impl Acme {
    pub async fn new() -> Result<Self> {
        Self::on(TestDb::new().await?, "UTC").await
    }

    pub async fn in_zone(zone: &str) -> Result<Self> {
        Self::on(TestDb::new().await?, zone).await
    }

    pub async fn on(db: TestDb, zone: &str) -> Result<Self> {
        db.tenant_in("acme", zone).await?;
        let operator_role = db.login_role("operator", &["rotator_admin"]).await?;
        let operator = db.connect_as(&operator_role).await?;
        operator
            .execute("select rotator.use_tenant('acme')", &[])
            .await?;
        Ok(Self {
            db,
            operator,
            operator_role,
        })
    }

    /// The session again, after the server went away.
    pub async fn reconnect(&mut self) -> Result<()> {
        self.db.admin = self.db.superuser().await?;
        self.operator = self.db.connect_as(&self.operator_role).await?;
        self.operator
            .execute("select rotator.use_tenant('acme')", &[])
            .await?;
        Ok(())
    }

    /// Where dana is reached.
    pub async fn contact(&self, channel: &str, recipient: &str) -> Result<()> {
        self.contact_of("dana", channel, recipient).await
    }

    pub async fn contact_of(&self, owner: &str, channel: &str, recipient: &str) -> Result<()> {
        self.operator
            .execute(
                "select rotator.set_contact($1, $2, $3)",
                &[&owner, &channel, &recipient],
            )
            .await?;
        Ok(())
    }

    /// Registers a secret; `with` is the rest of the arguments, as SQL.
    pub async fn register(&self, name: &str, with: &str) -> Result<Uuid> {
        let sql = format!("select rotator.register_secret($1, {with})");
        scalar(&self.operator, &sql, &[&name]).await
    }

    /// One of dana's that has its seven-day reminder due.
    pub async fn due(&self, name: &str) -> Result<Uuid> {
        self.due_for("dana", name).await
    }

    pub async fn due_for(&self, owner: &str, name: &str) -> Result<Uuid> {
        let with = format!(
            "expiry_date => now() + interval '5 days', rotation_interval => '90 days', owner_id => '{owner}'"
        );
        self.register(name, &with).await
    }

    /// Many of them at once: `key-1`, `key-2`, …
    pub async fn many_due(&self, count: usize) -> Result<()> {
        let sql = format!(
            "select rotator.register_secret('key-' || i, expiry_date => now() + interval '5 days',
                 rotation_interval => '90 days', owner_id => 'dana')
             from generate_series(1, {count}) as i"
        );
        self.operator.batch_execute(&sql).await?;
        Ok(())
    }

    /// Many at once, each of an owner with a Slack channel of their own: what goes to one place in one tick is one message.
    pub async fn many_owners_due(&self, count: usize) -> Result<()> {
        let sql = format!(
            "select rotator.set_contact('owner-' || i, 'slack', 'C0OWNER' || lpad(i::text, 5, '0')),
                 rotator.register_secret('key-' || i, expiry_date => now() + interval '5 days',
                 rotation_interval => '90 days', owner_id => 'owner-' || i)
             from generate_series(1, {count}) as i"
        );
        self.operator.batch_execute(&sql).await?;
        Ok(())
    }

    pub async fn tick(&self) -> Result<Value> {
        settled(&self.db.admin).await?;
        scalar(&self.operator, "select rotator.tick()", &[]).await
    }

    /// The first notification about this secret; others follow an escalation, say, or take over from one that is dead.
    pub async fn notification(&self, secret: Uuid) -> Result<Notification> {
        self.queued(secret)
            .await?
            .context("nothing was queued about the secret")
    }

    async fn queued(&self, secret: Uuid) -> Result<Option<Notification>> {
        let row = self
            .operator
            .query_opt(
                "select id, state, attempts, last_error, provider_message_id
                 from rotator.notifications where secret_id = $1 order by id limit 1",
                &[&secret],
            )
            .await
            .context("the first notification of the secret")?;
        Ok(row.map(|row| Notification {
            id: row.get(0),
            state: row.get(1),
            attempts: row.get(2),
            last_error: row.get(3),
            provider_message_id: row.get(4),
        }))
    }

    /// Waits until it is in this state and no attempt is under way.
    pub async fn becomes(&self, secret: Uuid, state: &str) -> Result<Notification> {
        self.becomes_within(secret, state, SOON).await
    }

    pub async fn becomes_within(
        &self,
        secret: Uuid,
        state: &str,
        limit: Duration,
    ) -> Result<Notification> {
        let mut last = String::new();
        let outcome = eventually(
            limit,
            &format!("the notification to be {state}"),
            async || {
                let found = self.queued(secret).await?;
                last = format!("{found:?}");
                Ok(found.filter(|found| found.state == state))
            },
        )
        .await;
        outcome.with_context(|| format!("it is {last}"))
    }

    /// How many notifications are in this state.
    pub async fn count(&self, state: &str) -> Result<i64> {
        let sql = "select count(*) from rotator.notifications where state = $1";
        scalar(&self.operator, sql, &[&state]).await
    }

    pub async fn attempts(&self, secret: Uuid) -> Result<Vec<Attempt>> {
        let rows = self
            .db
            .admin
            .query(
                "select d.outcome, d.error, d.provider_message_id
                 from rotator_internal.delivery_attempt as d
                 join rotator_internal.notification as n on n.tenant_id = d.tenant_id and n.id = d.notification_id
                 where n.secret_id = $1 and n.fallback_of is null
                 order by d.attempt, d.started_at",
                &[&secret],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| Attempt {
                outcome: row.get(0),
                error: row.get(1),
                provider_message_id: row.get(2),
            })
            .collect())
    }

    /// Their outcomes alone.
    pub async fn outcomes(&self, secret: Uuid) -> Result<Vec<String>> {
        let attempts = self.attempts(secret).await?;
        Ok(attempts
            .into_iter()
            .map(|attempt| attempt.outcome.unwrap_or_else(|| "under way".to_owned()))
            .collect())
    }

    /// Whatever waits to be tried again may be now, as if the wait were over; sidecars hear of it.
    pub async fn end_waiting(&self) -> Result<()> {
        self.db
            .admin
            .batch_execute(
                "update rotator_internal.notification set available_at = now() - interval '1 second' where state = 'retry';
                 notify rotator_outbox",
            )
            .await?;
        Ok(())
    }

    /// Every lease has run out, as if a minute had passed; sidecars hear of it.
    pub async fn end_leases(&self) -> Result<()> {
        self.db
            .admin
            .batch_execute(
                "update rotator_internal.notification set leased_until = now() - interval '1 second' where state = 'leased';
                 notify rotator_outbox",
            )
            .await?;
        Ok(())
    }

    /// The content of every table as hashes: equal before and after means nothing was stored. Not the engine's heartbeat, nor
    /// uses of keys: those of a transaction that rolled back count as well.
    pub async fn fingerprint(&self) -> Result<BTreeMap<String, String>> {
        let tables = self
            .db
            .admin
            .query(
                "select oid::regclass::text from pg_class
                 where relkind = 'r' and relnamespace = 'rotator_internal'::regnamespace and relname <> all ('{heartbeat,key_use,audit_block,audit_leaf,audit_signature,audit_seal_state}')",
                &[],
            )
            .await?;
        let mut hashes = BTreeMap::new();
        for table in tables {
            let table: String = table.get(0);
            // That an action was refused is an event, and changes nothing else.
            let of = match table.as_str() {
                "rotator_internal.audit_event" => {
                    "where t.action <> all ('{link.refused,button.refused}')"
                }
                _ => "",
            };
            let sql = format!(
                "select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {table} as t {of}"
            );
            hashes.insert(table, scalar(&self.db.admin, &sql, &[]).await?);
        }
        Ok(hashes)
    }
}
