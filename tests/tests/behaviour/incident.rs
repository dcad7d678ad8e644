//! PagerDuty's incident follows the alert: who was told, or may have been, is told that somebody is on it and that it is
//! over, in the transaction of its cause, and once. In which order: `incident_order`.

use anyhow::{Context, Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::{Acme, Claim};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "abcdef0123456789abcdef0123456789";
/// What follows alerts, without what is asked for by the calendar.
pub const FOLLOWS: &str = "select kind, state from rotator.notifications
    where kind in ('acknowledge', 'resolve') order by due_at, recipient_hint";

/// A secret of priya's with its seven-day reminder queued for her key.
pub async fn paged() -> Result<(Acme, Uuid)> {
    let acme = Acme::new().await?;
    contact(&acme, "pagerduty", KEY).await?;
    let secret = due(&acme).await?;
    acme.tick().await?;
    Ok((acme, secret))
}

/// The same, and the reminder was sent.
pub async fn triggered() -> Result<(Acme, Uuid)> {
    let (acme, secret) = paged().await?;
    acme.complete(&acme.claim_one().await?).await?;
    Ok((acme, secret))
}

async fn contact(acme: &Acme, channel: &str, recipient: &str) -> Result<()> {
    let sql = "select rotator.set_contact('priya', $1, $2)";
    acme.operator.execute(sql, &[&channel, &recipient]).await?;
    Ok(())
}

async fn due(acme: &Acme) -> Result<Uuid> {
    let with = "expiry_date => now() + interval '5 days', rotation_interval => '90 days', owner_id => 'priya'";
    acme.register("stripe", with).await
}

/// Runs `select rotator.…($1)` about the secret.
pub async fn call(acme: &Acme, call: &str, secret: Uuid) -> Result<()> {
    let sql = format!("select rotator.{call}");
    acme.editor.execute(&sql, &[&secret]).await?;
    Ok(())
}

pub async fn move_expiry(acme: &Acme, secret: Uuid, to: &str) -> Result<()> {
    let sql = format!("update rotator.secrets set expiry_date = {to} where id = $1");
    acme.editor.execute(&sql, &[&secret]).await?;
    Ok(())
}

pub fn kind(claim: &Claim) -> &str {
    claim.message["kind"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn rotating_resolves_for_everybody_who_was_told_and_for_nobody_else() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "pagerduty", KEY).await?;
    contact(&acme, "email", "priya@acme.example").await?;
    // One more is told at the same time, and another one not before the last day.
    for (days, key) in [(7, OTHER_KEY), (1, "ffffffffffffffffffffffffffffffff")] {
        let sql = "select rotator.add_notification_policy($1, 'pagerduty', $2)";
        acme.operator.execute(sql, &[&days, &key]).await?;
    }
    let secret = due(&acme).await?;
    acme.tick().await?;
    for claim in acme.claim().await? {
        acme.complete(&claim).await?;
    }
    call(&acme, "mark_rotated($1)", secret).await?;

    let mut told = acme.claim().await?;
    told.sort_by_key(|claim| claim.recipient.clone());
    let recipients: Vec<_> = told
        .iter()
        .filter_map(|claim| claim.recipient.as_deref())
        .collect();
    assert_eq!(recipients, [KEY, OTHER_KEY]);
    for claim in &told {
        assert_eq!(
            (kind(claim), claim.channel.as_str()),
            ("resolve", "pagerduty")
        );
        assert_eq!(claim.message["cycle"], 1, "of the cycle that has ended");
        ensure!(
            claim.link_token.is_empty(),
            "there is nothing to act on any more"
        );
    }
    Ok(())
}

#[tokio::test]
async fn whatever_became_of_a_message_that_may_have_arrived_it_is_resolved() -> Result<()> {
    for outcome in ["sent", "leased", "timeout", "permanent", "lost"] {
        let (acme, secret) = paged().await?;
        let claim = acme.claim_one().await?;
        match outcome {
            "sent" => ensure!(acme.complete(&claim).await?),
            "timeout" | "permanent" => ensure!(acme.fail(&claim, outcome).await?),
            "lost" => acme.end_waiting().await?,
            _ => {}
        }
        call(&acme, "mark_rotated($1)", secret).await?;
        assert_eq!(
            acme.rows(FOLLOWS).await?,
            json!([{"kind": "resolve", "state": "queued"}]),
            "{outcome}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn who_was_never_told_is_not_told_that_it_is_over() -> Result<()> {
    let (acme, secret) = paged().await?;
    // Claimed, but the worker stopped before it began.
    let claim = acme.claim_one().await?;
    let sql = "select rotator.release_notifications(array[$1::uuid], array[$2::uuid])";
    let released: i32 = scalar(&acme.worker, sql, &[&claim.id, &claim.claim_id]).await?;
    assert_eq!(released, 1);
    call(&acme, "mark_rotated($1)", secret).await?;
    assert_eq!(acme.rows(FOLLOWS).await?, json!([]));
    assert_eq!(acme.claim().await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn what_still_pages_somebody_is_acknowledged_after_it_and_what_has_not_begun_is_not_sent()
-> Result<()> {
    let (acme, secret) = paged().await?;
    let page = acme.claim_one().await?;
    call(&acme, "acknowledge($1)", secret).await?;
    assert_eq!(acme.claim().await?.len(), 0, "not before the page has gone");
    acme.complete(&page).await?;
    assert_eq!(kind(&acme.claim_one().await?), "acknowledge");

    let (acme, secret) = paged().await?;
    call(&acme, "acknowledge($1)", secret).await?;
    assert_eq!(
        acme.claim().await?.len(),
        0,
        "nobody was paged, so nobody needs to hear"
    );
    call(&acme, "mark_rotated($1)", secret).await?;
    assert_eq!(acme.claim().await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_message_that_was_tried_and_then_cancelled_counts() -> Result<()> {
    let (acme, secret) = paged().await?;
    acme.fail(&acme.claim_one().await?, "timeout").await?;
    // Cancels it, and what comes instead is not sent before the rotation.
    move_expiry(&acme, secret, "now() + interval '4 days'").await?;
    acme.tick().await?;
    call(&acme, "mark_rotated($1)", secret).await?;
    assert_eq!(
        acme.rows(FOLLOWS).await?,
        json!([{"kind": "resolve", "state": "queued"}])
    );
    Ok(())
}

#[tokio::test]
async fn every_way_an_alert_ends_resolves_it_once() -> Result<()> {
    for how in [
        "mark_rotated($1, next_expiry_date => now() + interval '1 year')",
        "retire_secret($1)",
        "moved",
        "interval",
        "deleted",
        "link",
    ] {
        let (acme, secret) = paged().await?;
        let claim = acme.claim_one().await?;
        acme.complete(&claim).await?;
        for _ in 0..2 {
            match how {
                "moved" => move_expiry(&acme, secret, "'2039-01-01'").await?,
                "interval" => {
                    let sql =
                        "update rotator.secrets set rotation_interval = '6 days' where id = $1";
                    acme.editor.execute(sql, &[&secret]).await?;
                }
                "deleted" => {
                    let sql = "delete from rotator.secrets where id = $1";
                    acme.editor.execute(sql, &[&secret]).await?;
                }
                "link" => {
                    let sql = "select rotator.redeem_link($1, 'rotated')";
                    acme.worker.execute(sql, &[&claim.link_token]).await?;
                }
                function => call(&acme, function, secret).await?,
            }
        }
        assert_eq!(
            acme.rows(FOLLOWS).await?,
            json!([{"kind": "resolve", "state": "queued"}]),
            "{how}"
        );
        let resolve = acme.claim_one().await.context(how)?;
        assert_eq!(
            (kind(&resolve), &resolve.message["secret"]["name"]),
            ("resolve", &json!("stripe")),
            "{how}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn acknowledging_is_passed_on_once_and_the_rotation_overtakes_it() -> Result<()> {
    let (acme, secret) = triggered().await?;
    call(&acme, "acknowledge($1)", secret).await?;
    call(&acme, "acknowledge($1)", secret).await?;
    call(
        &acme,
        "acknowledge($1, until => now() + interval '1 day')",
        secret,
    )
    .await?;
    assert_eq!(
        acme.rows(FOLLOWS).await?,
        json!([{"kind": "acknowledge", "state": "queued"}])
    );
    // A date that moves within reach changes nothing about it.
    move_expiry(&acme, secret, "now() + interval '3 days'").await?;
    assert_eq!(
        acme.rows(FOLLOWS).await?,
        json!([{"kind": "acknowledge", "state": "queued"}])
    );
    let acknowledge = acme.claim_one().await?;
    assert_eq!(
        (kind(&acknowledge), acknowledge.link_token.as_str()),
        ("acknowledge", "")
    );
    acme.fail(&acknowledge, "timeout").await?;

    call(&acme, "mark_rotated($1)", secret).await?;
    assert_eq!(
        acme.rows(FOLLOWS).await?,
        json!([{"kind": "acknowledge", "state": "cancelled"}, {"kind": "resolve", "state": "queued"}])
    );
    assert_eq!(kind(&acme.claim_one().await?), "resolve");
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_tells_nobody() -> Result<()> {
    let (acme, secret) = triggered().await?;
    let before = acme.fingerprint().await?;
    for change in ["acknowledge($1)", "mark_rotated($1)", "retire_secret($1)"] {
        acme.editor.batch_execute("begin").await?;
        call(&acme, change, secret).await?;
        acme.editor.batch_execute("rollback").await?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn another_tenants_alert_is_none_of_ours() -> Result<()> {
    let (acme, secret) = triggered().await?;
    acme.db.tenant("globex").await?;
    let globex = acme.db.session("globex", "admin").await?;
    let made: Uuid = scalar(
        &globex,
        "select rotator.register_secret('stripe', expiry_date => now() + interval '5 days', rotation_interval => '90 days', owner_id => 'priya')",
        &[],
    )
    .await?;
    globex
        .execute(
            "select rotator.set_contact('priya', 'pagerduty', $1)",
            &[&KEY],
        )
        .await?;
    acme.tick().await?;
    acme.complete(&acme.claim_one().await?).await?;

    call(&acme, "mark_rotated($1)", secret).await?;
    let resolves: Value = scalar(
        &acme.db.admin,
        "select jsonb_agg(secret_id) from rotator_internal.notification where kind = 'resolve'",
        &[],
    )
    .await?;
    assert_eq!(resolves, json!([secret.to_string()]));
    let open: String = scalar(
        &globex,
        "select state from rotator.alerts where secret_id = $1",
        &[&made],
    )
    .await?;
    assert_eq!(open, "open");
    Ok(())
}

#[tokio::test]
async fn each_queueing_has_its_audit_event_with_the_one_who_caused_it() -> Result<()> {
    let (acme, secret) = triggered().await?;
    call(&acme, "acknowledge($1)", secret).await?;
    call(&acme, "mark_rotated($1)", secret).await?;
    let events = "select action, entity_id = $1 as about_it, source, changes ->> 'rule' as rule,
            actor = (select x.actor from rotator_internal.audit_event as x where x.action = 'secret.rotated') as same_actor,
            changes ->> 'notification' in (select n.id::text from rotator_internal.notification as n where n.kind = changes ->> 'rule') as named
        from rotator_internal.audit_event where action in ('acknowledge.queued', 'resolve.queued') order by id";
    let events: Value = scalar(
        &acme.db.admin,
        &format!("select jsonb_agg(to_jsonb(q)) from ({events}) as q"),
        &[&secret.to_string()],
    )
    .await?;
    let event = |rule: &str| json!({"action": format!("{rule}.queued"), "about_it": true, "source": "sql", "rule": rule, "same_actor": true, "named": true});
    assert_eq!(events, json!([event("acknowledge"), event("resolve")]));
    Ok(())
}
