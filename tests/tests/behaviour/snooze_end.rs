//! The end of a snooze: what comes then is what was missed, and nothing that had been said before; and nothing of what was
//! on its way when it began is lost.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::escalation::{acme_with, position, reach, staffed, theirs, tick_in};
use crate::seed::Acme;

async fn snooze(acme: &Acme, id: &Uuid, hours: i32) -> Result<()> {
    let sql = format!("select rotator.snooze($1, now() + interval '{hours} hours', 'a freeze')");
    acme.operator.execute(&sql, &[id]).await?;
    Ok(())
}

/// What there is about secrets, in order: rule, channel and state.
async fn story(acme: &Acme) -> Result<Value> {
    scalar(
        &acme.db.admin,
        "select coalesce(jsonb_agg(replace(rule, 'escalation:built-in:', 'step ') || ' ' || addressee || ' ' || channel || ' ' || state
            order by queued_at, step, channel), '[]')
         from rotator_internal.notification where kind in ('reminder', 'escalation')",
        &[],
    )
    .await
}

async fn complete_all(acme: &Acme, channel: &str) -> Result<()> {
    for claim in acme.claim().await? {
        if claim.channel == channel {
            acme.complete(&claim).await?;
        } else {
            acme.fail(&claim, "timeout").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_was_said_before_is_not_said_again_not_to_a_new_contact_either() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    snooze(&acme, &id, 10).await?;
    // Again, while it lasts; and what changes meanwhile is no reason either.
    snooze(&acme, &id, 20).await?;
    reach(&acme, "olga", "email").await?;
    assert_eq!(tick_in(&acme, 20.0).await?["queued"], 0);
    // What is to come comes to both.
    assert_eq!(tick_in(&acme, 76.1).await?["queued"], 2);
    assert_eq!(
        story(&acme).await?,
        json!([
            "lead:7 olga console sent",
            "lead:1 olga console queued",
            "lead:1 olga email queued"
        ])
    );
    Ok(())
}

#[tokio::test]
async fn who_was_told_of_the_last_reminder_is_not_told_again_and_missed_steps_come() -> Result<()> {
    // Olga stands in for sam, too.
    let acme = acme_with(&[("olga", "console"), ("olga", "email"), ("lee", "console")]).await?;
    let with = "owner_id => 'olga', secondary_owner_id => 'olga', team_lead_id => 'lee',
        rotation_interval => '90 days', expiry_date => now() + interval '20 hours'";
    let id = acme.register("stripe", with).await?;
    tick_in(&acme, 0.0).await?;
    complete_all(&acme, "console").await?;
    snooze(&acme, &id, 5).await?;
    tick_in(&acme, 5.0).await?;
    assert_eq!(
        story(&acme).await?,
        json!([
            "lead:1 olga console sent",
            "lead:1 olga email cancelled",
            "lead:1 olga email merged",
            "step 1 olga console queued",
            "step 1 olga email merged"
        ]),
        "one message a recipient"
    );
    // She has heard by the console, though its mail was withdrawn: the ladder goes on from there.
    tick_in(&acme, 8.0).await?;
    assert_eq!(story(&acme).await?[5], "step 2 lee console queued");
    Ok(())
}

#[tokio::test]
async fn of_a_last_reminder_that_nobody_heard_the_ladder_counts_from_the_end() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    theirs(&acme, "other", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    // Both wait in one message.
    assert_eq!(
        story(&acme).await?,
        json!(["lead:1 olga console merged", "lead:1 olga console merged"])
    );
    snooze(&acme, &id, 6).await?;
    let ours = "select state || ' ' || coalesce(next_escalation_at > now() + interval '9 hours', false) as goes_on
        from rotator.alerts where secret_name = 'stripe'";
    assert_eq!(acme.rows(ours).await?, json!([{"goes_on": "open false"}]));
    tick_in(&acme, 6.0).await?;
    assert_eq!(acme.rows(ours).await?, json!([{"goes_on": "open true"}]));
    Ok(())
}

#[tokio::test]
async fn a_step_that_a_snooze_withdrew_is_taken_when_an_acknowledgement_in_it_ends() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    tick_in(&acme, 4.1).await?;
    snooze(&acme, &id, 10).await?;
    let acknowledge = "select rotator.acknowledge($1, until => now() + interval '12 hours')";
    acme.editor.execute(acknowledge, &[&id]).await?;
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "acknowledged", "step": 0, "goes_on": false}])
    );
    // As if that had been an hour after the step.
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.alert set acknowledged_at = now() + interval '5 hours'",
        )
        .await?;
    assert_eq!(tick_in(&acme, 10.0).await?["queued"], 0);
    tick_in(&acme, 12.1).await?;
    assert_eq!(
        story(&acme).await?,
        json!([
            "lead:1 olga console sent",
            "step 1 sam console cancelled",
            "reopened olga console queued",
            "step 1 sam console queued"
        ])
    );
    Ok(())
}

