//! Logical replication to another cluster: every row arrives as it was, its time, id and hash included, and stays
//! readable; and what is append only stays so against the apply worker, which skips the triggers of others, and against a
//! superuser's session that says it is one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, until};

use crate::dump_content::{expect_audit_verified, rows};
use crate::fixture::{populate, text, texts, verdict};

const ARRIVED: Duration = Duration::from_secs(40);
const APPEND_ONLY: &str =
    "select t.tgrelid::regclass from pg_trigger as t where t.tgname = 'append_only' order by 1";
const DIGEST: &str = "select md5(string_agg(e::text, '|' order by tenant_id, id)) from rotator_internal.audit_event as e";

struct Pair {
    publisher: TestDb,
    subscriber: TestDb,
}

impl Pair {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start(Options {
            settings: vec!["wal_level = logical".to_owned()],
            ..Options::default()
        })
        .await?;
        let publisher = TestDb::in_cluster(Arc::new(cluster)).await?;
        let other = publisher.cluster.another(Options::default()).await?;
        let subscriber = TestDb::in_cluster(Arc::new(other)).await?;
        publisher
            .admin
            .batch_execute("create publication rotator for tables in schema rotator_internal")
            .await?;
        Ok(Self {
            publisher,
            subscriber,
        })
    }

    async fn subscribe(&self, copy_data: bool) -> Result<()> {
        let (from, admin) = (&self.publisher, &self.subscriber.admin);
        // From 16 on the worker would act as the owner of a table, whom row-level security binds.
        let new = "select current_setting('server_version_num')::integer >= 160000";
        let owner = if text(admin, new).await? == "t" {
            ", run_as_owner = true"
        } else {
            ""
        };
        admin
            .batch_execute(&format!(
                "create subscription copy connection 'host={} port={} user=postgres dbname={}' publication rotator
                 with (disable_on_error = true, copy_data = {copy_data}{owner})",
                from.cluster.socket.display(),
                from.cluster.port,
                from.name
            ))
            .await?;
        Ok(())
    }

    async fn unsubscribe(&self) -> Result<()> {
        for sql in [
            "alter subscription copy disable",
            "alter subscription copy set (slot_name = none)",
            "drop subscription copy",
        ] {
            self.subscriber.admin.batch_execute(sql).await?;
        }
        until(ARRIVED, "the slot to be free", async || {
            let dropped = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active";
            texts(&self.publisher.admin, dropped).await?;
            Ok(texts(&self.publisher.admin, "select slot_name from pg_replication_slots").await?.is_empty())
        })
        .await
    }

    /// Waits until all rows over there are those here. Sequences aren't replicated.
    async fn arrives(&self) -> Result<()> {
        let mut wanted = rows(&self.publisher.admin).await?;
        wanted.retain(|name, _| !name.ends_with("(sequence)"));
        let mut last = Vec::new();
        let outcome = until(ARRIVED, "the rows to arrive", async || {
            let found = rows(&self.subscriber.admin).await?;
            last = wanted
                .iter()
                .filter(|(name, rows)| found.get(*name) != Some(rows))
                .map(|(name, rows)| {
                    format!(
                        "{name}: {} of {}",
                        found.get(name).map_or(0, Vec::len),
                        rows.len()
                    )
                })
                .collect();
            Ok(last.is_empty())
        })
        .await;
        outcome.map_err(|error| error.context(format!("{last:?}")))
    }
}

#[tokio::test]
async fn rows_arrive_as_they_were_and_nothing_replicated_changes_the_audit_log() -> Result<()> {
    let pair = Pair::new().await?;
    let (from, to) = (&pair.publisher, &pair.subscriber);
    from.tenant("acme").await?;
    populate(from, "acme").await?;
    pair.subscribe(true).await?;
    from.tenant("beta").await?;
    populate(from, "beta").await?;
    // A step of everything that changes rows already there.
    from.admin
        .batch_execute("select rotator.rotate_key('beta'); select rotator.reencrypt_step(); select rotator.tick()")
        .await?;
    pair.arrives().await?;
    to.admin
        .batch_execute("select rotator.use_tenant('beta')")
        .await?;
    let names = texts(&to.admin, "select name from rotator.secrets order by 1").await?;
    ensure!(names == ["beta-due", "beta-rotated"], "{names:?}");
    to.admin.batch_execute("discard all").await?;

    expect_audit_verified(&to.admin).await?;

    let before = text(&to.admin, DIGEST).await?;
    for attack in [
        "update rotator_internal.audit_event set actor = 'nobody' where id = (select min(id) from rotator_internal.audit_event)",
        "delete from rotator_internal.audit_event where id = (select min(id) from rotator_internal.audit_event)",
        "truncate rotator_internal.audit_event",
    ] {
        // Over there somebody with every right has changed it.
        from.admin
            .batch_execute(&format!(
                "begin;
                 alter table rotator_internal.audit_event disable trigger user;
                 {attack};
                 alter table rotator_internal.audit_event enable always trigger append_only;
                 alter table rotator_internal.audit_event enable always trigger append_only_rows;
                 commit"
            ))
            .await?;
        until(ARRIVED, "the subscription to stop", async || {
            let stopped = "select not subenabled from pg_subscription where subname = 'copy'";
            Ok(text(&to.admin, stopped).await? == "t")
        })
        .await
        .map_err(|error| error.context(attack))?;
        ensure!(
            text(&to.admin, DIGEST).await? == before,
            "it passed: {attack}"
        );
        pair.unsubscribe().await?;
        pair.subscribe(false).await?;
    }
    let refusals = to
        .cluster
        .log()?
        .matches("the audit log is append only")
        .count();
    ensure!(refusals >= 3, "{refusals} refusals in the subscriber's log");
    pair.unsubscribe().await
}

#[tokio::test]
async fn what_is_append_only_is_so_for_every_kind_of_session() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    populate(&db, "acme").await?;
    let tables = texts(&db.admin, APPEND_ONLY).await?;
    ensure!(
        tables.contains(&"rotator_internal.audit_event".to_owned()),
        "{tables:?}"
    );
    let session = db.superuser().await?;
    session
        .batch_execute("set session_replication_role = replica")
        .await?;
    for table in &tables {
        let own = texts(
            &db.admin,
            &format!(
                "select format('%s %s %s', tgname, tgenabled, tgtype::integer & 63) from pg_trigger
                 where tgrelid = '{table}'::regclass and tgname like 'append_only%' order by 1"
            ),
        )
        .await?;
        // Before (2), of update (16), delete (8), truncate (32), for each row (1); always.
        ensure!(
            own == ["append_only A 58", "append_only_rows A 27"],
            "{table}: {own:?}"
        );
        for attack in ["delete from", "truncate", "truncate only"] {
            let verdict = verdict(&session, &format!("{attack} {table}")).await?;
            ensure!(verdict == "42501", "{attack} {table}: {verdict}");
        }
        let update = format!("update {table} set tenant_id = tenant_id");
        ensure!(verdict(&session, &update).await? == "42501", "{update}");
    }
    Ok(())
}
