//! Ticks against ticks, and ticks against people: nothing is queued twice, nothing of an old cycle is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use rotator_tests::{scalar, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::seed::{Acme, wait_for_lock, waits_for_lock};

#[tokio::test]
async fn eight_ticks_at_once_over_five_hundred_secrets_queue_each_once() -> Result<()> {
    let acme = Acme::new().await?;
    acme.editor
        .execute(
            "select rotator.register_secret('key ' || n, expiry_date => now() + interval '5 days') from generate_series(1, 500) as n",
            &[],
        )
        .await?;
    let mut ticks = JoinSet::new();
    for _ in 0..8 {
        let session = acme.db.superuser().await?;
        ticks.spawn(async move {
            let (mut looked_at, mut idle) = (0, 0);
            // One that finds nothing may only have met the others' locks: until three in a row.
            while idle < 3 {
                let result: Value =
                    scalar(&session, "select rotator.tick(max_rows => 37)", &[]).await?;
                looked_at += result["due"].as_i64().unwrap_or_default();
                idle = if result["due"] == json!(0) {
                    idle + 1
                } else {
                    0
                };
            }
            anyhow::Ok(looked_at)
        });
    }
    let mut looked_at = 0;
    while let Some(outcome) = ticks.join_next().await {
        looked_at += outcome??;
    }
    looked_at += acme.tick().await?["due"].as_i64().unwrap_or_default();
    let reminders: i64 = scalar(
        &acme.editor,
        "select count(*) from rotator.notifications where kind = 'reminder'",
        &[],
    )
    .await?;
    assert_eq!((looked_at, reminders), (500, 500));
    let (secrets, alerts): (i64, i64) = (
        scalar(
            &acme.editor,
            "select count(distinct secret_id) from rotator.notifications",
            &[],
        )
        .await?,
        scalar(&acme.editor, "select count(*) from rotator.alerts", &[]).await?,
    );
    assert_eq!((secrets, alerts), (500, 500));
    Ok(())
}

#[tokio::test]
async fn a_second_tick_passes_by_what_the_first_holds() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    let mut first = acme.db.superuser().await?;
    let transaction = first.transaction().await?;
    assert_eq!(
        scalar::<Value>(&transaction, "select rotator.tick(max_rows => 1)", &[]).await?["queued"],
        1
    );
    acme.due("vault").await?;
    // It may have to wait at its very end, for the heartbeat; until then it has passed by.
    let second = acme.db.superuser().await?;
    let backend: i32 = scalar(&second, "select pg_backend_pid()", &[]).await?;
    let tick =
        tokio::spawn(async move { scalar::<Value>(&second, "select rotator.tick()", &[]).await });
    until(
        Duration::from_secs(10),
        "the second tick to end or to wait",
        async || Ok(tick.is_finished() || waits_for_lock(&acme, backend).await?),
    )
    .await?;
    transaction.commit().await?;
    assert_eq!(tick.await??["queued"], 1);
    assert_eq!(
        scalar::<i64>(
            &acme.editor,
            "select count(*) from rotator.notifications",
            &[]
        )
        .await?,
        2
    );
    Ok(())
}

#[tokio::test]
async fn what_a_failed_tick_did_is_done_by_the_next() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    let mut session = acme.db.superuser().await?;
    let transaction = session.transaction().await?;
    transaction.execute("select rotator.tick()", &[]).await?;
    transaction.rollback().await?;
    assert_eq!(
        acme.rows("select id from rotator.notifications").await?,
        json!([])
    );
    assert_eq!(acme.tick().await?["queued"], 1);
    Ok(())
}

#[tokio::test]
async fn a_tick_skips_what_somebody_is_rotating() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.due("vault").await?;
    let mut person = acme.db.session("acme", "editor").await?;
    let transaction = person.transaction().await?;
    transaction
        .execute("select rotator.mark_rotated($1)", &[&id])
        .await?;
    assert_eq!(
        acme.tick().await?["queued"],
        1,
        "the other one, without waiting"
    );
    transaction.commit().await?;
    assert_eq!(acme.tick().await?["queued"], 0, "the old cycle is over");
    assert_eq!(
        acme.rows("select secret_name from rotator.alerts").await?,
        json!([{"secret_name": "vault"}])
    );
    Ok(())
}

#[tokio::test]
async fn a_rotation_waits_for_the_tick_and_cancels_what_it_queued() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    let mut engine = acme.db.superuser().await?;
    let transaction = engine.transaction().await?;
    assert_eq!(
        scalar::<Value>(&transaction, "select rotator.tick()", &[]).await?["queued"],
        1
    );

    let person = acme.db.session("acme", "editor").await?;
    let backend: i32 = scalar(&person, "select pg_backend_pid()", &[]).await?;
    let rotating = tokio::spawn(async move {
        person
            .execute("select rotator.mark_rotated($1)", &[&id])
            .await
    });
    wait_for_lock(&acme, backend).await?;
    transaction.commit().await?;
    rotating.await??;
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "cancelled"}])
    );
    assert_eq!(
        acme.rows("select state from rotator.alerts").await?,
        json!([{"state": "resolved"}])
    );
    Ok(())
}

