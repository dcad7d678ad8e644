//! The built-in ladder: when nobody acknowledges the last reminder it goes to the secondary owner, then to the team lead,
//! and of a P1 that is a day overdue to the manager and to PagerDuty. Ladders that somebody set are in `escalation_policy`.

use anyhow::Result;
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::Acme;

/// A tenant where `people` (subject and channel each) can be reached.
pub async fn acme_with(people: &[(&str, &str)]) -> Result<Acme> {
    let acme = Acme::new().await?;
    for (subject, channel) in people {
        reach(&acme, subject, channel).await?;
    }
    Ok(acme)
}

pub async fn reach(acme: &Acme, subject: &str, channel: &str) -> Result<()> {
    let address = match channel {
        "email" => format!("{subject}@acme.example"),
        "pagerduty" => format!(
            "{:A<32}",
            subject.replace(|c: char| !c.is_alphanumeric(), "")
        ),
        _ => subject.to_owned(),
    };
    acme.operator
        .execute(
            "select rotator.set_contact($1, $2, $3)",
            &[&subject, &channel, &address],
        )
        .await?;
    Ok(())
}

/// Everybody the built-in ladder knows.
pub async fn staffed() -> Result<Acme> {
    acme_with(&[
        ("olga", "console"),
        ("sam", "console"),
        ("lee", "console"),
        ("manager", "email"),
    ])
    .await
}

/// A secret of olga, sam and lee that expires in `hours`, its last reminder due at once if these are less than 24.
pub async fn theirs(acme: &Acme, name: &str, hours: i32, with: &str) -> Result<Uuid> {
    acme.register(
        name,
        &format!(
            "owner_id => 'olga', secondary_owner_id => 'sam', team_lead_id => 'lee', rotation_interval => '90 days',
             expiry_date => now() + interval '{hours} hours' {with}"
        ),
    )
    .await
}

/// A tick this many hours (and a minute) from now.
pub async fn tick_in(acme: &Acme, hours: f64) -> Result<Value> {
    acme.tick_at(&format!("now() + interval '{hours} hours 1 minute'"))
        .await
}

/// Whom each step told, in order: rule without its prefix, and addressee.
pub async fn steps(acme: &Acme) -> Result<Value> {
    scalar(
        &acme.db.admin,
        "select coalesce(jsonb_agg(replace(rule, 'escalation:', '') || ' ' || addressee || case when state <> 'queued' then ' ' || state else '' end
            order by queued_at, step, addressee), '[]')
         from rotator_internal.notification where kind = 'escalation'",
        &[],
    )
    .await
}

pub async fn position(acme: &Acme) -> Result<Value> {
    acme.rows("select state, escalation_step as step, next_escalation_at is not null as goes_on from rotator.alerts")
        .await
}

/// Rules and states of what the owner was to be told.
pub async fn reminders(acme: &Acme) -> Result<Value> {
    scalar(
        &acme.db.admin,
        "select coalesce(jsonb_agg(rule || ' ' || state order by queued_at, id), '[]') from rotator_internal.notification where kind = 'reminder'",
        &[],
    )
    .await
}

#[tokio::test]
async fn four_hours_after_the_last_reminder_the_secondary_owner_is_told_then_the_team_lead()
-> Result<()> {
    let acme = staffed().await?;
    acme.register(
        "stripe",
        "owner_id => 'olga', secondary_owner_id => 'sam', team_lead_id => 'lee', expiry_date => now() + interval '10 days'",
    )
    .await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 24.0 * 8.9).await?;
    assert_eq!(
        steps(&acme).await?,
        json!([]),
        "a reminder is still to come"
    );
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 0, "goes_on": false}])
    );

    let last = 24.0 * 9.0;
    assert_eq!(tick_in(&acme, last).await?["queued"], 1);
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 0, "goes_on": true}])
    );
    assert_eq!(tick_in(&acme, last + 3.9).await?["queued"], 0);
    assert_eq!(tick_in(&acme, last + 4.1).await?["queued"], 1);
    assert_eq!(tick_in(&acme, last + 7.9).await?["queued"], 0);
    assert_eq!(tick_in(&acme, last + 8.1).await?["queued"], 1);
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam", "built-in:2 lee"])
    );
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 2, "goes_on": false}])
    );
    assert_eq!(
        tick_in(&acme, last + 24.0 * 90.0).await?["queued"],
        0,
        "the ladder is at its end"
    );
    let audited: i64 = scalar(
        &acme.operator,
        "select count(*) from rotator.audit_log where action = 'escalation.queued' and actor = 'rotator'",
        &[],
    )
    .await?;
    assert_eq!(audited, 2);
    Ok(())
}

#[tokio::test]
async fn what_a_step_says_is_the_reminder_with_a_link_of_its_own() -> Result<()> {
    let acme = staffed().await?;
    theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    let first = acme.claim_one().await?;
    acme.complete(&first).await?;
    tick_in(&acme, 4.1).await?;
    let second = acme.claim_one().await?;
    assert_eq!(
        (
            &second.message["kind"],
            &second.message["secret"]["name"],
            second.recipient.as_deref()
        ),
        (&json!("escalation"), &json!("stripe"), Some("sam"))
    );
    let redeemed: Value = scalar(
        &acme.worker,
        "select rotator.redeem_link($1, 'acknowledge')",
        &[&second.link_token],
    )
    .await?;
    assert_eq!(redeemed["by"], "sam");
    Ok(())
}

