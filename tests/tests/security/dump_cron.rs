//! pg_cron's job comes along with the rows of schema cron: it isn't doubled, it works in the database that it was restored
//! into, and it doesn't tick while the rest is still being restored.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rotator_tests::scratch::{Scratch, unique};
use rotator_tests::{Cluster, Options, TestDb, scalar};
use serde_json::Value;

use crate::fixture::{text, texts};

const JOBS: &str =
    "select concat_ws(' ', jobname, schedule, username, database, active) from cron.job order by 1";

/// A cluster whose pg_cron works in this database, which is made.
async fn with_cron_in(database: &str, like: Option<&Cluster>) -> Result<Cluster> {
    let options = Options {
        cron_database: Some(database.to_owned()),
        ..Options::default()
    };
    let cluster = match like {
        Some(like) => like.another(options).await?,
        None => Cluster::start(options).await?,
    };
    cluster.psql("postgres", &format!("create database {database}"))?;
    Ok(cluster)
}

#[tokio::test]
async fn the_job_of_a_dump_is_taken_over_not_doubled() -> Result<()> {
    let (name, new_name) = (unique("app"), unique("app_restored"));
    let from = with_cron_in(&name, None).await?;
    from.psql(
        &name,
        "create extension pg_cron; create extension rotator;
         create role rotator_ops login in role rotator_admin; grant usage on schema cron to rotator_ops;
         select rotator.create_tenant('acme', 'Acme GmbH', 'UTC')",
    )?;
    let operator = from.connect("rotator_ops", &name).await?;
    operator
        .batch_execute("select rotator.enable_schedule('7 3 * * *')")
        .await?;
    let scratch = Scratch::new("dump-cron")?;
    let [file, roles] = ["dump", "roles"].map(|file| scratch.join(file).display().to_string());
    from.tool("pg_dump", &["-Fc", "-f", &file, &name])?;
    from.tool("pg_dumpall", &["--roles-only", "-f", &roles])?;

    let target = with_cron_in(&new_name, Some(&from)).await?;
    target.tool("psql", &["-X", "-q", "-f", &roles, "postgres"])?;
    target.tool("pg_restore", &["--exit-on-error", "-d", &new_name, &file])?;
    let admin = target.connect("postgres", &new_name).await?;
    let found = texts(&admin, JOBS).await?;
    ensure!(
        found == [format!("rotator-tick 7 3 * * * rotator_ops {name} t")],
        "the job comes with the name of the database it was made in: {found:?}"
    );
    let operator = target.connect("rotator_ops", &new_name).await?;
    for _ in 0..2 {
        operator
            .batch_execute("select rotator.enable_schedule()")
            .await?;
        let found = texts(&admin, JOBS).await?;
        ensure!(
            found == [format!("rotator-tick * * * * * rotator_ops {new_name} t")],
            "{found:?}"
        );
    }
    // Its jobs go on to be numbered where they ended.
    ensure!(
        text(
            &admin,
            "select count(*) = count(distinct jobid) from cron.job"
        )
        .await?
            == "t"
    );
    // One that was paused over there is enabled as well.
    admin
        .batch_execute("update cron.job set active = false")
        .await?;
    operator
        .batch_execute("select rotator.enable_schedule()")
        .await?;
    ensure!(
        text(&admin, JOBS).await? == format!("rotator-tick * * * * * rotator_ops {new_name} t")
    );
    operator.batch_execute("call rotator.run_tick()").await?;
    Ok(())
}

#[tokio::test]
async fn nobody_ticks_before_a_restore_has_ended() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(
            "select rotator.use_tenant('acme');
             select rotator.register_secret('due', expiry_date => now() + interval '84 hours');
             select rotator.rotate_key()",
        )
        .await?;
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    let ticker = db.connect_as(&operator).await?;
    let queued = async || -> Result<i64> {
        let tick: Value = scalar(&ticker, "select rotator.tick()", &[]).await?;
        Ok(tick["queued"].as_i64().unwrap_or(-1))
    };
    let tick_of = "select count(*) from rotator_internal.heartbeat";

    let restoring = db.superuser().await?;
    restoring
        .batch_execute("set application_name = 'pg_restore'")
        .await?;
    ticker.batch_execute("call rotator.run_tick()").await?;
    let step: Value = scalar(&ticker, "select rotator.reencrypt_step()", &[]).await?;
    ensure!(
        queued().await? == 0 && step["remaining"] == 0 && text(&db.admin, tick_of).await? == "0",
        "it waits: {step}"
    );
    restoring.batch_execute("reset application_name").await?;

    // Nobody else can hold it up by that name,
    let member = db.session("acme", "viewer").await?;
    member
        .batch_execute("set application_name = 'pg_restore'")
        .await?;
    ensure!(queued().await? == 1);
    // nor can a restore of something else, later.
    restoring
        .batch_execute("set application_name = 'pg_restore'")
        .await?;
    db.admin
        .batch_execute(
            "select rotator.register_secret('due too', expiry_date => now() + interval '84 hours')",
        )
        .await?;
    rotator_tests::settled(&db.admin).await?;
    ensure!(queued().await? == 1);
    let step: Value = scalar(&ticker, "select rotator.reencrypt_step()", &[]).await?;
    // The first step may only have counted.
    ensure!(step["done"] != 0 || step["remaining"] != 0, "{step}");
    Ok(())
}

/// pg_cron's database is one a cluster: elsewhere its extension can't be restored, and the way around is in the guide.
#[tokio::test]
async fn without_the_objects_of_pg_cron_it_restores_anywhere() -> Result<()> {
    let name = unique("app");
    let from = with_cron_in(&name, None).await?;
    from.psql(&name, "create extension pg_cron; create extension rotator; select rotator.create_tenant('acme', 'Acme GmbH', 'UTC')")?;
    let scratch = Scratch::new("dump-no-cron")?;
    let [file, list] = ["dump", "list"].map(|file| scratch.join(file).display().to_string());
    from.tool("pg_dump", &["-Fc", "-f", &file, &name])?;
    let copy = TestDb::bare_in(Arc::new(from)).await?;
    let refused = copy
        .cluster
        .tool("pg_restore", &["--exit-on-error", "-d", &copy.name, &file]);
    ensure!(refused.is_err_and(|error| {
        error
            .to_string()
            .contains("can only create extension in database")
    }));

    let copy = TestDb::bare_in(copy.cluster.clone()).await?;
    let all = copy.cluster.tool("pg_restore", &["--list", &file])?;
    let kept: Vec<&str> = all
        .lines()
        .filter(|line| !line.contains(" pg_cron") && !line.contains(" cron "))
        .collect();
    ensure!(kept.len() < all.lines().count());
    std::fs::write(&list, kept.join("\n"))?;
    copy.cluster.tool(
        "pg_restore",
        &[
            "--exit-on-error",
            "--use-list",
            &list,
            "-d",
            &copy.name,
            &file,
        ],
    )?;
    ensure!(text(&copy.admin, "select count(*) from rotator_internal.tenant").await? == "1");
    Ok(())
}