#[tokio::test]
async fn ticks_and_rotations_in_any_order_leave_nothing_of_an_old_cycle() -> Result<()> {
    let acme = Acme::new().await?;
    let mut ids = BTreeSet::new();
    for number in 0..60 {
        ids.insert(acme.due(&format!("key {number}")).await?);
    }
    let mut racers = JoinSet::new();
    for _ in 0..3 {
        let session = acme.db.superuser().await?;
        racers.spawn(async move {
            for _ in 0..25 {
                session
                    .execute("select rotator.tick(max_rows => 5)", &[])
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    for half in 0..2 {
        let session = acme.db.session("acme", "editor").await?;
        let ids: Vec<_> = ids.iter().skip(half).step_by(2).copied().collect();
        racers.spawn(async move {
            for id in ids {
                session
                    .execute("select rotator.mark_rotated($1)", &[&id])
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(outcome) = racers.join_next().await {
        outcome??;
    }
    acme.tick().await?;
    let left = acme
        .rows(
            "select n.state, a.cycle from rotator.notifications as n join rotator.alerts as a on a.id = n.alert_id
             where n.state <> 'cancelled' or a.state <> 'resolved' or a.cycle <> 1",
        )
        .await?;
    assert_eq!(left, json!([]));
    let rotated: i64 = scalar(
        &acme.editor,
        "select count(*) from rotator.secrets where cycle = 2",
        &[],
    )
    .await?;
    assert_eq!(rotated, 60);
    Ok(())
}

#[tokio::test]
async fn ticks_corrections_registrations_deliveries_and_new_policies_never_deadlock() -> Result<()>
{
    let acme = Acme::new().await?;
    for number in 0..20 {
        acme.register(
            &format!("key {number}"),
            &format!("owner_id => 'owner {number}', expiry_date => now() + interval '5 days'"),
        )
        .await?;
    }
    let works = [
        ("select rotator.tick(max_rows => 4)", 40),
        ("select rotator.tick()", 40),
        (
            "update rotator.secrets set expiry_date = expiry_date + interval '1 second'
             where id = (select id from rotator.secrets order by random() limit 1)",
            30,
        ),
        (
            "select rotator.mark_rotated((select id from rotator.secrets order by random() limit 1),
                next_expiry_date => now() + interval '6 days')",
            30,
        ),
        (
            "select rotator.register_secret('new ' || gen_random_uuid(), expiry_date => now() + interval '3 days',
                owner_id => gen_random_uuid()::text) from generate_series(1, 3)",
            12,
        ),
        (
            "select rotator.remove_notification_policy(rotator.add_notification_policy(20 + (random() * 1000)::integer))",
            12,
        ),
        (
            "select rotator.remove_notification_policy(rotator.add_notification_policy(2000 + (random() * 1000)::integer))",
            12,
        ),
        (
            "select rotator.complete_notifications(coalesce(jsonb_agg(jsonb_build_object(
                'id', id, 'claim_id', claim_id, 'ok', random() < 0.5, 'reason', 'transient')), '[]'))
             from rotator.claim_notifications('worker', 10) where random() < 0.8",
            30,
        ),
    ];
    let mut workers = JoinSet::new();
    for (sql, times) in works {
        let session = acme.db.superuser().await?;
        session
            .execute("select rotator.use_tenant('acme')", &[])
            .await?;
        workers.spawn(async move {
            for _ in 0..times {
                session.query(sql, &[]).await.context(sql)?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(outcome) = workers.join_next().await {
        outcome??;
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_policy_waits_for_a_rotation_of_what_was_not_in_the_calendar() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme
        .register(
            "stripe",
            "expiry_date => now() - interval '1 day', rotation_interval => '30 days'",
        )
        .await?;
    acme.tick().await?; // all its lead times have passed: nothing is to come
    let mut person = acme.db.session("acme", "editor").await?;
    let rotating = person.transaction().await?;
    rotating
        .execute("select rotator.mark_rotated($1)", &[&id])
        .await?;

    let admin = acme.db.session("acme", "admin").await?;
    let backend: i32 = scalar(&admin, "select pg_backend_pid()", &[]).await?;
    let planning = tokio::spawn(async move {
        admin
            .execute("select rotator.add_notification_policy(21)", &[])
            .await
    });
    wait_for_lock(&acme, backend).await?;
    rotating.commit().await?;
    planning.await??;
    // By the new date, not by the one that was there when the policy began to be added.
    let next: i64 = scalar(
        &acme.db.admin,
        "select (extract(epoch from next_event_at - now()) / 86400)::bigint from rotator_internal.calendar",
        &[],
    )
    .await?;
    assert_eq!(next, 9);
    Ok(())
}
