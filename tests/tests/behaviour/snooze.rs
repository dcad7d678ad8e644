//! Snoozing: silence until a time, for a reason, and never past the expiry unless an admin says so. What came due meanwhile
//! comes when it ends.

use anyhow::{Result, ensure};
use rotator_tests::refused;
use serde_json::json;
use uuid::Uuid;

use crate::escalation::{position, reminders, staffed, steps, theirs, tick_in};
use crate::seed::{Acme, rows};

async fn snooze(acme: &Acme, id: &Uuid, hours: i32) -> Result<()> {
    acme.editor
        .execute(
            &format!(
                "select rotator.snooze($1, now() + interval '{hours} hours', 'after the release')"
            ),
            &[id],
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_until_it_ends_and_then_the_most_urgent_of_what_was_missed() -> Result<()> {
    let acme = staffed().await?;
    // Reminders come 20 and 164 hours from now; the first is sent.
    let id = theirs(&acme, "stripe", 24 * 7 + 20, "").await?;
    tick_in(&acme, 20.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    snooze(&acme, &id, 180).await?;
    assert_eq!(
        acme.rows(
            "select snoozed_until > now() + interval '179 hours' as snoozed from rotator.secrets"
        )
        .await?,
        json!([{"snoozed": true}])
    );
    assert_eq!(tick_in(&acme, 170.0).await?["queued"], 0);
    assert_eq!(tick_in(&acme, 180.0).await?["queued"], 1);
    assert_eq!(
        reminders(&acme).await?,
        json!(["lead:7 sent", "lead:1 queued"])
    );
    tick_in(&acme, 184.1).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam"]),
        "the ladder counts from there"
    );
    let audited = rows(&acme.operator, "select changes ->> 'reason' as reason, changes ? 'until' as until from rotator.audit_log where action = 'secret.snoozed'").await?;
    assert_eq!(
        audited,
        json!([{"reason": "after the release", "until": true}])
    );
    Ok(())
}

#[tokio::test]
async fn what_was_queued_waits_too_and_what_was_said_is_not_said_again() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    snooze(&acme, &id, 10).await?;
    assert_eq!(acme.claim().await?.len(), 0);
    tick_in(&acme, 10.0).await?;
    assert_eq!(
        reminders(&acme).await?,
        json!(["lead:7 cancelled", "lead:7 queued"])
    );
    acme.complete(&acme.claim_one().await?).await?;
    snooze(&acme, &id, 20).await?;
    assert_eq!(tick_in(&acme, 20.0).await?["queued"], 0);
    Ok(())
}

#[tokio::test]
async fn the_ladder_waits_and_steps_missed_together_tell_each_once() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    snooze(&acme, &id, 12).await?;
    assert_eq!(tick_in(&acme, 11.5).await?["queued"], 0);
    tick_in(&acme, 12.0).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam", "built-in:2 lee"])
    );
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_that_ends_meanwhile_opens_the_alert_at_its_end() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    let acknowledge = "select rotator.acknowledge($1, until => now() + interval '5 hours')";
    acme.editor.execute(acknowledge, &[&id]).await?;
    snooze(&acme, &id, 12).await?;
    assert_eq!(tick_in(&acme, 6.0).await?["reopened"], 0);
    assert_eq!(tick_in(&acme, 12.0).await?["reopened"], 1);

    // The other way round: taken on for a shorter time than it is snoozed for.
    snooze(&acme, &id, 30).await?;
    acme.editor.execute(acknowledge, &[&id]).await?;
    assert_eq!(tick_in(&acme, 20.0).await?["reopened"], 0);
    assert_eq!(tick_in(&acme, 30.0).await?["reopened"], 1);
    Ok(())
}

