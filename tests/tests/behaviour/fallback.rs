//! When a channel fails for good somebody else is told: the owner by another contact, then the tenant's admins by mail.
//! How long a channel is tried: `budget`. What nobody could be told: `undeliverable`. Workers at odds: `fallback_races`.

use anyhow::{Context, Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::{Acme, Claim};

/// Each notification of what is in use: channel, for whom, state, and by which channel the one went that it took over from.
pub const TOLD: &str = "select n.channel, n.addressee, n.state, f.channel as after
    from rotator.notifications as n left join rotator.notifications as f on f.id = n.fallback_of
    where n.state <> 'cancelled' order by n.id";

/// Dana is reached by these contacts, and her secret's only reminder goes to the first; ada and ben are admins with a
/// mailbox each.
pub async fn dana(contacts: &[(&str, &str)]) -> Result<(Acme, Uuid)> {
    let acme = Acme::new().await?;
    for admin in ["ada", "ben"] {
        let sql = "select rotator.add_member($1, 'admin'), rotator.set_contact($1, 'email', $1 || '@acme.example')";
        acme.operator.query(sql, &[&admin]).await?;
    }
    let secret = reminded(&acme, contacts).await?;
    acme.tick().await?;
    Ok((acme, secret))
}

pub async fn reminded(acme: &Acme, contacts: &[(&str, &str)]) -> Result<Uuid> {
    for (channel, recipient) in contacts {
        contact(acme, "dana", channel, recipient).await?;
    }
    let with = "expiry_date => now() + interval '5 days', rotation_interval => '90 days', owner_id => 'dana', priority => 'P2'";
    let secret = acme.register("stripe", with).await?;
    let channel = contacts.first().map(|(channel, _)| *channel);
    acme.operator
        .execute(
            "select rotator.add_notification_policy(7, $1, secret_id => $2)",
            &[&channel, &secret],
        )
        .await?;
    Ok(secret)
}

pub async fn contact(acme: &Acme, owner: &str, channel: &str, recipient: &str) -> Result<()> {
    acme.operator
        .execute(
            "select rotator.set_contact($1, $2, $3)",
            &[&owner, &channel, &recipient],
        )
        .await?;
    Ok(())
}

const SLACK: (&str, &str) = ("slack", "C0DEPLOYS1");
const EMAIL: (&str, &str) = ("email", "dana@acme.example");
const PAGER: (&str, &str) = ("pagerduty", "0123456789abcdef0123456789abcdef");

/// Everything that can be claimed fails for good; gives how many that were.
pub async fn all_fail(acme: &Acme) -> Result<usize> {
    let claims = acme.claim().await?;
    for claim in &claims {
        ensure!(acme.fail(claim, "permanent").await?);
    }
    Ok(claims.len())
}

#[tokio::test]
async fn the_owner_is_told_by_the_next_contact_and_the_chain_is_recorded() -> Result<()> {
    let (acme, secret) = dana(&[SLACK, EMAIL, PAGER]).await?;
    let first = acme.claim_one().await?;
    assert_eq!(first.channel, "slack");
    ensure!(acme.fail(&first, "permanent").await?);
    let second = acme.claim_one().await?;
    assert_eq!(
        (second.channel.as_str(), second.recipient.as_deref()),
        ("email", Some("dana@acme.example"))
    );
    // It says the same, with a link of its own.
    for key in ["kind", "secret", "lead_time_days", "cycle", "alert_id"] {
        assert_eq!(second.message[key], first.message[key], "{key}");
    }
    ensure!(!second.link_token.is_empty() && second.link_token != first.link_token);
    let same: bool = scalar(
        &acme.db.admin,
        "select count(*) = 1 and bool_and(secret_id = $1) from (select distinct secret_id, cycle, kind, rule, step, due_at, alert_id
             from rotator_internal.notification) as n",
        &[&secret],
    )
    .await?;
    ensure!(same, "made of the same cause");
    ensure!(acme.fail(&second, "permanent").await?);
    ensure!(acme.complete(&acme.claim_one().await?).await?);
    assert_eq!(
        acme.rows(TOLD).await?,
        json!([
            {"channel": "slack", "addressee": "dana", "state": "dead", "after": null},
            {"channel": "email", "addressee": "dana", "state": "dead", "after": "slack"},
            {"channel": "pagerduty", "addressee": "dana", "state": "sent", "after": "email"},
        ])
    );
    let events = "select changes ->> 'channel' as channel, changes ->> 'addressee' as addressee, entity_id = $1 as ours
        from rotator.audit_log where action = 'fallback.queued' order by id";
    let rows = acme.db.admin.query(events, &[&secret.to_string()]).await?;
    let rows: Vec<(String, String, bool)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        rows,
        [
            ("email".into(), "dana".into(), true),
            ("pagerduty".into(), "dana".into(), true)
        ]
    );
    Ok(())
}

