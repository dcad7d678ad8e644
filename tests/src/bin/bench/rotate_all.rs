//! Rotating the keys of every tenant in one call: the time for ten thousand of them, and what each costs next to one of
//! a thousand.

use anyhow::{Result, ensure};
use rotator_tests::bench::{Bar, Record, median, wall_seconds};
use rotator_tests::{TestDb, scalar};

const FEW: usize = 1000;
const MANY: usize = 10_000;
const ROUNDS: usize = 5;
const NAMES: [&str; 2] = ["rotate_all_10k_s", "rotate_all_growth_1k_10k"];

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let (few, many) = (tenants(FEW).await?, tenants(MANY).await?);
    let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_few.push(rotated(&few, FEW).await?);
        of_many.push(rotated(&many, MANY).await?);
    }
    let (of_few, of_many) = (median(&mut of_few), median(&mut of_many));
    let detail = format!(
        "rotate_all_keys: {FEW} tenants {of_few:.2} s, {MANY} tenants {of_many:.2} s; medians of {ROUNDS}, interleaved"
    );
    record.add(NAMES[0], of_many, "s", Bar::AtMost(30.0), &detail)?;
    let growth = of_many / MANY as f64 / (of_few / FEW as f64);
    let detail = format!("time a tenant, of {MANY} next to of {FEW}");
    record.add(NAMES[1], growth, "ratio", Bar::AtMost(1.5), &detail)
}

async fn tenants(count: usize) -> Result<TestDb> {
    eprintln!("making {count} tenants");
    let db = TestDb::new().await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.create_tenant('tenant-' || n, 'Tenant ' || n) from generate_series(1, {count}) as n; analyze"
        ))
        .await?;
    Ok(db)
}

/// Seconds until all are rotated and committed.
async fn rotated(db: &TestDb, count: usize) -> Result<f64> {
    let active = "select max(version)::bigint from rotator_internal.encryption_key where purpose = 'data' and status = 'active'
        having min(version) = max(version) and count(*) = ";
    let active = format!("{active}{count}");
    let before: i64 = scalar(&db.admin, &active, &[]).await?;
    let seconds = wall_seconds(&db.admin, "select rotator.rotate_all_keys()").await?;
    let after: i64 = scalar(&db.admin, &active, &[]).await?;
    ensure!(after == before + 1, "version {after} after {before}");
    db.admin.batch_execute("vacuum (analyze)").await?;
    Ok(seconds)
}
