//! Deliveries a second, from queued rows through an HTTP call each and back to sent, attempts written: one sidecar, two
//! of them, and graphile-worker with a job that makes the same call, on the same cluster and in turns. And how long a sidecar
//! takes, and how much memory, for a hundred thousand that are due at once, in digests.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::bench::{Bar, Record, median};
use rotator_tests::scratch::release_folder;
use rotator_tests::{Sidecar, TestDb, scalar};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::peer::{LIMIT, Peer};

const ROUNDS: usize = 5;
const QUEUED: usize = 10_000;
const MANY: usize = 100_000;
const CHUNK: usize = 1000;
/// Jobs in flight, as many as a sidecar has.
const IN_FLIGHT: &str = "32";
const NAMES: [&str; 4] = [
    "deliveries_per_second",
    "deliveries_per_second_two",
    "deliveries_vs_graphile_default",
    "deliveries_vs_graphile_batch",
];
const DIGESTS: [&str; 2] = ["sidecar_rss_mb", "digests_drained_s"];
/// As many as a digest has room for.
const OF_ONE_OWNER: usize = 20;

pub async fn run(record: &mut Record) -> Result<()> {
    if record.wants(&NAMES) {
        throughput(record).await?;
    }
    if record.wants(&DIGESTS) {
        let messages = MANY / OF_ONE_OWNER;
        let db = registered(MANY, messages).await?;
        let (seconds, peak) = deliver(&db, messages, 1).await?;
        let detail = format!(
            "{MANY} reminders of {messages} people, due at once, in {messages} digests: from the first request to all sent"
        );
        record.add(DIGESTS[1], seconds, "s", Bar::AtMost(30.0), &detail)?;
        let detail =
            format!("peak resident memory of the sidecar that delivered those {messages} digests");
        record.add(DIGESTS[0], peak, "MB", Bar::AtMost(150.0), &detail)?;
    }
    Ok(())
}

async fn throughput(record: &mut Record) -> Result<()> {
    let worker = install_graphile().await?;
    let loaded = registered(QUEUED, QUEUED).await?;
    let name = loaded.name.clone();
    // A database that somebody is connected to can't be copied.
    let mut loaded = loaded;
    loaded.admin = loaded.cluster.connect("postgres", "postgres").await?;
    let (mut one, mut two, mut default, mut batch) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        for (sidecars, rates) in [(1, &mut one), (2, &mut two)] {
            let db = TestDb::copy_of(&name).await?;
            let (seconds, _) = deliver(&db, QUEUED, sidecars).await?;
            rates.push(QUEUED as f64 / seconds);
        }
        for (mode, rates) in [("default", &mut default), ("batch", &mut batch)] {
            rates.push(QUEUED as f64 / graphile(&worker, mode).await?);
        }
    }
    let (one, two) = (median(&mut one), median(&mut two));
    let (default, batch) = (median(&mut default), median(&mut batch));
    let detail = format!(
        "{QUEUED} queued, first request to all sent, {IN_FLIGHT} in flight; medians of {ROUNDS}, interleaved"
    );
    record.add(NAMES[0], one, "1/s", Bar::AtLeast(0.0), &detail)?;
    let detail = format!("the same with two sidecars; one has {one:.0}");
    record.add(NAMES[1], two, "1/s", Bar::AtLeast(0.0), &detail)?;
    let detail = format!("{one:.0} a second beside graphile-worker's {default:.0}, default mode");
    record.add(NAMES[2], one / default, "ratio", Bar::AtLeast(5.0), &detail)?;
    let detail = format!("{one:.0} a second beside graphile-worker's {batch:.0}, batch mode");
    record.add(NAMES[3], one / batch, "ratio", Bar::AtLeast(1.2), &detail)
}

/// A database with this many reminders queued, of so many owners with a Slack channel each: one to an owner goes by itself,
/// several make digests.
async fn registered(count: usize, owners: usize) -> Result<TestDb> {
    eprintln!("queueing {count} reminders");
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme');
             select rotator.set_contact('owner-' || n, 'slack', 'C' || 1000000 + n) from generate_series(0, {owners} - 1) as n;"
        ))
        .await?;
    for first in (1..=count).step_by(CHUNK) {
        let last = count.min(first + CHUNK - 1);
        db.admin
            .batch_execute(&format!(
                "insert into rotator.secrets (name, provider_type, owner_id, expiry_date, rotation_interval)
                 select 'credential-' || n, 'vault', 'owner-' || n % {owners}, now() + interval '5 days', '90 days'
                 from generate_series({first}, {last}) as n"
            ))
            .await?;
    }
    // All in one tick: what is due to one person is one digest, or several that are full.
    while scalar(
        &db.admin,
        "select (rotator.tick(max_rows => 100000) ->> 'more')::boolean",
        &[],
    )
    .await?
    {}
    db.admin.batch_execute("vacuum (analyze)").await?;
    Ok(db)
}

