//! What comes due outside a tenant's hours waits for the next opening, never until the expiry, and is looked at again
//! then. All in Berlin, in 2031: 25 January and 1 February are Saturdays. When a window opens is in `delivery_window`.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::Acme;

const WEEKDAYS: &str =
    r#"{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}"#;
/// Its lead times begin on two Saturdays, and on Friday, 7 February at one o'clock.
const SATURDAY: &str =
    "owner_id => 'priya', expiry_date => '2031-02-08 12:00+00', rotation_interval => '90 days'";

async fn acme(hours: &str) -> Result<Acme> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    set_window(&acme, hours).await?;
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'email', 'priya@acme.example')",
            &[],
        )
        .await?;
    Ok(acme)
}

async fn set_window(acme: &Acme, hours: &str) -> Result<()> {
    let hours: Value = serde_json::from_str(hours)?;
    acme.operator
        .execute("select rotator.set_delivery_window($1)", &[&hours])
        .await?;
    Ok(())
}

/// How many messages a tick at that time, in UTC, makes ready.
async fn queued_at(acme: &Acme, time: &str) -> Result<i64> {
    let result = acme.tick_at(&format!("'2031-{time}+00'")).await?;
    Ok(result["queued"].as_i64().unwrap_or_default())
}

/// Rules and states of all there is, in the order of their instants.
async fn states(acme: &Acme) -> Result<Value> {
    scalar(
        &acme.db.admin,
        "select coalesce(jsonb_agg(rule || ' ' || state order by due_at, id), '[]') from rotator_internal.notification",
        &[],
    )
    .await
}

async fn run(acme: &Acme, sql: &str, id: &Uuid) -> Result<()> {
    acme.editor.execute(sql, &[id]).await?;
    Ok(())
}

/// One whose first reminder waits since Saturday.
async fn waiting() -> Result<(Acme, Uuid)> {
    let acme = acme(WEEKDAYS).await?;
    let id = acme.register("stripe", SATURDAY).await?;
    ensure!(queued_at(&acme, "01-25 12:01").await? == 0);
    assert_eq!(states(&acme).await?, json!(["lead:14 deferred"]));
    Ok((acme, id))
}

#[tokio::test]
async fn what_comes_due_outside_the_hours_goes_at_the_opening_and_not_before() -> Result<()> {
    let (acme, _) = waiting().await?;
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 0, "no worker takes it");
    for time in ["01-25 12:02", "01-26 09:00", "01-27 07:59"] {
        assert_eq!(queued_at(&acme, time).await?, 0, "{time}");
    }
    assert_eq!(queued_at(&acme, "01-27 08:00").await?, 1, "nine in Berlin");
    assert_eq!(queued_at(&acme, "01-27 08:00").await?, 0, "once");
    let claim = acme.claim_one().await?;
    assert_eq!(claim.message["lead_time_days"], 14);
    let events: Value = scalar(
        &acme.operator,
        "select jsonb_agg(action order by id) from rotator.audit_log where action like 'reminder.%'",
        &[],
    )
    .await?;
    assert_eq!(
        events,
        json!(["reminder.queued", "reminder.deferred", "reminder.released"])
    );
    Ok(())
}