#[tokio::test]
async fn that_it_is_open_again_and_who_is_told_instead_wait_for_the_end() -> Result<()> {
    let acme = acme_with(&[("olga", "console"), ("olga", "email"), ("ada", "email")]).await?;
    acme.operator
        .execute("select rotator.add_member('ada', 'admin')", &[])
        .await?;
    let with = "owner_id => 'olga', expiry_date => now() + interval '100 hours', rotation_interval => '90 days'";
    let id = acme.register("stripe", with).await?;
    let only = "select rotator.add_notification_policy(7, 'console', secret_id => $1)";
    acme.operator.execute(only, &[&id]).await?;
    tick_in(&acme, 0.0).await?;
    // The console fails for good; the mail in its stead is on its way when somebody snoozes.
    acme.fail(&acme.claim_one().await?, "permanent").await?;
    assert_eq!(
        story(&acme).await?,
        json!(["lead:7 olga console dead", "lead:7 olga email queued"])
    );
    snooze(&acme, &id, 10).await?;
    snooze(&acme, &id, 20).await?;
    assert_eq!(acme.claim().await?.len(), 0);
    // Hours that change have it looked at again, and it still waits.
    acme.operator
        .execute("select rotator.set_delivery_window(null)", &[])
        .await?;
    assert_eq!(tick_in(&acme, 12.0).await?["queued"], 0);
    assert_eq!(tick_in(&acme, 20.0).await?["queued"], 1);
    let over = "update rotator_internal.secret set snoozed_until = now() - interval '1 second'";
    acme.db.admin.batch_execute(over).await?;
    let claim = acme.claim_one().await?;
    assert_eq!(claim.channel, "email");

    // What fails while it is snoozed goes on at its end, too.
    snooze(&acme, &id, 30).await?;
    acme.db
        .admin
        .batch_execute("update rotator_internal.notification set withdrawn_at = null")
        .await?;
    acme.fail(&claim, "permanent").await?;
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(tick_in(&acme, 30.0).await?["queued"], 1);
    acme.db.admin.batch_execute(over).await?;
    acme.complete(&acme.claim_one().await?).await?;
    assert_eq!(
        story(&acme).await?,
        json!([
            "lead:7 olga console dead",
            "lead:7 olga email dead",
            "lead:7 ada email sent"
        ])
    );

    let acknowledge = "select rotator.acknowledge($1, until => now() + interval '40 hours')";
    acme.editor.execute(acknowledge, &[&id]).await?;
    tick_in(&acme, 40.0).await?;
    snooze(&acme, &id, 50).await?;
    let why: Value = acme
        .rows(&format!(
            "select outcome, detail ~ '^the secret is snoozed; that ends ' as says from rotator.explain_notifications('{id}')
             where rule = 'reopened' and channel = 'console'"
        ))
        .await?;
    assert_eq!(why, json!([{"outcome": "deferred", "says": true}]));
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(tick_in(&acme, 50.0).await?["queued"], 2);
    assert_eq!(
        story(&acme).await?.to_string().matches("reopened").count(),
        2,
        "each once"
    );
    Ok(())
}

#[tokio::test]
async fn what_a_lost_worker_held_comes_again() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 40, "").await?;
    let other = theirs(&acme, "other", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    // One message about two, which a worker holds while somebody snoozes one; and the worker is lost.
    let digest = acme.claim_one().await?;
    assert_eq!(digest.message["items"].as_array().map(Vec::len), Some(2));
    snooze(&acme, &id, 10).await?;
    acme.end_waiting().await?;
    let again = acme.claim_one().await?;
    assert_eq!(
        again.message["items"][0]["secret"]["id"],
        json!(other.to_string())
    );
    acme.complete(&again).await?;
    let told = story(&acme).await?.to_string();
    ensure!(
        told.contains("merged") && told.contains("cancelled"),
        "{told}"
    );
    assert_eq!(tick_in(&acme, 10.0).await?["queued"], 1);

    // And a step.
    acme.complete(&acme.claim_one().await?).await?;
    tick_in(&acme, 17.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    tick_in(&acme, 21.1).await?;
    acme.claim_one().await?;
    snooze(&acme, &id, 30).await?;
    assert_eq!(
        acme.rows("select escalation_step from rotator.alerts where secret_name = 'stripe'")
            .await?,
        json!([{"escalation_step": 1}])
    );
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 0);
    // Ticks of tests are ahead of the clock, by which workers are lost.
    acme.db
        .admin
        .batch_execute("update rotator_internal.alert set escalated_at = now() - interval '1 hour'")
        .await?;
    tick_in(&acme, 30.0).await?;
    let told = story(&acme).await?;
    ensure!(
        told.to_string().contains("step 1 sam console cancelled")
            && told.to_string().contains("step 1 sam console queued"),
        "{told}"
    );
    Ok(())
}
