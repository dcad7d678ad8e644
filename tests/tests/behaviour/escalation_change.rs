//! A ladder under way when something changes: the expiry date, the priority, who can be reached; and hours in which alone
//! its waiting counts.

use anyhow::Result;
use rotator_tests::scalar;
use serde_json::{Value, json};

use crate::escalation::{position, reach, staffed, steps, theirs, tick_in};
use crate::seed::Acme;

#[tokio::test]
async fn another_expiry_date_begins_the_ladder_anew() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 4.1).await?;
    let moved =
        "update rotator.secrets set expiry_date = now() + interval '100 hours' where id = $1";
    acme.editor.execute(moved, &[&id]).await?;
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 0, "goes_on": false}])
    );
    tick_in(&acme, 10.0).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam cancelled"]),
        "a reminder is to come again"
    );
    tick_in(&acme, 76.1).await?;
    tick_in(&acme, 80.3).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam cancelled", "built-in:1 sam"])
    );

    // Out of its lead times: nothing is open, and nothing escalates.
    acme.editor
        .execute(
            "update rotator.secrets set expiry_date = now() + interval '500 days'",
            &[],
        )
        .await?;
    assert_eq!(tick_in(&acme, 200.0).await?["queued"], 0);
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "resolved", "step": 0, "goes_on": false}])
    );
    // Near again, it is another alert, with the whole ladder before it.
    acme.editor
        .execute(
            "update rotator.secrets set expiry_date = now() + interval '20 hours'",
            &[],
        )
        .await?;
    assert_eq!(tick_in(&acme, 0.0).await?["alerts_opened"], 1);
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 0, "goes_on": true}])
    );
    tick_in(&acme, 4.1).await?;
    assert_eq!(steps(&acme).await?.as_array().map_or(0, Vec::len), 3);
    Ok(())
}

#[tokio::test]
async fn steps_of_before_another_date_are_none_of_the_ladder_that_begins_with_it() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 8.1).await?;
    for claim in acme.claim().await? {
        acme.complete(&claim).await?;
    }
    let moved =
        "update rotator.secrets set expiry_date = now() + interval '30 hours' where id = $1";
    acme.editor.execute(moved, &[&id]).await?;
    tick_in(&acme, 9.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    tick_in(&acme, 13.1).await?;
    let snooze = "select rotator.snooze($1, now() + interval '15 hours', 'a freeze')";
    acme.editor.execute(snooze, &[&id]).await?;
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 0, "goes_on": true}])
    );
    tick_in(&acme, 15.0).await?;
    assert_eq!(
        steps(&acme).await?,
        json!([
            "built-in:1 sam sent",
            "built-in:2 lee sent",
            "built-in:1 sam cancelled",
            "built-in:1 sam"
        ])
    );
    Ok(())
}

#[tokio::test]
async fn a_secret_that_becomes_a_p1_climbs_its_steps() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    tick_in(&acme, 60.0).await?;
    assert_eq!(
        position(&acme).await?,
        json!([{"state": "open", "step": 2, "goes_on": false}])
    );
    acme.editor
        .execute(
            "update rotator.secrets set priority = 'P1' where id = $1",
            &[&id],
        )
        .await?;
    tick_in(&acme, 60.1).await?;
    assert_eq!(steps(&acme).await?[2], "built-in:3 manager");
    Ok(())
}

#[tokio::test]
async fn whoever_can_be_reached_when_a_step_is_due_is_told() -> Result<()> {
    let acme = Acme::new().await?;
    reach(&acme, "olga", "console").await?;
    theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    reach(&acme, "sam", "console").await?;
    reach(&acme, "sam", "email").await?;
    tick_in(&acme, 4.1).await?;
    assert_eq!(
        steps(&acme).await?,
        json!(["built-in:1 sam", "built-in:1 sam"]),
        "on each channel"
    );
    acme.db
        .admin
        .batch_execute("delete from rotator_internal.contact where owner_id = 'sam'")
        .await?;
    reach(&acme, "lee", "console").await?;
    tick_in(&acme, 8.1).await?;
    assert_eq!(steps(&acme).await?[2], "built-in:2 lee");
    Ok(())
}

#[tokio::test]
async fn working_hours_are_what_a_wait_of_hours_counts() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    for person in ["olga", "sam", "lee", "manager"] {
        reach(&acme, person, "console").await?;
    }
    let hours =
        json!({"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"});
    acme.operator
        .execute("select rotator.set_delivery_window($1)", &[&hours])
        .await?;
    // The last reminder is due on Friday, 31 January 2031 at 14:00 in Berlin: three hours are left of that day. What expires
    // on Saturday can't wait for Monday.
    for (priority, expiry) in [("P1", "02-03"), ("P2", "02-01"), ("P3", "02-03")] {
        let id = acme
            .register(
                priority,
                &format!(
                    "priority => '{priority}', owner_id => 'olga', secondary_owner_id => 'sam', team_lead_id => 'lee',
                     expiry_date => '2031-{expiry} 14:00 Europe/Berlin'"
                ),
            )
            .await?;
        let lead = if expiry == "02-03" { 3 } else { 1 };
        acme.operator
            .execute(
                "select rotator.add_notification_policy($1, secret_id => $2)",
                &[&lead, &id],
            )
            .await?;
    }
    let mut told = Vec::new();
    for tick in [
        "01-31 14:01",
        "01-31 17:58",
        "01-31 18:02",
        "01-31 22:02",
        "02-01 13:58",
        "02-01 14:02",
        "02-03 10:00",
        "02-03 10:02",
        "02-03 14:02",
        "02-04 14:02",
    ] {
        acme.tick_at(&format!("'2031-{tick} Europe/Berlin'"))
            .await?;
        let so_far: Value = scalar(
            &acme.db.admin,
            "select coalesce(jsonb_agg(s.priority || ' ' || n.step || ' ' || n.addressee order by n.queued_at, n.step), '[]')
             from rotator_internal.notification as n join rotator_internal.secret as s on s.id = n.secret_id
             where n.kind = 'escalation'",
            &[],
        )
        .await?;
        let so_far = so_far.as_array().cloned().unwrap_or_default();
        for step in so_far.iter().skip(told.len()).cloned().collect::<Vec<_>>() {
            told.push(json!(format!(
                "{tick} {}",
                step.as_str().unwrap_or_default()
            )));
        }
    }
    assert_eq!(
        Value::Array(told),
        json!([
            "01-31 18:02 P1 1 sam",
            "01-31 22:02 P1 2 lee",
            "02-01 14:02 P2 1 sam",
            "02-01 14:02 P2 2 lee",
            "02-03 10:02 P3 1 sam",
            "02-03 14:02 P3 2 lee",
            "02-04 14:02 P1 3 manager"
        ])
    );
    Ok(())
}
