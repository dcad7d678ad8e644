//! What `explain_notifications` says stays true when more happens afterwards, and what has no row yet has a line: what was
//! taken back isn't put down to somebody who came later, what is due waits for a tick or a snooze, and a console that
//! nobody reads is called that. What becomes of a notification in the first place: `explain.rs`.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::json;
use uuid::Uuid;

use crate::seed::Acme;

/// Of priya, who has a mail address; due in five days.
async fn stripe() -> Result<(Acme, Uuid)> {
    let acme = Acme::new().await?;
    let sql = "select rotator.set_contact('priya', 'email', 'priya@acme.example')";
    acme.operator.execute(sql, &[]).await?;
    let with = "owner_id => 'priya', expiry_date => now() + interval '5 days', rotation_interval => '90 days'";
    let id = acme.register("stripe", with).await?;
    Ok((acme, id))
}

/// `sent lead:7` for each line, in their order.
async fn outcomes(acme: &Acme, id: &Uuid) -> Result<Vec<String>> {
    let sql = "select coalesce(array_agg(outcome || ' ' || rule), '{}') from rotator.explain_notifications($1)";
    scalar(&acme.editor, sql, &[id]).await
}

/// What the line of that rule with that outcome says.
async fn detail(acme: &Acme, id: &Uuid, outcome: &str, rule: &str) -> Result<String> {
    let sql = "select coalesce(min(detail), '') from rotator.explain_notifications($1) where outcome = $2 and rule = $3";
    scalar(&acme.editor, sql, &[id, &outcome, &rule]).await
}

