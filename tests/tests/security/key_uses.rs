//! How often a key was used is never counted too low: transactions and savepoints that roll back, many backends at once,
//! sessions that end, prepared transactions, a killed backend, read-only transactions; and nothing is encrypted beyond 2^32 uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, scaled, until};
use tokio_postgres::Client;

use crate::fixture::{refusal, text, verdict};

/// Longest block of uses that a backend reserves.
const BLOCK: i64 = 65_536;

async fn uses(db: &TestDb) -> Result<i64> {
    Ok(text(
        &db.admin,
        "select coalesce(sum(uses), 0) from rotator_internal.key_use",
    )
    .await?
    .parse()?)
}

async fn encrypt(session: &Client, times: i64) -> Result<()> {
    let sql =
        format!("select count(rotator.encrypt('x', 'l', 'k')) from generate_series(1, {times})");
    ensure!(text(session, &sql).await? == times.to_string());
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_was_used_all_the_same() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "viewer").await?;
    encrypt(&session, 1).await?;
    ensure!(uses(&db).await? == 64, "the first block is small");

    session.batch_execute("begin").await?;
    encrypt(&session, 5_000).await?;
    session.batch_execute("rollback").await?;
    encrypt(&session, 1).await?;
    let counted = uses(&db).await?;
    ensure!((5_002..5_002 + BLOCK).contains(&counted), "{counted}");

    // Rolled back inside, committed around it; and released into a savepoint that is rolled back.
    session.batch_execute("begin; savepoint a").await?;
    encrypt(&session, 20_000).await?;
    session
        .batch_execute("rollback to a; savepoint b; savepoint c")
        .await?;
    encrypt(&session, 20_000).await?;
    session.batch_execute("release c").await?;
    encrypt(&session, 1).await?;
    session.batch_execute("rollback to b").await?;
    encrypt(&session, 1).await?;
    session.batch_execute("commit").await?;
    let counted = uses(&db).await?;
    ensure!((45_004..45_004 + 2 * BLOCK).contains(&counted), "{counted}");

    // A function that catches what it raised, and rotator's own fields, which count as well.
    session.batch_execute("do $$ begin for i in 1..50 loop begin
        perform rotator.encrypt('x', 'l', 'k') from generate_series(1, 5000); raise 'undone'; exception when others then null; end; end loop; end $$").await?;
    encrypt(&session, 1).await?;
    ensure!(uses(&db).await? >= 295_005, "{}", uses(&db).await?);
    Ok(())
}

#[tokio::test]
async fn sixteen_backends_at_once_lose_no_use() -> Result<()> {
    let db = Arc::new(TestDb::new().await?);
    db.tenant("acme").await?;
    let used = Arc::new(AtomicI64::new(0));
    let mut work = tokio::task::JoinSet::new();
    for backend in 0..16_i64 {
        let session = db.session("acme", "viewer").await?;
        let used = used.clone();
        work.spawn(async move {
            for round in 0..scaled(100) as i64 {
                let times = 1 + (backend * 31 + round * 97) % 700;
                session.batch_execute("begin; savepoint s").await?;
                encrypt(&session, times).await?;
                let end = ["commit", "rollback", "rollback to s; commit"]
                    [((backend + round) % 3) as usize];
                session.batch_execute(end).await?;
                used.fetch_add(times, Ordering::Relaxed);
            }
            encrypt(&session, 1).await?;
            used.fetch_add(1, Ordering::Relaxed);
            anyhow::Ok(())
        });
    }
    let mut folded = 0;
    while !work.is_empty() {
        // Folded while blocks are reserved.
        folded += text(&db.admin, "select rotator_internal.fold_uses(1000)")
            .await?
            .parse::<i64>()?;
        if let Ok(Some(done)) =
            tokio::time::timeout(Duration::from_millis(5), work.join_next()).await
        {
            done??;
        }
    }
    let (counted, used) = (uses(&db).await?, used.load(Ordering::Relaxed));
    ensure!(
        (used..used + 16 * BLOCK).contains(&counted),
        "{used} uses were counted as {counted}"
    );
    folded += text(&db.admin, "select rotator_internal.fold_uses(1000)")
        .await?
        .parse::<i64>()?;
    ensure!(folded > 16, "{folded}");
    ensure!(uses(&db).await? == counted, "folding changes no sum");
    ensure!(text(&db.admin, "select count(*) from rotator_internal.key_use").await? == "1");
    ensure!(
        text(&db.admin, "select rotator_internal.fold_uses(1000)").await? == "0",
        "nothing left to fold"
    );
    Ok(())
}