#[tokio::test]
async fn past_the_expiry_only_an_admin_can() -> Result<()> {
    let acme = staffed().await?;
    let ahead = theirs(&acme, "ahead", 10, "").await?;
    let overdue = theirs(&acme, "overdue", -10, "").await?;
    let beyond = "select rotator.snooze($1, now() + interval '11 hours', 'why')";
    for id in [ahead, overdue] {
        let before = acme.fingerprint().await?;
        refused(acme.editor.query(beyond, &[&id]).await, "22023")?;
        assert_eq!(acme.fingerprint().await?, before);
        acme.operator.execute(beyond, &[&id]).await?;
    }
    snooze(&acme, &ahead, 9).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_snooze_is_refused() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    let viewer = acme.db.session("acme", "viewer").await?;
    let before = acme.fingerprint().await?;
    for arguments in [
        "now(), 'why'",
        "now() - interval '1 hour', 'why'",
        "'infinity', 'why'",
        "'-infinity', 'why'",
        "null, 'why'",
        "now() + interval '1 hour', null",
        "now() + interval '1 hour', '   '",
        "now() + interval '1 hour', repeat('x', 10001)",
    ] {
        let sql = format!("select rotator.snooze($1, {arguments})");
        refused(acme.operator.query(&sql, &[&id]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    let unknown = "select rotator.snooze(gen_random_uuid(), now() + interval '1 hour', 'why')";
    refused(acme.editor.query(unknown, &[]).await, "PT404")?;
    let good = "select rotator.snooze($1, now() + interval '1 hour', 'why')";
    let stranger = refused(viewer.query(good, &[&id]).await, "42501")?;
    // It isn't a matter of roles alone.
    let hint = stranger.hint().unwrap_or_default();
    anyhow::ensure!(
        hint.contains("or the secret's owner, secondary owner or team lead"),
        "{hint}"
    );
    assert_eq!(acme.fingerprint().await?, before);
    acme.editor
        .execute("select rotator.retire_secret($1)", &[&id])
        .await?;
    refused(acme.editor.query(good, &[&id]).await, "PT409")?;
    Ok(())
}

#[tokio::test]
async fn rotating_retiring_and_another_expiry_date_end_it() -> Result<()> {
    for how in [
        "select rotator.mark_rotated($1, next_expiry_date => now() + interval '20 hours')",
        "update rotator.secrets set expiry_date = now() + interval '20 hours' where id = $1",
        "select rotator.retire_secret($1)",
    ] {
        let acme = staffed().await?;
        let id = theirs(&acme, "stripe", 100, "").await?;
        snooze(&acme, &id, 90).await?;
        acme.editor.execute(how, &[&id]).await?;
        let seen = acme
            .rows("select snoozed_until from rotator.secrets")
            .await?;
        assert_eq!(seen, json!([{"snoozed_until": null}]), "{how}");
        let queued = if how.contains("retire") { 0 } else { 1 };
        assert_eq!(tick_in(&acme, 0.0).await?["queued"], queued, "{how}");
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_policies_does_not_wake_it() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    snooze(&acme, &id, 50).await?;
    acme.operator
        .execute("select rotator.add_notification_policy(5)", &[])
        .await?;
    acme.operator
        .execute(
            "select rotator.add_notification_policy(6, secret_id => $1)",
            &[&id],
        )
        .await?;
    assert_eq!(tick_in(&acme, 0.0).await?["queued"], 0);
    assert_eq!(tick_in(&acme, 50.0).await?["queued"], 1);
    Ok(())
}

#[tokio::test]
async fn a_later_call_replaces_it_and_the_past_shows_none() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    snooze(&acme, &id, 15).await?;
    snooze(&acme, &id, 1).await?;
    assert_eq!(tick_in(&acme, 1.0).await?["queued"], 1);
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 0, "goes_on": true}])
    );
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.secret set snoozed_until = now() - interval '1 second'",
        )
        .await?;
    assert_eq!(
        acme.rows("select snoozed_until from rotator.secrets")
            .await?,
        json!([{"snoozed_until": null}])
    );
    ensure!(
        acme.editor
            .execute("update rotator.secrets set environment = 'prod'", &[])
            .await?
            == 1
    );
    Ok(())
}
