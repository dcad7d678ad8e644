//! The first use of a data key in a new backend: looking up its row by SPI and unwrapping it, next to the same call with
//! the key in the cache. With the library preloaded, so that master keys are inherited from the postmaster, and without,
//! where each backend reads their file.

use std::time::Instant;

use anyhow::{Result, ensure};
use rotator_tests::bench::{Bar, Record, median};
use rotator_tests::{Cluster, Options, TestDb, scalar};
use tokio_postgres::Client;

const BACKENDS: usize = 60;
const NAME: &str = "key_first_use_us";

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&[NAME]) {
        return Ok(());
    }
    let preloaded = first_use(&TestDb::new().await?).await?;
    let options = Options {
        settings: vec!["shared_preload_libraries = ''".to_owned()],
        ..Options::default()
    };
    let cluster = Cluster::start(options).await?;
    let from_file = first_use(&TestDb::in_cluster(cluster.into()).await?).await?;
    let detail = format!(
        "{preloaded:.0} µs with master keys preloaded, {from_file:.0} µs when the backend reads their file: first decryption \
         less the next one, medians of {BACKENDS} new backends, wall time; reported, 5 ms would be a defect"
    );
    record.add(
        NAME,
        preloaded.max(from_file),
        "us",
        Bar::AtMost(5000.0),
        &detail,
    )
}

/// Microseconds.
async fn first_use(db: &TestDb) -> Result<f64> {
    let tenant = db.tenant("acme").await?;
    let seal = format!(
        "select rotator_internal.seal_field('{tenant}', 'bench', '{tenant}', 'first')::text"
    );
    let sealed: String = scalar(&db.admin, &seal, &[]).await?;
    let mut measured = Vec::new();
    for _ in 0..BACKENDS {
        let session = db.superuser().await?;
        let open = |ciphertext: &str| {
            format!(
                "select rotator_internal.try_open_field('{tenant}', 'bench', '{tenant}', '{ciphertext}')"
            )
        };
        // What the first call of any function of the library costs is not the key's: no key is looked for here.
        session.batch_execute(&open("")).await?;
        let first = spent(&session, &open(&sealed)).await?;
        let next = spent(&session, &open(&sealed)).await?;
        measured.push((first - next) * 1e6);
        let plaintext: String = scalar(&session, &open(&sealed), &[]).await?;
        ensure!(plaintext == "first", "opened as {plaintext}");
    }
    Ok(median(&mut measured))
}

async fn spent(session: &Client, statement: &str) -> Result<f64> {
    let before = Instant::now();
    session.batch_execute(statement).await?;
    Ok(before.elapsed().as_secs_f64())
}
