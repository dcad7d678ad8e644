//! Notification policies: the defaults, a secret's own, who they reach and when, and what a change sets in motion.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar, until};
use serde_json::{Value, json};

use crate::seed::{Acme, register, rows, waits_for_lock};

/// Ticks each day from now until a month after and gives the days after now on which something became due.
async fn days_told(acme: &Acme) -> Result<Value> {
    for day in 0..=60 {
        acme.tick_at(&format!("now() + interval '{day} days 1 hour'"))
            .await?;
    }
    acme.rows(
        "select round(extract(epoch from due_at - s.expiry_date) / 86400)::integer as day, channel, recipient_hint
         from rotator.notifications as n join rotator.secrets as s on s.id = n.secret_id order by due_at, channel",
    )
    .await
}

const IN_A_MONTH: &str = "owner_id => 'priya', expiry_date => now() + interval '30 days'";

#[tokio::test]
async fn a_new_tenant_reminds_14_7_and_1_days_before() -> Result<()> {
    let acme = Acme::new().await?;
    assert_eq!(
        acme.rows("select lead_time_days, channel, recipient_hint, secret_id from rotator.notification_policies order by 1 desc").await?,
        json!([
            {"lead_time_days": 14, "channel": null, "recipient_hint": null, "secret_id": null},
            {"lead_time_days": 7, "channel": null, "recipient_hint": null, "secret_id": null},
            {"lead_time_days": 1, "channel": null, "recipient_hint": null, "secret_id": null}
        ])
    );
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'email', 'priya@acme.example')",
            &[],
        )
        .await?;
    acme.register("stripe", IN_A_MONTH).await?;
    let told =
        |day: i32| json!({"day": day, "channel": "email", "recipient_hint": "…@acme.example"});
    assert_eq!(
        days_told(&acme).await?,
        json!([told(-14), told(-7), told(-1)])
    );
    Ok(())
}

#[tokio::test]
async fn policies_of_its_own_replace_the_tenant_s_for_that_secret() -> Result<()> {
    let acme = Acme::new().await?;
    let own = acme.register("own", IN_A_MONTH).await?;
    acme.register("common", IN_A_MONTH).await?;
    for lead in [30, 0, -2] {
        acme.operator
            .execute(
                "select rotator.add_notification_policy($1, secret_id => $2)",
                &[&lead, &own],
            )
            .await?;
    }
    days_told(&acme).await?;
    let days = "select s.name, jsonb_agg(round(extract(epoch from s.expiry_date - due_at) / 86400) order by due_at) as days
        from rotator.notifications as n join rotator.secrets as s on s.id = n.secret_id group by 1 order by 1";
    assert_eq!(
        acme.rows(days).await?,
        json!([{"name": "common", "days": [14, 7, 1]}, {"name": "own", "days": [30, 0, -2]}])
    );
    Ok(())
}

#[tokio::test]
async fn the_tenant_s_policies_return_when_the_last_own_one_goes() -> Result<()> {
    let acme = Acme::new().await?;
    let own = acme.register("own", IN_A_MONTH).await?;
    let policy: uuid::Uuid = scalar(
        &acme.operator,
        "select rotator.add_notification_policy(25, secret_id => $1)",
        &[&own],
    )
    .await?;
    acme.operator
        .execute("select rotator.remove_notification_policy($1)", &[&policy])
        .await?;
    refused(
        acme.operator
            .query("select rotator.remove_notification_policy($1)", &[&policy])
            .await,
        "PT404",
    )?;
    let told = days_told(&acme).await?;
    let days: Vec<&Value> = told
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| &row["day"])
        .collect();
    assert_eq!(days, [&json!(-14), &json!(-7), &json!(-1)]);
    Ok(())
}

#[tokio::test]
async fn channel_and_recipient_are_resolved_from_what_the_policy_leaves_open() -> Result<()> {
    let acme = Acme::new().await?;
    for (channel, recipient) in [("email", "priya@acme.example"), ("slack", "#payments")] {
        acme.operator
            .execute(
                "select rotator.set_contact('priya', $1, $2)",
                &[&channel, &recipient],
            )
            .await?;
    }
    let id = acme
        .register(
            "stripe",
            "owner_id => 'priya', expiry_date => now() + interval '90 days'",
        )
        .await?;
    for policy in [
        "30",                                                      // each contact of the owner
        "29, channel => 'slack'",                                  // the owner's contact there
        "28, channel => 'email', recipient => 'ops@acme.example'", // just that one
        "27, channel => 'pagerduty'", // the owner has none: the next best
    ] {
        acme.operator
            .execute(
                &format!("select rotator.add_notification_policy({policy}, secret_id => $1)"),
                &[&id],
            )
            .await?;
    }
    for day in 60..64 {
        acme.tick_at(&format!("now() + interval '{day} days 1 hour'"))
            .await?;
    }
    let mut told: Vec<(i64, String, Option<String>)> = acme
        .claim()
        .await?
        .into_iter()
        .map(|claim| {
            (
                claim.message["lead_time_days"].as_i64().unwrap_or_default(),
                claim.channel,
                claim.recipient,
            )
        })
        .collect();
    told.sort();
    let expect = |lead, channel: &str, recipient: &str| {
        (lead, channel.to_owned(), Some(recipient.to_owned()))
    };
    assert_eq!(
        told,
        [
            expect(27, "email", "priya@acme.example"),
            expect(27, "slack", "#payments"),
            expect(28, "email", "ops@acme.example"),
            expect(29, "slack", "#payments"),
            expect(30, "email", "priya@acme.example"),
            expect(30, "slack", "#payments"),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn one_address_is_told_once_however_many_policies_name_it() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'email', 'Priya@Acme.example')",
            &[],
        )
        .await?;
    let id = acme
        .register(
            "stripe",
            "owner_id => 'priya', expiry_date => now() + interval '5 days'",
        )
        .await?;
    for policy in [
        "7",
        "7, channel => 'email'",
        "7, channel => 'email', recipient => 'priya@acme.example'",
    ] {
        acme.operator
            .execute(
                &format!("select rotator.add_notification_policy({policy}, secret_id => $1)"),
                &[&id],
            )
            .await?;
    }
    assert_eq!(acme.tick().await?["queued"], 1);
    Ok(())
}