#[tokio::test]
async fn a_p1_a_day_overdue_goes_to_the_manager_and_to_pagerduty() -> Result<()> {
    let acme = staffed().await?;
    reach(&acme, "lee", "pagerduty").await?;
    for priority in ["P1", "P2"] {
        theirs(&acme, priority, 20, &format!(", priority => '{priority}'")).await?;
    }
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 9.0).await?;
    let before = steps(&acme).await?.as_array().map_or(0, Vec::len);
    tick_in(&acme, 43.8).await?;
    assert_eq!(
        steps(&acme).await?.as_array().map_or(0, Vec::len),
        before,
        "not a day overdue yet"
    );
    tick_in(&acme, 44.1).await?;
    let told: Value = scalar(
        &acme.db.admin,
        "select jsonb_agg(n.rule || ' ' || n.addressee || ' ' || n.channel || ' ' || s.priority order by n.step, n.channel)
         from rotator_internal.notification as n join rotator_internal.secret as s on s.id = n.secret_id where n.step > 2",
        &[],
    )
    .await?;
    assert_eq!(
        told,
        json!([
            "escalation:built-in:3 manager email P1",
            "escalation:built-in:4 lee pagerduty P1"
        ])
    );
    Ok(())
}

#[tokio::test]
async fn a_p1_registered_when_it_was_long_overdue_goes_there_at_once() -> Result<()> {
    let acme = staffed().await?;
    theirs(&acme, "forgotten", -100, ", priority => 'P1'").await?;
    tick_in(&acme, 0.0).await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:3 manager"]));
    tick_in(&acme, 8.1).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:3 manager", "built-in:1 sam", "built-in:2 lee"])
    );
    Ok(())
}

#[tokio::test]
async fn an_imported_backlog_pages_nobody_before_a_day_has_passed() -> Result<()> {
    let acme = staffed().await?;
    acme.editor
        .execute(
            "select rotator.import_secrets(jsonb_build_array(jsonb_build_object(
                'name', 'old', 'priority', 'P1', 'owner_id', 'olga', 'expiry_date', now() - interval '100 days')))",
            &[],
        )
        .await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 23.0).await?;
    assert_eq!(steps(&acme).await?, json!([]));
    tick_in(&acme, 24.1).await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:3 manager"]));
    Ok(())
}

#[tokio::test]
async fn a_step_that_reaches_nobody_is_passed_over_at_once() -> Result<()> {
    let acme = acme_with(&[("olga", "console"), ("lee", "console")]).await?;
    theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 4.1).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:2 lee"]),
        "not four hours later"
    );
    assert_eq!(tick_in(&acme, 9.0).await?["queued"], 0);
    let passed: Value = scalar(
        &acme.operator,
        "select jsonb_agg(changes ->> 'rule') from rotator.audit_log where action = 'escalation.passed_over'",
        &[],
    )
    .await?;
    assert_eq!(passed, json!(["escalation:built-in:1"]));
    Ok(())
}

#[tokio::test]
async fn with_nobody_to_tell_nothing_is_queued() -> Result<()> {
    let acme = acme_with(&[("olga", "console")]).await?;
    theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    assert_eq!(tick_in(&acme, 100.0).await?["queued"], 0);
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 2, "goes_on": false}])
    );
    Ok(())
}

#[tokio::test]
async fn steps_missed_together_tell_each_person_once() -> Result<()> {
    let acme = staffed().await?;
    theirs(&acme, "apart", 20, "").await?;
    acme.register(
        "same",
        "owner_id => 'olga', secondary_owner_id => 'sam', team_lead_id => 'sam', expiry_date => now() + interval '20 hours'",
    )
    .await?;
    acme.register(
        "alone",
        "owner_id => 'olga', secondary_owner_id => 'olga', expiry_date => now() + interval '20 hours'",
    )
    .await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 72.0).await?;
    let told: Value = scalar(
        &acme.db.admin,
        "select jsonb_object_agg(t.owners, t.steps) from (
            select coalesce(s.team_lead_id, 'none') as owners, jsonb_agg(n.step || ' ' || n.addressee order by n.step) as steps
            from rotator_internal.notification as n join rotator_internal.secret as s on s.id = n.secret_id
            where n.kind = 'escalation' group by 1) as t",
        &[],
    )
    .await?;
    assert_eq!(
        told,
        json!({"lee": ["1 sam", "2 lee"], "sam": ["2 sam"], "none": ["1 olga"]})
    );
    Ok(())
}

#[tokio::test]
async fn whatever_ends_the_alert_ends_its_ladder() -> Result<()> {
    for how in [
        "acknowledge($1)",
        "mark_rotated($1)",
        "retire_secret($1)",
        "snooze($1, now() + interval '19 hours', 'later')",
    ] {
        let acme = staffed().await?;
        let id = theirs(&acme, "stripe", 20, "").await?;
        tick_in(&acme, 0.0).await?;
        tick_in(&acme, 4.1).await?;
        acme.editor
            .execute(&format!("select rotator.{how}"), &[&id])
            .await?;
        tick_in(&acme, 10.0).await?;
        let told = steps(&acme).await?;
        let stopped = told
            .as_array()
            .is_some_and(|told| told.len() == 1 && told[0] != "built-in:1 sam");
        anyhow::ensure!(stopped, "{how}: {told}");
        assert_eq!(acme.claim().await?.len(), 0, "{how}");
    }
    Ok(())
}
