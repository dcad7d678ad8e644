//! The tick: each due reminder exactly once, and after a gap only what matters. Ticks against each other and against
//! people are in `tick_races`.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};

use crate::seed::{Acme, rows};

/// Days before the expiry of every reminder that counts.
async fn leads(acme: &Acme) -> Result<Value> {
    scalar(
        &acme.editor,
        "select coalesce(jsonb_agg(round(extract(epoch from s.expiry_date - n.due_at) / 86400) order by n.due_at), '[]')
         from rotator.notifications as n join rotator.secrets as s on s.id = n.secret_id where n.state <> 'cancelled'",
        &[],
    )
    .await
}

#[tokio::test]
async fn each_reminder_is_queued_once_however_often_it_ticks() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("stripe", "expiry_date => now() + interval '20 days'")
        .await?;
    let (mut queued, mut opened) = (0, 0);
    for hour in (0..24 * 30).step_by(6) {
        let result = acme
            .tick_at(&format!("now() + interval '{hour} hours'"))
            .await?;
        queued += result["queued"].as_i64().unwrap_or_default();
        opened += result["alerts_opened"].as_i64().unwrap_or_default();
        ensure!(result["more"] == json!(false), "{result}");
    }
    assert_eq!((queued, opened), (3, 1));
    assert_eq!(leads(&acme).await?, json!([14, 7, 1]));
    let audited: i64 = scalar(
        &acme.operator,
        "select count(*) from rotator.audit_log where action = 'reminder.queued' and actor = 'rotator' and source = 'engine'",
        &[],
    )
    .await?;
    assert_eq!(audited, 3, "in the transaction of its cause");
    Ok(())
}

#[tokio::test]
async fn after_a_gap_only_the_most_urgent_is_queued() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("stripe", "expiry_date => now() + interval '20 days'")
        .await?;
    assert_eq!(
        acme.tick_at("now() + interval '19 days 12 hours'").await?["queued"],
        1,
        "14, 7 and 1 were missed"
    );
    assert_eq!(leads(&acme).await?, json!([1]));
    assert_eq!(
        acme.tick_at("now() + interval '40 days'").await?["queued"],
        0,
        "and the others never come"
    );
    Ok(())
}

#[tokio::test]
async fn registered_inside_its_lead_times_it_is_announced_at_the_next_tick() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("in five days").await?;
    assert_eq!(acme.tick().await?["queued"], 1);
    assert_eq!(leads(&acme).await?, json!([7]));
    let overdue = acme
        .register("overdue", "expiry_date => now() - interval '3 years'")
        .await?;
    assert_eq!(acme.tick().await?["queued"], 1);
    let days: i64 = scalar(
        &acme.editor,
        "select count(*) from rotator.notifications as n join rotator.secrets as s on s.id = n.secret_id
         where s.id = $1 and n.due_at = s.expiry_date - interval '1 day'",
        &[&overdue],
    )
    .await?;
    assert_eq!(days, 1, "one reminder, however long ago");
    Ok(())
}

#[tokio::test]
async fn what_is_queued_ahead_of_time_can_be_claimed_at_once() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("stripe", "expiry_date => now() + interval '20 days'")
        .await?;
    acme.tick_at("now() + interval '6 days 1 hour'").await?;
    let right: bool = scalar(
        &acme.editor,
        "select n.due_at = s.expiry_date - interval '14 days' and n.due_at > now() and n.queued_at <= clock_timestamp()
         from rotator.notifications as n join rotator.secrets as s on s.id = n.secret_id",
        &[],
    )
    .await?;
    ensure!(right, "due_at keeps the instant of the rule");
    assert_eq!(acme.claim_one().await?.message["lead_time_days"], 14);
    Ok(())
}

