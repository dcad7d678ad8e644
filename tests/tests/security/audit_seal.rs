//! What is sealed when: exactly the events of transactions that are older than every open one, however ids, commits and
//! ticks are ordered, each once; and nobody waits for it. Random orders: `audit_seal_order`.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scaled};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::fixture::{text, texts, verdict};
use crate::sealed::{events, expect_clean, own_cluster, seal_all, unsealed, verify};

const TICK: &str = "select rotator.tick()";

async fn ticks(db: &TestDb, count: usize) -> Result<()> {
    for _ in 0..count {
        db.admin.batch_execute(TICK).await?;
    }
    Ok(())
}

/// Names of events in order of their ids, those of each block together, blocks in order of their numbers.
async fn blocks(session: &Client) -> Result<Vec<String>> {
    texts(
        session,
        "select string_agg(entity_id, ' ' order by id) from rotator.audit_log
         where block_id is not null and actor = 'tester' group by tenant_id, block_id order by block_id",
    )
    .await
}

#[tokio::test]
async fn an_event_that_is_committed_late_is_sealed_later() -> Result<()> {
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    expect_clean(&db.admin, 0).await?;
    let (mut early, late) = (Vec::new(), db.superuser().await?);
    for _ in 0..20 {
        let session = db.superuser().await?;
        session
            .batch_execute("begin; select pg_current_xact_id()")
            .await?;
        early.push(session);
    }
    // Its id is lower than that of any other.
    late.batch_execute(&format!("begin; {}", events("late", 1)))
        .await?;
    for session in &early {
        session
            .batch_execute(&format!("{}; commit", events("early", 1)))
            .await?;
    }
    let other = db.superuser().await?;
    for _ in 0..100 {
        other.batch_execute(&events("young", 1)).await?;
    }
    ticks(&db, 3).await?;
    ensure!(
        blocks(&db.admin).await? == [vec!["early"; 20].join(" ")],
        "only what is older than every open transaction"
    );
    let verdict = expect_clean(&db.admin, 100).await?;
    late.batch_execute("commit").await?;
    let clean = verify(&db.admin, None).await?;
    ensure!(
        clean.ok && clean.unsealed == 101 && clean.checked == verdict.checked,
        "{clean:?}"
    );
    ticks(&db, 2).await?;
    ensure!(
        blocks(&db.admin).await?.concat().matches("late").count() == 1
            && blocks(&db.admin).await?.len() == 2,
        "{:?}",
        blocks(&db.admin).await?
    );
    expect_clean(&db.admin, 0).await?;
    // Its id is in a later block, although lower than all of an earlier one.
    ensure!(text(&db.admin, "select exists (select from rotator.audit_blocks a join rotator.audit_blocks b using (tenant_id)
        where a.block_id < b.block_id and b.first_id < a.first_id and b.first_id < a.last_id)").await? == "t");
    Ok(())
}

#[tokio::test]
async fn a_prepared_transaction_is_an_open_one() -> Result<()> {
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    let session = db.superuser().await?;
    session
        .batch_execute(&format!("begin; {}", events("prepared", 3)))
        .await?;
    session.batch_execute("prepare transaction 'held'").await?;
    session.batch_execute(&events("after", 2)).await?;
    ticks(&db, 3).await?;
    ensure!(unsealed(&db).await? == 2 && blocks(&db.admin).await?.is_empty());
    session.batch_execute("commit prepared 'held'").await?;
    ticks(&db, 2).await?;
    ensure!(blocks(&db.admin).await? == ["prepared prepared prepared after after"]);
    expect_clean(&db.admin, 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_huge_transaction_is_sealed_at_once_in_blocks_of_ten_thousand() -> Result<()> {
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    db.admin.batch_execute(&events("huge", 25_000)).await?;
    db.admin.batch_execute(&events("small", 1)).await?;
    // A step of ten events.
    let first = text(&db.admin, "select rotator.tick(max_rows => 1) - 'due'").await?;
    ensure!(
        first.contains(r#""sealed": 25000"#) && first.contains(r#""more": true"#),
        "{first}"
    );
    let counts = texts(
        &db.admin,
        "select events from rotator.audit_blocks order by block_id desc limit 3",
    )
    .await?;
    ensure!(counts == ["5000", "10000", "10000"], "{counts:?}");
    ticks(&db, 1).await?;
    expect_clean(&db.admin, 0).await?;
    Ok(())
}

#[tokio::test]
async fn subtransactions_count_as_theirs() -> Result<()> {
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    let session = db.superuser().await?;
    session
        .batch_execute(&format!(
            "begin; savepoint a; {one}; savepoint b; {two}; rollback to b; {three}; release a; {four}",
            one = events("one", 1),
            two = events("undone", 1),
            three = events("three", 1),
            four = events("four", 1)
        ))
        .await?;
    db.admin.batch_execute(&events("other", 1)).await?;
    ticks(&db, 2).await?;
    ensure!(blocks(&db.admin).await?.is_empty());
    session.batch_execute("commit").await?;
    session
        .batch_execute(&format!(
            "do $$ begin perform {}; raise exception 'no'; exception when others then perform {}; end $$",
            &events("refused", 1)[7..],
            &events("caught", 1)[7..]
        ))
        .await?;
    ticks(&db, 2).await?;
    ensure!(
        blocks(&db.admin).await?.concat() == "one three four other caught",
        "{:?}",
        blocks(&db.admin).await?
    );
    expect_clean(&db.admin, 0).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_waits_for_the_sealer_and_the_second_one_not_for_the_first() -> Result<()> {
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    db.admin.batch_execute(&events("first", 50)).await?;
    let sealer = db.superuser().await?;
    let result = text(&sealer, "begin; select rotator_internal.seal_audit(100000)").await?;
    ensure!(result.contains(r#""sealed": 50"#), "{result}");
    let (one, two) = (
        db.session("acme", "editor").await?,
        db.session("acme", "editor").await?,
    );
    for session in [&one, &two, &db.admin] {
        session.batch_execute("set lock_timeout = '5s'").await?;
    }
    // Two writers of one tenant, neither of whom has committed, beside the sealer.
    one.batch_execute("begin; select rotator.register_secret('one', rotation_interval => '1 day')")
        .await?;
    two.batch_execute("begin; select rotator.register_secret('two', rotation_interval => '1 day')")
        .await?;
    let second = text(&db.admin, "select rotator_internal.seal_audit(100000)").await?;
    ensure!(second.contains(r#""sealed": 0"#), "{second}");
    one.batch_execute("commit").await?;
    two.batch_execute("commit").await?;
    sealer.batch_execute("rollback").await?;
    ticks(&db, 2).await?;
    expect_clean(&db.admin, 0).await?;
    Ok(())
}

#[tokio::test]
async fn ticks_at_once_seal_each_event_once() -> Result<()> {
    let db = own_cluster().await?;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(db.superuser().await?);
    }
    let mut work = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        work.spawn(async move {
            for round in 0..scaled(300) {
                let writing = events(&format!("e{number}-{round}"), 1 + round % 3);
                session
                    .batch_execute(if number % 2 == 0 { TICK } else { &writing })
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(outcome) = work.join_next().await {
        outcome??;
    }
    ensure!(verify(&db.admin, None).await?.ok);
    seal_all(&db).await?;
    let verdict = expect_clean(&db.admin, 0).await?;
    ensure!(
        text(&db.admin, "select count(*) from rotator.audit_log").await?
            == verdict.checked.to_string()
    );
    Ok(())
}

#[tokio::test]
async fn a_tick_that_sees_an_older_state_seals_nothing_and_harms_nothing() -> Result<()> {
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    for isolation in ["repeatable read", "serializable"] {
        let session = db.superuser().await?;
        session
            .batch_execute(&format!(
                "begin isolation level {isolation}; select count(*) from rotator.audit_log"
            ))
            .await?;
        db.admin.batch_execute(&events("new", 2)).await?;
        db.admin
            .batch_execute("select rotator_internal.seal_audit(1000)")
            .await?;
        ensure!(
            unsealed(&db).await? == 0,
            "{isolation}: a reader holds nothing up"
        );
        ensure!(
            text(&session, "select rotator_internal.seal_audit(1000)")
                .await?
                .contains(r#""sealed": 0"#)
        );
        ensure!(verdict(&session, "select rotator.verify_audit()").await? == "ok");
        session.batch_execute("commit").await?;
    }
    expect_clean(&db.admin, 0).await?;
    Ok(())
}

#[tokio::test]
async fn without_its_state_it_walks_through_all_events_once() -> Result<()> {
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    db.admin.batch_execute(&events("sealed", 30)).await?;
    ticks(&db, 2).await?;
    // As after a restore into another cluster: some events have ids of transactions that are yet to come here.
    db.admin
        .batch_execute("delete from rotator_internal.audit_seal_state")
        .await?;
    db.admin
        .batch_execute(&format!(
            "begin; {}; alter table rotator_internal.audit_event disable trigger user;
             update rotator_internal.audit_event set transaction_id = (pg_current_xact_id()::text::bigint + id % 40)::text::xid8
             where entity_id = 'restored';
             alter table rotator_internal.audit_event enable always trigger append_only;
             alter table rotator_internal.audit_event enable always trigger append_only_rows; commit",
            events("restored", 100)
        ))
        .await?;
    expect_clean(&db.admin, 100).await?;
    // Small steps, and somebody goes on writing.
    for round in 0..60 {
        db.admin
            .batch_execute("select rotator.tick(max_rows => 1)")
            .await?;
        if round < 40 {
            db.admin.batch_execute(&events("meanwhile", 1)).await?;
        }
        ensure!(
            verify(&db.admin, None).await?.ok,
            "{round}: {:?}",
            verify(&db.admin, None).await?
        );
    }
    seal_all(&db).await?;
    expect_clean(&db.admin, 0).await?;
    let walked = text(&db.admin, "select coalesce(sum(events), 0) from rotator.audit_blocks where below = '0' and block_id > 1").await?;
    ensure!(walked.parse::<usize>()? >= 50, "{walked} were walked to");
    Ok(())
}

#[tokio::test]
async fn while_thousands_of_reminders_are_due_they_go_first_for_a_minute() -> Result<()> {
    const PRESSED: &str = "select rotator_internal.seal_audit(10000, false)";
    let db = own_cluster().await?;
    ticks(&db, 2).await?;
    let register = "select rotator.use_tenant('acme');
        select rotator.register_secret('s' || n, expiry_date => now() + interval '3 days') from generate_series(1, 4) as n";
    db.admin.batch_execute(register).await?;
    ensure!(text(&db.admin, PRESSED).await? == r#"{"more": true, "sealed": 0}"#);
    db.admin
        .batch_execute(
            "begin; alter table rotator_internal.audit_event disable trigger user;
             update rotator_internal.audit_event set occurred_at = occurred_at - interval '61 seconds'
             where action = 'secret.registered';
             alter table rotator_internal.audit_event enable always trigger append_only;
             alter table rotator_internal.audit_event enable always trigger append_only_rows; commit",
        )
        .await?;
    ensure!(text(&db.admin, PRESSED).await? == r#"{"more": false, "sealed": 4}"#);

    // A few that fill a small tick hold nothing up.
    let result = text(&db.admin, "select rotator.tick(max_rows => 1)").await?;
    ensure!(result.contains(r#""due": 1"#), "{result}");
    let result = text(&db.admin, "select rotator.tick(max_rows => 1)").await?;
    ensure!(
        result.contains(r#""due": 1"#) && !result.contains(r#""sealed": 0"#),
        "{result}"
    );
    seal_all(&db).await?;
    expect_clean(&db.admin, 0).await?;
    Ok(())
}
