//! What a tick costs where a million secrets are registered, next to a hundred thousand: with 1,000 due, which it is asked
//! to queue by looking ahead and which is rolled back, and with nothing due. Rows are made by the native functions, in bulk,
//! in tenants of ten thousand each; the thousand are of the first, with an owner each, so that no digests are made.

use std::time::Instant;

use anyhow::{Result, ensure};
use rotator_tests::bench::{Bar, Record, median, wall_seconds};
use rotator_tests::{TestDb, scalar};

const NAMES: [&str; 2] = ["tick_growth_100k_1m", "tick_idle_1m_ms"];
const OF_A_TENANT: usize = 10_000;
const ROUNDS: usize = 7;
const IDLE_TICKS: usize = 21;

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let (small, large) = (load(10).await?, load(100).await?);
    if record.wants(&NAMES[..1]) {
        let (mut few, mut many) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            for (db, seconds) in [(&small, &mut few), (&large, &mut many)] {
                let spent = due(db).await?;
                if round > 0 {
                    seconds.push(spent); // the first is to warm up
                }
            }
        }
        let (few, many) = (median(&mut few) * 1000.0, median(&mut many) * 1000.0);
        let detail = format!(
            "1,000 due: {few:.1} ms of 100,000, {many:.1} ms of 1,000,000; medians of {ROUNDS}, interleaved"
        );
        record.add(NAMES[0], many / few, "ratio", Bar::AtMost(1.3), &detail)?;
    }
    if record.wants(&NAMES[1..]) {
        let mut idle = Vec::new();
        for round in 0..=IDLE_TICKS {
            let spent = wall_seconds(&large.admin, "select rotator.tick()").await?;
            if round > 0 {
                idle.push(spent * 1000.0);
            }
        }
        let detail = format!(
            "a tick that finds nothing due among 1,000,000, commit included; median of {IDLE_TICKS}"
        );
        record.add(NAMES[1], median(&mut idle), "ms", Bar::AtMost(5.0), &detail)?;
    }
    Ok(())
}

/// Seconds of a tick that queues a thousand.
async fn due(db: &TestDb) -> Result<f64> {
    db.admin.batch_execute("begin").await?;
    let before = Instant::now();
    let ahead = "select (rotator.tick(now() + interval '100 days') ->> 'queued')::bigint";
    let queued: i64 = scalar(&db.admin, ahead, &[]).await?;
    let spent = before.elapsed().as_secs_f64();
    ensure!(queued == 1000, "{queued} were queued, not 1,000");
    db.admin.batch_execute("rollback").await?;
    // What it left is removed, from the tables that it wrote to.
    for table in ["calendar", "notification", "alert", "audit_event"] {
        db.admin
            .batch_execute(&format!("vacuum rotator_internal.{table}"))
            .await?;
    }
    Ok(spent)
}

async fn load(tenants: usize) -> Result<TestDb> {
    eprintln!("loading {} secrets", tenants * OF_A_TENANT);
    let db = TestDb::new().await?;
    for number in 0..tenants {
        db.tenant(&format!("tenant-{number}")).await?;
    }
    // Looking a hundred days ahead, a tick would rotate every tenant's keys as well.
    db.admin
        .batch_execute("select rotator.set_key_schedule(null, slug) from rotator_internal.tenant")
        .await?;
    db.admin
        .batch_execute(
            "select rotator.use_tenant('tenant-0');
             select rotator.set_contact('owner-' || n, 'console', 'owner ' || n) from generate_series(1, 1000) as n;
             set jit = off; set session_replication_role = replica",
        )
        .await?;
    for number in 0..tenants {
        // Without the checks of foreign keys: the rows are made to fit.
        db.admin
            .batch_execute(&format!(
                "insert into rotator_internal.secret (tenant_id, id, name, name_index, provider_type, priority, owner_id,
                     expiry_date, expiring_soon_at, rotation_interval)
                 select t.tenant_id, i.id,
                     rotator_internal.seal_field(t.tenant_id, 'secret.name', i.id, 'credential of service ' || n),
                     rotator_internal.blind_index(t.tenant_id, 'secret.name', 'credential of service ' || n),
                     'vault', 'P3', 'owner-' || n, d.expiry_date, d.expiry_date - interval '14 days', '1 year'
                 from rotator_internal.tenant as t
                 cross join generate_series(1, {OF_A_TENANT}) as n
                 cross join lateral (
                    select now() + case when {number} = 0 and n <= 1000 then interval '100 days' else interval '500 days' end
                        as expiry_date) as d
                 cross join lateral (select rotator_internal.uuid_v7() as id where n > 0) as i
                 where t.slug = 'tenant-{number}';
                 insert into rotator_internal.calendar (tenant_id, secret_id, next_event_at)
                 select s.tenant_id, s.id, s.expiring_soon_at
                 from rotator_internal.secret as s
                 join rotator_internal.tenant as t on t.tenant_id = s.tenant_id
                 where t.slug = 'tenant-{number}'"
            ))
            .await?;
    }
    db.admin
        .batch_execute("reset session_replication_role; reset jit")
        .await?;
    // What is left of the tenants' own events is sealed: that isn't what is measured.
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
