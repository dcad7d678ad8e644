//! A dead destination costs others nothing: after five failures in a row it is left alone for a while, what waits for it
//! waits in the database, and those that hang hold no slot for long. The rules one by one: the sidecar's `circuit.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{scalar, until};

use crate::metrics::scrape;
use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

/// One reminder each to as many owners with a channel of their own, all in one tick.
async fn due_to_each(acme: &Acme, prefix: &str, count: usize) -> Result<()> {
    let sql = format!(
        "select rotator.set_contact('{prefix}' || n, 'slack', 'C0{prefix}' || lpad(n::text, 4, '0')) from generate_series(1, {count}) as n;
         select rotator.register_secret('{prefix} ' || n, expiry_date => now() + interval '5 days', owner_id => '{prefix}' || n)
         from generate_series(1, {count}) as n"
    );
    acme.operator.batch_execute(&sql).await?;
    acme.tick().await?;
    Ok(())
}

async fn sent_to(acme: &Acme, prefix: &str) -> Result<i64> {
    let sql = "select count(*) from rotator.notifications where state = 'sent' and addressee ^@ $1";
    scalar(&acme.operator, sql, &[&prefix]).await
}

#[tokio::test]
async fn what_fails_five_times_in_a_row_is_left_alone_and_found_again() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_always(Answer::Status(503));
    let sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    // A tick each: else it would be one message about all.
    for number in 0..8 {
        acme.due(&format!("key {number}")).await?;
        acme.tick().await?;
    }
    sidecar
        .logged(SOON, "a destination fails again and again")
        .await?;
    let held = "select count(*) from rotator.notifications
        where attempts = 0 and last_error = 'held back, since its destination fails: Slack: HTTP 503'";
    until(SOON, "the rest to be held back", async || {
        acme.end_waiting().await?;
        Ok(scalar::<i64>(&acme.operator, held, &[]).await? >= 3)
    })
    .await?;
    ensure!(
        slack.requests().len() == 5,
        "{} were sent",
        slack.requests().len()
    );
    let page = scrape(&sidecar.address).await?;
    ensure!(page.get("rotator_open_circuits") == Some(1.0));
    ensure!(
        page.get("rotator_postponed_total")
            .is_some_and(|count| count >= 3.0)
    );
    let attempts: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.delivery_attempt where finished_at is not null",
        &[],
    )
    .await?;
    ensure!(attempts == 5, "{attempts}");

    // It works again, and one message finds out.
    slack.answer_always(Answer::Ok);
    until(Duration::from_secs(60), "all to be sent", async || {
        acme.end_waiting().await?;
        acme.db
            .admin
            .batch_execute("update rotator_internal.notification set available_at = now() where state = 'queued'")
            .await?;
        Ok(acme.count("sent").await? == 8)
    })
    .await?;
    sidecar
        .logged(SOON, "a destination that had failed works again")
        .await?;
    ensure!(scrape(&sidecar.address).await?.get("rotator_open_circuits") == Some(0.0));
    Ok(())
}

#[tokio::test]
async fn a_hundred_that_hang_hold_up_nobody() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_when("C0DEAD", Answer::Never);
    let _sidecar = sidecar(&acme, &slack).await?;
    due_to_each(&acme, "DEAD", 100).await?;
    slack.received(20, SOON).await?;
    due_to_each(&acme, "LIVE", 100).await?;
    // Sooner than any of the hanging ones has timed out.
    until(
        Duration::from_secs(10),
        "the others to be sent",
        async || Ok(sent_to(&acme, "LIVE").await? == 100),
    )
    .await?;
    let ended: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.delivery_attempt where finished_at is not null and outcome <> 'sent'",
        &[],
    )
    .await?;
    ensure!(ended == 0, "they still hang");
    slack.received(200, Duration::from_secs(15)).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_behind_a_hanging_one_waits_in_the_database() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_when("C0HANGS99", Answer::Never);
    let sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0HANGS99").await?;
    for number in 0..3 {
        acme.due(&format!("key {number}")).await?;
        acme.tick().await?;
    }
    let waits = "select count(*) from rotator.notifications where state = 'queued' and attempts = 0
        and last_error = 'held back, since its destination takes long to answer'";
    until(SOON, "two to be held back", async || {
        Ok(scalar::<i64>(&acme.operator, waits, &[]).await? == 2)
    })
    .await?;
    ensure!(slack.requests().len() == 1, "one finds out");
    ensure!(
        scrape(&sidecar.address)
            .await?
            .get("rotator_deliveries_in_flight")
            == Some(1.0)
    );
    Ok(())
}

/// Slack takes about one message a second in a channel, and short bursts.
#[tokio::test]
async fn a_channel_gets_its_messages_at_slacks_pace() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    acme.contact("slack", "C0DEPLOYS1").await?;
    for number in 0..14 {
        acme.due(&format!("key {number}")).await?;
        acme.tick().await?;
    }
    let _sidecar = sidecar(&acme, &slack).await?;
    let requests = slack.received(14, SOON).await?;
    let from_first = |number: usize| (requests[number].at - requests[0].at).as_secs_f64();
    ensure!(from_first(9) < 2.0, "ten go at once: {}", from_first(9));
    let fourth = from_first(13);
    ensure!((3.5..15.0).contains(&fourth), "then one a second: {fourth}");
    Ok(())
}
