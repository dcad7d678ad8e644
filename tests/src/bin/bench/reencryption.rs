//! What re-encrypting costs, next to an UPDATE of the same rows in the same committed batches that only sets a key
//! version: a column of the host's, and rotator's own table right after a load, where it also counts how many of the
//! updates stay on their page (HOT). Both sides use one session; its backend's CPU time and the wall clock are taken.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rotator_tests::bench::{Bar, Record, Stopwatch, backend_id, median};
use rotator_tests::{TestDb, scalar};
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

const ROUNDS: usize = 9;
const ROWS: usize = 100_000;
const OWN_ROWS: usize = 20_000;
const BATCH: usize = 1000;
const NAMES: [&str; 2] = ["reencrypt_vs_update", "reencrypt_longest_batch_ms"];
const OWN: [&str; 2] = ["hot_share_first_pass", "reencrypt_own_vs_update"];
const WAITED: Duration = Duration::from_secs(60);

/// What one pass over all rows took.
#[derive(Default)]
struct Pass {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    longest: Vec<f64>,
}

pub async fn run(record: &mut Record) -> Result<()> {
    if record.wants(&NAMES) {
        host_column(record).await?;
    }
    if record.wants(&OWN) {
        own_table(record).await?;
    }
    Ok(())
}

async fn host_column(record: &mut Record) -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme');
             create table document (
                 id uuid primary key default gen_random_uuid(), title text not null, body bytea, key_version integer not null
             ) with (fillfactor = 50);
             insert into document
             select id, 'document ' || n, rotator.encrypt('the body of document ' || lpad(n::text, 19, '.'), 'document.body', id::text), 1
             from (select n, gen_random_uuid() as id from generate_series(1, {ROWS}) as n) as fresh;
             create table twin (like document including all) with (fillfactor = 50);
             insert into twin select * from document;
             select rotator.register_encrypted_column('document', 'body', 'document.body', 'id')"
        ))
        .await?;
    // As anywhere that rotator is at work, something has ticked.
    db.admin.batch_execute("select rotator.tick()").await?;
    db.admin.batch_execute("vacuum (analyze)").await?;
    let (mut reencrypt, mut update) = (Pass::default(), Pass::default());
    for round in 0..=ROUNDS {
        let warming = round == 0;
        reencrypted(&db.admin, ROWS, (!warming).then_some(&mut reencrypt)).await?;
        updated(&db.admin, "true", ROWS, (!warming).then_some(&mut update)).await?;
        db.admin.batch_execute("vacuum document, twin").await?;
    }
    let longest = reencrypt.longest.iter().copied().fold(0.0, f64::max);
    let (detail, ratio) = compared(&mut reencrypt, &mut update);
    let detail = format!("{ROWS} rows of a host's table in committed batches of {BATCH}: {detail}");
    record.add(NAMES[0], ratio, "ratio", Bar::AtMost(1.5), &detail)?;
    let detail = format!(
        "the longest of {ROUNDS} times {} batches of {BATCH}, commit included; an UPDATE's: {:.1} ms",
        ROWS / BATCH,
        update.longest.iter().copied().fold(0.0, f64::max)
    );
    record.add(NAMES[1], longest, "ms", Bar::AtMost(50.0), &detail)
}

/// The first pass after a load, and those after it.
async fn own_table(record: &mut Record) -> Result<()> {
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    db.admin
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    for first in (1..=OWN_ROWS).step_by(BATCH) {
        let import = format!(
            "select count(error) from rotator.import_secrets((
                 select jsonb_agg(jsonb_build_object(
                     'name', 'credential ' || n, 'provider_type', 'vault', 'provider_ref', 'team/service-' || n,
                     'purpose', 'payments of service ' || n, 'rotation_interval', '90 days', 'external_id', 'x-' || n))
                 from generate_series({first}, {}) as n))",
            first + BATCH - 1
        );
        let errors: i64 = scalar(&db.admin, &import, &[]).await?;
        ensure!(errors == 0, "{errors} rows were not imported");
    }
    // What the audit log keeps of them is a place of its own, with one field a row; here it is about the secrets.
    db.admin
        .batch_execute(
            "alter table rotator_internal.audit_value disable trigger all;
             truncate rotator_internal.audit_value;
             alter table rotator_internal.audit_value enable always trigger user;
             create table twin (like rotator_internal.secret including all) with (fillfactor = 50);
             alter table twin add key_version integer not null default 1;
             insert into twin select *, 1 from rotator_internal.secret;
             analyze",
        )
        .await?;
    let before = updates(&db.admin).await?;
    let (mut reencrypt, mut update) = (Pass::default(), Pass::default());
    let mut share = f64::NAN;
    let own = format!("tenant_id = '{tenant}'");
    for round in 0..=ROUNDS {
        reencrypted(&db.admin, OWN_ROWS, (round > 0).then_some(&mut reencrypt)).await?;
        if round == 0 {
            let after = updates(&db.admin).await?;
            ensure!(
                after.0 - before.0 >= OWN_ROWS as i64,
                "{before:?} then {after:?}"
            );
            share = (after.1 - before.1) as f64 / (after.0 - before.0) as f64;
        }
        updated(
            &db.admin,
            &own,
            OWN_ROWS,
            (round > 0).then_some(&mut update),
        )
        .await?;
        db.admin
            .batch_execute("vacuum rotator_internal.secret, twin")
            .await?;
    }
    let detail = format!(
        "HOT among the updates of {OWN_ROWS} secrets, just imported, in the first pass over them"
    );
    record.add(OWN[0], share, "share", Bar::AtLeast(0.95), &detail)?;
    let (detail, ratio) = compared(&mut reencrypt, &mut update);
    let detail = format!(
        "{OWN_ROWS} secrets with three encrypted fields each, in committed batches of {BATCH}: {detail}"
    );
    record.add(OWN[1], ratio, "ratio", Bar::AtMost(2.0), &detail)
}

