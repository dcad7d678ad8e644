//! What the other behaviours rely on: a cluster of one's own can be restarted, crashed, and given another time.

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, scalar};

const YEAR: &str = "select extract(year from clock_timestamp())::integer";

#[tokio::test]
async fn the_clock_moves_for_open_sessions() -> Result<()> {
    let cluster = Cluster::start(Options {
        clock: true,
        ..Options::default()
    })
    .await?;
    let session = cluster.connect("postgres", "postgres").await?;
    let now: i32 = scalar(&session, YEAR, &[]).await?;
    cluster.move_clock("+800d")?;
    let later: i32 = scalar(&session, YEAR, &[]).await?;
    ensure!(later >= now + 2, "{now} became {later}");
    Ok(())
}

#[tokio::test]
async fn a_crashed_server_comes_back_on_its_port() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let session = cluster.connect("postgres", "postgres").await?;
    session
        .batch_execute("create table kept as select 'CANARY-f5a1' as value")
        .await?;
    cluster.crash().await?;
    ensure!(
        session.simple_query("select 1").await.is_err(),
        "the crash ended the session"
    );
    cluster.start_again().await?;

    let session = cluster.connect("postgres", "postgres").await?;
    ensure!(scalar::<i64>(&session, "select count(*) from kept", &[]).await? == 1);
    session.batch_execute("checkpoint").await?;
    let files = cluster.files_containing(b"CANARY-f5a1")?;
    let in_wal = files
        .iter()
        .any(|file| file.components().any(|part| part.as_os_str() == "pg_wal"));
    ensure!(
        in_wal && files.len() > 1,
        "the search finds it in the table and in the WAL: {files:?}"
    );
    Ok(())
}
