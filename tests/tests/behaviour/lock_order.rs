//! What goes over a whole tenant, beside what is about one secret or one report: nobody deadlocks, whoever comes first. And
//! hours, however few they are, cost other tenants' ticks next to nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::json;

use crate::escalation::{staffed, theirs, tick_in};
use crate::seed::wait_for_lock;

#[tokio::test]
async fn hours_and_a_priority_may_change_at_once() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 24 * 6, "").await?;
    let closed = "select rotator.set_delivery_window(jsonb_build_object('days',
        jsonb_build_array(lower(to_char(now() at time zone 'UTC' + interval '3 days', 'Dy'))), 'from', '00:00', 'to', '24:00'))";
    acme.operator.batch_execute(closed).await?;
    acme.operator
        .batch_execute("select rotator.remove_notification_policy(id) from rotator.notification_policies where lead_time_days = 1")
        .await?;
    tick_in(&acme, 0.0).await?;
    let stands = "select count(*) from rotator_internal.alert as a, rotator_internal.deferral as d where a.reminded_at is not null and d.ended_at is null";
    ensure!(
        scalar::<i64>(&acme.db.admin, stands, &[]).await? == 1,
        "a ladder, and something that waits"
    );

    // Somebody has what waits, so that both come to want it.
    let mut third = acme.db.superuser().await?;
    let held = third.transaction().await?;
    held.batch_execute("select from rotator_internal.deferral for update")
        .await?;
    let (hours, person) = (
        acme.db.superuser().await?,
        acme.db.session("acme", "editor").await?,
    );
    hours
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    let backends: [i32; 2] = [
        scalar(&hours, "select pg_backend_pid()", &[]).await?,
        scalar(&person, "select pg_backend_pid()", &[]).await?,
    ];
    let setting = tokio::spawn(async move {
        hours
            .batch_execute("select rotator.set_delivery_window(null)")
            .await
    });
    wait_for_lock(&acme, backends[0]).await?;
    let changing = tokio::spawn(async move {
        let sql = "update rotator.secrets set priority = 'P1' where id = $1";
        person.execute(sql, &[&id]).await
    });
    wait_for_lock(&acme, backends[1]).await?;
    held.commit().await?;
    setting.await??;
    changing.await??;
    Ok(())
}

#[tokio::test]
async fn a_minute_a_week_and_a_long_ladder_hold_up_nobody() -> Result<()> {
    let acme = staffed().await?;
    let steps: Vec<_> = (0..50)
        .map(|minute| json!({"after": format!("23:{minute:02}:00"), "target": "owner"}))
        .collect();
    let set = "select rotator.set_escalation_policy('silly', $1, '{P3}')";
    acme.operator.execute(set, &[&json!(steps)]).await?;
    acme.operator
        .batch_execute(
            "select rotator.set_delivery_window('{\"days\": [\"mon\"], \"from\": \"00:00\", \"to\": \"00:01\"}');
             select rotator.remove_notification_policy(id) from rotator.notification_policies;
             select rotator.add_notification_policy(3650);
             select rotator.register_secret('key ' || n, owner_id => 'olga', expiry_date => now() + interval '3649 days') from generate_series(1, 6) as n",
        )
        .await?;
    let begun = std::time::Instant::now();
    tick_in(&acme, 0.0).await?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(8), "{took:?}");
    let stands = "select count(*) from rotator_internal.alert where next_escalation_at > now() + interval '300 days'";
    ensure!(
        scalar::<i64>(&acme.db.admin, stands, &[]).await? == 6,
        "the ladder of each was worked out"
    );
    Ok(())
}

#[tokio::test]
async fn a_handover_and_a_report_may_come_at_once() -> Result<()> {
    let acme = staffed().await?;
    // The second one's message is the older.
    let first = theirs(&acme, "first", 24 * 90, "").await?;
    theirs(&acme, "second", 24 * 5, "").await?;
    tick_in(&acme, 0.0).await?;
    let sooner = "update rotator.secrets set expiry_date = now() + interval '5 days' where id = $1";
    acme.editor.execute(sooner, &[&first]).await?;
    tick_in(&acme, 0.0).await?;
    let claims = acme.claim().await?;
    assert_eq!(claims.len(), 2);
    let report: Vec<_> = claims
        .iter()
        .map(|claim| json!({"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": false, "reason": "timeout"}))
        .collect();

    // Somebody has the first one's message, so that both come to want it.
    let mut third = acme.db.superuser().await?;
    let held = third.transaction().await?;
    let hold = "select from rotator_internal.notification where secret_id = $1 for update";
    held.execute(hold, &[&first]).await?;
    let (person, worker) = (
        acme.db.session("acme", "editor").await?,
        acme.db.superuser().await?,
    );
    let backends: [i32; 2] = [
        scalar(&person, "select pg_backend_pid()", &[]).await?,
        scalar(&worker, "select pg_backend_pid()", &[]).await?,
    ];
    let handing_over = tokio::spawn(async move {
        person
            .batch_execute("select rotator.reassign_secrets('olga', 'sam')")
            .await
    });
    wait_for_lock(&acme, backends[0]).await?;
    let reporting = tokio::spawn(async move {
        let sql = "select count(*) from rotator.complete_notifications($1) as r where r.accepted";
        worker.query_one(sql, &[&json!(report)]).await
    });
    wait_for_lock(&acme, backends[1]).await?;
    held.commit().await?;
    handing_over.await??;
    assert_eq!(reporting.await??.get::<_, i64>(0), 2);
    Ok(())
}