/// All updates of the table of secrets so far, and those that stayed on their page.
async fn updates(session: &Client) -> Result<(i64, i64)> {
    session
        .batch_execute("select pg_stat_force_next_flush()")
        .await?;
    let row = session
        .query_one(
            "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where schemaname = 'rotator_internal' and relname = 'secret'",
            &[],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// Rotates the key, then steps until nothing is left.
async fn reencrypted(session: &Client, rows: usize, pass: Option<&mut Pass>) -> Result<()> {
    session.batch_execute("select rotator.rotate_key()").await?;
    let step = session
        .prepare(&format!("select rotator.reencrypt_step({BATCH})"))
        .await?;
    let (mut done, mut longest) = (0, 0.0_f64);
    let watch = Stopwatch::start(backend_id(session).await?)?;
    loop {
        let begun = Instant::now();
        let result: Value = session.query_one(&step, &[]).await?.get(0);
        longest = longest.max(begun.elapsed().as_secs_f64() * 1000.0);
        done += result["done"].as_u64().context("done is a count")?;
        if result["remaining"] == 0 {
            break;
        }
        ensure!(watch.wall() < WAITED.as_secs_f64(), "not done: {result}");
    }
    let (wall, cpu) = watch.read()?;
    ensure!(done == rows as u64, "{done} rows, not {rows}");
    note(pass, wall, cpu, longest);
    Ok(())
}

/// The same rows in batches of the same size, found in the same way: by their key, from where the last one ended.
async fn updated(session: &Client, of: &str, rows: usize, pass: Option<&mut Pass>) -> Result<()> {
    let end_of_batch = session
        .prepare(&format!(
            "select id from twin where {of} and id > $1 order by id offset {BATCH} - 1 limit 1"
        ))
        .await?;
    let update = session
        .prepare(&format!(
            "update twin set key_version = key_version + 1 where {of} and id > $1 and id <= $2"
        ))
        .await?;
    let (mut done, mut longest, mut last) = (0, 0.0_f64, Uuid::nil());
    let watch = Stopwatch::start(backend_id(session).await?)?;
    while let Some(end) = session.query_opt(&end_of_batch, &[&last]).await? {
        let end = end.get(0);
        let begun = Instant::now();
        done += session.execute(&update, &[&last, &end]).await?;
        longest = longest.max(begun.elapsed().as_secs_f64() * 1000.0);
        last = end;
    }
    let (wall, cpu) = watch.read()?;
    ensure!(done == rows as u64, "{done} rows, not {rows}");
    note(pass, wall, cpu, longest);
    Ok(())
}

fn note(pass: Option<&mut Pass>, wall: f64, cpu: f64, longest: f64) {
    if let Some(pass) = pass {
        pass.wall.push(wall);
        pass.cpu.push(cpu);
        pass.longest.push(longest);
    }
}

/// The larger of the ratios of wall and CPU time, and both sides in words.
fn compared(reencrypt: &mut Pass, update: &mut Pass) -> (String, f64) {
    let (wall, plain_wall) = (median(&mut reencrypt.wall), median(&mut update.wall));
    let (cpu, plain_cpu) = (median(&mut reencrypt.cpu), median(&mut update.cpu));
    let detail = format!(
        "re-encrypted {wall:.2} s ({cpu:.2} s CPU), UPDATE {plain_wall:.2} s ({plain_cpu:.2} s CPU), \
         {:.2} times in wall, {:.2} in CPU time; medians of {ROUNDS}, interleaved",
        wall / plain_wall,
        cpu / plain_cpu
    );
    (detail, (wall / plain_wall).max(cpu / plain_cpu))
}