#[tokio::test]
async fn then_all_admins_are_told_by_mail_and_one_who_is_reached_is_enough() -> Result<()> {
    let (acme, _) = dana(&[SLACK]).await?;
    // Another tenant's admins have no part in it.
    acme.db.tenant("beta").await?;
    acme.db
        .admin
        .batch_execute(
            "select rotator.use_tenant('beta'), rotator.add_member('bea', 'admin', 'beta');
             select rotator.set_contact('bea', 'email', 'bea@beta.example');",
        )
        .await?;
    assert_eq!(all_fail(&acme).await?, 1);
    let claims = acme.claim().await?;
    let told: Vec<_> = claims.iter().map(|claim| claim.recipient.clone()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    ensure!(
        told.iter()
            .flatten()
            .all(|to| to.ends_with("@acme.example"))
    );
    ensure!(acme.fail(&claims[0], "permanent").await?);
    ensure!(acme.complete(&claims[1]).await?);
    assert_eq!(acme.claim().await?.len(), 0, "the other one knows");
    let undeliverable = acme.rows("select id from rotator.undeliverable").await?;
    assert_eq!(undeliverable, json!([]));
    Ok(())
}

#[tokio::test]
async fn who_was_told_by_another_way_anyway_is_not_told_again() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "ada", "email", "ada@acme.example").await?;
    acme.operator
        .execute("select rotator.add_member('ada', 'admin')", &[])
        .await?;
    for (channel, recipient) in [SLACK, EMAIL, PAGER] {
        contact(&acme, "dana", channel, recipient).await?;
    }
    acme.register(
        "stripe",
        "expiry_date => now() + interval '5 days', owner_id => 'dana'",
    )
    .await?;
    acme.tick().await?;
    let claims = acme.claim().await?;
    let of = |channel: &str| {
        let found = claims.iter().find(|claim| claim.channel == channel);
        found.context("one each").cloned()
    };
    ensure!(acme.fail(&of("slack")?, "permanent").await?);
    ensure!(acme.complete(&of("email")?).await?);
    ensure!(acme.fail(&of("pagerduty")?, "permanent").await?);
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        acme.rows("select id from rotator.undeliverable").await?,
        json!([])
    );
    Ok(())
}

#[tokio::test]
async fn of_several_that_were_told_at_once_the_last_to_fail_falls_back_once() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .execute("select rotator.add_member('ada', 'admin')", &[])
        .await?;
    contact(&acme, "ada", "email", "ada@acme.example").await?;
    for (channel, recipient) in [SLACK, PAGER] {
        contact(&acme, "dana", channel, recipient).await?;
    }
    acme.register(
        "stripe",
        "expiry_date => now() + interval '5 days', owner_id => 'dana'",
    )
    .await?;
    acme.tick().await?;
    // Both in one report.
    let claims = acme.claim().await?;
    let results: Vec<Value> = claims
        .iter()
        .map(|claim| json!({"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": false, "reason": "permanent", "error": "no"}))
        .collect();
    let accepted: i64 = scalar(
        &acme.worker,
        "select count(*) filter (where accepted) from rotator.complete_notifications($1)",
        &[&json!(results)],
    )
    .await?;
    assert_eq!(accepted, 2);
    let claim = acme.claim_one().await?;
    assert_eq!(claim.recipient.as_deref(), Some("ada@acme.example"));
    Ok(())
}

#[tokio::test]
async fn a_tenant_whose_admins_have_no_contact_falls_back_to_the_operators_console() -> Result<()> {
    let acme = Acme::new().await?;
    reminded(&acme, &[SLACK]).await?;
    acme.tick().await?;
    assert_eq!(all_fail(&acme).await?, 1);
    let claim = acme.claim_one().await?;
    assert_eq!(
        (claim.channel.as_str(), claim.recipient.as_deref()),
        ("console", Some("dana"))
    );
    ensure!(acme.complete(&claim).await?);
    let listed = acme
        .rows("select addressee, channel from rotator.undeliverable")
        .await?;
    assert_eq!(
        listed,
        json!([{"addressee": "dana", "channel": "slack"}]),
        "what is printed there has told nobody"
    );
    Ok(())
}

