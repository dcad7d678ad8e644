//! What a silence leaves behind when it ends: an acknowledgement or a snooze took messages back, and what nobody has heard
//! comes again, what somebody has heard doesn't. Found by a simulated year (`delivery/year.rs`). More of it: `snooze_end`,
//! `reopening`.

use anyhow::Result;
use rotator_tests::scalar;
use serde_json::json;
use uuid::Uuid;

use crate::escalation::{reach, staffed, steps, theirs, tick_in};
use crate::seed::Acme;

async fn acknowledge(acme: &Acme, id: &Uuid, hours: i32) -> Result<()> {
    let sql = format!("select rotator.acknowledge($1, until => now() + interval '{hours} hours')");
    acme.editor.execute(&sql, &[id]).await?;
    Ok(())
}

async fn snooze(acme: &Acme, id: &Uuid, hours: i32) -> Result<()> {
    let sql = format!("select rotator.snooze($1, now() + interval '{hours} hours', 'a freeze')");
    acme.editor.execute(&sql, &[id]).await?;
    Ok(())
}

async fn ladder(acme: &Acme, steps: serde_json::Value) -> Result<()> {
    let set = "select rotator.set_escalation_policy('ops', $1, priorities => '{P1,P2,P3,P4}')";
    acme.operator.execute(set, &[&steps]).await?;
    Ok(())
}

async fn complete_all(acme: &Acme) -> Result<()> {
    for claim in acme.claim().await? {
        acme.complete(&claim).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_step_that_another_one_said_is_not_said_again() -> Result<()> {
    let acme = staffed().await?;
    ladder(
        &acme,
        json!([
            {"after": "1 hour", "target": "secondary_owner"},
            {"after": "1 hour", "from": "expiry", "target": "secondary_owner"}
        ]),
    )
    .await?;
    let id = theirs(&acme, "stripe", 6, "").await?;
    tick_in(&acme, 0.0).await?;
    complete_all(&acme).await?;
    tick_in(&acme, 1.1).await?;
    acknowledge(&acme, &id, 10).await?;
    tick_in(&acme, 10.0).await?;
    // Both are due again at the same time, and sam is told once.
    tick_in(&acme, 11.1).await?;
    complete_all(&acme).await?;
    let said = json!(["ops:1 sam suppressed", "ops:2 sam sent"]);
    assert_eq!(steps(&acme).await?, said);
    acknowledge(&acme, &id, 20).await?;
    assert_eq!(tick_in(&acme, 20.0).await?["reopened"], 1);
    tick_in(&acme, 40.0).await?;
    assert_eq!(steps(&acme).await?, said);
    Ok(())
}

#[tokio::test]
async fn a_shorter_snooze_replaces_a_longer_one_of_what_somebody_has_in_hand() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acknowledge(&acme, &id, 2).await?;
    snooze(&acme, &id, 20).await?;
    snooze(&acme, &id, 5).await?;
    assert_eq!(tick_in(&acme, 3.0).await?["reopened"], 0);
    assert_eq!(tick_in(&acme, 5.0).await?["reopened"], 1);

    // And where the acknowledgement had ended by then.
    acknowledge(&acme, &id, 7).await?;
    snooze(&acme, &id, 20).await?;
    assert_eq!(tick_in(&acme, 8.0).await?["reopened"], 0);
    snooze(&acme, &id, 9).await?;
    assert_eq!(tick_in(&acme, 9.0).await?["reopened"], 1);
    Ok(())
}

#[tokio::test]
async fn what_an_acknowledgement_takes_out_of_a_digest_is_suppressed() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    theirs(&acme, "other", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acknowledge(&acme, &id, 20).await?;
    assert_eq!(
        acme.rows(&format!(
            "select outcome, detail ~ '^somebody had taken it on' as says from rotator.explain_notifications('{id}')
             where outcome <> 'skipped'"
        ))
        .await?,
        json!([{"outcome": "suppressed", "says": true}])
    );
    let items = &acme.claim_one().await?.message["items"];
    assert_eq!(items.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn what_a_lost_worker_held_through_a_silence_is_sent_when_it_is_over() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.claim_one().await?;
    snooze(&acme, &id, 10).await?;
    // Nobody claims until it has ended.
    let over = "update rotator_internal.secret set snoozed_until = clock_timestamp()";
    acme.db.admin.batch_execute(over).await?;
    acme.tick().await?;
    acme.end_waiting().await?;
    acme.claim().await?;
    let again = acme.claim_one().await?;
    assert_eq!(again.message["kind"], "reminder");
    acme.complete(&again).await?;
    Ok(())
}

#[tokio::test]
async fn what_fails_after_a_silence_that_began_meanwhile_is_tried_again() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    let under_way = acme.claim_one().await?;
    snooze(&acme, &id, 10).await?;
    let over = "update rotator_internal.secret set snoozed_until = clock_timestamp()";
    acme.db.admin.batch_execute(over).await?;
    acme.tick().await?;
    acme.fail(&under_way, "transient").await?;
    acme.end_waiting().await?;
    acme.complete(&acme.claim_one().await?).await?;
    Ok(())
}

#[tokio::test]
async fn so_is_a_step_that_a_lost_worker_held_through_an_acknowledgement() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    complete_all(&acme).await?;
    tick_in(&acme, 4.1).await?;
    acme.claim_one().await?;
    acknowledge(&acme, &id, 10).await?;
    let over = "update rotator_internal.alert set acknowledged_until = clock_timestamp()";
    acme.db.admin.batch_execute(over).await?;
    assert_eq!(acme.tick().await?["reopened"], 1);
    complete_all(&acme).await?;
    acme.end_waiting().await?;
    acme.claim().await?;
    complete_all(&acme).await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:1 sam sent"]));
    Ok(())
}

#[tokio::test]
async fn hours_that_are_taken_away_skip_no_repeat() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    for person in ["olga", "sam"] {
        reach(&acme, person, "console").await?;
    }
    ladder(
        &acme,
        json!([{"after": "4 hours", "target": "secondary_owner", "repeat_every": "10 hours", "repeats": 2}]),
    )
    .await?;
    let hours =
        json!({"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"});
    let window = "select rotator.set_delivery_window($1)";
    acme.operator.execute(window, &[&hours]).await?;
    // The last reminder is due on Friday at 14:00, and the step on Monday at 10:00.
    let with = "owner_id => 'olga', secondary_owner_id => 'sam', expiry_date => '2031-02-05 14:00 Europe/Berlin'";
    let id = acme.register("stripe", with).await?;
    let policy = "select rotator.add_notification_policy(5, secret_id => $1)";
    acme.operator.execute(policy, &[&id]).await?;
    for tick in ["01-31 14:01", "02-03 10:02"] {
        acme.tick_at(&format!("'2031-{tick} Europe/Berlin'"))
            .await?;
    }
    // Without hours it was due on Friday evening, and its repeats have passed: they are one.
    let none: Option<serde_json::Value> = None;
    acme.operator.execute(window, &[&none]).await?;
    for tick in ["02-03 10:32", "02-04 06:02"] {
        acme.tick_at(&format!("'2031-{tick} Europe/Berlin'"))
            .await?;
    }
    let told: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.notification where kind = 'escalation' and state = 'queued'",
        &[],
    )
    .await?;
    assert_eq!(told, 2);
    Ok(())
}
