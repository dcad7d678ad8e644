//! Eight clients that write and eight that read a host's table of a million encrypted rows, while the product's own driver
//! re-encrypts all of them: `run_tick`, each minute, as pg_cron calls it. Between its runs, before the first and after the
//! last the same load goes on without it, so that drift shows. Every read is compared with what was written.
//!
//! `ROTATOR_BENCH_ROWS` takes another number of rows, for development.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::bench::{Bar, Record, median, percentile};
use rotator_tests::{Chance, TestDb};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use uuid::Uuid;

const ROWS: usize = 1_000_000;
const CLIENTS: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);
/// Of the load alone, before and after.
const ALONE: Duration = Duration::from_secs(20);
/// Shorter stretches have too few slow ones to speak of a 99th percentile.
const SHORTEST: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(11 * 60);
const NAMES: [&str; 3] = [
    "rotation_throughput_share",
    "rotation_p99_ratio",
    "rotation_1m_minutes",
];

/// A time with or without the driver.
struct Stretch {
    with: bool,
    length: Duration,
}

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let rows = match std::env::var("ROTATOR_BENCH_ROWS") {
        Ok(rows) => rows.parse().context("ROTATOR_BENCH_ROWS is a number")?,
        Err(_) => ROWS,
    };
    let (db, ids) = loaded(rows).await?;
    let member = db.member("acme", "editor").await?;
    db.admin
        .batch_execute("grant select, update on document to rotator_user")
        .await?;
    let stretch = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    let mut chance = Chance::for_test("rotation_load");
    for number in 0..2 * CLIENTS {
        let client = Client {
            session: db.connect_as(&member).await?,
            ids: ids.clone(),
            chance: chance.branch(),
            stretch: stretch.clone(),
        };
        clients.spawn(client.work(number < CLIENTS));
    }
    let (stretches, minutes) = tokio::select! {
        stretches = drive(&db, &stretch, rows) => stretches?,
        // Clients go on until they are told; whoever ends before that has met an error.
        ended = clients.join_next() => {
            ended.context("there are clients")???;
            bail!("a client ended by itself")
        }
    };
    stretch.store(usize::MAX, Ordering::SeqCst);
    let mut latencies: Vec<Vec<f64>> = vec![Vec::new(); stretches.len()];
    while let Some(client) = clients.join_next().await {
        for (all, own) in latencies.iter_mut().zip(client??) {
            all.extend(own);
        }
    }
    verified(&db, rows).await?;

    let (mut rates, mut slow) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for (stretch, latencies) in stretches.iter().zip(&mut latencies) {
        if stretch.length >= SHORTEST {
            let side = usize::from(stretch.with);
            rates[side].push(latencies.len() as f64 / stretch.length.as_secs_f64());
            slow[side].push(percentile(latencies, 99.0) / 1000.0);
        }
    }
    let shown = format!("without {}, with {}", listed(&rates[0]), listed(&rates[1]));
    let times = format!("without {}, with {}", listed(&slow[0]), listed(&slow[1]));
    let [without, with] = rates.each_mut().map(|rates| median(rates));
    let detail = format!(
        "{CLIENTS} clients writing and {CLIENTS} reading, transactions a second: {without:.0} alone, {with:.0} while \
         {rows} rows are re-encrypted; medians of stretches between and during runs ({shown})"
    );
    record.add(
        NAMES[0],
        with / without,
        "share",
        Bar::AtLeast(0.8),
        &detail,
    )?;
    let [without, with] = slow.each_mut().map(|slow| median(slow));
    let detail =
        format!("p99 {without:.1} ms alone, {with:.1} ms during; of each stretch: {times}");
    record.add(NAMES[1], with / without, "ratio", Bar::AtMost(2.0), &detail)?;
    let detail = format!(
        "{rows} rows under that load, from rotate_key to completed, run_tick once a minute"
    );
    record.add(NAMES[2], minutes, "min", Bar::AtMost(10.0), &detail)
}

fn listed(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.0}")).collect();
    values.join(" ")
}

async fn loaded(rows: usize) -> Result<(TestDb, Arc<Vec<Uuid>>)> {
    eprintln!("encrypting {rows} rows");
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme');
             create table document (id uuid primary key, body bytea not null) with (fillfactor = 50);
             insert into document
             select id, rotator.encrypt('body of ' || id, 'document.body', id::text)
             from (select gen_random_uuid() as id from generate_series(1, {rows})) as fresh;
             select rotator.register_encrypted_column('document', 'body', 'document.body', 'id')"
        ))
        .await?;
    db.admin.batch_execute("vacuum (analyze) document").await?;
    let ids = db.admin.query("select id from document", &[]).await?;
    let ids = ids.iter().map(|row| row.get(0)).collect();
    Ok((db, Arc::new(ids)))
}

