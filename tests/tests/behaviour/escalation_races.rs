//! Steps against ticks, and against people: each is taken once, and nothing is left to be sent about what is over.

use anyhow::Result;
use rotator_tests::scalar;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::escalation::{position, staffed, steps, theirs, tick_in};
use crate::seed::{Acme, wait_for_lock};

const AHEAD: &str = "select rotator.tick(now() + interval '4 hours 2 minutes')";

#[tokio::test]
async fn eight_ticks_at_once_take_each_step_once() -> Result<()> {
    let acme = staffed().await?;
    acme.editor
        .execute(
            "select rotator.register_secret('key ' || n, owner_id => 'olga', secondary_owner_id => 'sam', expiry_date => now() + interval '20 hours')
             from generate_series(1, 200) as n",
            &[],
        )
        .await?;
    tick_in(&acme, 0.0).await?;
    let mut ticks = JoinSet::new();
    for _ in 0..8 {
        let session = acme.db.superuser().await?;
        ticks.spawn(async move {
            for _ in 0..10 {
                session
                    .execute(
                        "select rotator.tick(now() + interval '4 hours 2 minutes', 17)",
                        &[],
                    )
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(outcome) = ticks.join_next().await {
        outcome??;
    }
    acme.operator.execute(AHEAD, &[]).await?;
    let told: [i64; 2] = [
        scalar(&acme.db.admin, "select count(*) from rotator_internal.notification where kind = 'escalation'", &[]).await?,
        scalar(&acme.db.admin, "select count(distinct secret_id) from rotator_internal.notification where kind = 'escalation'", &[]).await?,
    ];
    assert_eq!(told, [200, 200]);
    Ok(())
}

/// One whose first step is due, and the session of who acts.
async fn due() -> Result<(Acme, uuid::Uuid, Client)> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    let person = acme.db.session("acme", "editor").await?;
    Ok((acme, id, person))
}

const WAYS: [(&str, &str); 3] = [
    ("acknowledge($1)", "suppressed"),
    ("mark_rotated($1)", "cancelled"),
    (
        "snooze($1, now() + interval '10 hours', 'later')",
        "cancelled",
    ),
];

#[tokio::test]
async fn a_step_waits_for_nobody_and_is_not_taken_when_somebody_was_faster() -> Result<()> {
    for (how, _) in WAYS {
        let (acme, id, mut person) = due().await?;
        let transaction = person.transaction().await?;
        transaction
            .execute(&format!("select rotator.{how}"), &[&id])
            .await?;
        let result: Value = scalar(&acme.operator, AHEAD, &[]).await?;
        assert_eq!(result["queued"], 0, "{how}");
        transaction.commit().await?;
        acme.operator.execute(AHEAD, &[]).await?;
        assert_eq!(steps(&acme).await?, json!([]), "{how}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_comes_during_a_step_waits_and_takes_back_what_it_queued() -> Result<()> {
    for (how, state) in WAYS {
        let (acme, id, person) = due().await?;
        let mut engine = acme.db.superuser().await?;
        let transaction = engine.transaction().await?;
        let result: Value = scalar(&transaction, AHEAD, &[]).await?;
        assert_eq!(result["queued"], 1, "{how}");
        let backend: i32 = scalar(&person, "select pg_backend_pid()", &[]).await?;
        let sql = format!("select rotator.{how}");
        let acting = tokio::spawn(async move { person.execute(&sql, &[&id]).await });
        wait_for_lock(&acme, backend).await?;
        transaction.commit().await?;
        acting.await??;
        assert_eq!(
            steps(&acme).await?,
            json!([format!("built-in:1 sam {state}")]),
            "{how}"
        );
        assert_eq!(
            acme.claim()
                .await?
                .iter()
                .filter(|claim| claim.message["kind"] == "escalation")
                .count(),
            0,
            "{how}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_tick_that_fails_has_taken_no_step() -> Result<()> {
    let (acme, _, _) = due().await?;
    let mut engine = acme.db.superuser().await?;
    let transaction = engine.transaction().await?;
    transaction.execute(AHEAD, &[]).await?;
    transaction.rollback().await?;
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 0, "goes_on": true}])
    );
    acme.operator.execute(AHEAD, &[]).await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:1 sam"]));
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_and_its_end_at_once_leave_it_taken() -> Result<()> {
    let (acme, id, mut person) = due().await?;
    acme.editor
        .execute(
            "select rotator.acknowledge($1, until => now() + interval '1 hour')",
            &[&id],
        )
        .await?;
    let transaction = person.transaction().await?;
    transaction
        .execute(
            "select rotator.acknowledge($1, until => now() + interval '9 hours')",
            &[&id],
        )
        .await?;
    let result: Value = scalar(&acme.operator, AHEAD, &[]).await?;
    assert_eq!(result["reopened"], 0, "somebody is just making it longer");
    transaction.commit().await?;
    acme.operator.execute(AHEAD, &[]).await?;
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "acknowledged", "step": 0, "goes_on": false}])
    );
    Ok(())
}