#[tokio::test]
async fn inside_the_hours_nothing_waits() -> Result<()> {
    let acme = acme(WEEKDAYS).await?;
    acme.register(
        "stripe",
        "owner_id => 'priya', expiry_date => '2031-02-07 12:00+00'",
    )
    .await?;
    assert_eq!(
        queued_at(&acme, "01-24 12:01").await?,
        1,
        "a Friday, one o'clock"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_waits_until_the_expiry_and_p1_not_at_all() -> Result<()> {
    for (with, at, queued) in [
        (
            "priority => 'P1', expiry_date => '2031-02-08 12:00+00'",
            "01-25 12:01",
            1,
        ),
        (
            "priority => 'P2', expiry_date => '2031-02-08 12:00+00'",
            "01-25 12:01",
            0,
        ),
        // It expires on Sunday; its last reminder comes due on Saturday.
        ("expiry_date => '2031-02-02 12:00+00'", "02-01 12:01", 1),
        // On Monday, as the hours begin, or a minute later.
        ("expiry_date => '2031-02-03 08:00+00'", "02-02 08:01", 1),
        ("expiry_date => '2031-02-03 08:01+00'", "02-02 08:02", 0),
        ("expiry_date => '2031-01-20 12:00+00'", "01-25 12:01", 1),
    ] {
        let acme = acme(WEEKDAYS).await?;
        acme.register("stripe", &format!("owner_id => 'priya', {with}"))
            .await?;
        assert_eq!(queued_at(&acme, at).await?, queued, "{with}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_dealt_with_before_the_opening_stays_unsaid() -> Result<()> {
    for (what, sql) in [
        (
            "rotated",
            "select rotator.mark_rotated($1, next_expiry_date => '2031-06-02')",
        ),
        (
            "acknowledged",
            "select rotator.acknowledge($1, until => '2031-01-28')",
        ),
        ("retired", "select rotator.retire_secret($1)"),
        (
            "moved",
            "update rotator.secrets set expiry_date = '2031-06-02 12:00+00' where id = $1",
        ),
        (
            "snoozed",
            "select rotator.snooze($1, '2031-01-28', 'the vendor is closed')",
        ),
    ] {
        let (acme, id) = waiting().await?;
        run(&acme, sql, &id).await?;
        assert_eq!(queued_at(&acme, "01-27 08:00").await?, 0, "{what}");
        assert_eq!(acme.claim().await?.len(), 0, "{what}");
        let left: i64 = scalar(
            &acme.db.admin,
            "select count(*) from rotator_internal.deferral where ended_at is null",
            &[],
        )
        .await?;
        assert_eq!(left, 0, "{what}");
        // Tuesday, midnight in UTC: not yet. When an acknowledgement or a snooze ends, it is said all the same.
        let later = queued_at(&acme, "01-28 08:00").await?;
        let said = i64::from(matches!(what, "acknowledged" | "snoozed"));
        assert_eq!(later, said, "{what}: {}", states(&acme).await?);
    }
    Ok(())
}

#[tokio::test]
async fn other_hours_or_another_priority_count_at_once() -> Result<()> {
    let (acme, _) = waiting().await?;
    set_window(&acme, &WEEKDAYS.replace("\"mon\", ", "")).await?;
    assert_eq!(queued_at(&acme, "01-25 13:00").await?, 0);
    assert_eq!(
        queued_at(&acme, "01-27 08:00").await?,
        0,
        "no longer on Mondays"
    );
    set_window(&acme, &WEEKDAYS.replace("fri", "sun")).await?;
    assert_eq!(queued_at(&acme, "02-02 10:00").await?, 1, "Sunday");

    let (acme, _) = waiting().await?;
    set_window(&acme, "null").await?;
    assert_eq!(queued_at(&acme, "01-25 13:00").await?, 1, "always");

    let (acme, id) = waiting().await?;
    run(
        &acme,
        "update rotator.secrets set priority = 'P1' where id = $1",
        &id,
    )
    .await?;
    assert_eq!(queued_at(&acme, "01-25 13:00").await?, 1, "P1");
    Ok(())
}

#[tokio::test]
async fn of_several_that_wait_for_one_opening_the_most_urgent_speaks() -> Result<()> {
    let acme = acme(&WEEKDAYS.replace(r#", "tue", "wed", "thu", "fri""#, "")).await?;
    acme.operator
        .execute("select rotator.add_notification_policy(5)", &[])
        .await?;
    acme.register(
        "stripe",
        "owner_id => 'priya', expiry_date => '2031-02-07 12:00+00'",
    )
    .await?;
    for time in ["01-24 12:01", "01-27 08:00", "01-31 12:01", "02-02 12:01"] {
        assert_eq!(
            queued_at(&acme, time).await?,
            i64::from(time == "01-27 08:00"),
            "{time}"
        );
    }
    assert_eq!(queued_at(&acme, "02-03 08:00").await?, 1);
    assert_eq!(
        states(&acme).await?,
        json!(["lead:14 queued", "lead:7 suppressed", "lead:5 queued"])
    );
    Ok(())
}

#[tokio::test]
async fn a_tick_that_comes_when_it_is_closed_again_lets_it_wait_on_but_not_until_the_expiry()
-> Result<()> {
    let (acme, _) = waiting().await?;
    assert_eq!(queued_at(&acme, "01-27 16:00").await?, 0, "five in Berlin");
    assert_eq!(queued_at(&acme, "01-28 08:00").await?, 1);

    let acme = self::acme(WEEKDAYS).await?;
    acme.register(
        "stripe",
        "owner_id => 'priya', expiry_date => '2031-02-03 16:30+00'",
    )
    .await?;
    assert_eq!(queued_at(&acme, "02-02 16:31").await?, 0, "Sunday");
    assert_eq!(
        queued_at(&acme, "02-03 16:10").await?,
        1,
        "the next hours begin after the expiry"
    );
    Ok(())
}

#[tokio::test]
async fn each_tenant_has_its_own_hours_and_many_wait_in_steps() -> Result<()> {
    let acme = acme(WEEKDAYS).await?;
    acme.db.tenant_in("globex", "America/New_York").await?;
    let globex = acme.db.session("globex", "editor").await?;
    for number in 0..5 {
        acme.operator
            .execute(
                &format!("select rotator.set_contact('priya-{number}', 'email', 'priya-{number}@acme.example')"),
                &[],
            )
            .await?;
        acme.register(
            &format!("ours {number}"),
            &SATURDAY.replace("priya", &format!("priya-{number}")),
        )
        .await?;
    }
    crate::seed::register(&globex, "theirs", SATURDAY).await?;
    assert_eq!(
        queued_at(&acme, "01-25 12:01").await?,
        1,
        "globex has no hours"
    );
    let mut steps = Vec::new();
    loop {
        let result: Value = scalar(
            &acme.operator,
            "select rotator.tick('2031-01-27 08:00+00', 2)",
            &[],
        )
        .await?;
        steps.push(result["queued"].as_i64().unwrap_or_default());
        if result["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(steps, [2, 2, 1]);
    Ok(())
}

/// The incident that an earlier reminder opened is acknowledged at once, not when the hours begin.
#[tokio::test]
async fn an_acknowledgement_doesnt_wait_behind_what_waits() -> Result<()> {
    let acme = acme(WEEKDAYS).await?;
    acme.operator
        .execute(
            "select rotator.set_contact('sam', 'pagerduty', '0123456789abcdef0123456789abcdef')",
            &[],
        )
        .await?;
    acme.operator
        .execute("select rotator.add_notification_policy(8)", &[])
        .await?;
    let id = acme
        .register("stripe", &SATURDAY.replace("priya", "sam"))
        .await?;
    assert_eq!(
        queued_at(&acme, "01-31 12:01").await?,
        1,
        "eight days before: Friday"
    );
    let claim = acme.claim_one().await?;
    ensure!(acme.complete(&claim).await?);
    assert_eq!(queued_at(&acme, "02-01 12:01").await?, 0, "Saturday");
    run(
        &acme,
        "select rotator.acknowledge($1, until => '2031-02-05')",
        &id,
    )
    .await?;
    assert_eq!(acme.claim_one().await?.message["kind"], "acknowledge");
    Ok(())
}
