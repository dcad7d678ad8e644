//! What Slack's failures mean: which are tried again, after how long, which are final, and what is kept of each
//! attempt. No answer at all, cut off, too slow, too long: `vendors`.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{Sidecar, scalar};
use uuid::Uuid;

use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

/// Dana is told in a channel (or by `recipient`) and Slack answers so; the notification after the first attempt.
async fn after(
    answer: Answer,
    recipient: &str,
    state: &str,
) -> Result<(Acme, StandIn, Sidecar, Uuid)> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(answer);
    let sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", recipient).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes_within(secret, state, Duration::from_secs(40))
        .await?;
    Ok((acme, slack, sidecar, secret))
}

/// After such an answer it is tried again, and then sent; both attempts are kept.
async fn tried_again(answer: Answer, outcome: &str, error: &str) -> Result<()> {
    let (acme, slack, _sidecar, secret) = after(answer, "C0DEPLOYS1", "retry").await?;
    let waiting = acme.notification(secret).await?;
    ensure!(
        waiting.attempts == 1 && waiting.provider_message_id.is_none(),
        "{waiting:?}"
    );
    ensure!(
        waiting
            .last_error
            .as_deref()
            .is_some_and(|text| text.contains(error)),
        "{waiting:?}"
    );
    acme.end_waiting().await?;
    slack.received(2, SOON).await?;
    let sent = acme.becomes(secret, "sent").await?;
    ensure!(sent.id == waiting.id && sent.attempts == 2, "{sent:?}");
    let attempts = acme.attempts(secret).await?;
    ensure!(
        acme.outcomes(secret).await? == [outcome, "sent"],
        "{attempts:?}"
    );
    ensure!(
        attempts[0]
            .error
            .as_deref()
            .is_some_and(|text| text.contains(error)),
        "{attempts:?}"
    );
    ensure!(attempts[0].provider_message_id.is_none());
    ensure!(
        attempts[1].error.is_none() && attempts[1].provider_message_id == sent.provider_message_id
    );
    Ok(())
}

/// After such an answer it is dead, and nobody asks Slack again.
async fn given_up(answer: Answer, recipient: &str, outcome: &str, error: &str) -> Result<()> {
    let (acme, slack, _sidecar, secret) = after(answer, recipient, "dead").await?;
    let dead = acme.notification(secret).await?;
    ensure!(dead.attempts == 1, "{dead:?}");
    ensure!(
        dead.last_error
            .as_deref()
            .is_some_and(|text| text.contains(error)),
        "{dead:?}"
    );
    ensure!(acme.outcomes(secret).await? == [outcome]);
    // Another one is delivered meanwhile, and this one isn't touched. A contact that was gone is set again.
    acme.contact("slack", recipient).await?;
    acme.due("another").await?;
    acme.tick().await?;
    acme.end_waiting().await?;
    slack.received(2, SOON).await?;
    ensure!(acme.notification(secret).await?.attempts == 1);
    Ok(())
}

#[tokio::test]
async fn a_500_is_tried_again() -> Result<()> {
    tried_again(Answer::Status(500), "transient", "HTTP 500").await
}

#[tokio::test]
async fn an_answer_that_is_not_slacks_is_tried_again() -> Result<()> {
    tried_again(Answer::Garbage, "transient", "not its JSON").await
}

#[tokio::test]
async fn ok_false_with_a_passing_error_is_tried_again() -> Result<()> {
    tried_again(
        Answer::NotOk("internal_error"),
        "transient",
        "internal_error",
    )
    .await
}

#[tokio::test]
async fn ok_false_with_a_final_error_is_dead() -> Result<()> {
    given_up(
        Answer::NotOk("token_revoked"),
        "C0DEPLOYS1",
        "permanent",
        "token_revoked",
    )
    .await
}

#[tokio::test]
async fn a_channel_that_is_gone_is_dead() -> Result<()> {
    given_up(
        Answer::NotOk("is_archived"),
        "C0DEPLOYS1",
        "recipient_gone",
        "is_archived",
    )
    .await
}

#[tokio::test]
async fn a_webhook_that_is_gone_is_dead() -> Result<()> {
    let webhook = "https://hooks.slack.com/services/T024BE7LD/B1H9RESUF/xyzzyPlugh";
    given_up(
        Answer::NotOk("no_service"),
        webhook,
        "recipient_gone",
        "HTTP 404",
    )
    .await
}

/// Seconds from the end of the attempt to the next one.
async fn wait_after_429(seconds: u64) -> Result<f64> {
    let (acme, _slack, _sidecar, secret) =
        after(Answer::RateLimited(seconds), "C0DEPLOYS1", "retry").await?;
    ensure!(acme.outcomes(secret).await? == ["rate_limited"]);
    scalar(
        &acme.db.admin,
        "select extract(epoch from n.available_at - d.finished_at)::float8
         from rotator_internal.notification as n
         join rotator_internal.delivery_attempt as d on d.tenant_id = n.tenant_id and d.notification_id = n.id
         where n.secret_id = $1",
        &[&secret],
    )
    .await
}

#[tokio::test]
async fn retry_after_is_waited_for() -> Result<()> {
    let wait = wait_after_429(120).await?;
    ensure!(
        (119.0..130.0).contains(&wait),
        "the backoff alone is below 10 s: {wait}"
    );
    Ok(())
}

#[tokio::test]
async fn retry_after_beyond_an_hour_is_an_hour() -> Result<()> {
    let wait = wait_after_429(1_000_000).await?;
    ensure!((3595.0..=3601.0).contains(&wait), "{wait}");
    Ok(())
}

#[tokio::test]
async fn without_a_token_it_waits_for_one_and_says_so() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let url = slack.url();
    let mut first = Sidecar::start(&acme.db, &[("ROTATOR_SLACK_URL", &url)]).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    let waiting = acme.becomes(secret, "retry").await?;
    ensure!(
        waiting.last_error.as_deref() == Some("ROTATOR_SLACK_BOT_TOKEN is not set"),
        "{waiting:?}"
    );
    first
        .logged(SOON, "ROTATOR_SLACK_BOT_TOKEN is not set")
        .await?;
    ensure!(first.terminate().await?.success());
    ensure!(slack.requests().is_empty());

    let _second = sidecar(&acme, &slack).await?;
    acme.end_waiting().await?;
    acme.becomes(secret, "sent").await?;
    Ok(())
}

#[tokio::test]
async fn nobody_at_the_other_end_is_tried_again() -> Result<()> {
    let acme = Acme::new().await?;
    let slack = StandIn::start().await?;
    let sidecar = sidecar(&acme, &slack).await?;
    drop(slack); // the port is closed from now on
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    let waiting = acme.becomes(secret, "retry").await?;
    ensure!(
        waiting
            .last_error
            .is_some_and(|error| !error.contains("127.0.0.1"))
    );
    drop(sidecar);
    Ok(())
}
