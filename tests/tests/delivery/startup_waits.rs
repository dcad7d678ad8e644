//! A database that is down or starting is waited for: the sidecar says so, answers its probes meanwhile, and begins when
//! the database is there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::sidecar::{free_address, http};
use rotator_tests::{Cluster, Options, Sidecar, TestDb};

use crate::outbox::Outbox;
use crate::seed::{Acme, SOON};

#[tokio::test]
async fn a_database_that_is_down_at_start_is_waited_for() -> Result<()> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let mut acme = Acme::on(TestDb::in_cluster(cluster).await?, "UTC").await?;
    acme.contact("console", "desk").await?;
    let secret = acme.due("stripe-live").await?;
    let role = acme.db.login_role("sidecar", &["rotator_sidecar"]).await?;
    acme.db.cluster.stop().await?;

    let outbox = Outbox::new()?;
    let mut sidecar = Sidecar::spawn(
        &acme.db.url(&role),
        &[("ROTATOR_CONSOLE_OUTBOX", &outbox.setting())],
    )
    .await?;
    let line = sidecar.logged(SOON, "waiting for the database").await?;
    ensure!(line.contains("check host and port"), "with a hint: {line}");
    ensure!(!line.contains(&role.password));
    ensure!(http().get(sidecar.url("/healthz")).send().await?.status() == 200);
    let ready = http().get(sidecar.url("/readyz")).send().await?;
    ensure!(ready.status() == 503 && ready.text().await?.contains("database"));

    acme.db.cluster.start_again().await?;
    sidecar.ready().await?;
    acme.reconnect().await?;
    acme.becomes(secret, "sent").await?;
    ensure!(sidecar.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn told_to_stop_while_it_waits_it_stops() -> Result<()> {
    let url = format!("postgres://sidecar:pw@{}/app", free_address()?);
    let mut sidecar = Sidecar::spawn(&url, &[]).await?;
    sidecar.logged(SOON, "waiting for the database").await?;
    sidecar.signal(libc::SIGTERM)?;
    ensure!(sidecar.ended(Duration::from_secs(5)).await?.code() == Some(0));
    Ok(())
}

#[tokio::test]
async fn waiting_is_said_once_not_at_every_attempt() -> Result<()> {
    let url = format!("postgres://sidecar:pw@{}/app", free_address()?);
    let mut sidecar = Sidecar::spawn(&url, &[]).await?;
    sidecar.logged(SOON, "waiting for the database").await?;
    // Several attempts fit in here: pauses begin at a quarter of a second.
    let _ = sidecar.ended(Duration::from_secs(4)).await;
    ensure!(sidecar.log()?.matches("waiting for the database").count() == 1);
    Ok(())
}
