//! How attempts end and what follows: sent, tried again after a wait, given up, withdrawn. Claims and leases are in
//! `outbox`.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::outbox::{STATE, attempts, queued};
use crate::seed::Acme;

#[tokio::test]
async fn failures_wait_between_a_second_and_an_hour_and_as_long_as_the_vendor_asks() -> Result<()> {
    let acme = queued().await?;
    for (reason, retry_after, at_least, at_most) in [
        ("transient", None, 1, 3600),
        ("timeout", Some("0 seconds"), 1, 3600),
        ("rate_limited", Some("-1 hour"), 1, 3600),
        ("rate_limited", Some("20 minutes"), 1200, 3600),
        ("transient", Some("5 hours"), 3600, 3600),
        ("transient", Some("3600 seconds"), 3600, 3600),
    ] {
        let claim = acme.claim_one().await?;
        let accepted: bool = scalar(
            &acme.worker,
            "select rotator.fail_notification($1, $2, 'no', $3, $4::text::interval)",
            &[&claim.id, &claim.claim_id, &reason, &retry_after],
        )
        .await?;
        ensure!(accepted);
        let wait: i32 = scalar(
            &acme.db.admin,
            "select ceil(extract(epoch from available_at - clock_timestamp()))::integer from rotator_internal.notification",
            &[],
        )
        .await?;
        // What has passed since then is a second or two at most.
        ensure!(
            (at_least - 2..=at_most).contains(&wait),
            "{reason} {retry_after:?}: {wait} s"
        );
        if at_least >= 1200 {
            assert_eq!(acme.claim().await?.len(), 0, "not before its time");
        }
        acme.end_waiting().await?;
    }
    Ok(())
}

#[tokio::test]
async fn backoff_grows_and_is_spread() -> Result<()> {
    let acme = queued().await?;
    let mut waits = Vec::new();
    for _ in 1..12 {
        let claim = acme.claim_one().await?;
        acme.fail(&claim, "transient").await?;
        let wait: f64 = scalar(
            &acme.db.admin,
            "select extract(epoch from available_at - clock_timestamp())::float8 from rotator_internal.notification",
            &[],
        )
        .await?;
        ensure!(wait <= 3600.0, "{wait}");
        waits.push(wait);
        acme.end_waiting().await?;
    }
    let (first, last): (f64, f64) = (waits[..3].iter().sum(), waits[8..].iter().sum());
    ensure!(last > first, "later waits are longer: {waits:?}");
    Ok(())
}

#[tokio::test]
async fn it_is_given_up_after_twelve_attempts() -> Result<()> {
    let acme = queued().await?;
    for attempt in 1..=12 {
        let claim = acme.claim_one().await?;
        assert_eq!(claim.attempt, attempt);
        acme.fail(&claim, "transient").await?;
        acme.end_waiting().await?;
    }
    assert_eq!(
        acme.rows(&format!("{STATE} where fallback_of is null"))
            .await?,
        json!([{"state": "dead", "attempts": 12, "last_error": "it did not work", "provider_message_id": null, "sent": false}])
    );
    assert_eq!(attempts(&acme).await?.as_array().map(Vec::len), Some(12));
    only_the_desk_is_told(&acme).await
}

#[tokio::test]
async fn a_worker_lost_at_the_last_attempt_leaves_it_dead_not_stuck() -> Result<()> {
    let acme = queued().await?;
    for _ in 1..=12 {
        acme.claim_one().await?;
        acme.end_waiting().await?;
    }
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        acme.rows("select state, attempts from rotator.notifications where fallback_of is null")
            .await?,
        json!([{"state": "dead", "attempts": 12}])
    );
    only_the_desk_is_told(&acme).await
}

#[tokio::test]
async fn final_reasons_are_final_and_others_are_no_reasons() -> Result<()> {
    for reason in ["permanent", "recipient_gone"] {
        let acme = queued().await?;
        let claim = acme.claim_one().await?;
        for nonsense in ["because", "", "Permanent"] {
            let outcome = acme
                .worker
                .query(
                    "select rotator.fail_notification($1, $2, 'no', $3)",
                    &[&claim.id, &claim.claim_id, &nonsense],
                )
                .await;
            refused(outcome, "22023")?;
        }
        let outcome = acme
            .worker
            .query(
                "select rotator.fail_notification($1, $2, 'no', null)",
                &[&claim.id, &claim.claim_id],
            )
            .await;
        refused(outcome, "22023")?;
        ensure!(acme.fail(&claim, reason).await?);
        assert_eq!(
            acme.rows("select state from rotator.notifications where fallback_of is null and kind = 'reminder'")
                .await?,
            json!([{"state": "dead"}])
        );
        assert_eq!(attempts(&acme).await?, json!([[1, reason]]));
        acme.end_waiting().await?;
        let claims = acme.claim().await?;
        ensure!(claims.iter().all(|claim| claim.channel == "console"));
    }
    Ok(())
}

