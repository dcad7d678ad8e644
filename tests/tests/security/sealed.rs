//! What the tests of the audit log's sealing share: writing events, ticking until all are sealed, and the verdict of
//! `verify_audit`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, until};
use tokio_postgres::Client;

use crate::fixture::text;

/// A cluster of the test's own, in which no other test holds a transaction open: that would hold sealing up too.
pub async fn own_cluster() -> Result<TestDb> {
    let options = Options {
        settings: vec!["max_prepared_transactions = 10".to_owned()],
        ..Options::default()
    };
    let db = TestDb::in_cluster(Arc::new(Cluster::start(options).await?)).await?;
    db.tenant("acme").await?;
    Ok(db)
}

/// SQL that writes `count` events of acme that are called `name`.
pub fn events(name: &str, count: usize) -> String {
    format!(
        "select count(rotator_internal.record_event(t.tenant_id, 'secret.updated', 'secret', '{name}',
             jsonb_build_object('place', n), 'tester', 'sql'))
         from rotator_internal.tenant as t, generate_series(1, {count}) as n where t.slug = 'acme'"
    )
}

/// How many events have no block.
pub async fn unsealed(db: &TestDb) -> Result<usize> {
    let count = text(
        &db.admin,
        "select count(*) from rotator.audit_log where block_id is null",
    )
    .await?;
    Ok(count.parse()?)
}

/// Ticks until nothing is left to seal. Transactions of other databases of the cluster hold it up as well.
pub async fn seal_all(db: &TestDb) -> Result<()> {
    until(
        Duration::from_secs(60),
        "every event to be sealed",
        async || {
            db.admin.batch_execute("select rotator.tick()").await?;
            Ok(unsealed(db).await? == 0)
        },
    )
    .await
}

/// What `verify_audit` says: whether it is in order, events checked, events not sealed, the first bad id, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub ok: bool,
    pub checked: i64,
    pub unsealed: i64,
    pub first_bad_id: Option<i64>,
    pub detail: String,
}

pub async fn verify(session: &Client, tenant: Option<&str>) -> Result<Verdict> {
    let row = session
        .query_one("select * from rotator.verify_audit($1)", &[&tenant])
        .await?;
    Ok(Verdict {
        ok: row.get(0),
        checked: row.get(1),
        unsealed: row.get(2),
        first_bad_id: row.get(3),
        detail: row.get(4),
    })
}

/// Nothing is wrong, and this many events are not sealed.
pub async fn expect_clean(session: &Client, unsealed: usize) -> Result<Verdict> {
    let verdict = verify(session, None).await?;
    ensure!(
        verdict.ok && verdict.first_bad_id.is_none() && verdict.unsealed == unsealed as i64,
        "{unsealed} unsealed expected: {verdict:?}"
    );
    Ok(verdict)
}
