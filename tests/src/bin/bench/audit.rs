//! Sixteen writers of one tenant, with sealing and without: what it costs them that their events are hashed and chained.
//! Sealing goes on all the time, a tick as soon as the one before is done and a tenth of a second has passed: far more often
//! than the product does. Both sides tick; without sealing the function that seals is replaced by one that does nothing.
//! And how fast a backlog is sealed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rotator_tests::bench::{Bar, Record, median};
use rotator_tests::{TestDb, scalar};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

const NAME: &str = "audit_throughput_share";
const BACKLOG: &str = "audit_seal_events_per_second";
const SEALINGS: usize = 5;
const CHUNK: usize = 5_000;
const WRITERS: usize = 16;
const ROUNDS: usize = 7;
const STRETCH: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(100);
const SEALING: &str =
    "select pg_get_functiondef('rotator_internal.seal_audit(bigint, boolean)'::regprocedure)";
const NO_SEALING: &str =
    "create or replace function rotator_internal.seal_audit(max_events bigint, has_time boolean default true) returns jsonb
    language plpgsql as $$ begin return '{\"sealed\": 0, \"more\": false}'; end $$";

pub async fn run(record: &mut Record) -> Result<()> {
    if record.wants(&[BACKLOG]) {
        backlog(record).await?;
    }
    if record.wants(&[NAME]) {
        writers(record).await?;
    }
    Ok(())
}

async fn writers(record: &mut Record) -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let editor = db.member("acme", "editor").await?;
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let session = db.connect_as(&editor).await?;
        let id: Uuid = scalar(
            &session,
            &format!(
                "select rotator.register_secret('writer {number}', rotation_interval => '90 days')"
            ),
            &[],
        )
        .await?;
        writers.spawn(write(session, id, written.clone()));
    }
    let shares = tokio::select! {
        shares = compare(&db, &written) => shares?,
        // Writers go on until they are dropped; whoever ends before that has met an error.
        ended = writers.join_next() => {
            ended.context("there are writers")???;
            unreachable!("a writer never ends by itself")
        }
    };
    writers.shutdown().await;
    let [mut with, mut without] = shares;
    let listed = |rates: &[f64]| {
        rates
            .iter()
            .map(|rate| format!("{rate:.0}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let detail = format!(
        "{WRITERS} writers of one tenant, each change with its event; changes a second with sealing {}, without {}; \
         stretches of {} s, interleaved",
        listed(&with),
        listed(&without),
        STRETCH.as_secs()
    );
    record.add(
        NAME,
        median(&mut with) / median(&mut without),
        "share",
        Bar::AtLeast(0.8),
        &detail,
    )
}

/// Changes a secret again and again.
async fn write(session: Client, id: Uuid, written: Arc<AtomicUsize>) -> Result<()> {
    let change = session
        .prepare("update rotator.secrets set environment = $2 where id = $1")
        .await?;
    for count in 0_u64.. {
        session
            .execute(&change, &[&id, &format!("environment {count}")])
            .await?;
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Changes a second in stretches with sealing and without, in turns; the first of each is to warm up.
async fn compare(db: &TestDb, written: &AtomicUsize) -> Result<[Vec<f64>; 2]> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let ticking = db.superuser().await?;
    let sealing: String = scalar(&db.admin, SEALING, &[]).await?;
    ticking.batch_execute("select rotator.tick()").await?;
    for round in 0..=ROUNDS {
        let (beside, sealed) = stretch(&ticking, written).await?;
        ensure!(sealed > 0, "nothing was sealed");
        db.admin.batch_execute(NO_SEALING).await?;
        let (alone, sealed) = stretch(&ticking, written).await?;
        ensure!(sealed == 0, "{sealed} were sealed");
        db.admin.batch_execute(&sealing).await?;
        // What was left behind belongs to neither side.
        while scalar::<bool>(&ticking, "select (rotator.tick() ->> 'more')::boolean", &[]).await? {}
        if round > 0 {
            with.push(beside);
            without.push(alone);
        }
    }
    db.admin.batch_execute("select pg_sleep(0.2)").await?;
    let verdict = db
        .admin
        .query_one("select ok, detail from rotator.verify_audit()", &[])
        .await?;
    ensure!(verdict.get::<_, bool>(0), "{}", verdict.get::<_, String>(1));
    Ok([with, without])
}

/// Changes a second, and events that were sealed meanwhile.
async fn stretch(ticking: &Client, written: &AtomicUsize) -> Result<(f64, i64)> {
    let (begun, before) = (Instant::now(), written.load(Ordering::Relaxed));
    let mut sealed = 0;
    while begun.elapsed() < STRETCH {
        sealed +=
            scalar::<i64>(ticking, "select (rotator.tick() ->> 'sealed')::bigint", &[]).await?;
        tokio::time::sleep(PAUSE).await;
    }
    let changes = written.load(Ordering::Relaxed) - before;
    Ok((changes as f64 / begun.elapsed().as_secs_f64(), sealed))
}

/// Events of a backlog, such as a catch-up leaves behind, sealed by one tick after the other.
async fn backlog(record: &mut Record) -> Result<()> {
    const EVENTS: usize = 100_000;
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    db.admin.batch_execute("select rotator.tick()").await?;
    let mut rates = Vec::new();
    for _ in 0..=SEALINGS {
        for _ in 0..EVENTS / CHUNK {
            db.admin
                .batch_execute(&format!(
                    "insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
                     select '{tenant}', 'rotator', 'engine', 'reminder.queued', 'secret', gen_random_uuid()::text,
                         jsonb_build_object('notification', gen_random_uuid(), 'channel', 'console', 'rule', 'lead:7')
                     from generate_series(1, {CHUNK})"
                ))
                .await?;
        }
        let (before, mut sealed, mut more) = (Instant::now(), 0, true);
        while more {
            let tick =
                "select (t ->> 'sealed')::bigint, (t ->> 'more')::boolean from rotator.tick() as t";
            let row = db.admin.query_one(tick, &[]).await?;
            sealed += row.get::<_, i64>(0);
            more = row.get(1);
        }
        rates.push(sealed as f64 / before.elapsed().as_secs_f64());
        ensure!(
            sealed as usize >= EVENTS,
            "{sealed} were sealed, not {EVENTS}"
        );
    }
    rates.remove(0); // the first is to warm up
    let detail = format!(
        "a backlog of {EVENTS} events sealed by ticks, commits included; median of {SEALINGS}"
    );
    record.add(
        BACKLOG,
        median(&mut rates),
        "1/s",
        Bar::AtLeast(50_000.0),
        &detail,
    )
}