#[tokio::test]
async fn a_prepared_transaction_and_a_killed_backend_take_no_committed_use_along() -> Result<()> {
    let cluster = Cluster::start(Options {
        settings: vec!["max_prepared_transactions = 4".to_owned()],
        ..Options::default()
    })
    .await?;
    let mut db = TestDb::in_cluster(Arc::new(cluster)).await?;
    db.tenant("acme").await?;
    let member = db.member("acme", "viewer").await?;
    let session = db.connect_as(&member).await?;
    session.batch_execute("begin").await?;
    encrypt(&session, 3_000).await?;
    session.batch_execute("prepare transaction 'p'").await?;
    encrypt(&session, 1).await?;
    ensure!(
        uses(&db).await? >= 3_001,
        "as if it were rolled back: {}",
        uses(&db).await?
    );
    session.batch_execute("rollback prepared 'p'").await?;
    ensure!(uses(&db).await? >= 3_001);

    encrypt(&session, 10_000).await?;
    session.batch_execute("begin").await?;
    encrypt(&session, 100).await?;
    let pid = text(&session, "select pg_backend_pid()").await?;
    ensure!(
        std::process::Command::new("kill")
            .args(["-9", &pid])
            .status()?
            .success()
    );
    // It ends every session when it notices; until then one that begins is ended as well.
    until(
        Duration::from_secs(60),
        "the server to notice",
        async || Ok(db.admin.simple_query("select 1").await.is_err()),
    )
    .await?;
    until(
        Duration::from_secs(60),
        "the server to recover",
        async || match db.cluster.connect("postgres", &db.name).await {
            Ok(admin) => {
                let up = admin.simple_query("select 1").await.is_ok();
                if up {
                    db.admin = admin;
                }
                Ok(up)
            }
            Err(_) => Ok(false),
        },
    )
    .await?;
    ensure!(uses(&db).await? >= 13_001, "{}", uses(&db).await?);
    Ok(())
}

#[tokio::test]
async fn a_read_only_transaction_borrows_one_block() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "viewer").await?;
    session.batch_execute("begin read only").await?;
    encrypt(&session, BLOCK).await?;
    let answer = refusal(&session, "select rotator.encrypt('x', 'l', 'k')").await?;
    ensure!(
        answer.starts_with("25006") && answer.contains("may write"),
        "{answer}"
    );
    session.batch_execute("rollback; begin read only").await?;
    ensure!(
        verdict(&session, "select rotator.encrypt('x', 'l', 'k')").await? == "25006",
        "it owes a block"
    );
    session.batch_execute("rollback").await?;
    ensure!(uses(&db).await? == 0);
    encrypt(&session, 1).await?;
    ensure!(uses(&db).await? > BLOCK, "paid back: {}", uses(&db).await?);
    session.batch_execute("begin read only").await?;
    encrypt(&session, 100).await?;
    session.batch_execute("commit").await?;
    Ok(())
}

#[tokio::test]
async fn a_session_that_ends_leaves_no_use_uncounted() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let mut owed = 0;
    for (begin, end) in [
        ("begin read write", Some("rollback")),
        ("begin read write", None),
        (
            "begin read write; savepoint a",
            Some("rollback to a; commit"),
        ),
        ("begin", Some("commit")),
    ] {
        let session = db.session("acme", "viewer").await?;
        // What its transactions begin with makes no difference to the one that counts.
        session
            .batch_execute("set default_transaction_read_only = on; set default_transaction_isolation = serializable")
            .await?;
        session.batch_execute(begin).await?;
        encrypt(&session, 3_000).await?;
        if let Some(end) = end {
            session.batch_execute(end).await?;
        }
        ensure!(uses(&db).await? == owed, "{begin}, {end:?}: before it ends");
        drop(session);
        owed += 3_000;
        until(
            Duration::from_secs(20),
            "its uses to be counted",
            async || Ok(uses(&db).await? >= owed),
        )
        .await?;
        ensure!(
            uses(&db).await? == owed,
            "{begin}, {end:?}: no more than it used"
        );
    }

    // It waits for nobody: here its uses are lost.
    let session = db.session("acme", "viewer").await?;
    let pid = text(&session, "select pg_backend_pid()").await?;
    session.batch_execute("begin").await?;
    encrypt(&session, 3_000).await?;
    session.batch_execute("rollback").await?;
    let in_the_way = db.superuser().await?;
    in_the_way
        .batch_execute("begin; lock rotator_internal.key_use in share mode")
        .await?;
    drop(session);
    let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
    until(Duration::from_secs(20), "it to end", async || {
        Ok(text(&db.admin, &gone).await? == "0")
    })
    .await?;
    in_the_way.batch_execute("commit").await?;
    ensure!(uses(&db).await? == owed);
    Ok(())
}

#[tokio::test]
async fn a_key_is_used_up_at_two_to_the_32() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "admin").await?;
    let value = text(&session, "select rotator.encrypt('x', 'l', 'k')").await?;
    db.admin
        .batch_execute("insert into rotator_internal.key_use select tenant_id, key_id, (1::bigint << 32) - 100 - uses from rotator_internal.key_use")
        .await?;
    encrypt(&session, 63).await?; // the rest of its block
    encrypt(&session, 100).await?;
    ensure!(uses(&db).await? == 1 << 32);
    for call in [
        "rotator.encrypt('plain', 'l', 'k')",
        "rotator.register_secret('plain', rotation_interval => '1 day')",
    ] {
        let answer = refusal(&session, &format!("select {call}")).await?;
        ensure!(
            answer.starts_with("RT013")
                && answer.contains("rotate_key")
                && !answer.contains("plain"),
            "{answer}"
        );
    }
    let other = db.session("acme", "viewer").await?;
    ensure!(
        verdict(&other, "select rotator.encrypt('x', 'l', 'k')").await? == "RT013",
        "in every session"
    );
    ensure!(
        text(
            &other,
            &format!("select rotator.decrypt('{value}', 'l', 'k')")
        )
        .await?
            == "x",
        "and still readable"
    );
    session.batch_execute("select rotator.rotate_key()").await?;
    encrypt(&other, 1).await?;
    Ok(())
}
