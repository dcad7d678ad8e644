//! README's examples, and then those of the guide to alerts, run in order against what `make demo` sets up: tenant globex
//! with the sample calendar, its people, a tick, and a sidecar that delivered to its console. Those of getting started, run
//! on a server that has nothing yet.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::{release_folder, root, unique};
use rotator_tests::{Cluster, Options, Sidecar, TestDb, scalar, until};
use serde_json::Value;

use crate::follow::{Example, output};
use crate::markdown::{Block, page};

const PEOPLE: [&str; 6] = ["priya", "tom", "mei", "alex", "ines", "noor"];

#[tokio::test]
async fn examples_work_in_the_demo_as_written() -> Result<()> {
    // Its own: the PostgREST guide changes the server's settings and makes roles of fixed names.
    let cluster = Cluster::start(Options::default()).await?;
    let db = TestDb::in_cluster(Arc::new(cluster)).await?;
    seed(&db).await?;
    let sidecar = Sidecar::start(&db, &[]).await?;
    all_delivered(&db).await?;

    let postgrest_guide = page("docs/postgrest.md")?.blocks();
    let readme = page("README.md")?.blocks();
    let mut example = Example::new(db);
    example.delivered = sidecar.log()?;
    example.claims = claims(&postgrest_guide)?;
    // What the guide tells a superuser to do comes first: README's requests need it.
    example.follow_all(&postgrest_guide).await?;
    let alerts = page("docs/alerts.md")?.blocks();
    for (name, blocks, least) in [("README.md", readme, 14), ("docs/alerts.md", alerts, 20)] {
        let ran = example.follow_all(&blocks).await.context(name)?;
        ensure!(ran >= least, "only {ran} blocks of {name} have a marker");
        let forgotten = blocks.iter().find(|block| {
            ["sql", "http"].contains(&block.language.as_str()) && block.marker.is_none()
        });
        ensure!(
            forgotten.is_none(),
            "{name} has a block that nothing runs, at line {}",
            forgotten.map_or(0, |block| block.line)
        );
    }
    Ok(())
}

/// On a server that has neither extension yet, with the roles and in the order of the guide.
#[tokio::test]
async fn getting_started_works_as_written() -> Result<()> {
    let db = TestDb::with_pg_cron().await?;
    db.admin
        .batch_execute("drop extension rotator; drop extension pg_cron")
        .await?;
    let mut example = Example::new(db);
    let blocks = page("docs/getting-started.md")?.blocks();
    ensure!(
        example.follow_all(&blocks).await? >= 6,
        "few blocks have a marker"
    );

    // The secret it registered is inside its lead times: one reminder for each contact of its owner.
    let admin = &example.db.admin;
    admin
        .batch_execute("select rotator.tick(); select rotator.use_tenant('acme')")
        .await?;
    let told: Vec<String> = scalar(
        admin,
        "select array_agg(channel order by channel) from rotator.notifications",
        &[],
    )
    .await?;
    ensure!(told == ["email", "slack"], "{told:?}");
    let job: String = scalar(
        admin,
        "select username::text from cron.job where jobname = 'rotator-tick'",
        &[],
    )
    .await?;
    ensure!(job == "rotator_ops", "{job}");
    Ok(())
}

/// The claims that the PostgREST guide shows.
pub fn claims(blocks: &[Block]) -> Result<Value> {
    let block = blocks
        .iter()
        .find(|block| block.marker.as_deref() == Some("claims"))
        .context("docs/postgrest.md shows no claims")?;
    Ok(serde_json::from_str(&block.content)?)
}

/// As `make demo` does it, without the other tenant.
async fn seed(db: &TestDb) -> Result<()> {
    db.admin
        .batch_execute(
            "create role demo_operator login in role rotator_admin; create role globex_admin login in role rotator_user;
             select rotator.create_tenant('globex', 'Globex Inc.', 'America/New_York');
             select rotator.add_member('db:globex_admin', 'admin', 'globex');
             select rotator.use_tenant('globex')",
        )
        .await?;
    for name in PEOPLE {
        let subject = format!("{name}@globex.example");
        db.admin
            .execute(
                "select rotator.add_member($1, 'editor', 'globex')",
                &[&subject],
            )
            .await?;
        db.admin
            .execute("select rotator.set_contact($1, 'console', initcap(split_part($1, '@', 1)) || ', Globex')", &[&subject])
            .await?;
    }
    let calendar = output(
        Command::new("scripts/calendar.sh")
            .arg("tests/data/calendar.csv")
            .current_dir(root())
            .env("TZ", "America/New_York"),
    )?
    .1;
    let file = std::env::temp_dir().join(format!("{}.csv", unique("rotator-docs")));
    std::fs::write(&file, calendar)?;
    let imported = output(
        Command::new(release_folder()?.join("rotator"))
            .args(["secrets", "import"])
            .arg(&file)
            .current_dir(std::env::temp_dir())
            .env(
                "ROTATOR_DATABASE_URL",
                format!(
                    "host={} port={} user=globex_admin dbname={}",
                    db.cluster.socket.display(),
                    db.cluster.port,
                    db.name
                ),
            ),
    );
    std::fs::remove_file(&file)?;
    let (worked, printed) = imported?;
    ensure!(worked, "{printed}");
    Ok(())
}

/// Waits for the sidecar, which ticks because nobody else has, and delivers.
async fn all_delivered(db: &TestDb) -> Result<()> {
    until(
        Duration::from_secs(60),
        "all reminders to be delivered",
        async || {
            scalar::<bool>(
                &db.admin,
                "select count(*) > 0 and bool_and(state in ('sent', 'merged')) from rotator.notifications",
                &[],
            )
            .await
        },
    )
    .await
}