#[tokio::test]
async fn admins_without_a_mailbox_are_told_in_their_own_way() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .execute("select rotator.add_member('ada', 'admin')", &[])
        .await?;
    contact(&acme, "ada", "pagerduty", PAGER.1).await?;
    contact(&acme, "ada", "slack", "C0ADMINS01").await?;
    reminded(&acme, &[EMAIL]).await?;
    acme.tick().await?;
    for channel in ["email", "slack", "pagerduty"] {
        let claim = acme.claim_one().await?;
        assert_eq!(claim.channel, channel);
        ensure!(acme.fail(&claim, "permanent").await?);
    }
    assert_eq!(
        acme.claim().await?.len(),
        0,
        "everybody once: the chain ends"
    );
    Ok(())
}

#[tokio::test]
async fn what_waits_to_be_told_instead_goes_when_nobody_needs_it_any_more() -> Result<()> {
    for end in [
        "select rotator.mark_rotated(id) from rotator.secrets",
        "select rotator.retire_secret(id) from rotator.secrets",
        "select rotator.acknowledge(id) from rotator.secrets",
    ] {
        let (acme, _) = dana(&[SLACK]).await?;
        assert_eq!(all_fail(&acme).await?, 1);
        acme.editor.execute(end, &[]).await?;
        let claims = acme.claim().await?;
        assert_eq!(claims.len(), 0, "{end}: {claims:?}");
        // Nor does one begin to wait afterwards.
        let (acme, _) = dana(&[SLACK]).await?;
        let claim = acme.claim_one().await?;
        acme.editor.execute(end, &[]).await?;
        ensure!(acme.fail(&claim, "permanent").await?);
        let claims = acme.claim().await?;
        let reminders = claims
            .iter()
            .filter(|claim| claim.message["kind"] == "reminder");
        assert_eq!(reminders.count(), 0, "{end}: {claims:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_test_only_says_that_it_failed() -> Result<()> {
    let (acme, _) = dana(&[SLACK, EMAIL]).await?;
    acme.complete(&acme.claim_one().await?).await?;
    acme.operator
        .execute(
            "select rotator.test_notification('slack', 'C0DEPLOYS1')",
            &[],
        )
        .await?;
    assert_eq!(all_fail(&acme).await?, 1);
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        acme.rows("select id from rotator.undeliverable").await?,
        json!([])
    );
    assert_eq!(
        acme.rows("select state, last_error from rotator.notifications where kind = 'test'")
            .await?,
        json!([{"state": "dead", "last_error": "it did not work"}])
    );
    Ok(())
}

/// A backlog of three, announced by one summary to Slack, which fails.
#[tokio::test]
async fn what_a_failed_summary_had_to_say_falls_back_each_by_itself_and_arrives_as_one_message()
-> Result<()> {
    let acme = Acme::new().await?;
    for (channel, recipient) in [SLACK, EMAIL] {
        contact(&acme, "dana", channel, recipient).await?;
    }
    acme.operator
        .batch_execute(
            "select rotator.remove_notification_policy(id) from rotator.notification_policies;
             select rotator.add_notification_policy(7, 'slack');",
        )
        .await?;
    acme.editor
        .execute(
            "select rotator.import_secrets((select jsonb_agg(jsonb_build_object('name', 'old-' || n, 'owner_id', 'dana',
                 'rotation_interval', '90 days', 'expiry_date', (now() - n * interval '1 day')::text)) from generate_series(1, 3) as n))",
            &[],
        )
        .await?;
    acme.tick().await?;
    let summary = acme.claim_one().await?;
    assert_eq!(
        (summary.channel.as_str(), &summary.message["kind"]),
        ("slack", &json!("summary"))
    );
    // One of the three is done meanwhile.
    acme.editor
        .execute(
            "select rotator.mark_rotated(id) from rotator.secrets where name = 'old-1'",
            &[],
        )
        .await?;
    ensure!(acme.fail(&summary, "permanent").await?);
    acme.tick().await?;
    let again: Claim = acme.claim_one().await?;
    assert_eq!(
        (again.channel.as_str(), &again.message["kind"]),
        ("email", &json!("summary"))
    );
    assert_eq!(again.message["counts"]["total"], 2);
    let chain = "select n.state, f.channel as after, f.state as was from rotator.notifications as n
        join rotator.notifications as f on f.id = n.fallback_of and f.secret_id = n.secret_id order by n.id";
    let item = json!({"state": "merged", "after": "slack", "was": "dead"});
    assert_eq!(acme.rows(chain).await?, json!([item, item]));
    ensure!(acme.complete(&again).await?);
    assert_eq!(
        acme.rows("select id from rotator.undeliverable").await?,
        json!([])
    );
    Ok(())
}
