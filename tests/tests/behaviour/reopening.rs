//! An acknowledgement holds for a time, and nothing is sent while it does. When it runs out and nobody has rotated, the
//! alert opens again, its owner is told, and its ladder goes on from where it stood.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::escalation::{position, reminders, staffed, steps, theirs, tick_in};
use crate::seed::Acme;

async fn acknowledge(acme: &Acme, id: &Uuid, with: &str) -> Result<()> {
    acme.editor
        .execute(&format!("select rotator.acknowledge($1 {with})"), &[id])
        .await?;
    Ok(())
}

#[tokio::test]
async fn it_opens_again_when_it_runs_out_and_the_owner_is_told() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    let claim = acme.claim_one().await?;
    acme.complete(&claim).await?;
    acknowledge(&acme, &id, ", until => now() + interval '10 hours'").await?;
    assert_eq!(tick_in(&acme, 9.0).await?["reopened"], 0);
    let result = tick_in(&acme, 10.0).await?;
    assert_eq!(
        (&result["reopened"], &result["queued"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(tick_in(&acme, 10.1).await?["reopened"], 0, "once");
    assert_eq!(
        acme.rows("select state, acknowledged_until, acknowledged_at is not null as was, acknowledged_by is not null as whose from rotator.alerts").await?,
        json!([{"state": "open", "acknowledged_until": null, "was": true, "whose": true}])
    );
    assert_eq!(
        reminders(&acme).await?,
        json!(["lead:7 sent", "reopened queued"])
    );
    let told = acme.claim_one().await?;
    assert_eq!(
        (
            told.recipient.as_deref(),
            &told.message["kind"],
            &told.message["acknowledged"]
        ),
        (Some("olga"), &json!("reminder"), &Value::Null)
    );
    let audited: i64 = scalar(
        &acme.operator,
        "select count(*) from rotator.audit_log where action = 'alert.reopened'",
        &[],
    )
    .await?;
    assert_eq!(audited, 1);

    // It can be taken on again, by any of its links.
    let again: Value = scalar(
        &acme.worker,
        "select rotator.redeem_link($1, 'acknowledge')",
        &[&claim.link_token],
    )
    .await?;
    assert_eq!(again["action"], "acknowledge", "{again}");
    Ok(())
}

#[tokio::test]
async fn by_default_it_ends_at_the_expiry_unless_that_has_passed() -> Result<()> {
    let acme = staffed().await?;
    for (name, hours, expected) in [
        ("soon", 10, "10"),
        ("later", 150, "150"),
        ("late", -10, "168"),
    ] {
        let id = theirs(&acme, name, hours, "").await?;
        tick_in(&acme, 0.0).await?;
        acknowledge(&acme, &id, "").await?;
        let until: String = scalar(
            &acme.db.admin,
            "select round(extract(epoch from acknowledged_until - now()) / 3600)::text from rotator_internal.alert where secret_id = $1",
            &[&id],
        )
        .await?;
        assert_eq!(until, expected, "{name}");
    }
    let id = theirs(&acme, "given", 10, "").await?;
    tick_in(&acme, 0.0).await?;
    acknowledge(&acme, &id, ", until => now() + interval '20 hours'").await?;
    let beyond: bool = scalar(
        &acme.db.admin,
        "select acknowledged_until > now() + interval '19 hours' from rotator_internal.alert where secret_id = $1",
        &[&id],
    )
    .await?;
    ensure!(beyond, "whoever gives a time has it");
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_while_it_holds() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    // Not sent yet, and now nobody needs it.
    acknowledge(&acme, &id, ", until => now() + interval '90 hours'").await?;
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        tick_in(&acme, 77.0).await?["queued"],
        0,
        "the reminder of the last day"
    );
    assert_eq!(
        reminders(&acme).await?,
        json!(["lead:7 suppressed", "lead:1 suppressed"])
    );
    assert_eq!(acme.claim().await?.len(), 0);

    assert_eq!(tick_in(&acme, 90.0).await?["queued"], 1);
    assert_eq!(tick_in(&acme, 93.9).await?["queued"], 0);
    tick_in(&acme, 94.1).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam"]),
        "four hours after it opened again"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_being_sent_when_it_comes_is_not_tried_again() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    let claim = acme.claim_one().await?;
    acknowledge(&acme, &id, "").await?;
    ensure!(acme.fail(&claim, "timeout").await?);
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(reminders(&acme).await?, json!(["lead:7 cancelled"]));
    Ok(())
}

#[tokio::test]
async fn the_ladder_goes_on_from_where_it_stood() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 4.1).await?;
    for claim in acme.claim().await? {
        acme.complete(&claim).await?;
    }
    // As if three hours were left of the second step's wait: the acknowledgement came five hours after the reminder.
    acknowledge(&acme, &id, ", until => now() + interval '30 hours'").await?;
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.alert set acknowledged_at = now() + interval '5 hours'",
        )
        .await?;
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "acknowledged", "step": 1, "goes_on": false}])
    );
    assert_eq!(tick_in(&acme, 30.0).await?["queued"], 1, "the owner");
    assert_eq!(tick_in(&acme, 32.9).await?["queued"], 0);
    assert_eq!(tick_in(&acme, 33.1).await?["queued"], 1);
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam sent", "built-in:2 lee"])
    );
    Ok(())
}