#[tokio::test]
async fn a_corrected_expiry_date_plans_anew_and_corrected_back_too() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme
        .register("stripe", "expiry_date => '2031-01-31 00:00+00'")
        .await?;
    let correct = async |to: &str| {
        let sql = format!("update rotator.secrets set expiry_date = '{to}' where id = $1");
        acme.editor.execute(&sql, &[&id]).await
    };
    acme.tick_at("'2031-01-24 01:00+00'").await?;
    correct("2031-06-30 00:00+00").await?;
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "cancelled"}])
    );
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(acme.tick_at("'2031-01-24 01:00+00'").await?["queued"], 0);
    assert_eq!(
        acme.tick_at("'2031-06-23 01:00+00'").await?["queued"],
        1,
        "the new date"
    );

    correct("2031-01-31 00:00+00").await?;
    assert_eq!(
        acme.tick_at("'2031-01-24 01:00+00'").await?["queued"],
        1,
        "the same instant as at first"
    );
    assert_eq!(leads(&acme).await?, json!([7]));
    assert_eq!(
        scalar::<i32>(&acme.editor, "select cycle from rotator.secrets", &[]).await?,
        1,
        "the cycle stays"
    );
    assert_eq!(
        scalar::<i64>(&acme.editor, "select count(*) from rotator.alerts", &[]).await?,
        1
    );
    Ok(())
}

#[tokio::test]
async fn a_date_that_is_corrected_back_after_its_reminder_was_sent_is_announced_once_more()
-> Result<()> {
    let acme = Acme::new().await?;
    let id = acme
        .register("stripe", "expiry_date => '2031-01-31 00:00+00'")
        .await?;
    acme.tick_at("'2031-01-24 01:00+00'").await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.complete(&claim).await?);
    for date in ["2031-06-30 00:00+00", "2031-01-31 00:00+00"] {
        let sql = format!("update rotator.secrets set expiry_date = '{date}' where id = $1");
        acme.editor.execute(&sql, &[&id]).await?;
    }
    // Moving it away had ended the alert: silence now would last until the next cycle.
    for queued in [1, 0] {
        let tick = acme.tick_at("'2031-01-24 01:00+00'").await?;
        assert_eq!(tick["queued"], queued);
    }
    assert_eq!(
        acme.rows("select state from rotator.alerts").await?,
        json!([{"state": "open"}])
    );
    Ok(())
}

#[tokio::test]
async fn a_retired_secret_is_silent() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.editor
        .execute("select rotator.retire_secret($1)", &[&id])
        .await?;
    for policy in ["20", "5"] {
        acme.operator
            .execute(
                &format!("select rotator.add_notification_policy({policy})"),
                &[],
            )
            .await?;
    }
    assert_eq!(acme.tick_at("now() + interval '40 days'").await?["due"], 0);
    assert_eq!(
        acme.rows("select id from rotator.notifications").await?,
        json!([])
    );
    Ok(())
}

