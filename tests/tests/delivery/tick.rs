//! Where nobody ticks (no pg_cron, or it stopped), the sidecar does; where somebody does, it leaves that alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::slack::StandIn;
use rotator_tests::{TestDb, scalar};

use crate::outbox::Desk;
use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

const LAST_TICK: &str = "select last_tick_at::text from rotator_internal.heartbeat";

#[tokio::test]
async fn where_nobody_ever_ticked_it_ticks_at_start() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    let _sidecar = sidecar(&acme, &slack).await?;
    slack.received(1, SOON).await?;
    acme.becomes(secret, "sent").await?;
    Ok(())
}

#[tokio::test]
async fn when_the_last_tick_is_long_ago_it_ticks() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.tick().await?;
    desk.acme.due("stripe-live").await?;
    // pg_cron stopped two minutes ago.
    desk.acme
        .db
        .admin
        .batch_execute(
            "update rotator_internal.heartbeat set last_tick_at = now() - interval '2 minutes'",
        )
        .await?;
    desk.outbox.received(1).await?;
    let recent: bool = scalar(
        &desk.acme.db.admin,
        "select last_tick_at > now() - interval '1 minute' from rotator_internal.heartbeat",
        &[],
    )
    .await?;
    ensure!(recent);
    Ok(())
}

#[tokio::test]
async fn while_somebody_ticks_it_does_not() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    acme.tick().await?;
    let before: String = scalar(&acme.db.admin, LAST_TICK, &[]).await?;
    let _sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    // It looks at once and every 15 seconds: past the second look nothing was queued.
    let looked = rotator_tests::until(Duration::from_secs(18), "a tick", async || {
        Ok(scalar::<String>(&acme.db.admin, LAST_TICK, &[]).await? != before)
    })
    .await;
    ensure!(looked.is_err(), "that is pg_cron's business");
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;
    Ok(())
}

#[tokio::test]
async fn pg_cron_ticks_and_the_sidecar_delivers() -> Result<()> {
    let acme = Acme::on(TestDb::with_pg_cron().await?, "UTC").await?;
    let slack = StandIn::start().await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.tick().await?;
    let _sidecar = sidecar(&acme, &slack).await?;
    acme.db
        .admin
        .batch_execute(&format!(
            "grant usage on schema cron to {}",
            acme.operator_role.name
        ))
        .await?;
    acme.operator
        .execute("select rotator.enable_schedule()", &[])
        .await?;
    let secret = acme.due("stripe-live").await?;
    // pg_cron counts in minutes; the sidecar would only step in after 75 seconds.
    acme.becomes_within(secret, "sent", Duration::from_secs(70))
        .await?;
    let succeeded: bool = scalar(
        &acme.db.admin,
        "select bool_or(status in ('succeeded', 'running')) from cron.job_run_details where command like '%run_tick%'",
        &[],
    )
    .await?;
    ensure!(succeeded);
    Ok(())
}
