//! Seeds and short questions that several modules share: two tenants with a row in every view, results as text, and
//! the verdict of a statement as its SQLSTATE.

use anyhow::{Context, Result, bail};
use rotator_tests::{Role, TestDb};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Two tenants with members of each kind, and in every view a row of each of them.
pub struct TwoTenants {
    pub db: TestDb,
    /// An admin of acme; `beta` has one too.
    pub acme: Role,
    pub beta: Role,
}

impl TwoTenants {
    pub async fn new() -> Result<Self> {
        let db = TestDb::new().await?;
        for tenant in ["acme", "beta"] {
            db.tenant(tenant).await?;
            populate(&db, tenant).await?;
        }
        let (acme, beta) = (
            db.member("acme", "admin").await?,
            db.member("beta", "admin").await?,
        );
        Ok(Self { db, acme, beta })
    }
}

/// What a superuser may turn himself into before he attacks a table that is append only; the first is himself.
pub const AS_ROLES: [&str; 8] = [
    "",
    "set role rotator_owner",
    "set role rotator_engine",
    "set role rotator_admin",
    "set role rotator_auditor",
    "set role rotator_sidecar",
    "set role rotator_host",
    "set session_replication_role = replica",
];

/// Gives the tenant a secret with an open alert and a queued notification, a rotated one, a contact and a policy.
pub async fn populate(db: &TestDb, tenant: &str) -> Result<()> {
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('{tenant}');
             select rotator.set_contact('db:postgres', 'console', '{tenant}-desk');
             select rotator.register_secret('{tenant}-due', expiry_date => now() + interval '3 days',
                 purpose => '{tenant} purpose', provider_ref => '{tenant}/path', external_id => 'due');
             select rotator.mark_rotated(rotator.register_secret('{tenant}-rotated', rotation_interval => '90 days'));
             select rotator.add_notification_policy(3, 'email', '{tenant}@example.com');
             select rotator.set_escalation_policy('{tenant} ladder', '[{{\"after\": \"1 hour\", \"recipient\": \"{tenant}@example.com\", \"channel\": \"email\"}}]');
             select rotator.set_delivery_window('{{\"days\": [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"], \"from\": \"00:00\", \"to\": \"24:00\"}}');
             select rotator.link_identity('db:postgres', 'email', '{tenant}-desk@example.com');
             select rotator.tick()"
        ))
        .await
        .with_context(|| format!("populating {tenant}"))?;
    Ok(db.admin.batch_execute("discard all").await?)
}

/// The first column of every row, as text; null is the empty string.
pub async fn texts(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client
        .simple_query(sql)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        })
        .collect())
}

/// The first column of the one row.
pub async fn text(client: &Client, sql: &str) -> Result<String> {
    let mut rows = texts(client, sql).await?;
    match (rows.pop(), rows.len()) {
        (Some(row), 0) => Ok(row),
        (row, more) => bail!("expected one row of {sql}, got {row:?} and {more} more"),
    }
}

/// `ok`, or the SQLSTATE that the statement was refused with.
pub async fn verdict(client: &Client, sql: &str) -> Result<String> {
    match client.simple_query(sql).await {
        Ok(_) => Ok("ok".to_owned()),
        Err(error) => match error.code() {
            Some(code) => Ok(code.code().to_owned()),
            None => Err(error).with_context(|| sql.to_owned()),
        },
    }
}

/// As [`verdict`], and the transaction that it ran in is rolled back: for trying things that would change the next try.
pub async fn tried(client: &Client, sql: &str) -> Result<String> {
    client.batch_execute("begin").await?;
    let verdict = verdict(client, sql).await;
    client.batch_execute("rollback").await?;
    verdict
}

/// Every SQLSTATE, message and hint that a refused statement shows, as one text to compare.
pub async fn refusal(client: &Client, sql: &str) -> Result<String> {
    match client.simple_query(sql).await {
        Ok(_) => bail!("accepted: {sql}"),
        Err(error) => {
            let error = error.as_db_error().with_context(|| sql.to_owned())?;
            Ok(format!(
                "{} {} | {:?} | {:?}",
                error.code().code(),
                error.message(),
                error.detail(),
                error.hint()
            ))
        }
    }
}
