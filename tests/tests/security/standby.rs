//! A physical standby: it reads what its primary encrypted, as long as it has the master key, and writes nothing. Promoted
//! it has every commit that was replayed, keeps every promise, and nobody is told twice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::slack::StandIn;
use rotator_tests::standby::{promote, standby_of};
use rotator_tests::{Cluster, Options, Sidecar, TestDb, scalar, until};
use serde_json::Value;

use crate::dump_content::{expect_audit_sealed, expect_audit_verified};
use crate::fixture::{text, texts, verdict};

const SOON: Duration = Duration::from_secs(30);
const FAILED_OVER: Duration = Duration::from_secs(60);

async fn primary() -> Result<TestDb> {
    let db = TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(
            "create role acme_app login in role rotator_user;
             select rotator.add_member('db:acme_app', 'admin', 'acme');
             select rotator.use_tenant('acme');
             select rotator.set_contact('owner-' || n, 'slack', 'C0DEPLOYS' || n) from generate_series(1, 4) as n;
             select rotator.register_secret('due-' || n, expiry_date => now() + interval '84 hours',
                 rotation_interval => '90 days', owner_id => 'owner-' || n) from generate_series(1, 3) as n;
             select rotator.tick()",
        )
        .await?;
    db.admin.batch_execute("discard all").await?;
    Ok(db)
}

async fn replayed(primary: &TestDb, standby: &Cluster) -> Result<()> {
    let position = text(&primary.admin, "select pg_current_wal_lsn()").await?;
    until(SOON, "the standby to have it", async || {
        let question = format!("select pg_last_wal_replay_lsn() >= '{position}'");
        Ok(standby.psql("postgres", &question)?.trim() == "t")
    })
    .await
}

/// How many notifications are in that state, once there are so many.
async fn reaches(db: &TestDb, state: &str, count: i64) -> Result<()> {
    let sql = "select count(*) from rotator_internal.notification where state = $1";
    until(FAILED_OVER, &format!("{count} to be {state}"), async || {
        Ok(scalar::<i64>(&db.admin, sql, &[&state]).await? == count)
    })
    .await
}

#[tokio::test]
async fn a_standby_reads_what_its_master_key_opens_and_writes_nothing() -> Result<()> {
    let db = primary().await?;
    let standby = standby_of(&db.cluster).await?;
    let member = standby.connect("acme_app", &db.name).await?;
    let names = texts(&member, "select name from rotator.secrets order by 1").await?;
    ensure!(names == ["due-1", "due-2", "due-3"], "{names:?}");
    let found = texts(
        &member,
        "select name from rotator.search_secrets(expires_within_days => 14) order by 1",
    )
    .await?;
    ensure!(found == names, "{found:?}");
    ensure!(text(&member, "select count(*) > 5 from rotator.audit_log").await? == "t");
    for change in [
        "select rotator.register_secret('new', rotation_interval => '1 day')",
        "select rotator.mark_rotated(id) from rotator.secrets limit 1",
        "update rotator.secrets set owner_id = 'mo'",
        "select rotator.set_contact('mo', 'slack', 'C0DEPLOYS2')",
        "select rotator.rotate_key()",
    ] {
        let answer = verdict(&member, change).await?;
        ensure!(answer == "25006", "{change}: {answer}");
    }
    let admin = standby.connect("postgres", &db.name).await?;
    for change in [
        "select rotator.tick()",
        "call rotator.run_tick()",
        "select rotator.claim_notifications('w')",
    ] {
        let answer = verdict(&admin, change).await?;
        ensure!(answer == "25006", "{change}: {answer}");
    }
    expect_audit_verified(&admin).await?;
    let failed = texts(&admin, "select check_name from rotator.doctor() where not ok and check_name in ('master key', 'library version')").await?;
    ensure!(failed.is_empty(), "{failed:?}");

    // Its own master key file counts, not the primary's.
    standby.write_master_key("")?;
    standby.restart().await?;
    let without = standby.connect("acme_app", &db.name).await?;
    ensure!(verdict(&without, "select name from rotator.secrets").await? == "RT010");
    ensure!(text(&without, "select count(expiry_date) from rotator.secrets").await? == "3");
    standby.give_master_key_of(&db.cluster)?;
    let with = standby.connect("acme_app", &db.name).await?;
    ensure!(texts(&with, "select name from rotator.secrets order by 1").await? == names);
    Ok(())
}

