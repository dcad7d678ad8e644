//! The page on backup and restore, run command by command: from a first server with pg_cron to a second one that has
//! nothing but the master key, and a promotion. Then what the page promises of the databases that came out of it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::standby::standby_of;
use rotator_tests::{Cluster, Options, scalar};
use tokio_postgres::Client;

use crate::follow::output;
use crate::markdown::{Block, page};

async fn server(like: Option<&Cluster>) -> Result<Cluster> {
    let options = Options {
        cron_database: Some("app".to_owned()),
        ..Options::default()
    };
    match like {
        Some(like) => like.another(options).await,
        None => Cluster::start(options).await,
    }
}

async fn fill(first: &Cluster) -> Result<()> {
    first.psql("postgres", "create database app")?;
    first.psql(
        "app",
        "create extension pg_cron; create extension rotator;
         create role rotator_ops login in role rotator_admin; create role acme_app login in role rotator_user;
         grant usage on schema cron to rotator_ops;
         select rotator.create_tenant('acme', 'Acme GmbH', 'Europe/Berlin');
         select rotator.add_member('db:acme_app', 'admin', 'acme'), rotator.add_member('db:rotator_ops', 'admin', 'acme');
         select rotator.use_tenant('acme');
         select rotator.register_secret('key ' || n, expiry_date => now() + make_interval(days => n, hours => 12))
         from generate_series(1, 20) as n;
         select rotator.tick()",
    )?;
    let operator = first.connect("rotator_ops", "app").await?;
    // Not while this test runs: a tick of its own would be one more change.
    Ok(operator
        .batch_execute("select rotator.enable_schedule('0 0 1 1 *')")
        .await?)
}

/// Runs the block as its marker says, on the server and as the role that it names.
fn run(block: &Block, marker: &str, cluster: &Cluster, folder: &Path) -> Result<String> {
    let (_, role) = marker.rsplit_once(" as ").context("… as ROLE")?;
    let mut command = match block.language.as_str() {
        "sh" => {
            let mut command = Command::new("bash");
            command.args(["-euo", "pipefail", "-c", &block.content]);
            command
        }
        "sql" => {
            let file = folder.join("block.sql");
            std::fs::write(&file, &block.content)?;
            let mut command = Command::new(cluster.bindir.join("psql"));
            command
                .args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "app", "-f"])
                .arg(file);
            command
        }
        other => bail!("{other} blocks can't be run"),
    };
    let path = std::env::var("PATH")?;
    let (worked, printed) = output(
        command
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", cluster.bindir.display()))
            .env("PGHOST", &cluster.socket)
            .env("PGPORT", cluster.port.to_string())
            .env("PGUSER", role),
    )?;
    ensure!(
        worked,
        "the block at line {} printed:\n{printed}",
        block.line
    );
    Ok(printed)
}

const ROWS: &str = "select md5(string_agg(r, '|' order by r)) from (
    select s::text as r from rotator_internal.secret as s
    union all select e::text from rotator_internal.audit_event as e
    union all select n::text from rotator_internal.notification as n
    union all select k::text from rotator_internal.encryption_key as k) as all_rows";

async fn rows(cluster: &Cluster, database: &str) -> Result<String> {
    let admin = cluster.connect("postgres", database).await?;
    scalar(&admin, ROWS, &[]).await
}

async fn names(session: &Client) -> Result<i64> {
    session
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    scalar(
        session,
        "select count(*) from rotator.secrets where name like 'key %'",
        &[],
    )
    .await
}

#[tokio::test]
async fn the_guide_to_backup_works_as_written() -> Result<()> {
    let first = server(None).await?;
    fill(&first).await?;
    let second = server(Some(&first)).await?;
    let mut standby = None;
    let known = rows(&first, "app").await?;
    let scratch = Scratch::new("backup")?;
    let guide = page("docs/backup.md")?.blocks();
    let mut ran = 0;
    let mut restored = Vec::new();
    for block in &guide {
        let Some(marker) = block.marker.as_deref() else {
            continue;
        };
        let cluster = if marker.starts_with("run on the first server") {
            &first
        } else if marker.starts_with("run on the second server") {
            &second
        } else if marker.starts_with("run on the standby") {
            standby.insert(standby_of(&first).await?)
        } else {
            bail!("{marker}: on which server?")
        };
        let printed = run(block, marker, cluster, scratch.path())?;
        for (at, _) in block.content.match_indices("pg_restore --exit-on-error") {
            let command = block.content[at..].lines().next().unwrap_or_default();
            let database = command
                .split_once("--dbname=")
                .and_then(|(_, rest)| rest.split(' ').next())
                .context("a restore names its database")?;
            ensure!(
                rows(&second, database).await? == known,
                "{database} has other rows"
            );
            restored.push(database.to_owned());
        }
        if block.content.contains("rotator.doctor()") {
            ensure!(
                !printed.contains("master key") && printed.contains("never ticked"),
                "{printed}"
            );
            ensure!(
                printed.contains(" t  |"),
                "the audit log is verified: {printed}"
            );
        }
        ran += 1;
    }
    ensure!(ran >= 9, "only {ran} blocks have a marker");

    ensure!(
        restored == ["app", "app_by_jobs", "app_copy"],
        "{restored:?}"
    );
    for database in &restored {
        let member = second.connect("acme_app", database).await?;
        ensure!(names(&member).await? == 20, "{database}");
    }
    let jobs =
        "select string_agg(concat_ws(' ', schedule, username, database), ', ') from cron.job";
    let job: String = scalar(&second.connect("postgres", "app").await?, jobs, &[]).await?;
    ensure!(job == "* * * * * rotator_ops app", "{job}");
    let promoted = standby.context("nothing was promoted")?;
    let member = promoted.connect("acme_app", "app").await?;
    ensure!(names(&member).await? == 20);
    member
        .batch_execute(
            "select rotator.register_secret('after the promotion', rotation_interval => '90 days')",
        )
        .await?;
    Ok(())
}
