//! `rotator healthcheck`, what a container's health check runs: 0 when `/readyz` says so, else 1 and the reason.
//! What ready means: `health.rs`.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rotator_tests::sidecar::{Printed, free_address};
use rotator_tests::{Cli, Cluster, Options, Sidecar, TestDb, eventually};

use crate::seed::SOON;

async fn healthcheck(listen: &str) -> Result<Printed> {
    Cli::offline(&["healthcheck"])?
        .env("ROTATOR_LISTEN", listen)
        .run()
        .await
}

#[tokio::test]
async fn it_says_what_readyz_says() -> Result<()> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let db = TestDb::in_cluster(cluster).await?;
    let mut sidecar = Sidecar::start(&db, &[]).await?;
    let port = sidecar.address.rsplit(':').next().unwrap_or_default();
    let everywhere = format!("0.0.0.0:{port}");

    let ready = healthcheck(&everywhere).await?;
    ensure!(
        ready.code == 0 && ready.stdout.is_empty() && ready.stderr.is_empty(),
        "{ready:?}"
    );

    db.cluster.stop().await?;
    eventually(SOON, "the health check to fail", async || {
        let unready = healthcheck(&everywhere).await?;
        let told = unready.stderr.contains("not ready: ") && unready.stderr.contains("database: ");
        Ok((unready.code == 1 && told).then_some(()))
    })
    .await?;

    sidecar.kill().await?;
    let gone = healthcheck(&everywhere).await?;
    ensure!(
        gone.code == 1 && gone.stderr.contains("Is rotator serve running"),
        "{gone:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_the_sidecar_is_not_healthy() -> Result<()> {
    let address = free_address()?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.example ESMTP 200\r\n").await
    });
    let other = healthcheck(&address).await?;
    answering.await??;
    ensure!(
        other.code == 1 && other.stderr.contains("readyz") | other.stderr.contains("not ready"),
        "{other:?}"
    );
    Ok(())
}