#[tokio::test]
async fn many_outcomes_are_told_in_one_call() -> Result<()> {
    let acme = Acme::new().await?;
    for number in 0..4 {
        // An owner each: what goes to one place in one tick is one message.
        let with =
            format!("expiry_date => now() + interval '5 days', owner_id => 'owner {number}'");
        acme.register(&format!("key {number}"), &with).await?;
    }
    acme.tick().await?;
    let claims = acme.claim().await?;
    let results = json!([
        {"id": claims[0].id.to_string(), "claim_id": claims[0].claim_id.to_string(), "ok": true, "provider_message_id": "m-1"},
        {"id": claims[1].id.to_string(), "claim_id": claims[1].claim_id.to_string(), "ok": false, "error": "slow", "reason": "rate_limited", "retry_after": 1800},
        {"id": claims[2].id.to_string(), "claim_id": claims[2].claim_id.to_string(), "ok": false, "error": "gone", "reason": "recipient_gone"},
        {"id": claims[3].id.to_string(), "claim_id": Uuid::nil().to_string(), "ok": true},
    ]);
    let accepted = acme
        .worker
        .query(
            "select id, accepted from rotator.complete_notifications($1)",
            &[&results],
        )
        .await?;
    let accepted: BTreeSet<(Uuid, bool)> = accepted
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let expected = claims
        .iter()
        .enumerate()
        .map(|(number, claim)| (claim.id, number != 3))
        .collect();
    assert_eq!(accepted, expected);
    let mut states: Vec<(Uuid, String)> = Vec::new();
    for row in acme
        .editor
        .query("select id, state from rotator.notifications", &[])
        .await?
    {
        states.push((row.get(0), row.get(1)));
    }
    for (claim, state) in claims.iter().zip(["sent", "retry", "dead", "leased"]) {
        ensure!(
            states.contains(&(claim.id, state.to_owned())),
            "{state}: {states:?}"
        );
    }
    let wait: bool = scalar(
        &acme.db.admin,
        "select available_at > now() + interval '29 minutes' from rotator_internal.notification where state = 'retry'",
        &[],
    )
    .await?;
    ensure!(wait, "a bare number is seconds");
    Ok(())
}

#[tokio::test]
async fn outcomes_that_make_no_sense_are_refused_as_a_whole() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    let good =
        json!({"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": true});
    let before = acme.fingerprint().await?;
    let with = |key: &str, value: Value| {
        let mut bad = json!({"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": false, "error": "no", "reason": "transient"});
        bad[key] = value;
        json!([good, bad])
    };
    for results in [
        json!({}),
        json!("x"),
        with("reason", json!("because")),
        with("reason", json!(null)),
    ] {
        let outcome = acme
            .worker
            .query(
                "select * from rotator.complete_notifications($1)",
                &[&results],
            )
            .await;
        refused(outcome, "22023").map_err(|error| error.context(results.to_string()))?;
    }
    // What is no outcome at all is refused by PostgreSQL's own JSON functions.
    for results in [
        json!([1]),
        json!([good, "x"]),
        with("retry_after", json!("soon")),
        with("id", json!("not-a-uuid")),
        with("ok", json!("perhaps")),
    ] {
        let outcome = acme
            .worker
            .query(
                "select * from rotator.complete_notifications($1)",
                &[&results],
            )
            .await;
        let error = outcome.expect_err("it can't be read");
        ensure!(
            error
                .code()
                .is_some_and(|code| code.code().starts_with("22")),
            "{results}: {error:?}"
        );
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn what_is_withdrawn_while_it_is_sent_is_not_tried_again() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    acme.editor
        .execute("select rotator.mark_rotated(id) from rotator.secrets", &[])
        .await?;
    ensure!(acme.fail(&claim, "transient").await?);
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "cancelled"}])
    );
    Ok(())
}

#[tokio::test]
async fn of_two_results_for_one_claim_in_one_report_the_first_counts() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    let results = json!([
        {"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": true},
        {"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": false, "reason": "permanent"}
    ]);
    let accepted: i64 = scalar(
        &acme.worker,
        "select count(*) filter (where accepted) from rotator.complete_notifications($1)",
        &[&results],
    )
    .await?;
    assert_eq!(accepted, 2);
    let ends =
        "select jsonb_agg(action) from rotator_internal.audit_event where entity = 'notification'";
    assert_eq!(
        scalar::<Value>(&acme.db.admin, ends, &[]).await?,
        json!(["notification.sent"])
    );
    Ok(())
}

/// The operator's console is told instead, see `fallback`, and the owner is not tried again.
async fn only_the_desk_is_told(acme: &Acme) -> Result<()> {
    acme.end_waiting().await?;
    assert_eq!(acme.claim_one().await?.channel, "console");
    Ok(())
}

/// A worker holds the reminder while the date is corrected away and back; then its attempt fails.
#[tokio::test]
async fn a_reminder_that_is_due_again_outlives_the_correction_it_was_withdrawn_by() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme
        .register("stripe", "expiry_date => '2031-01-31 00:00+00'")
        .await?;
    acme.tick_at("'2031-01-24 01:00+00'").await?;
    let held = acme.claim_one().await?;
    for date in ["2031-06-30 00:00+00", "2031-01-31 00:00+00"] {
        acme.editor
            .execute(
                &format!("update rotator.secrets set expiry_date = '{date}' where id = $1"),
                &[&id],
            )
            .await?;
    }
    acme.tick_at("'2031-01-24 01:00+00'").await?;
    acme.fail(&held, "transient").await?;
    acme.tick_at("'2031-01-24 02:00+00'").await?;
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 1, "somebody must be told");
    Ok(())
}