#[tokio::test]
async fn short_lived_credentials_are_not_announced_before_they_are_made() -> Result<()> {
    let acme = Acme::new().await?;
    // Seven days: 14 and 7 become a third of the interval; 1 stays.
    acme.register(
        "weekly",
        "owner_id => 'priya', rotation_interval => '7 days'",
    )
    .await?;
    assert_eq!(
        scalar::<String>(&acme.editor, "select status from rotator.secrets", &[]).await?,
        "healthy"
    );
    assert_eq!(acme.tick().await?["queued"], 0);
    assert_eq!(
        acme.tick_at("now() + interval '4 days 15 hours'").await?["queued"],
        0
    );
    assert_eq!(
        acme.tick_at("now() + interval '4 days 17 hours'").await?["queued"],
        1,
        "14 and 7 are one and the same then"
    );
    assert_eq!(
        acme.tick_at("now() + interval '6 days 1 minute'").await?["queued"],
        1
    );
    assert_eq!(
        acme.tick_at("now() + interval '40 days'").await?["queued"],
        0
    );
    Ok(())
}

#[tokio::test]
async fn a_change_of_the_tenant_s_policies_plans_all_that_follow_them() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("follower", IN_A_MONTH).await?;
    let own = acme.register("own", IN_A_MONTH).await?;
    acme.operator
        .execute(
            "select rotator.add_notification_policy(3, secret_id => $1)",
            &[&own],
        )
        .await?;
    assert_eq!(acme.tick().await?["queued"], 0);

    // 31 days before has passed already: due at the next tick, for the one without policies of its own.
    let policy: uuid::Uuid = scalar(
        &acme.operator,
        "select rotator.add_notification_policy(31)",
        &[],
    )
    .await?;
    assert_eq!(
        acme.rows("select name, status from rotator.secrets order by name")
            .await?,
        json!([{"name": "follower", "status": "expiring_soon"}, {"name": "own", "status": "healthy"}])
    );
    assert_eq!(acme.tick().await?["queued"], 1);
    assert_eq!(acme.tick().await?["queued"], 0, "once");

    acme.operator
        .execute("select rotator.remove_notification_policy($1)", &[&policy])
        .await?;
    assert_eq!(
        scalar::<i64>(
            &acme.editor,
            "select count(*) from rotator.secrets where status = 'healthy'",
            &[]
        )
        .await?,
        2
    );
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "queued"}]),
        "what is queued stays"
    );
    Ok(())
}

#[tokio::test]
async fn bad_policies_are_refused() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.register("stripe", IN_A_MONTH).await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "admin").await?;
    let before = acme.fingerprint().await?;
    for (arguments, code) in [
        ("null", "22023"),
        ("100000", "22023"),
        ("-100000", "22023"),
        ("5, channel => 'fax'", "22023"),
        ("5, channel => 'fax', recipient => '1'", "22023"),
        (
            "5, channel => 'email', recipient => 'not an address'",
            "22023",
        ),
        ("5, recipient => 'ops@acme.example'", "22023"),
        ("5, secret_id => gen_random_uuid()", "PT404"),
        ("14", "23505"),
    ] {
        let sql = format!("select rotator.add_notification_policy({arguments})");
        refused(acme.operator.query(&sql, &[]).await, code)
            .map_err(|error| error.context(arguments))?;
    }
    refused(
        other
            .query(
                "select rotator.add_notification_policy(5, secret_id => $1)",
                &[&id],
            )
            .await,
        "PT404",
    )?;
    refused(
        acme.editor
            .query("select rotator.add_notification_policy(5)", &[])
            .await,
        "42501",
    )?;
    assert_eq!(acme.fingerprint().await?, before);
    let foreign = rows(&other, "select id from rotator.notification_policies").await?;
    ensure!(
        foreign.as_array().is_some_and(|rows| rows.len() == 3),
        "its own three: {foreign}"
    );
    Ok(())
}

#[tokio::test]
async fn a_secret_registered_while_policies_change_follows_the_new_ones() -> Result<()> {
    let acme = Acme::new().await?;
    let mut admin = acme.db.session("acme", "admin").await?;
    let transaction = admin.transaction().await?;
    transaction
        .execute("select rotator.add_notification_policy(28)", &[])
        .await?;
    let editor = acme.db.session("acme", "editor").await?;
    let backend: i32 = scalar(&editor, "select pg_backend_pid()", &[]).await?;
    let registering =
        tokio::spawn(async move { register(&editor, "stripe", IN_A_MONTH).await.map(|_| ()) });
    until(
        Duration::from_secs(10),
        "the registration to end or to wait",
        async || Ok(registering.is_finished() || waits_for_lock(&acme, backend).await?),
    )
    .await?;
    transaction.commit().await?;
    registering.await??;

    assert_eq!(
        acme.tick_at("now() + interval '2 days 1 hour'").await?["queued"],
        1,
        "28 days before"
    );
    Ok(())
}
