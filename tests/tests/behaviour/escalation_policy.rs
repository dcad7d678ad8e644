//! Ladders that an admin set: by priority or for one secret, with steps repeated, over a channel, from the expiry. What an
//! alert began with it keeps. What is refused is in `escalation_policy_input`.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::escalation::{position, reach, staffed, steps, theirs, tick_in};
use crate::seed::{Acme, rows};

pub async fn set(acme: &Acme, name: &str, steps: Value, priorities: &[&str]) -> Result<Uuid> {
    scalar(
        &acme.operator,
        "select rotator.set_escalation_policy($1, $2, nullif($3::text[], '{}'))",
        &[&name, &steps, &priorities],
    )
    .await
}

fn to_owner(after: &str) -> Value {
    json!([{"after": after, "target": "owner"}])
}

#[tokio::test]
async fn its_steps_go_to_whom_it_says_when_it_says() -> Result<()> {
    let acme = staffed().await?;
    reach(&acme, "lee", "email").await?;
    let admin = acme.db.member("acme", "admin").await?;
    reach(&acme, &admin.subject(), "console").await?;
    set(
        &acme,
        "payments",
        json!([
            {"after": "30 minutes", "target": "owner"},
            {"after": "2 hours", "target": "team_lead", "channel": "email"},
            {"after": "2 hours", "recipient": "ops@acme.example", "channel": "email"},
            {"after": "1 day", "target": "admins"},
            {"after": "0:00", "from": "expiry", "target": "manager"}
        ]),
        &["P2"],
    )
    .await?;
    theirs(&acme, "stripe", 20, ", priority => 'P2'").await?;
    theirs(&acme, "other", 2000, ", priority => 'P2'").await?;
    tick_in(&acme, 0.0).await?;
    for (hours, told) in [(0.4, json!([])), (0.6, json!(["payments:1 olga"]))] {
        tick_in(&acme, hours).await?;
        assert_eq!(steps(&acme).await?, told, "after {hours} hours");
    }
    tick_in(&acme, 2.1).await?;
    let by_mail: Value = scalar(
        &acme.db.admin,
        "select jsonb_agg(n.step || ' ' || n.addressee || ' ' || n.channel order by n.step) from rotator_internal.notification as n where n.step in (2, 3)",
        &[],
    )
    .await?;
    assert_eq!(
        by_mail,
        json!(["2 lee email", "3 olga email"]),
        "whose recipient has no name acts as the owner"
    );
    tick_in(&acme, 20.1).await?;
    tick_in(&acme, 24.1).await?;
    let told = steps(&acme).await?;
    assert_eq!(
        (&told[3], &told[4]),
        (
            &json!("payments:5 manager"),
            &json!(format!("payments:4 {}", admin.subject()))
        )
    );
    assert_eq!(
        position(&acme).await?[0],
        json!({"state": "open", "step": 5, "goes_on": false})
    );
    Ok(())
}

#[tokio::test]
async fn a_step_is_repeated_until_somebody_takes_it_on_and_missed_repeats_are_one() -> Result<()> {
    let acme = staffed().await?;
    set(
        &acme,
        "nag",
        json!([{"after": "1 hour", "target": "owner", "repeat_every": "1 hour", "repeats": 20}, {"after": "3 hours", "target": "team_lead"}]),
        &["P3"],
    )
    .await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    for hours in [1.1, 2.1, 2.2, 3.1] {
        tick_in(&acme, hours).await?;
    }
    assert_eq!(
        steps(&acme).await?,
        json!(["nag:1 olga", "nag:1 olga", "nag:1 olga", "nag:2 lee"])
    );
    tick_in(&acme, 12.5).await?;
    assert_eq!(
        steps(&acme).await?.as_array().map_or(0, Vec::len),
        5,
        "nine were missed"
    );
    let last: i64 = scalar(
        &acme.db.admin,
        "select round(extract(epoch from max(due_at) - now()) / 3600)::bigint from rotator_internal.notification",
        &[],
    )
    .await?;
    assert_eq!(last, 12, "the latest of them");
    acme.editor
        .execute("select rotator.acknowledge($1)", &[&id])
        .await?;
    tick_in(&acme, 14.0).await?;
    assert_eq!(steps(&acme).await?.as_array().map_or(0, Vec::len), 5);
    Ok(())
}

