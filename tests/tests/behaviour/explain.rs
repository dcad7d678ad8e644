//! "Why was I (not) told?": what `explain_notifications` says of everything that can become of a notification.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::Acme;

/// Stripe, of priya, who has a mail address; due in five days.
async fn stripe() -> Result<(Acme, Uuid)> {
    let acme = Acme::new().await?;
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'email', 'priya@acme.example')",
            &[],
        )
        .await?;
    let id = acme
        .register(
            "stripe",
            "owner_id => 'priya', expiry_date => now() + interval '5 days', rotation_interval => '90 days'",
        )
        .await?;
    Ok((acme, id))
}

/// `sent lead:7` for each line, in their order.
async fn outcomes(acme: &Acme, id: &Uuid) -> Result<Vec<String>> {
    let sql = "select coalesce(array_agg(outcome || ' ' || rule), '{}') from rotator.explain_notifications($1)";
    scalar(&acme.editor, sql, &[id]).await
}

/// What the line with that outcome says.
async fn detail(acme: &Acme, id: &Uuid, outcome: &str) -> Result<String> {
    let sql = "select coalesce(min(detail), '') from rotator.explain_notifications($1) where outcome = $2";
    scalar(&acme.editor, sql, &[id, &outcome]).await
}

#[tokio::test]
async fn what_was_sent_each_attempt_and_what_was_skipped() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.tick().await?;
    let queued: Value = scalar(
        &acme.editor,
        "select to_jsonb(e) - 'at' from rotator.explain_notifications($1) as e where outcome = 'queued'",
        &[&id],
    )
    .await?;
    assert_eq!(
        queued,
        json!({"kind": "reminder", "channel": "email", "recipient_hint": "…@acme.example", "outcome": "queued",
               "rule": "lead:7", "detail": "it waits for a worker"})
    );
    let first = acme.claim_one().await?;
    ensure!(detail(&acme, &id, "leased").await?.contains("attempt 1"));
    ensure!(acme.fail(&first, "timeout").await?);
    assert_eq!(
        detail(&acme, &id, "timeout").await?,
        "attempt 1: it did not work"
    );
    assert_eq!(
        detail(&acme, &id, "retry").await?,
        "it is tried again then: it did not work"
    );
    acme.end_waiting().await?;
    let second = acme.claim_one().await?;
    ensure!(acme.complete(&second).await?);
    assert_eq!(
        outcomes(&acme, &id).await?,
        ["skipped lead:14", "timeout lead:7", "sent lead:7"]
    );
    assert_eq!(detail(&acme, &id, "sent").await?, "at attempt 2");
    assert_eq!(
        detail(&acme, &id, "skipped").await?,
        "a more urgent one, due as well by then, spoke for it"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_cancelled_says_why() -> Result<()> {
    for (sql, why) in [
        ("select rotator.mark_rotated($1)", "it was rotated before"),
        (
            "select rotator.retire_secret($1)",
            "the secret was retired before",
        ),
        (
            "select rotator.snooze($1, now() + interval '1 day', 'tomorrow')",
            "the secret is snoozed until ",
        ),
        (
            "update rotator.secrets set expiry_date = now() + interval '1 year' where id = $1",
            "its cause was gone before",
        ),
    ] {
        let (acme, id) = stripe().await?;
        acme.tick().await?;
        acme.editor.execute(sql, &[&id]).await?;
        let said = detail(&acme, &id, "cancelled").await?;
        ensure!(said.starts_with(why), "{sql}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_suppressed_names_who_had_taken_it_on() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.complete(&claim).await?);
    acme.editor
        .execute(
            "select rotator.acknowledge($1, until => now() + interval '5 days')",
            &[&id],
        )
        .await?;
    acme.tick_at("now() + interval '4 days 1 hour'").await?;
    assert_eq!(
        outcomes(&acme, &id).await?.last().map(String::as_str),
        Some("suppressed lead:1")
    );
    let said = detail(&acme, &id, "suppressed").await?;
    ensure!(said.starts_with("somebody had taken it on: "), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_was_told_together_with_others() -> Result<()> {
    let (acme, id) = stripe().await?;
    for name in ["github", "done"] {
        acme.register(
            name,
            "owner_id => 'priya', expiry_date => now() + interval '6 days', rotation_interval => '90 days'",
        )
        .await?;
    }
    acme.tick().await?;
    assert_eq!(
        detail(&acme, &id, "merged").await?,
        "one message with 2 others, not sent yet"
    );
    acme.editor
        .execute(
            "select rotator.acknowledge(id) from rotator.secrets where name = 'done'",
            &[],
        )
        .await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.complete(&claim).await?);
    let said = detail(&acme, &id, "merged").await?;
    ensure!(
        said.contains(" others, sent ") || said.contains(" other, sent "),
        "{said}"
    );
    assert_eq!(
        outcomes(&acme, &id).await?,
        ["skipped lead:14", "merged lead:7"]
    );
    Ok(())
}

#[tokio::test]
async fn what_waited_for_the_hours_or_gave_way_there() -> Result<()> {
    let (acme, _) = stripe().await?;
    let hours = json!({"days": ["mon"], "from": "09:00", "to": "17:00"});
    acme.operator
        .execute("select rotator.set_delivery_window($1)", &[&hours])
        .await?;
    // It expires on a Friday: seven days before is a Friday, five a Sunday, and both wait for Monday, 3 February.
    let id = acme
        .register(
            "later",
            "owner_id => 'priya', expiry_date => '2031-02-07 12:00+00'",
        )
        .await?;
    for lead in [7, 5] {
        acme.operator
            .execute(
                "select rotator.add_notification_policy($1, secret_id => $2)",
                &[&lead, &id],
            )
            .await?;
    }
    acme.editor
        .execute(
            "select rotator.retire_secret(id) from rotator.secrets where name = 'stripe'",
            &[],
        )
        .await?;
    for time in ["01-31 12:01", "02-02 12:01"] {
        acme.tick_at(&format!("'2031-{time}+00'")).await?;
    }
    let waits = "outside the delivery window; it opens Mon 3 Feb 2031, 09:00 (UTC)";
    assert_eq!(detail(&acme, &id, "deferred").await?, waits);
    acme.tick_at("'2031-02-03 09:00+00'").await?;
    let mut found = outcomes(&acme, &id).await?;
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "deferred lead:5",
            "deferred lead:7",
            "queued lead:5",
            "suppressed lead:7"
        ]
    );
    assert_eq!(
        detail(&acme, &id, "suppressed").await?,
        "a more urgent reminder of this secret went to the same recipient"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_given_up_and_what_took_its_place() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'slack', 'C0PRIYA123')",
            &[],
        )
        .await?;
    acme.operator
        .execute(
            "select rotator.add_notification_policy(7, 'slack', secret_id => $1)",
            &[&id],
        )
        .await?;
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    assert_eq!(claim.channel, "slack");
    ensure!(acme.fail(&claim, "permanent").await?);
    assert_eq!(
        detail(&acme, &id, "dead").await?,
        "given up after 1 attempt: it did not work"
    );
    let said = detail(&acme, &id, "queued").await?;
    assert_eq!(
        said,
        "in place of slack C…123, which failed; it waits for a worker"
    );
    Ok(())
}