#[tokio::test]
async fn a_promoted_standby_has_lost_nothing_and_tells_nobody_twice() -> Result<()> {
    let mut db = primary().await?;
    let standby = standby_of(&db.cluster).await?;
    let (slack, sidecar_role) = (
        StandIn::start().await?,
        db.login_role("sidecar", &["rotator_sidecar"]).await?,
    );
    let url = format!(
        "postgres://{}:{}@127.0.0.1:{},127.0.0.1:{}/{}",
        sidecar_role.name, sidecar_role.password, db.cluster.port, standby.port, db.name
    );
    let slack_url = slack.url();
    let mut sidecar = Sidecar::spawn(
        &url,
        &[
            ("ROTATOR_SLACK_URL", &slack_url),
            ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-4711-0815-NotAReal0ne"),
        ],
    )
    .await?;
    sidecar.ready().await?;
    reaches(&db, "sent", 3).await?;

    // Each in a transaction of its own, then the end comes without warning.
    let member = db.cluster.connect("acme_app", &db.name).await?;
    for n in 0..100 {
        member
            .batch_execute(&format!(
                "select rotator.register_secret('committed-{n}', rotation_interval => '90 days')"
            ))
            .await?;
    }
    db.admin
        .batch_execute("select rotator.rotate_key('acme'); select rotator.tick()")
        .await?;
    let events = "select md5(string_agg(e::text, '|' order by id)) from rotator_internal.audit_event as e where id <= ";
    let last = text(
        &db.admin,
        "select max(id) from rotator_internal.audit_event",
    )
    .await?;
    let log = text(&db.admin, &format!("{events}{last}")).await?;
    // Under way, and lost with the server.
    let open = db.cluster.connect("acme_app", &db.name).await?;
    open.batch_execute(
        "begin; select rotator.register_secret('never committed', rotation_interval => '90 days')",
    )
    .await?;
    replayed(&db, &standby).await?;
    db.cluster.crash().await?;
    promote(&standby)?;
    let _old = std::mem::replace(&mut db.cluster, Arc::new(standby));
    db.admin = db.superuser().await?;

    let member = db.cluster.connect("acme_app", &db.name).await?;
    let names = texts(&member, "select name from rotator.secrets").await?;
    ensure!(
        names.len() == 103 && (0..100).all(|n| names.contains(&format!("committed-{n}"))),
        "{} secrets",
        names.len()
    );
    ensure!(
        text(&db.admin, &format!("{events}{last}")).await? == log,
        "the audit log is as it was"
    );
    member
        .batch_execute(
            "select rotator.register_secret('due-4', expiry_date => now() + interval '84 hours',
                 rotation_interval => '90 days', owner_id => 'owner-4')",
        )
        .await?;
    let tick: Value = scalar(&db.admin, "select rotator.tick()", &[]).await?;
    ensure!(tick["queued"] == 1, "{tick}");
    // The rotation that had begun goes on.
    crate::dump_source::work_off(
        &db.admin,
        "select rotator.reencrypt_step()",
        "remaining",
        &Value::from(0),
    )
    .await?;
    reaches(&db, "sent", 4).await?;
    sidecar.ready().await?;
    sidecar.terminate().await?;
    let told = slack.requests();
    ensure!(told.len() == 4, "{} messages for four secrets", told.len());
    for n in 1..=4 {
        let about = told
            .iter()
            .filter(|request| request.text().contains(&format!("due-{n}")))
            .count();
        ensure!(about == 1, "due-{n} was announced {about} times");
    }
    expect_audit_sealed(&db.admin).await?;
    let attack = verdict(&db.admin, "delete from rotator_internal.audit_event").await?;
    ensure!(attack == "42501", "{attack}");
    Ok(())
}