#[tokio::test]
async fn an_alert_keeps_the_revision_it_began_with() -> Result<()> {
    let acme = staffed().await?;
    set(&acme, "ours", to_owner("2 hours"), &["P3"]).await?;
    theirs(&acme, "before", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    set(
        &acme,
        "ours",
        json!([{"after": "1 hour", "target": "team_lead"}]),
        &["P3"],
    )
    .await?;
    theirs(&acme, "after", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 1.2).await?;
    assert_eq!(steps(&acme).await?, json!(["ours:1 lee"]));
    acme.operator
        .execute("select rotator.remove_escalation_policy('ours')", &[])
        .await?;
    tick_in(&acme, 2.2).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["ours:1 lee", "ours:1 olga"]),
        "removed, and still its own"
    );
    theirs(&acme, "later", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 4.2).await?;
    assert_eq!(steps(&acme).await?[2], "built-in:1 sam");
    assert_eq!(
        rows(&acme.db.admin, "select name, revision, is_current from rotator_internal.escalation_policy order by revision").await?,
        json!([{"name": "ours", "revision": 1, "is_current": false}, {"name": "ours", "revision": 2, "is_current": false}])
    );
    Ok(())
}

#[tokio::test]
async fn a_secret_may_have_a_ladder_of_its_own() -> Result<()> {
    let acme = staffed().await?;
    set(&acme, "all", to_owner("1 hour"), &["P3"]).await?;
    set(
        &acme,
        "special",
        json!([{"after": "1 hour", "target": "team_lead"}]),
        &[],
    )
    .await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    let choose = "select rotator.use_escalation_policy($1, $2)";
    acme.operator
        .execute(choose, &[&id, &Some("special")])
        .await?;
    assert_eq!(
        acme.rows("select name, secrets from rotator.escalation_policies order by name")
            .await?,
        json!([{"name": "all", "secrets": 0}, {"name": "special", "secrets": 1}])
    );
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 1.1).await?;
    assert_eq!(steps(&acme).await?, json!(["special:1 lee"]));
    acme.operator.execute(choose, &[&id, &None::<&str>]).await?;
    acme.editor
        .execute(
            "select rotator.mark_rotated($1, next_expiry_date => now() + interval '20 hours')",
            &[&id],
        )
        .await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 1.1).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["special:1 lee cancelled", "all:1 olga"])
    );

    refused(
        acme.operator.query(choose, &[&id, &Some("unknown")]).await,
        "PT404",
    )?;
    refused(
        acme.operator
            .query(choose, &[&Uuid::nil(), &Some("all")])
            .await,
        "PT404",
    )?;
    refused(
        acme.editor.query(choose, &[&id, &Some("all")]).await,
        "42501",
    )?;
    refused(
        acme.operator
            .query("select rotator.remove_escalation_policy('unknown')", &[])
            .await,
        "PT404",
    )?;
    Ok(())
}

#[tokio::test]
async fn a_priority_has_one_ladder_and_a_later_one_takes_it_over() -> Result<()> {
    let acme = staffed().await?;
    set(&acme, "first", to_owner("1 hour"), &["p1", "P2", "P1"]).await?;
    set(&acme, "second", to_owner("2 hours"), &["P2", "P3"]).await?;
    assert_eq!(
        acme.rows("select name, priorities from rotator.escalation_policies order by name")
            .await?,
        json!([{"name": "first", "priorities": ["P1"]}, {"name": "second", "priorities": ["P2", "P3"]}])
    );
    let said: Value = scalar(
        &acme.operator,
        "select changes -> 'taken_over_from' from rotator.audit_log where action = 'escalation_policy.set' order by id desc limit 1",
        &[],
    )
    .await?;
    assert_eq!(said, json!(["first"]));
    Ok(())
}

#[tokio::test]
async fn the_view_shows_steps_and_hints_never_addresses() -> Result<()> {
    let acme = staffed().await?;
    let id = set(
        &acme,
        "payments",
        json!([{"after": "90 minutes", "recipient": "night-shift@acme.example", "channel": "email", "repeat_every": "1 day", "repeats": 2}]),
        &["P1"],
    )
    .await?;
    let seen = acme
        .rows("select * from rotator.escalation_policies")
        .await?;
    assert_eq!(seen[0]["id"], json!(id.to_string()));
    assert_eq!(
        seen[0]["steps"],
        json!([{"from": "reminder", "after": "01:30:00", "channel": "email", "recipient_hint": "…@acme.example", "repeat_every": "1 day", "repeats": 2}])
    );
    let log: String = scalar(
        &acme.operator,
        "select string_agg(changes::text, ' ') from rotator.audit_log",
        &[],
    )
    .await?;
    ensure!(!log.contains("night-shift"), "{log}");
    Ok(())
}
