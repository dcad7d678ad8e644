//! Acknowledging: when it can be done, by whom, for how long, and that it is not the same as rotating.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;

use crate::seed::Acme;

#[tokio::test]
async fn the_first_reminder_opens_one_alert_and_later_ones_join_it() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("stripe", "expiry_date => now() + interval '10 days'")
        .await?;
    assert_eq!(acme.tick().await?["alerts_opened"], 1);
    assert_eq!(
        acme.tick_at("now() + interval '9 days 1 hour'").await?["alerts_opened"],
        0
    );
    assert_eq!(
        acme.rows(
            "select a.secret_name, a.cycle, a.state, a.escalation_step, count(n.id) as notifications from rotator.alerts as a
             join rotator.notifications as n on n.alert_id = a.id group by 1, 2, 3, 4"
        )
        .await?,
        json!([{"secret_name": "stripe", "cycle": 1, "state": "open", "escalation_step": 0, "notifications": 2}])
    );
    Ok(())
}

#[tokio::test]
async fn a_moved_expiry_date_ends_the_alert_and_the_new_date_opens_it_again() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.tick().await?;
    acme.editor
        .execute("select rotator.acknowledge($1)", &[&id])
        .await?;
    let alerts = "select state, acknowledged_by is not null as taken, resolved_at is not null as ended from rotator.alerts";
    let moved =
        "update rotator.secrets set expiry_date = now() + interval '500 days' where id = $1";
    acme.editor.execute(moved, &[&id]).await?;
    assert_eq!(
        acme.rows(alerts).await?,
        json!([{"state": "resolved", "taken": true, "ended": true}])
    );

    // Nobody has taken on the new date.
    let told = acme.tick_at("now() + interval '490 days'").await?;
    assert_eq!(
        (&told["alerts_opened"], &told["queued"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        acme.rows(alerts).await?,
        json!([{"state": "open", "taken": false, "ended": false}])
    );
    Ok(())
}

#[tokio::test]
async fn acknowledging_says_who_and_until_when_and_rotates_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    // Not past the expiry in five days.
    for (priority, days) in [("P1", 1), ("P2", 2), ("P3", 5), ("P4", 5)] {
        let id = acme
            .register(
                priority,
                &format!("expiry_date => now() + interval '5 days', priority => '{priority}'"),
            )
            .await?;
        acme.tick().await?;
        acme.editor
            .execute("select rotator.acknowledge($1, note => 'on it')", &[&id])
            .await?;
        let seen = acme
            .rows(&format!(
                "select a.state, s.status, s.cycle, s.acknowledged_by = rotator.current_actor() as by_me, s.last_rotated_at,
                    a.acknowledged_by = s.acknowledged_by and a.acknowledged_at = s.acknowledged_at as same,
                    a.acknowledged_until - a.acknowledged_at between interval '{days} days' - interval '1 second'
                        and interval '{days} days' + interval '1 second' as until
                 from rotator.alerts as a join rotator.secrets as s on s.id = a.secret_id where s.name = '{priority}'"
            ))
            .await?;
        assert_eq!(
            seen,
            json!([{
                "state": "acknowledged", "status": "expiring_soon", "cycle": 1, "by_me": true, "last_rotated_at": null,
                "same": true, "until": true
            }]),
            "{priority}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn whoever_acknowledged_first_has_it_and_may_have_it_longer() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.tick().await?;
    acme.editor
        .execute("select rotator.acknowledge($1)", &[&id])
        .await?;
    let before = acme.fingerprint().await?;
    acme.operator
        .execute("select rotator.acknowledge($1)", &[&id])
        .await?;
    assert_eq!(
        acme.fingerprint().await?,
        before,
        "a second acknowledgement changes nothing"
    );

    acme.operator
        .execute(
            "select rotator.acknowledge($1, until => now() + interval '20 days')",
            &[&id],
        )
        .await?;
    let first: bool = scalar(
        &acme.editor,
        "select acknowledged_by = rotator.current_actor() and acknowledged_until > now() + interval '19 days' from rotator.alerts",
        &[],
    )
    .await?;
    ensure!(first, "it lasts longer, and is still the first one's");
    Ok(())
}

#[tokio::test]
async fn without_an_open_alert_there_is_nothing_to_acknowledge() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    let acknowledge = "select rotator.acknowledge($1)";
    refused(acme.editor.query(acknowledge, &[&id]).await, "PT409")?; // no tick yet
    acme.tick().await?;
    acme.editor
        .execute("select rotator.mark_rotated($1)", &[&id])
        .await?;
    let before = acme.fingerprint().await?;
    refused(acme.editor.query(acknowledge, &[&id]).await, "PT409")?; // resolved
    refused(
        acme.editor
            .query("select rotator.acknowledge(gen_random_uuid())", &[])
            .await,
        "PT404",
    )?;
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn an_end_that_has_passed_and_a_note_that_is_too_long_are_refused() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.tick().await?;
    let before = acme.fingerprint().await?;
    for arguments in [
        "until => now()",
        "until => now() - interval '1 day'",
        "until => '-infinity'",
        "until => 'infinity'",
        "note => repeat('x', 10001)",
    ] {
        let sql = format!("select rotator.acknowledge($1, {arguments})");
        refused(acme.editor.query(&sql, &[&id]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    acme.editor
        .execute(
            "select rotator.acknowledge($1, note => repeat('ä', 10000))",
            &[&id],
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn owners_may_acknowledge_their_own_and_nobody_else_s() -> Result<()> {
    let acme = Acme::new().await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    let session = acme.db.connect_as(&viewer).await?;
    let own = acme
        .register(
            "own",
            &format!(
                "expiry_date => now() + interval '5 days', owner_id => '{}'",
                viewer.subject()
            ),
        )
        .await?;
    let other = acme.due("other").await?;
    acme.tick().await?;
    session
        .execute("select rotator.acknowledge($1)", &[&own])
        .await?;
    refused(
        session
            .query("select rotator.acknowledge($1)", &[&other])
            .await,
        "42501",
    )?;
    acme.db.tenant("globex").await?;
    let foreign = acme.db.session("globex", "admin").await?;
    refused(
        foreign
            .query("select rotator.acknowledge($1)", &[&own])
            .await,
        "PT404",
    )?;
    Ok(())
}

#[tokio::test]
async fn while_it_holds_reminders_are_suppressed() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.tick().await?;
    acme.editor
        .execute("select rotator.acknowledge($1)", &[&id])
        .await?;
    assert_eq!(
        acme.tick_at("now() + interval '4 days 1 hour'").await?["queued"],
        0
    );
    assert_eq!(
        acme.rows("select state from rotator.notifications order by queued_at")
            .await?,
        json!([{"state": "suppressed"}, {"state": "suppressed"}])
    );
    Ok(())
}

#[tokio::test]
async fn an_alert_that_opened_again_is_acknowledged_again_by_its_new_link() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    let redeem = "select rotator.redeem_link($1, 'acknowledge') ->> 'already' is null";
    for expected in ["now() + interval '2 years'", "now() + interval '3 days'"] {
        acme.tick().await?;
        let claim = acme.claim_one().await?;
        acme.complete(&claim).await?;
        let done: bool = scalar(&acme.worker, redeem, &[&claim.link_token]).await?;
        ensure!(done, "before {expected}");
        for date in [expected, "now() + interval '3 days'"] {
            let sql = format!("update rotator.secrets set expiry_date = {date} where id = $1");
            acme.editor.execute(&sql, &[&id]).await?;
        }
    }
    Ok(())
}