#[tokio::test]
async fn who_takes_it_on_later_is_not_why_it_was_suppressed_before() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.tick().await?;
    let take = "select rotator.acknowledge($1, until => now() + interval '1 hour')";
    acme.editor.execute(take, &[&id]).await?;
    let editor: String = scalar(&acme.editor, "select rotator.current_actor()", &[]).await?;
    let said = detail(&acme, &id, "suppressed", "lead:7").await?;
    ensure!(
        said.starts_with(&format!("somebody had taken it on: {editor} since ")),
        "{said}"
    );
    acme.tick_at("now() + interval '2 hours'").await?;
    acme.operator.execute(take, &[&id]).await?;
    let operator: String = scalar(&acme.operator, "select rotator.current_actor()", &[]).await?;
    let said = detail(&acme, &id, "suppressed", "reopened").await?;
    ensure!(
        said.starts_with(&format!("somebody had taken it on: {operator} since ")),
        "{said}"
    );
    assert_eq!(
        detail(&acme, &id, "suppressed", "lead:7").await?,
        "somebody had taken it on; the audit log says who"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_taken_back_before_was_not_taken_back_by_a_rotation() -> Result<()> {
    for later in [
        "select rotator.mark_rotated($1)",
        "select rotator.retire_secret($1)",
    ] {
        // One by itself, and one in a message with another.
        for others in [0, 1] {
            let (acme, id) = stripe().await?;
            for _ in 0..others {
                let with = "owner_id => 'priya', expiry_date => now() + interval '5 days'";
                acme.register("github", with).await?;
            }
            acme.tick().await?;
            let sql =
                "update rotator.secrets set expiry_date = now() + interval '1 year' where id = $1";
            acme.editor.execute(sql, &[&id]).await?;
            acme.editor.execute(later, &[&id]).await?;
            let said = detail(&acme, &id, "cancelled", "lead:7").await?;
            ensure!(
                said.starts_with("its cause was gone before"),
                "{later}, {others}: {said}"
            );
        }
    }
    Ok(())
}

const SNOOZE: &str = "select rotator.snooze($1, now() + interval '1 day', 'tomorrow')";

#[tokio::test]
async fn what_was_taken_back_before_was_not_taken_back_by_a_snooze() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.tick().await?;
    let sql = "update rotator.secrets set expiry_date = now() + interval '1 year' where id = $1";
    acme.editor.execute(sql, &[&id]).await?;
    acme.editor.execute(SNOOZE, &[&id]).await?;
    let said = detail(&acme, &id, "cancelled", "lead:7").await?;
    ensure!(said.starts_with("its cause was gone before"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_snooze_that_was_made_longer_or_is_over_is_still_why() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.tick().await?;
    acme.editor.execute(SNOOZE, &[&id]).await?;
    let longer = "select rotator.snooze($1, now() + interval '2 days', 'the day after')";
    acme.editor.execute(longer, &[&id]).await?;
    let said = detail(&acme, &id, "cancelled", "lead:7").await?;
    ensure!(said.starts_with("the secret is snoozed until "), "{said}");
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.secret
             set snoozed_at = snoozed_at - interval '3 days', snoozed_until = snoozed_until - interval '3 days';
             update rotator_internal.notification set withdrawn_at = withdrawn_at - interval '3 days'",
        )
        .await?;
    let said = detail(&acme, &id, "cancelled", "lead:7").await?;
    ensure!(said.starts_with("the secret was snoozed until "), "{said}");
    // Another one begins anew.
    acme.editor.execute(SNOOZE, &[&id]).await?;
    let said = detail(&acme, &id, "cancelled", "lead:7").await?;
    ensure!(said.starts_with("its cause was gone before"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_waited_for_the_end_of_a_snooze_was_taken_back_by_something_else() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.complete(&claim).await?);
    let take = "select rotator.acknowledge($1, until => now() + interval '1 hour')";
    acme.editor.execute(take, &[&id]).await?;
    acme.tick_at("now() + interval '2 hours'").await?;
    acme.editor.execute(SNOOZE, &[&id]).await?;
    let said = detail(&acme, &id, "deferred", "reopened").await?;
    ensure!(
        said.starts_with("the secret is snoozed; that ends "),
        "{said}"
    );
    let sql = "update rotator.secrets set owner_id = 'mo' where id = $1";
    acme.editor.execute(sql, &[&id]).await?;
    let said = detail(&acme, &id, "cancelled", "reopened").await?;
    ensure!(said.starts_with("its cause was gone before"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_is_due_waits_for_a_tick_or_for_the_end_of_a_snooze() -> Result<()> {
    let (acme, id) = stripe().await?;
    assert_eq!(
        outcomes(&acme, &id).await?,
        ["skipped lead:14", "due lead:7"]
    );
    assert_eq!(
        detail(&acme, &id, "due", "lead:7").await?,
        "the next tick queues it"
    );
    let sql = "select rotator.snooze($1, now() + interval '1 day', 'tomorrow')";
    acme.editor.execute(sql, &[&id]).await?;
    acme.tick().await?;
    assert_eq!(
        outcomes(&acme, &id).await?,
        ["skipped lead:14", "snoozed lead:7"]
    );
    let said = detail(&acme, &id, "snoozed", "lead:7").await?;
    ensure!(said.starts_with("the secret is snoozed until "), "{said}");
    acme.tick_at("now() + interval '25 hours'").await?;
    assert_eq!(
        outcomes(&acme, &id).await?,
        ["skipped lead:14", "queued lead:7"]
    );
    Ok(())
}

#[tokio::test]
async fn a_date_that_was_moved_nearer_is_not_spoken_for_by_the_old_one() -> Result<()> {
    let (acme, id) = stripe().await?;
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.complete(&claim).await?);
    let sql = "update rotator.secrets set expiry_date = now() - interval '1 day' where id = $1";
    acme.editor.execute(sql, &[&id]).await?;
    let mut found = outcomes(&acme, &id).await?;
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "due lead:1",
            "sent lead:7",
            "skipped lead:14",
            "skipped lead:7"
        ]
    );
    let said = detail(&acme, &id, "due", "lead:1").await?;
    ensure!(
        said.starts_with("the next tick queues it; the last one was "),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn what_has_waited_for_the_hours_says_until_when() -> Result<()> {
    let (acme, _) = stripe().await?;
    let sql = "select rotator.retire_secret(id) from rotator.secrets";
    acme.editor.execute(sql, &[]).await?;
    let hours = json!({"days": ["mon"], "from": "09:00", "to": "17:00"});
    let sql = "select rotator.set_delivery_window($1)";
    acme.operator.execute(sql, &[&hours]).await?;
    let with = "owner_id => 'priya', expiry_date => '2031-02-07 12:00+00'";
    let id = acme.register("later", with).await?;
    acme.tick_at("'2031-01-31 12:01+00'").await?;
    // The hours are taken away: it waited, and for no opening.
    let sql = "select rotator.set_delivery_window(null)";
    acme.operator.execute(sql, &[]).await?;
    acme.tick_at("'2031-01-31 12:02+00'").await?;
    assert_eq!(
        outcomes(&acme, &id).await?,
        ["deferred lead:7", "queued lead:7"]
    );
    let said = detail(&acme, &id, "deferred", "lead:7").await?;
    ensure!(
        said.starts_with("outside the delivery window; it waited until "),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn the_console_where_nobody_has_a_contact_is_called_that() -> Result<()> {
    let acme = Acme::new().await?;
    let with = "owner_id => 'ghost', expiry_date => now() + interval '5 days', priority => 'P1'";
    let id = acme.register("lonely", with).await?;
    acme.tick().await?;
    let said = detail(&acme, &id, "queued", "lead:7").await?;
    ensure!(
        said.starts_with("nobody was left to tell: for the operator's console; "),
        "{said}"
    );
    // Nor where everything else has failed.
    let sql = "select rotator.set_contact('mo', 'email', 'mo@acme.example')";
    acme.operator.execute(sql, &[]).await?;
    let with = "owner_id => 'mo', expiry_date => now() + interval '5 days'";
    let failed = acme.register("failed", with).await?;
    acme.tick().await?;
    for claim in acme.claim().await? {
        ensure!(if claim.channel == "email" {
            acme.fail(&claim, "permanent").await?
        } else {
            acme.complete(&claim).await?
        });
    }
    let said = detail(&acme, &failed, "queued", "lead:7").await?;
    ensure!(
        said.starts_with("nobody was left to tell: for the operator's console; in place of email "),
        "{said}"
    );
    // A console that is somebody's is not the operator's.
    let sql = "select rotator.set_contact('ghost', 'console', 'ghost')";
    acme.operator.execute(sql, &[]).await?;
    assert_eq!(detail(&acme, &id, "sent", "lead:7").await?, "");
    Ok(())
}

#[tokio::test]
async fn a_step_that_reaches_nobody_says_whom_it_looked_for() -> Result<()> {
    let (acme, _) = stripe().await?;
    let with = "owner_id => 'priya', expiry_date => now() - interval '2 days', priority => 'P1'";
    let id = acme.register("old", with).await?;
    acme.tick().await?;
    acme.tick().await?;
    assert_eq!(
        detail(&acme, &id, "skipped", "escalation:built-in:3").await?,
        "it reaches nobody: no contact of manager; the next step, if there is one, takes its time"
    );
    assert_eq!(
        detail(&acme, &id, "skipped", "escalation:built-in:4").await?,
        "it reaches nobody: owner, team lead, manager and admins have no PagerDuty contact; the next step, if there is one, takes its time"
    );
    Ok(())
}
