//! A database that is down or starting is waited for: the sidecar says so, answers its probes meanwhile, and begins when
//! the database is there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::pooler::Pooler;
use rotator_tests::relay::Relay;
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

/// Starts a sidecar for each moment, by the bytes it has heard from the server, at which the connection breaks.
pub(crate) async fn survives_a_break_at(
    moments: impl Iterator<Item = usize>,
    port: u16,
    url: impl Fn(&str) -> String,
) -> Result<()> {
    let mut started = Vec::new();
    for bytes in moments {
        let relay = Relay::breaking_after(bytes, port).await?;
        let mut sidecar = Sidecar::spawn(&url(&relay.address), &[]).await?;
        sidecar.shows_log = false;
        started.push((bytes, relay, sidecar));
    }
    for (bytes, relay, sidecar) in &mut started {
        let readiness = sidecar.ready().await;
        readiness.with_context(|| format!("after {bytes} bytes: {:?}", sidecar.log()))?;
        let log = sidecar.log()?;
        ensure!(relay.broke(), "{bytes} bytes are more than all: {log}");
        ensure!(log.contains("waiting for the database"), "{bytes}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_goes_away_at_any_moment_of_the_start_is_waited_for() -> Result<()> {
    let db = TestDb::new().await?;
    let role = db.login_role("sidecar", &["rotator_sidecar"]).await?;
    let server = format!("127.0.0.1:{}", db.cluster.port);
    // After about 1,000 it knows the versions, and has begun.
    survives_a_break_at((1..1000).step_by(70), db.cluster.port, |relay| {
        db.url(&role).replace(&server, relay) + "?sslmode=disable"
    })
    .await
}

#[tokio::test]
async fn a_pooler_whose_server_is_down_is_waited_for() -> Result<()> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let db = TestDb::in_cluster(cluster).await?;
    let role = db.login_role("sidecar", &["rotator_sidecar"]).await?;
    let pooler = Pooler::start(&db, &role, "session").await?;
    // By the same code PgBouncer refuses for good.
    let wrong = pooler.url(&db, &role).replace(&role.password, "wrong");
    let mut stranger = Sidecar::spawn(&wrong, &[]).await?;
    ensure!(stranger.ended(SOON).await?.code() == Some(4));
    db.cluster.stop().await?;
    let mut sidecar = Sidecar::spawn(&pooler.url(&db, &role), &[]).await?;
    sidecar.logged(SOON, "waiting for the database").await?;
    db.cluster.start_again().await?;
    sidecar.ready().await
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