/// Seconds from the first request to the last row sent, and the largest peak of resident memory in megabytes.
async fn deliver(db: &TestDb, count: usize, sidecars: usize) -> Result<(f64, f64)> {
    let mut peer = Peer::start().await?;
    let settings = [
        ("ROTATOR_SLACK_URL", peer.url.clone()),
        ("ROTATOR_SLACK_BOT_TOKEN", "stand-in".to_owned()),
        // As for graphile-worker, whose logger is told to print errors alone.
        ("RUST_LOG", "warn".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut running = Vec::new();
    for number in 0..sidecars {
        let role = db
            .login_role(&format!("sidecar{number}"), &["rotator_sidecar"])
            .await?;
        let mut sidecar = Sidecar::spawn(&db.url(&role), &settings).await?;
        sidecar.shows_log = false;
        if sidecars > 1 {
            sidecar.ready().await?; // it has its port now, and the next one gets another
        }
        running.push(sidecar);
    }
    let begun = peer.all(count).await?;
    let pending =
        "select exists (select from rotator_internal.notification where stage = 'pending')";
    until_none(begun, async || scalar(&db.admin, pending, &[]).await).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let sent: i64 = scalar(
        &db.admin,
        "select count(*) from rotator_internal.notification where state = 'sent'",
        &[],
    )
    .await?;
    ensure!(
        sent == count as i64 && peer.requests() == count,
        "{sent} sent by {} requests, not {count}",
        peer.requests()
    );
    let mut peak = 0.0_f64;
    for sidecar in &running {
        peak = peak.max(peak_memory(sidecar.process()?)?);
    }
    Ok((seconds, peak))
}

async fn until_none(begun: Instant, mut any: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    while any().await? {
        if begun.elapsed() > LIMIT {
            bail!("not done after {LIMIT:?}");
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// `VmHWM` of a process, in megabytes.
fn peak_memory(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}

/// Puts graphile-worker, by npm, where builds go; gives the program to run.
async fn install_graphile() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/bench/graphile");
    let folder = release_folder()?.join("../bench/graphile");
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "worker.mjs"] {
        std::fs::copy(source.join(file), folder.join(file))?;
    }
    let status = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--loglevel=error",
        ])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status()
        .await
        .context("npm is needed for the comparison with graphile-worker")?;
    ensure!(status.success(), "npm install: {status}");
    Ok(folder.join("worker.mjs"))
}

fn start_graphile(worker: &Path, mode: &str, connection: &str, url: &str) -> Result<Child> {
    Command::new("node")
        .arg(worker)
        .args([mode, connection, url, IN_FLIGHT])
        .env("NODE_ENV", "production")
        .kill_on_drop(true)
        .spawn()
        .context("starting node")
}

/// Seconds from the first request to the last job gone.
async fn graphile(worker: &Path, mode: &str) -> Result<f64> {
    let mut peer = Peer::start().await?;
    let db = TestDb::new().await?;
    let role = db.login_role("graphile", &[]).await?;
    db.admin
        .batch_execute(&format!(
            "grant create on database \"{}\" to \"{}\"",
            db.name, role.name
        ))
        .await?;
    let (connection, url) = (db.url(&role), format!("{}/api/chat.postMessage", peer.url));
    let status = Command::new(worker.with_file_name("node_modules/.bin/graphile-worker"))
        .args(["--schema-only", "--connection", &connection])
        .stdout(Stdio::null())
        .status()
        .await?;
    ensure!(status.success(), "graphile-worker --schema-only: {status}");
    // The same call: a message of the same size.
    db.admin
        .batch_execute(&format!(
            "select graphile_worker.add_job('deliver', json_build_object(
                 'channel', 'C' || 1000000 + n, 'text', 'credential-' || n || ' expires in 5 days',
                 'blocks', repeat('x', 1000)))
             from generate_series(1, {QUEUED}) as n"
        ))
        .await?;
    db.admin.batch_execute("vacuum (analyze)").await?;
    let _second = start_graphile(worker, mode, &connection, &url)?;
    let begun = peer.all(QUEUED).await?;
    let pending = "select exists (select from graphile_worker._private_jobs)";
    until_none(begun, async || scalar(&db.admin, pending, &[]).await).await?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(
        peer.requests() == QUEUED,
        "{} requests, not {QUEUED}",
        peer.requests()
    );
    Ok(seconds)
}