#[tokio::test]
async fn ticking_ahead_of_time_takes_an_operator() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    let before = acme.fingerprint().await?;
    refused(
        acme.worker
            .query("select rotator.tick(now() + interval '1 hour')", &[])
            .await,
        "42501",
    )?;
    refused(
        acme.worker
            .query("select rotator.tick('infinity')", &[])
            .await,
        "42501",
    )?;
    for arguments in [
        "as_of => null",
        "max_rows => 0",
        "max_rows => -5",
        "max_rows => null",
        "max_rows => 10000000",
    ] {
        let sql = format!("select rotator.tick({arguments})");
        refused(acme.operator.query(&sql, &[]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    let result: Value = scalar(&acme.worker, "select rotator.tick()", &[]).await?;
    assert_eq!(result["queued"], 1, "the sidecar may tick now");
    Ok(())
}

#[tokio::test]
async fn members_can_not_tick() -> Result<()> {
    let acme = Acme::new().await?;
    let error = acme
        .editor
        .query("select rotator.tick()", &[])
        .await
        .expect_err("an editor is no engine");
    ensure!(
        error.code().is_some_and(|code| code.code() == "42501"),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_limit_leaves_the_rest_for_the_next_step() -> Result<()> {
    let acme = Acme::new().await?;
    for number in 0..7 {
        // An owner each: what goes to one place in one tick is one message.
        let with =
            format!("expiry_date => now() + interval '5 days', owner_id => 'owner {number}'");
        acme.register(&format!("key {number}"), &with).await?;
    }
    let mut steps = Vec::new();
    loop {
        let result: Value =
            scalar(&acme.operator, "select rotator.tick(max_rows => 3)", &[]).await?;
        steps.push(result["queued"].as_i64().unwrap_or_default());
        if result["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(steps, [3, 3, 1]);
    acme.due("one more").await?;
    // A procedure that commits: it can't run in a transaction, and needs none.
    acme.operator
        .batch_execute("call rotator.run_tick()")
        .await?;
    assert_eq!(
        scalar::<i64>(
            &acme.editor,
            "select count(*) from rotator.notifications",
            &[]
        )
        .await?,
        8
    );
    Ok(())
}

#[tokio::test]
async fn an_owner_without_contact_has_a_substitute_and_at_last_the_console() -> Result<()> {
    let acme = Acme::new().await?;
    let admin = acme.db.member("acme", "admin").await?;
    let told = async |name: &str| -> Result<Value> {
        acme.register(
            name,
            "owner_id => 'owner', secondary_owner_id => 'second', team_lead_id => 'lead', expiry_date => now() + interval '5 days'",
        )
        .await?;
        acme.tick().await?;
        let claim = acme.claim_one().await?;
        acme.complete(&claim).await?;
        Ok(json!([claim.channel, claim.recipient]))
    };
    assert_eq!(told("nobody").await?, json!(["console", "owner"]));
    for (owner, address) in [
        (admin.subject(), "admin@acme.example"),
        ("manager".to_owned(), "manager@acme.example"),
        ("lead".to_owned(), "lead@acme.example"),
        ("second".to_owned(), "second@acme.example"),
        ("owner".to_owned(), "owner@acme.example"),
    ] {
        acme.operator
            .execute(
                "select rotator.set_contact($1, 'email', $2)",
                &[&owner, &address],
            )
            .await?;
        assert_eq!(told(&owner).await?, json!(["email", address]));
    }
    Ok(())
}

#[tokio::test]
async fn one_tick_serves_every_tenant_by_its_own_calendar() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    acme.db.tenant_in("globex", "America/New_York").await?;
    let globex = acme.db.session("globex", "editor").await?;
    acme.due("stripe").await?;
    crate::seed::register(
        &globex,
        "stripe",
        "expiry_date => now() + interval '5 days'",
    )
    .await?;
    assert_eq!(acme.tick().await?["queued"], 2);
    for session in [&acme.editor, &globex] {
        assert_eq!(
            rows(session, "select secret_name from rotator.alerts").await?,
            json!([{"secret_name": "stripe"}])
        );
    }
    let mut zones: Vec<String> = acme
        .claim()
        .await?
        .iter()
        .map(|claim| claim.message["tenant"]["time_zone"].to_string())
        .collect();
    zones.sort();
    assert_eq!(zones, [r#""America/New_York""#, r#""Europe/Berlin""#]);
    Ok(())
}

#[tokio::test]
async fn what_a_tick_queues_is_announced_and_an_idle_one_says_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    let psql = |sql: &str| {
        acme.db.cluster.psql(
            &acme.db.name,
            &format!("listen rotator_outbox; {sql}; select 1"),
        )
    };
    ensure!(
        !psql("select rotator.tick()")?.contains("Asynchronous"),
        "nothing was due"
    );
    acme.due("stripe").await?;
    let heard = psql("select rotator.tick()")?;
    ensure!(
        heard.contains("Asynchronous notification \"rotator_outbox\""),
        "{heard}"
    );
    Ok(())
}
