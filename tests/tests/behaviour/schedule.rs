//! `enable_schedule`: what it needs, what it says when that is missing, and that pg_cron then really ticks.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, refused, scalar, until};
use serde_json::json;

use crate::seed::{Acme, register, rows};

#[tokio::test]
async fn without_pg_cron_it_says_what_to_do() -> Result<()> {
    let acme = Acme::new().await?;
    let refusal = refused(
        acme.operator
            .query("select rotator.enable_schedule()", &[])
            .await,
        "55000",
    )?;
    ensure!(
        refusal.message().contains("pg_cron")
            && refusal
                .hint()
                .is_some_and(|hint| hint.contains("create extension pg_cron"))
    );
    // Nothing to disable is no error.
    acme.operator
        .execute("select rotator.disable_schedule()", &[])
        .await?;
    let error = acme
        .editor
        .query("select rotator.enable_schedule()", &[])
        .await
        .expect_err("not for members");
    ensure!(error.code().is_some_and(|code| code.code() == "42501"));
    Ok(())
}

#[tokio::test]
async fn pg_cron_ticks_every_minute_as_whoever_enabled_it() -> Result<()> {
    let db = TestDb::with_pg_cron().await?;
    db.tenant("acme").await?;
    let editor = db.session("acme", "editor").await?;
    let role = db.login_role("operator", &["rotator_admin"]).await?;
    let operator = db.connect_as(&role).await?;

    let refusal = refused(
        operator
            .query("select rotator.enable_schedule()", &[])
            .await,
        "42501",
    )?;
    ensure!(
        refusal.hint().is_some_and(
            |hint| hint.contains(&format!("grant usage on schema cron to {}", role.name))
        ),
        "{refusal:?}"
    );
    db.admin
        .batch_execute(&format!("grant usage on schema cron to {}", role.name))
        .await?;

    // As a role that can't log in pg_cron's job would fail each minute, silently.
    db.admin
        .batch_execute("grant usage on schema cron to rotator_admin")
        .await?;
    operator.batch_execute("set role rotator_admin").await?;
    let refusal = refused(
        operator
            .query("select rotator.enable_schedule()", &[])
            .await,
        "55000",
    )?;
    ensure!(
        refusal.message().contains("log in"),
        "{}",
        refusal.message()
    );
    operator.batch_execute("reset role").await?;

    for schedule in ["null", "'now and then'", "'61 * * * *'"] {
        let outcome = operator
            .query(&format!("select rotator.enable_schedule({schedule})"), &[])
            .await;
        refused(outcome, "22023").map_err(|error| error.context(schedule))?;
    }

    operator
        .execute("select rotator.enable_schedule('0 4 * * *')", &[])
        .await?;
    operator
        .execute("select rotator.enable_schedule()", &[])
        .await?;
    assert_eq!(
        rows(
            &operator,
            "select jobname, schedule, command, username, active from cron.job"
        )
        .await?,
        json!([{"jobname": "rotator-tick", "schedule": "* * * * *", "command": "call rotator.run_tick()",
            "username": role.name, "active": true}]),
        "a second call replaces the first"
    );

    register(
        &editor,
        "stripe",
        "expiry_date => now() + interval '5 days'",
    )
    .await?;
    until(Duration::from_secs(100), "pg_cron to tick", async || {
        Ok(scalar::<i64>(&editor, "select count(*) from rotator.notifications", &[]).await? == 1)
    })
    .await?;
    until(
        Duration::from_secs(10),
        "the run to be recorded",
        async || {
            let status = "select count(*) from cron.job_run_details where status = 'succeeded'";
            Ok(scalar::<i64>(&db.admin, status, &[]).await? >= 1)
        },
    )
    .await?;

    operator
        .execute("select rotator.disable_schedule()", &[])
        .await?;
    assert_eq!(
        rows(&operator, "select jobname from cron.job").await?,
        json!([])
    );
    Ok(())
}
