//! How long a channel is tried before another one must do: by the urgency of what it is about, three times at least. What
//! was only held back because its destination fails counts as no attempt, and has the same time.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fallback::{contact, dana};
use crate::seed::{Acme, Claim};

/// One reminder to Slack of this priority, and a mailbox besides.
async fn queued(priority: &str) -> Result<Acme> {
    let (acme, _) = dana(&[("slack", "C0DEPLOYS1"), ("email", "dana@acme.example")]).await?;
    acme.db
        .admin
        .execute(
            "update rotator_internal.secret set priority = $1",
            &[&priority],
        )
        .await?;
    Ok(acme)
}

async fn queued_ago(acme: &Acme, ago: &str) -> Result<()> {
    let sql =
        format!("update rotator_internal.notification set queued_at = now() - interval '{ago}'");
    acme.db.admin.batch_execute(&sql).await?;
    Ok(())
}

async fn tries(acme: &Acme, count: usize) -> Result<()> {
    for _ in 0..count {
        acme.fail(&acme.claim_one().await?, "transient").await?;
        acme.end_waiting().await?;
    }
    Ok(())
}

async fn state(acme: &Acme) -> Result<String> {
    let sql = "select state from rotator_internal.notification where channel = 'slack' and fallback_of is null";
    scalar(&acme.db.admin, sql, &[]).await
}

#[tokio::test]
async fn a_channel_has_its_time_by_priority_and_then_another_one_must_do() -> Result<()> {
    for (priority, within, after) in [
        ("P1", "9 minutes", "11 minutes"),
        ("P2", "59 minutes", "61 minutes"),
        ("P3", "239 minutes", "241 minutes"),
        ("P4", "719 minutes", "721 minutes"),
    ] {
        let acme = queued(priority).await?;
        queued_ago(&acme, within).await?;
        tries(&acme, 3).await?;
        assert_eq!(state(&acme).await?, "retry", "{priority}");
        queued_ago(&acme, after).await?;
        tries(&acme, 1).await?;
        assert_eq!(state(&acme).await?, "dead", "{priority}");
        assert_eq!(acme.claim_one().await?.channel, "email", "{priority}");
    }
    Ok(())
}

#[tokio::test]
async fn three_attempts_are_made_however_late_it_is() -> Result<()> {
    let acme = queued("P1").await?;
    queued_ago(&acme, "3 days").await?;
    tries(&acme, 2).await?;
    assert_eq!(state(&acme).await?, "retry");
    tries(&acme, 1).await?;
    assert_eq!(state(&acme).await?, "dead");
    Ok(())
}

#[tokio::test]
async fn the_last_attempt_comes_at_the_end_of_its_time_unless_the_vendor_asks_for_more()
-> Result<()> {
    let acme = queued("P1").await?;
    tries(&acme, 8).await?;
    queued_ago(&acme, "595 seconds").await?;
    let wait = "select extract(epoch from available_at - clock_timestamp())::float8 from rotator_internal.notification where fallback_of is null";
    acme.fail(&acme.claim_one().await?, "transient").await?;
    let seconds: f64 = scalar(&acme.db.admin, wait, &[]).await?;
    ensure!(
        seconds <= 5.0,
        "its backoff alone is up to 20 minutes: {seconds}"
    );
    acme.end_waiting().await?;
    let claim = acme.claim_one().await?;
    acme.worker
        .execute(
            "select rotator.fail_notification($1, $2, 'slow down', 'rate_limited', '90 seconds')",
            &[&claim.id, &claim.claim_id],
        )
        .await?;
    let seconds: f64 = scalar(&acme.db.admin, wait, &[]).await?;
    ensure!((85.0..=91.0).contains(&seconds), "{seconds}");
    Ok(())
}

#[tokio::test]
async fn a_lost_worker_s_attempts_have_the_same_time() -> Result<()> {
    let acme = queued("P1").await?;
    queued_ago(&acme, "11 minutes").await?;
    for _ in 0..3 {
        assert_eq!(acme.claim_one().await?.channel, "slack");
        acme.end_waiting().await?;
    }
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(state(&acme).await?, "dead");
    assert_eq!(acme.claim_one().await?.channel, "email");
    Ok(())
}

async fn postpone(acme: &Acme, claim: &Claim, claim_id: Uuid, wait: &str) -> Result<i32> {
    let claims = json!([{"id": claim.id.to_string(), "claim_id": claim_id.to_string(), "wait": wait, "error": "held back"}]);
    scalar(
        &acme.worker,
        "select rotator.postpone_notifications($1)",
        &[&claims],
    )
    .await
}

#[tokio::test]
async fn what_is_held_back_waits_and_counts_as_no_attempt() -> Result<()> {
    let acme = queued("P3").await?;
    let claim = acme.claim_one().await?;
    assert_eq!(
        postpone(&acme, &claim, Uuid::nil(), "30").await?,
        0,
        "not theirs"
    );
    assert_eq!(postpone(&acme, &claim, claim.claim_id, "30").await?, 1);
    let row = "select state, attempts, last_error, extract(epoch from available_at - clock_timestamp()) between 25 and 30 as waits
        from rotator_internal.notification";
    let row: Value = crate::seed::rows(&acme.db.admin, row).await?;
    assert_eq!(
        row,
        json!([{"state": "queued", "attempts": 0, "last_error": "held back", "waits": true}])
    );
    let attempts: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.delivery_attempt",
        &[],
    )
    .await?;
    assert_eq!(attempts, 0);
    let before = acme.fingerprint().await?;
    assert_eq!(
        postpone(&acme, &claim, claim.claim_id, "30").await?,
        1,
        "a repeat"
    );
    assert_eq!(acme.fingerprint().await?, before);
    acme.end_waiting().await?;
    assert_eq!(acme.claim_one().await?.attempt, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_held_back_for_too_long_falls_back_without_an_attempt() -> Result<()> {
    let acme = queued("P1").await?;
    let claim = acme.claim_one().await?;
    queued_ago(&acme, "11 minutes").await?;
    assert_eq!(postpone(&acme, &claim, claim.claim_id, "600").await?, 1);
    assert_eq!(state(&acme).await?, "dead");
    assert_eq!(acme.claim_one().await?.channel, "email");
    Ok(())
}

#[tokio::test]
async fn claims_that_are_none_are_refused() -> Result<()> {
    let acme = queued("P3").await?;
    let claim = acme.claim_one().await?;
    let id = claim.id.to_string();
    for claims in [
        json!(null),
        json!({}),
        json!([1]),
        json!([{"id": "x"}]),
        json!([{"id": id, "claim_id": claim.claim_id.to_string(), "wait": "soon"}]),
    ] {
        let outcome = acme
            .worker
            .query("select rotator.postpone_notifications($1)", &[&claims])
            .await;
        refused(outcome, "22023").map_err(|error| error.context(claims.to_string()))?;
    }
    Ok(())
}

#[tokio::test]
async fn tests_have_twelve_attempts_and_no_other_limit() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "dana", "slack", "C0DEPLOYS1").await?;
    acme.operator
        .execute(
            "select rotator.test_notification('slack', 'C0DEPLOYS1')",
            &[],
        )
        .await?;
    queued_ago(&acme, "3 days").await?;
    tries(&acme, 11).await?;
    assert_eq!(state(&acme).await?, "retry");
    Ok(())
}
