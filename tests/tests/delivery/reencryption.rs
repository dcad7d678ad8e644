//! Where nobody else re-encrypts (no pg_cron, or it stopped), the sidecar does: in the background, killed and gone on with,
//! several at once, and never in the way of deliveries. By hand: `cli_reencrypt.rs`. Who ticks: `tick.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::exposition::Exposition;
use rotator_tests::sidecar::http;
use rotator_tests::{Sidecar, until};

use crate::cli_reencrypt::{all_read, last_rotation, rotated, rows_under};
use crate::outbox::Desk;
use crate::seed::{Acme, SOON};

/// Rounds of batches with their rests, on a busy machine.
const DONE: Duration = Duration::from_secs(60);

async fn starts(acme: &Acme) -> Result<Sidecar> {
    Sidecar::start(&acme.db, &[]).await
}

async fn figure(sidecar: &Sidecar, name: &str) -> Result<Option<f64>> {
    let answer = http().get(sidecar.url("/metrics")).send().await?;
    Ok(Exposition::read(&answer.text().await?)?.get(name))
}

/// Waits until acme's last rotation is completed, with this many rows, each counted once.
async fn completes(acme: &Acme, rows: i64) -> Result<()> {
    until(DONE, "the rotation to be completed", async || {
        Ok(last_rotation(acme).await?.0 == "completed")
    })
    .await?;
    let (_, total, done, failed) = last_rotation(acme).await?;
    ensure!(
        (total, done, failed) == (rows, rows, 0),
        "{total} {done} {failed}"
    );
    ensure!(rows_under(acme, 1).await? == 0 && rows_under(acme, 2).await? == rows);
    Ok(())
}

/// Waits until some rows are done, and gives how many.
async fn is_under_way(acme: &Acme) -> Result<i64> {
    until(DONE, "the first rows", async || {
        Ok(last_rotation(acme).await?.2 > 0)
    })
    .await?;
    Ok(last_rotation(acme).await?.2)
}

/// Whoever ticked last did so two minutes ago.
async fn nobody_ticks(acme: &Acme) -> Result<()> {
    let sql = "update rotator_internal.heartbeat set last_tick_at = now() - interval '2 minutes'";
    Ok(acme.db.admin.batch_execute(sql).await?)
}

#[tokio::test]
async fn where_nobody_ticks_it_re_encrypts_and_counts_the_rows() -> Result<()> {
    let acme = rotated(600).await?;
    let sidecar = starts(&acme).await?;
    completes(&acme, 600).await?;
    all_read(&acme, 600).await?;
    until(SOON, "the figures to be final", async || {
        Ok(
            figure(&sidecar, "rotator_reencrypted_rows_total").await? == Some(600.0)
                && figure(&sidecar, "rotator_reencrypt_remaining").await? == Some(0.0),
        )
    })
    .await?;
    sidecar.logged(SOON, "re-encrypted").await?;
    Ok(())
}

#[tokio::test]
async fn killed_in_the_middle_the_next_one_goes_on() -> Result<()> {
    let acme = rotated(3_000).await?;
    let mut first = starts(&acme).await?;
    is_under_way(&acme).await?;
    first.kill().await?;
    let (status, total, done, _) = last_rotation(&acme).await?;
    ensure!(status == "running" && total == 3_000 && done < 3_000);
    nobody_ticks(&acme).await?;
    let second = starts(&acme).await?;
    completes(&acme, 3_000).await?;
    let rest = figure(&second, "rotator_reencrypted_rows_total").await?;
    // A batch that was under way when the first was killed may have been committed after the look above.
    ensure!(
        rest.is_some_and(|rest| rest > 0.0 && rest <= (3_000 - done) as f64),
        "{rest:?} after {done}"
    );
    all_read(&acme, 3_000).await
}

#[tokio::test]
async fn asked_to_stop_it_stops_after_the_batch_under_way() -> Result<()> {
    let acme = rotated(3_000).await?;
    let mut sidecar = starts(&acme).await?;
    is_under_way(&acme).await?;
    ensure!(sidecar.terminate().await?.code() == Some(0));
    let (status, _, done, _) = last_rotation(&acme).await?;
    ensure!(status == "running" && done < 3_000, "{status} {done}");
    all_read(&acme, 3_000).await
}

#[tokio::test]
async fn several_at_once_take_different_rows() -> Result<()> {
    let acme = rotated(1_500).await?;
    let (first, second) = tokio::try_join!(starts(&acme), starts(&acme))?;
    completes(&acme, 1_500).await?;
    until(SOON, "the figures to add up", async || {
        let name = "rotator_reencrypted_rows_total";
        let (one, other) = (figure(&first, name).await?, figure(&second, name).await?);
        Ok(one.unwrap_or_default() + other.unwrap_or_default() == 1_500.0)
    })
    .await?;
    all_read(&acme, 1_500).await
}

#[tokio::test]
async fn while_somebody_else_ticks_it_leaves_that_alone_until_they_stop() -> Result<()> {
    let acme = rotated(20).await?;
    acme.tick().await?;
    let _sidecar = starts(&acme).await?;
    // It looks at once and every 15 seconds.
    let looked = until(Duration::from_secs(17), "a row", async || {
        Ok(rows_under(&acme, 2).await? > 0)
    })
    .await;
    ensure!(looked.is_err(), "that is pg_cron's business");
    nobody_ticks(&acme).await?;
    completes(&acme, 20).await
}

#[tokio::test]
async fn deliveries_go_out_while_re_encryption_is_stuck() -> Result<()> {
    let acme = rotated(20).await?;
    for number in 0..5 {
        acme.due(&format!("due-{number}")).await?; // under the new version
    }
    let other = acme.db.superuser().await?;
    other
        .batch_execute("begin; lock table rotator_internal.reencryption in access exclusive mode")
        .await?;
    let desk = Desk::of(acme).await?;
    desk.outbox.received(1).await?; // one owner, one message
    other.batch_execute("rollback").await?;
    until(DONE, "the rotation to be completed", async || {
        Ok(last_rotation(&desk.acme).await?.0 == "completed")
    })
    .await?;
    ensure!(rows_under(&desk.acme, 1).await? == 0);
    Ok(())
}

#[tokio::test]
async fn an_error_is_logged_once_and_ends_nothing() -> Result<()> {
    let acme = rotated(20).await?;
    let grant = |verb: &str, preposition: &str| {
        format!(
            "{verb} execute on function rotator.reencrypt_step(integer) {preposition} rotator_sidecar"
        )
    };
    acme.db
        .admin
        .batch_execute(&grant("revoke", "from"))
        .await?;
    let mut sidecar = starts(&acme).await?;
    sidecar
        .logged(SOON, "re-encryption: permission denied")
        .await?;
    acme.db.admin.batch_execute(&grant("grant", "to")).await?;
    completes(&acme, 20).await?;
    let log = sidecar.log()?;
    ensure!(log.matches("re-encryption: ").count() == 1, "{log}");
    ensure!(log.contains("re-encryption works again"), "{log}");
    sidecar.ready().await
}