struct Client {
    session: tokio_postgres::Client,
    ids: Arc<Vec<Uuid>>,
    chance: Chance,
    stretch: Arc<AtomicUsize>,
}

impl Client {
    /// One transaction after the other until the end: how long each took, by stretch. One that a change of
    /// stretch falls into counts for neither.
    async fn work(mut self, writing: bool) -> Result<Vec<Vec<f64>>> {
        let read = self
            .session
            .prepare("select rotator.decrypt(body, 'document.body', id::text) from document where id = $1")
            .await?;
        let write = self
            .session
            .prepare("update document set body = rotator.encrypt($2, 'document.body', id::text) where id = $1")
            .await?;
        let mut latencies = Vec::new();
        let mut count = 0_u64;
        loop {
            let before = self.stretch.load(Ordering::SeqCst);
            if before == usize::MAX {
                return Ok(latencies);
            }
            let id = *self.chance.one_of(&self.ids);
            let begun = Instant::now();
            if writing {
                count += 1;
                let body = format!("body of {id}, {count}");
                let written = self.session.execute(&write, &[&id, &body]).await?;
                ensure!(written == 1, "{written} rows were written");
            } else {
                let body: String = self.session.query_one(&read, &[&id]).await?.get(0);
                ensure!(
                    body.starts_with(&format!("body of {id}")),
                    "{id} reads {body}"
                );
            }
            let spent = begun.elapsed().as_secs_f64() * 1e6;
            if self.stretch.load(Ordering::SeqCst) == before {
                latencies.resize_with(latencies.len().max(before + 1), Vec::new);
                latencies[before].push(spent);
            }
        }
    }
}

/// Alone, then rotates and runs the driver each minute until all is re-encrypted, then alone again. Gives the stretches
/// and the minutes that it took.
async fn drive(db: &TestDb, stretch: &AtomicUsize, rows: usize) -> Result<(Vec<Stretch>, f64)> {
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    let session = db.connect_as(&operator).await?;
    let mut stretches = Vec::new();
    let mut begun = Instant::now();
    let mut next = |with: bool| {
        stretch.fetch_add(1, Ordering::SeqCst);
        stretches.push(Stretch {
            with,
            length: begun.elapsed(),
        });
        begun = Instant::now();
    };
    tokio::time::sleep(ALONE).await; // clients and server warm up
    next(false);
    tokio::time::sleep(ALONE).await;
    session
        .batch_execute("select rotator.rotate_key('acme')")
        .await?;
    next(false);
    let rotated = Instant::now();
    let mut minute = rotated;
    let minutes = loop {
        session.batch_execute("call rotator.run_tick()").await?;
        next(true);
        let Some(done) = progress(db).await? else {
            break rotated.elapsed().as_secs_f64() / 60.0;
        };
        eprintln!("{:.0} s: {done} of {rows}", rotated.elapsed().as_secs_f64());
        ensure!(rotated.elapsed() < LIMIT, "not done: {done} of {rows}");
        minute += MINUTE;
        sleep_until(minute.into()).await;
        next(false);
    };
    tokio::time::sleep(ALONE).await;
    next(false);
    Ok((stretches, minutes))
}

/// How many rows are done; none when the rotation has completed.
async fn progress(db: &TestDb) -> Result<Option<i64>> {
    let row = db
        .admin
        .query_one(
            "select status, done, error from rotator.key_rotations order by id desc limit 1",
            &[],
        )
        .await?;
    let (status, error): (String, Option<String>) = (row.get(0), row.get(2));
    match status.as_str() {
        "completed" => Ok(None),
        "running" => Ok(Some(row.get(1))),
        _ => bail!("the rotation is {status}: {error:?}"),
    }
}

/// No row is under an older key, and none is lost.
async fn verified(db: &TestDb, rows: usize) -> Result<()> {
    let row = db
        .admin
        .query_one(
            "select count(*), count(*) filter (where rotator_internal.ciphertext_key(d.body) = k.id),
                 count(*) filter (where rotator.decrypt(d.body, 'document.body', d.id::text) like 'body of ' || d.id || '%')
             from document as d, rotator_internal.encryption_key as k
             where k.purpose = 'data' and k.status = 'active'",
            &[],
        )
        .await?;
    let counts: [i64; 3] = std::array::from_fn(|column| row.get(column));
    ensure!(counts == [rows as i64; 3], "{counts:?} of {rows}");
    Ok(())
}