#[tokio::test]
async fn a_step_of_which_nobody_heard_is_taken_when_it_opens_again() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    tick_in(&acme, 4.1).await?;
    acknowledge(&acme, &id, ", until => now() + interval '10 hours'").await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:1 sam suppressed"]));
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "acknowledged", "step": 0, "goes_on": false}])
    );
    tick_in(&acme, 10.0).await?;
    tick_in(&acme, 14.1).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam suppressed", "built-in:1 sam"])
    );
    Ok(())
}

#[tokio::test]
async fn one_that_hours_make_due_when_it_had_been_is_taken_again_too() -> Result<()> {
    let acme = staffed().await?;
    let hours = json!({"days": ["mon", "tue"], "from": "09:00", "to": "17:00"});
    acme.operator
        .execute("select rotator.set_delivery_window($1)", &[&hours])
        .await?;
    let with =
        "owner_id => 'olga', secondary_owner_id => 'sam', expiry_date => '2031-02-04 12:00 UTC'";
    let id = acme.register("stripe", with).await?;
    acme.operator
        .execute(
            "select rotator.add_notification_policy(3, secret_id => $1)",
            &[&id],
        )
        .await?;
    // Saturday; the four hours end on Monday at 13:00, with or without some of the Sunday.
    acme.tick_at("'2031-02-01 12:01 UTC'").await?;
    acme.tick_at("'2031-02-03 13:01 UTC'").await?;
    acknowledge(&acme, &id, "").await?;
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.alert set acknowledged_at = '2031-02-03 13:30 UTC', acknowledged_until = '2031-02-03 22:00 UTC'",
        )
        .await?;
    acme.tick_at("'2031-02-03 22:01 UTC'").await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam suppressed", "built-in:1 sam deferred"])
    );
    Ok(())
}

#[tokio::test]
async fn a_reminder_that_comes_due_with_it_says_it_already() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    acknowledge(&acme, &id, ", until => now() + interval '70 hours'").await?;
    assert_eq!(tick_in(&acme, 80.0).await?["queued"], 1);
    assert_eq!(
        reminders(&acme).await?,
        json!(["lead:7 sent", "lead:1 queued", "reopened suppressed"])
    );
    Ok(())
}

#[tokio::test]
async fn rotated_in_time_it_stays_closed() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acknowledge(&acme, &id, "").await?;
    acme.editor
        .execute("select rotator.mark_rotated($1)", &[&id])
        .await?;
    let result = tick_in(&acme, 24.0 * 20.0).await?;
    assert_eq!(
        (&result["reopened"], &result["queued"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "resolved", "step": 0, "goes_on": false}])
    );
    Ok(())
}

#[tokio::test]
async fn an_owner_without_contact_has_a_stand_in_here_too() -> Result<()> {
    let acme = staffed().await?;
    acme.register("stripe", "owner_id => 'nobody', secondary_owner_id => 'sam', expiry_date => now() + interval '100 hours'").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    acme.editor.execute("select rotator.acknowledge(id, until => now() + interval '1 hour') from rotator.secrets", &[]).await?;
    tick_in(&acme, 1.0).await?;
    assert_eq!(acme.claim_one().await?.recipient.as_deref(), Some("sam"));
    Ok(())
}

#[tokio::test]
async fn taking_it_on_again_does_not_make_the_first_time_later() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.db
        .admin
        .batch_execute("update rotator_internal.alert set opened_at = now() - interval '2 hours'")
        .await?;
    acknowledge(&acme, &id, "").await?;
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.alert set opened_at = opened_at - interval '30 days', acknowledged_at = acknowledged_at - interval '30 days',
                first_acknowledged_at = first_acknowledged_at - interval '30 days', acknowledged_until = now() - interval '1 hour'",
        )
        .await?;
    acme.tick().await?;
    acknowledge(&acme, &id, "").await?;
    let hours: Value = acme
        .rows("select round(extract(epoch from mean_time_to_acknowledge) / 3600) as hours from rotator.overview")
        .await?;
    assert_eq!(hours, json!([{"hours": 2}]));
    Ok(())
}
