//! What nobody could be told by any way is never silent: in a view, in `doctor()`, in what the sidecar asks; until somebody
//! knows of it.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};

use crate::fallback::{all_fail, contact, dana};
use crate::seed::{Acme, rows};

const LISTED: &str = "select secret_name, kind, rule, addressee, channel, tried, last_error from rotator.undeliverable";

async fn doctor(acme: &Acme) -> Result<bool> {
    scalar(
        &acme.operator,
        "select ok from rotator.doctor() where check_name = 'undeliverable'",
        &[],
    )
    .await
}

async fn counted(acme: &Acme) -> Result<i64> {
    let status: Value = scalar(&acme.worker, "select rotator.engine_status()", &[]).await?;
    ensure!(
        status["undeliverable"] == 0 || status["undeliverable_at"].is_string(),
        "{status}"
    );
    Ok(status["undeliverable"].as_i64().unwrap_or(-1))
}

/// Dana's Slack and both admins' mailboxes have failed.
async fn nobody() -> Result<Acme> {
    let (acme, _) = dana(&[("slack", "C0DEPLOYS1")]).await?;
    ensure!(doctor(&acme).await? && counted(&acme).await? == 0);
    assert_eq!(all_fail(&acme).await?, 1);
    ensure!(doctor(&acme).await?, "the admins may still hear of it");
    assert_eq!(all_fail(&acme).await?, 2);
    assert_eq!(acme.claim().await?.len(), 0);
    Ok(acme)
}

#[tokio::test]
async fn when_the_chain_ends_it_is_listed_counted_and_written_down_once() -> Result<()> {
    let acme = nobody().await?;
    assert_eq!(
        acme.rows(LISTED).await?,
        json!([{"secret_name": "stripe", "kind": "reminder", "rule": "lead:7", "addressee": "dana", "channel": "slack",
            "tried": 3, "last_error": "it did not work"}])
    );
    ensure!(!doctor(&acme).await?);
    assert_eq!(counted(&acme).await?, 1);
    let events =
        "select count(*) from rotator.audit_log where action = 'notification.undeliverable'";
    assert_eq!(scalar::<i64>(&acme.db.admin, events, &[]).await?, 1);
    // Nobody else's business.
    acme.db.tenant("beta").await?;
    let beta = acme.db.session("beta", "admin").await?;
    assert_eq!(
        rows(&beta, "select id from rotator.undeliverable").await?,
        json!([])
    );
    Ok(())
}

#[tokio::test]
async fn it_counts_until_somebody_knows() -> Result<()> {
    for end in [
        "select rotator.mark_rotated(id) from rotator.secrets",
        "select rotator.retire_secret(id) from rotator.secrets",
        "select rotator.acknowledge(id) from rotator.secrets",
    ] {
        let acme = nobody().await?;
        acme.editor.execute(end, &[]).await?;
        assert_eq!(acme.rows(LISTED).await?, json!([]), "{end}");
        ensure!(doctor(&acme).await? && counted(&acme).await? == 0, "{end}");
    }
    // Or until the owner is reached about it after all.
    let acme = nobody().await?;
    contact(&acme, "dana", "slack", "C0DEPLOYS2").await?;
    acme.operator
        .execute("select rotator.add_notification_policy(2, 'slack', secret_id => id) from rotator.secrets", &[])
        .await?;
    acme.tick_at("now() + interval '3 days'").await?;
    let later = acme.claim_one().await?;
    assert_eq!(counted(&acme).await?, 1, "it is only on its way");
    ensure!(acme.complete(&later).await?);
    ensure!(doctor(&acme).await? && counted(&acme).await? == 0);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_comes_back_and_had_delivered_it_takes_it_back() -> Result<()> {
    let (acme, _) = dana(&[("slack", "C0DEPLOYS1")]).await?;
    let mut last = acme.claim_one().await?;
    for _ in 2..=12 {
        acme.end_waiting().await?;
        last = acme.claim_one().await?;
    }
    acme.end_waiting().await?; // the twelfth is lost, too
    assert_eq!(
        acme.claim().await?.len(),
        0,
        "it is given up by this claim, its fallback is for the next"
    );
    assert_eq!(all_fail(&acme).await?, 2);
    assert_eq!(counted(&acme).await?, 1);
    ensure!(acme.complete(&last).await?, "nobody has claimed it since");
    assert_eq!(counted(&acme).await?, 0);
    assert_eq!(acme.rows(LISTED).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn an_incident_that_can_not_be_closed_is_said_too() -> Result<()> {
    let (acme, _) = dana(&[("pagerduty", "0123456789abcdef0123456789abcdef")]).await?;
    acme.complete(&acme.claim_one().await?).await?;
    acme.editor
        .execute("select rotator.mark_rotated(id) from rotator.secrets", &[])
        .await?;
    let resolve = acme.claim_one().await?;
    assert_eq!(resolve.message["kind"], "resolve");
    ensure!(acme.fail(&resolve, "permanent").await?);
    assert_eq!(acme.claim().await?.len(), 0, "nobody else can close it");
    let listed = acme
        .rows("select kind, channel from rotator.undeliverable")
        .await?;
    assert_eq!(listed, json!([{"kind": "resolve", "channel": "pagerduty"}]));
    Ok(())
}

#[tokio::test]
async fn of_a_tenant_that_left_it_counts_no_longer() -> Result<()> {
    let acme = nobody().await?;
    ensure!(!doctor(&acme).await? && counted(&acme).await? == 1);
    acme.operator
        .execute("select rotator.offboard_tenant('acme', 'acme')", &[])
        .await?;
    ensure!(doctor(&acme).await? && counted(&acme).await? == 0);
    Ok(())
}
