//! What will be sent if nobody acts, beside what ticks then do: the same reminders and steps, at the same times. In Berlin,
//! in 2031: 25 January and 1 February are Saturdays, the secret expires on Saturday, 8 February.

use anyhow::{Context, Result};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::{Acme, rows};

const STRIPE: &str = "owner_id => 'priya', secondary_owner_id => 'sam', team_lead_id => 'tom',
    expiry_date => '2031-02-08 12:00+00', rotation_interval => '90 days'";

/// Priya is told by mail, Tom in Slack; Sam nowhere.
async fn stripe(with: &str) -> Result<(Acme, Uuid)> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    for (owner, channel, address) in [
        ("priya", "email", "priya@acme.example"),
        ("tom", "slack", "C0TOM12345"),
    ] {
        acme.operator
            .execute(
                "select rotator.set_contact($1, $2, $3)",
                &[&owner, &channel, &address],
            )
            .await?;
    }
    let id = acme.register("stripe", &format!("{STRIPE}{with}")).await?;
    Ok((acme, id))
}

async fn weekdays(acme: &Acme) -> Result<()> {
    let hours =
        json!({"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"});
    acme.operator
        .execute("select rotator.set_delivery_window($1)", &[&hours])
        .await?;
    Ok(())
}

/// `01-25 12:00 email lead:14` in UTC, one a line.
async fn preview(acme: &Acme, id: &Uuid) -> Result<Vec<String>> {
    let sql = "select coalesce(array_agg(concat_ws(' ', to_char(at at time zone 'UTC', 'MM-DD HH24:MI'), channel, rule)), '{}')
        from rotator.preview_schedule($1)";
    scalar(&acme.editor, sql, &[id]).await
}

#[tokio::test]
async fn reminders_and_the_ladder_come_at_their_times() -> Result<()> {
    let (acme, id) = stripe("").await?;
    assert_eq!(
        preview(&acme, &id).await?,
        [
            "01-25 12:00 email lead:14",
            "02-01 12:00 email lead:7",
            "02-07 12:00 email lead:1",
            "02-07 16:00 slack escalation:built-in:2",
        ],
        "Sam has no contact, so his step is passed over"
    );
    let first = rows(
        &acme.editor,
        &format!("select kind, recipient_hint from rotator.preview_schedule('{id}', '2031-01-31')"),
    )
    .await?;
    assert_eq!(
        first,
        json!([{"kind": "reminder", "recipient_hint": "…@acme.example"}])
    );
    // And so they do come.
    for at in ["01-25 12:00", "02-01 12:00", "02-07 12:00", "02-07 16:00"] {
        let tick = acme.tick_at(&format!("'2031-{at}+00'")).await?;
        assert_eq!(tick["queued"], 1, "{at}");
    }
    Ok(())
}

#[tokio::test]
async fn the_window_defers_and_the_most_urgent_speaks() -> Result<()> {
    let (acme, id) = stripe("").await?;
    weekdays(&acme).await?;
    acme.operator
        .execute("select rotator.add_notification_policy(6)", &[])
        .await?;
    let ahead = [
        "01-27 08:00 email lead:14",
        "02-03 08:00 email lead:6",
        "02-07 12:00 email lead:1",
        "02-07 16:00 slack escalation:built-in:2",
    ];
    assert_eq!(preview(&acme, &id).await?, ahead);
    // Half way, with one waiting, nothing else is said.
    acme.tick_at("'2031-01-25 12:00+00'").await?;
    assert_eq!(preview(&acme, &id).await?, ahead);
    acme.editor
        .execute(
            "update rotator.secrets set priority = 'P1' where id = $1",
            &[&id],
        )
        .await?;
    acme.tick_at("'2031-01-25 12:00+00'").await?;
    let urgent = preview(&acme, &id).await?;
    assert_eq!(
        urgent[1..3],
        ["02-01 12:00 email lead:7", "02-02 12:00 email lead:6"]
    );
    Ok(())
}

#[tokio::test]
async fn what_passed_unsaid_is_one_reminder_at_the_next_tick() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    let found = rows(
        &acme.editor,
        &format!(
            "select at between now() - interval '1 minute' and now() + interval '1 minute' as is_now, channel, rule, recipient_hint = $$%$$ as hidden
             from rotator.preview_schedule('{id}') limit 1"
        ),
    )
    .await?;
    // Nobody has a contact: the operator's console.
    assert_eq!(
        found,
        json!([{"is_now": true, "channel": "console", "rule": "lead:7", "hidden": false}])
    );
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    acme.complete(&claim).await?;
    let left: Vec<String> = scalar(
        &acme.editor,
        "select array_agg(rule) from rotator.preview_schedule($1)",
        &[&id],
    )
    .await?;
    assert_eq!(left, ["lead:1"]);
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_and_a_snooze_are_taken_into_account() -> Result<()> {
    let (acme, id) = stripe("").await?;
    acme.editor
        .execute(
            "select rotator.snooze($1, '2031-02-03 09:00+00', 'the vendor moves')",
            &[&id],
        )
        .await?;
    let snoozed = preview(&acme, &id).await?;
    assert_eq!(
        snoozed[..2],
        ["02-03 09:00 email lead:7", "02-07 12:00 email lead:1"]
    );
    acme.tick_at("'2031-02-03 09:00+00'").await?;
    let claim = acme.claim_one().await?;
    acme.complete(&claim).await?;
    acme.editor
        .execute(
            "select rotator.acknowledge($1, until => '2031-02-07 15:00+00')",
            &[&id],
        )
        .await?;
    let taken = preview(&acme, &id).await?;
    assert_eq!(taken[0], "02-07 15:00 email reopened", "{taken:?}");
    assert!(
        taken.iter().all(|line| !line.contains("lead:1")),
        "it is silent until then"
    );
    Ok(())
}

#[tokio::test]
async fn it_changes_nothing_and_shows_nothing_of_others() -> Result<()> {
    let (acme, id) = stripe("").await?;
    let viewer = acme.db.session("acme", "viewer").await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "admin").await?;
    let before = acme.fingerprint().await?;
    for call in ["preview_schedule", "explain_notifications"] {
        let sql = format!("select count(*) from rotator.{call}($1)");
        scalar::<i64>(&viewer, &sql, &[&id])
            .await
            .with_context(|| format!("{call} is for viewers too"))?;
        refused(other.query(&sql, &[&id]).await, "PT404")?;
        refused(viewer.query(&sql, &[&Uuid::nil()]).await, "PT404")?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    acme.editor
        .execute("select rotator.retire_secret($1)", &[&id])
        .await?;
    let none: Value = rows(
        &acme.editor,
        &format!("select * from rotator.preview_schedule('{id}')"),
    )
    .await?;
    assert_eq!(none, json!([]));
    Ok(())
}
