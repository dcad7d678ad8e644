//! Falling back when workers are at odds: reports that are repeated or stale, two that fail at the same moment, one that is
//! lost while another has its hands on the same cause.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::{eventually, scalar};
use serde_json::json;

use crate::fallback::{TOLD, contact, dana};
use crate::seed::{Acme, wait_for_lock};

const PAGER: &str = "0123456789abcdef0123456789abcdef";

/// Dana is told by Slack and PagerDuty at once, and has a mailbox that her policy leaves out.
async fn two_ways() -> Result<Acme> {
    let acme = Acme::new().await?;
    for (channel, recipient) in [
        ("slack", "C0DEPLOYS1"),
        ("pagerduty", PAGER),
        ("email", "dana@acme.example"),
    ] {
        contact(&acme, "dana", channel, recipient).await?;
    }
    acme.operator
        .batch_execute(
            "select rotator.remove_notification_policy(id) from rotator.notification_policies;
             select rotator.add_notification_policy(7, 'slack'), rotator.add_notification_policy(7, 'pagerduty');",
        )
        .await?;
    acme.register(
        "stripe",
        "expiry_date => now() + interval '5 days', owner_id => 'dana'",
    )
    .await?;
    acme.tick().await?;
    Ok(acme)
}

async fn fallbacks(acme: &Acme) -> Result<i64> {
    let sql = "select count(*) from rotator_internal.notification where fallback_of is not null";
    scalar(&acme.db.admin, sql, &[]).await
}

#[tokio::test]
async fn two_that_fail_at_the_same_moment_do_not_both_rely_on_the_other() -> Result<()> {
    let acme = two_ways().await?;
    let claims = acme.claim().await?;
    assert_eq!(claims.len(), 2);
    let fail = "select rotator.fail_notification($1, $2, 'no', 'permanent')";
    let role = acme.db.login_role("other", &["rotator_sidecar"]).await?;
    let other = acme.db.connect_as(&role).await?;
    let backend: i32 = scalar(&other, "select pg_backend_pid()", &[]).await?;
    acme.worker.batch_execute("begin").await?;
    acme.worker
        .execute(fail, &[&claims[0].id, &claims[0].claim_id])
        .await?;
    let second = async {
        other
            .execute(fail, &[&claims[1].id, &claims[1].claim_id])
            .await?;
        anyhow::Ok(())
    };
    let first = async {
        wait_for_lock(&acme, backend).await?;
        acme.worker.batch_execute("commit").await?;
        anyhow::Ok(())
    };
    tokio::try_join!(second, first)?;
    assert_eq!(fallbacks(&acme).await?, 1, "{}", acme.rows(TOLD).await?);
    assert_eq!(acme.claim_one().await?.channel, "email");
    Ok(())
}

#[tokio::test]
async fn a_report_that_is_repeated_or_stale_falls_back_no_second_time() -> Result<()> {
    let (acme, _) = dana(&[("slack", "C0DEPLOYS1"), ("email", "dana@acme.example")]).await?;
    let stale = acme.claim_one().await?;
    acme.end_waiting().await?;
    let claim = acme.claim_one().await?;
    ensure!(!acme.fail(&stale, "permanent").await?);
    assert_eq!(fallbacks(&acme).await?, 0, "it is not theirs any more");
    ensure!(acme.fail(&claim, "permanent").await?);
    let before = acme.fingerprint().await?;
    for reason in ["permanent", "recipient_gone", "transient"] {
        ensure!(acme.fail(&claim, reason).await?);
        ensure!(!acme.fail(&stale, reason).await?);
    }
    assert_eq!(acme.fingerprint().await?, before);
    assert_eq!(fallbacks(&acme).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_lost_last_attempt_falls_back_too() -> Result<()> {
    let (acme, _) = dana(&[("slack", "C0DEPLOYS1"), ("email", "dana@acme.example")]).await?;
    for _ in 1..=12 {
        acme.claim_one().await?;
        acme.end_waiting().await?;
    }
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(acme.claim_one().await?.channel, "email");
    Ok(())
}

#[tokio::test]
async fn a_lost_one_whose_kin_somebody_holds_waits_for_the_next_claim() -> Result<()> {
    let acme = two_ways().await?;
    for _ in 1..=12 {
        assert_eq!(acme.claim().await?.len(), 2);
        acme.end_waiting().await?;
    }
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.notification set leased_until = now() + interval '1 hour' where channel = 'pagerduty';
             begin;
             select from rotator_internal.notification where channel = 'pagerduty' for update",
        )
        .await?;
    assert_eq!(acme.claim().await?.len(), 0);
    let states = "select channel, state, attempts from rotator.notifications order by channel";
    let both = json!([{"channel": "pagerduty", "state": "leased", "attempts": 12}, {"channel": "slack", "state": "leased", "attempts": 12}]);
    assert_eq!(acme.rows(states).await?, both, "neither waited nor ended");
    acme.db.admin.batch_execute("commit").await?;
    assert_eq!(acme.claim().await?.len(), 0);
    let dead = json!([{"channel": "pagerduty", "state": "leased", "attempts": 12}, {"channel": "slack", "state": "dead", "attempts": 12}]);
    assert_eq!(acme.rows(states).await?, dead, "the pager is still at it");
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 0);
    let claim = eventually(Duration::from_secs(5), "the mail", async || {
        Ok(acme.claim().await?.pop())
    })
    .await
    .context("nobody is left out")?;
    assert_eq!(claim.channel, "email");
    Ok(())
}
