//! `make bench`: every number that the project promises, measured against a private cluster.
//!
//! Usage: bench RESULTS.jsonl [FILTER], with `ROTATOR_CLUSTER` naming the cluster (scripts/bench.sh does all that). One
//! module a subject; what they share is `rotator_tests::bench`.

mod audit;
mod audit_verify;
mod calendar;
mod calendar_million;
mod crypto;
mod crypto_view;
mod dead_destinations;
mod deliveries;
mod delivery;
mod guard;
mod import;
mod key_first_use;
mod lists;
mod peer;
mod reencryption;
mod rotate_all;
mod rotation_load;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rotator_tests::bench::Record;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let results: PathBuf = arguments
        .next()
        .context("usage: bench RESULTS.jsonl [FILTER]")?
        .into();
    let mut record = Record::new(&results, &arguments.next().unwrap_or_default())?;
    crypto::run(&mut record).await?;
    crypto_view::run(&mut record).await?;
    key_first_use::run(&mut record).await?;
    calendar::run(&mut record).await?;
    calendar_million::run(&mut record).await?;
    delivery::run(&mut record).await?;
    dead_destinations::run(&mut record).await?;
    guard::run(&mut record).await?;
    import::run(&mut record).await?;
    lists::run(&mut record).await?;
    reencryption::run(&mut record).await?;
    rotate_all::run(&mut record).await?;
    rotation_load::run(&mut record).await?;
    audit::run(&mut record).await?;
    audit_verify::run(&mut record).await?;
    deliveries::run(&mut record).await?;
    if record.missed() > 0 {
        eprintln!("{} missed the bar", record.missed());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
