//! In which order PagerDuty hears of an alert, whatever is on its way, lost, or changed meanwhile: no message arrives
//! after the one that ends it, and none that ends it is forgotten. Who is told: `incident`.

use anyhow::Result;
use rotator_tests::scalar;
use serde_json::json;

use crate::incident::{FOLLOWS, call, kind, move_expiry, paged, triggered};
use crate::seed::wait_for_lock;

#[tokio::test]
async fn a_resolve_waits_for_a_message_that_is_on_its_way() -> Result<()> {
    let (acme, secret) = paged().await?;
    let trigger = acme.claim_one().await?;
    call(&acme, "mark_rotated($1)", secret).await?;
    assert_eq!(acme.claim().await?.len(), 0, "the trigger may arrive yet");
    // It failed, and is not tried again.
    acme.fail(&trigger, "timeout").await?;
    let resolve = acme.claim_one().await?;
    assert_eq!(kind(&resolve), "resolve");
    acme.end_waiting().await?;
    assert_eq!(
        acme.claim_one().await?.id,
        resolve.id,
        "tried again like any other"
    );
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_lost_holds_a_resolve_up_no_longer_than_its_lease() -> Result<()> {
    let (acme, secret) = paged().await?;
    acme.claim_one().await?;
    call(&acme, "mark_rotated($1)", secret).await?;
    acme.end_waiting().await?;
    let claims = [acme.claim().await?, acme.claim().await?].concat();
    assert_eq!(claims.iter().map(kind).collect::<Vec<_>>(), ["resolve"]);
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_waits_for_a_worker_that_is_just_claiming() -> Result<()> {
    let (mut acme, secret) = paged().await?;
    let backend: i32 = scalar(&acme.editor, "select pg_backend_pid()", &[]).await?;
    let open = acme
        .db
        .connect_as(&acme.db.login_role("slow", &["rotator_sidecar"]).await?)
        .await?;
    open.batch_execute("begin").await?;
    let claimed: i64 = scalar(
        &open,
        "select count(*) from rotator.claim_notifications('slow')",
        &[],
    )
    .await?;
    assert_eq!(claimed, 1);
    let editor = std::mem::replace(&mut acme.editor, acme.db.session("acme", "viewer").await?);
    let acknowledging = tokio::spawn(async move {
        editor
            .execute("select rotator.acknowledge($1)", &[&secret])
            .await
    });
    wait_for_lock(&acme, backend).await?;
    open.batch_execute("commit").await?;
    acknowledging.await??;
    assert_eq!(
        acme.rows(FOLLOWS).await?,
        json!([{"kind": "acknowledge", "state": "queued"}])
    );
    Ok(())
}

#[tokio::test]
async fn a_queued_resolve_outlives_later_changes() -> Result<()> {
    let (acme, secret) = triggered().await?;
    call(&acme, "mark_rotated($1)", secret).await?;
    move_expiry(&acme, secret, "now() + interval '200 days'").await?;
    call(
        &acme,
        "mark_rotated($1, next_expiry_date => now() + interval '300 days')",
        secret,
    )
    .await?;
    call(&acme, "retire_secret($1)", secret).await?;
    let resolve = acme.claim_one().await?;
    assert_eq!(
        (kind(&resolve), &resolve.message["cycle"]),
        ("resolve", &json!(1))
    );
    Ok(())
}

#[tokio::test]
async fn an_alert_that_opens_again_waits_for_its_end_and_is_resolved_again() -> Result<()> {
    let (acme, secret) = triggered().await?;
    move_expiry(&acme, secret, "'2039-01-01'").await?;
    move_expiry(&acme, secret, "now() + interval '2 days'").await?;
    acme.tick().await?;
    let resolve = acme.claim_one().await?;
    assert_eq!(
        kind(&resolve),
        "resolve",
        "else the incident would be closed that the new message opens"
    );
    acme.fail(&resolve, "timeout").await?;
    assert_eq!(acme.claim().await?.len(), 0);
    acme.end_waiting().await?;
    acme.complete(&acme.claim_one().await?).await?;

    let trigger = acme.claim_one().await?;
    assert_eq!(
        (kind(&trigger), &trigger.message["cycle"]),
        ("reminder", &json!(1))
    );
    acme.complete(&trigger).await?;
    call(&acme, "mark_rotated($1)", secret).await?;
    assert_eq!(kind(&acme.claim_one().await?), "resolve");
    Ok(())
}

#[tokio::test]
async fn moved_away_and_back_the_incident_is_closed_and_then_opened_again() -> Result<()> {
    let (acme, secret) = triggered().await?;
    let was: String = scalar(
        &acme.editor,
        "select expiry_date::text from rotator.secrets where id = $1",
        &[&secret],
    )
    .await?;
    move_expiry(&acme, secret, "'2039-01-01'").await?;
    move_expiry(&acme, secret, &format!("'{was}'")).await?;
    assert_eq!(acme.tick().await?["alerts_opened"], 1);
    let resolve = acme.claim_one().await?;
    assert_eq!(kind(&resolve), "resolve");
    acme.complete(&resolve).await?;
    assert_eq!(kind(&acme.claim_one().await?), "reminder");
    Ok(())
}
