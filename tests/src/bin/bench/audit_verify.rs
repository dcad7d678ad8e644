//! Offline verification: events a second of an export, with its signatures and the signed copy, by one run of
//! `rotator audit verify` after the other. It works in one thread: counted is its processor time, with reading the files
//! and starting the process.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rotator_tests::bench::{Bar, Record, median};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cli, Sidecar, TestDb, scalar, until};

const NAME: &str = "audit_verify_events_per_second";
const EVENTS: i64 = 500_000;
const ROUNDS: usize = 5;
const LONG: Duration = Duration::from_secs(600);

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&[NAME]) {
        return Ok(());
    }
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    // As members' changes look, in transactions of a thousand.
    let insert = format!(
        "insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes, request_id)
         select '{tenant}', 'db:application', 'api', 'secret.updated', 'secret', gen_random_uuid()::text,
             jsonb_build_object(
                 'environment', jsonb_build_object('old', 'production', 'new', 'staging'),
                 'owner_id', jsonb_build_object('old', 'dana', 'new', 'erin'),
                 'name', 'changed', 'row', n),
             case when n % 2 = 0 then md5(n::text) end
         from generate_series(1, 1000) as n"
    );
    for _ in 0..EVENTS / 1000 {
        db.admin.batch_execute(&insert).await?;
    }
    until(LONG, "all to be sealed", async || {
        db.admin.batch_execute("select rotator.tick()").await?;
        let sql = "select coalesce(sum(events), 0)::bigint >= $1 from rotator.audit_blocks";
        scalar(&db.admin, sql, &[&EVENTS]).await
    })
    .await?;
    let folder = Scratch::new("audit-bench")?;
    let path = |name: &str| folder.join(name).display().to_string();
    let (private, copy, export) = (path("private"), path("blocks.jsonl"), path("export.jsonl"));
    let new_key = ["audit", "new-key", "--out", &private];
    let public = Cli::offline(&new_key)?.ok().await?;
    let settings = [
        ("ROTATOR_AUDIT_KEY_FILE", private.as_str()),
        ("ROTATOR_AUDIT_FILE", copy.as_str()),
    ];
    let mut sidecar = Sidecar::start(&db, &settings).await?;
    until(LONG, "all to be signed", async || {
        let sql = "select count(*) = count(note) from rotator.audit_blocks";
        scalar(&db.admin, sql, &[]).await
    })
    .await?;
    sidecar.terminate().await?;
    let auditor = db.login_role("auditor", &["rotator_auditor"]).await?;
    let begun = Instant::now();
    Cli::new(&db, &auditor, &["audit", "export", "--out", &export])?
        .ok()
        .await?;
    let exported = begun.elapsed();
    let size = std::fs::metadata(&export)?.len();
    let arguments = [
        "audit",
        "verify",
        &export,
        "--key",
        public.trim(),
        "--copy",
        &copy,
        "--format",
        "json",
    ];
    let mut rates = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let before = processor_seconds()?;
        let printed = Cli::offline(&arguments)?.ok().await?;
        let seconds = processor_seconds()? - before;
        let found: serde_json::Value = serde_json::from_str(&printed)?;
        let checked = found["checked"].as_i64().context("a count")?;
        ensure!(checked >= EVENTS, "{found}");
        rates.push(checked as f64 / seconds);
    }
    let detail = format!(
        "{EVENTS} events in an export of {} MB, which took {:.1} s to write; signed, with the copy; processor time of one thread, median of {ROUNDS}",
        size / 1_000_000,
        exported.as_secs_f64()
    );
    record.add(
        NAME,
        median(&mut rates),
        "1/s",
        Bar::AtLeast(200_000.0),
        &detail,
    )
}

/// Of all children that have ended.
fn processor_seconds() -> Result<f64> {
    // SAFETY: all zeros is a valid rusage, and getrusage only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let done = libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        ensure!(done == 0, std::io::Error::last_os_error());
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}
