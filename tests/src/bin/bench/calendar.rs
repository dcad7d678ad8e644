//! What a tick costs: with 1,000 due among ten and a hundred thousand, with nothing due, and for a catch-up of a hundred
//! thousand next to a plain insert of as many rows into an equally indexed table.
//!
//! Every round meets the same state: small ticks are rolled back, with a vacuum to remove what they left, and each
//! catch-up has a copy of the database.

use std::time::Instant;

use anyhow::{Result, ensure};
use rotator_tests::TestDb;
use rotator_tests::bench::{Bar, Record, median, wall_seconds};
use rotator_tests::scalar;
use uuid::Uuid;

const ROUNDS: usize = 7;
const IDLE_TICKS: usize = 21;
const CATCH_UPS: usize = 5;
const CHUNK: usize = 1000;
const NAMES: [&str; 3] = [
    "tick_growth_10k_100k",
    "tick_idle_100k_ms",
    "queue_vs_insert",
];
/// The first thousand are due then, the others a year later.
const SOME_DUE: &str = "now() + interval '100 days'";
const ALL_DUE: &str = "now() + interval '1000 days'";

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let mut large = registered(100_000).await?;
    if record.wants(&NAMES[..2]) {
        growth(record, &registered(10_000).await?, &large).await?;
    }
    if record.wants(&NAMES[2..]) {
        // A database that somebody is connected to can't be copied.
        large.admin = large.cluster.connect("postgres", "postgres").await?;
        catch_up(record, &large.name).await?;
    }
    Ok(())
}

/// A database with this many secrets, each of an owner of its own who has a contact: else what is due at once would make
/// digests.
async fn registered(count: usize) -> Result<TestDb> {
    eprintln!("registering {count} secrets");
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme');
             select rotator.set_contact('owner-' || n, 'console', 'owner ' || n) from generate_series(1, {count}) as n;"
        ))
        .await?;
    for first in (1..=count).step_by(CHUNK) {
        let last = count.min(first + CHUNK - 1);
        db.admin
            .batch_execute(&format!(
                "insert into rotator.secrets (name, provider_type, owner_id, expiry_date, rotation_interval)
                 select 'credential-' || n, 'vault', 'owner-' || n,
                     now() + case when n <= 1000 then interval '100 days' else interval '500 days' end, '90 days'
                 from generate_series({first}, {last}) as n"
            ))
            .await?;
    }
    // Their events are sealed: that isn't what is measured.
    while scalar(
        &db.admin,
        "select (rotator.tick() ->> 'more')::boolean",
        &[],
    )
    .await?
    {}
    db.admin.batch_execute("vacuum (analyze)").await?;
    Ok(db)
}

async fn growth(record: &mut Record, small: &TestDb, large: &TestDb) -> Result<()> {
    let (mut few, mut many, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (db, seconds) in [(small, &mut few), (large, &mut many)] {
            db.admin.batch_execute("begin").await?;
            let before = Instant::now();
            let sql = format!("select (rotator.tick({SOME_DUE}) ->> 'queued')::bigint");
            let queued: i64 = scalar(&db.admin, &sql, &[]).await?;
            let spent = before.elapsed().as_secs_f64();
            ensure!(queued == 1000, "{queued} were queued, not 1,000");
            db.admin.batch_execute("rollback").await?;
            db.admin.batch_execute("vacuum").await?;
            if round > 0 {
                seconds.push(spent); // the first is to warm up
            }
        }
    }
    for round in 0..=IDLE_TICKS {
        let spent = wall_seconds(&large.admin, "select rotator.tick()").await?;
        if round > 0 {
            idle.push(spent * 1000.0);
        }
    }
    let (few, many) = (median(&mut few) * 1000.0, median(&mut many) * 1000.0);
    let detail = format!(
        "1,000 due: {few:.1} ms of 10,000, {many:.1} ms of 100,000; medians of {ROUNDS}, interleaved"
    );
    record.add(NAMES[0], many / few, "ratio", Bar::AtMost(2.0), &detail)?;
    let detail = format!(
        "a tick that finds nothing due among 100,000, commit included; median of {IDLE_TICKS}"
    );
    record.add(NAMES[1], median(&mut idle), "ms", Bar::AtMost(5.0), &detail)
}

/// Each round in a fresh copy of the loaded database, in committed ticks of the size that pg_cron's run uses.
async fn catch_up(record: &mut Record, loaded: &str) -> Result<()> {
    let (mut queueing, mut inserting) = (Vec::new(), Vec::new());
    for _ in 0..CATCH_UPS {
        let db = TestDb::copy_of(loaded).await?;
        db.admin
            .batch_execute(
                "create table plain (like rotator_internal.notification including all); checkpoint",
            )
            .await?;
        // Until all are queued; the events of a backlog are sealed after it (audit_seal_events_per_second).
        let mut ticked = 0;
        let before = Instant::now();
        while ticked < 100_000 {
            let sql = format!("select (rotator.tick({ALL_DUE}) ->> 'due')::bigint");
            let due: i64 = scalar(&db.admin, &sql, &[]).await?;
            ensure!(due > 0, "only {ticked} were due");
            ticked += due;
        }
        queueing.push(before.elapsed().as_secs_f64());
        let queued: i64 = scalar(
            &db.admin,
            "select count(*) from rotator_internal.notification where state = 'queued'",
            &[],
        )
        .await?;
        ensure!(queued == 100_000, "{queued} were queued, not 100,000");
        // The same rows, as one would write them by hand, under the same indexes, defaults and checks, and in
        // transactions of the same size.
        let batches = "select array_agg(b.id order by b.id) from ( \
                select s.id, row_number() over (order by s.id) as place from rotator_internal.secret as s \
            ) as b where b.place % 5000 = 0";
        let ends: Vec<Uuid> = scalar(&db.admin, batches, &[]).await?;
        let tenant: Uuid = scalar(
            &db.admin,
            "select tenant_id from rotator_internal.tenant",
            &[],
        )
        .await?;
        let mut last = Uuid::nil();
        let before = Instant::now();
        for end in ends {
            let insert = "insert into plain (tenant_id, secret_id, alert_id, cycle, kind, rule, lead_time_days, due_at, \
                    channel, recipient_id, addressee) \
                select s.tenant_id, s.id, s.id, s.cycle, 'reminder', 'lead:1', 1, s.expiry_date - interval '1 day', \
                    'console', s.id, s.owner_id \
                from rotator_internal.secret as s where s.tenant_id = $1 and s.id > $2 and s.id <= $3";
            db.admin.execute(insert, &[&tenant, &last, &end]).await?;
            last = end;
        }
        inserting.push(before.elapsed().as_secs_f64());
        let inserted: i64 = scalar(&db.admin, "select count(*) from plain", &[]).await?;
        ensure!(inserted == 100_000, "{inserted} were inserted, not 100,000");
    }
    let (queueing, inserting) = (median(&mut queueing), median(&mut inserting));
    let detail = format!(
        "100,000 reminders with alerts, audit and calendar {queueing:.2} s, insert … select {inserting:.2} s; \
         both in transactions of 5,000, medians of {CATCH_UPS}, interleaved"
    );
    record.add(
        NAMES[2],
        queueing / inserting,
        "ratio",
        Bar::AtMost(6.0),
        &detail,
    )
}
