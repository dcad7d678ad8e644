//! Registering, reading and retiring secrets, as the contract's "Secrets" says.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;

use crate::seed::{Acme, register, rows, wait_for_lock};

#[tokio::test]
async fn what_is_registered_is_shown_as_given() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    let id = acme
        .register(
            "Stripe Prod Key",
            "provider_type => 'Stripe', expiry_date => '2027-03-01 09:00+01', rotation_interval => '90 days',
             owner_id => 'priya@acme.example', purpose => E'charges cards\\nat checkout', provider_ref => 'acct_1',
             environment => 'production', priority => 'p1', secondary_owner_id => 'tom', team_lead_id => 'mei',
             labels => '{\"team\": \"payments\"}', external_id => 'cal-1'",
        )
        .await?;
    let seen = acme
        .rows(
            "select id, name, provider_type, provider_ref, purpose, environment, priority, labels, owner_id,
                secondary_owner_id, team_lead_id, expiry_date = '2027-03-01 08:00+00' as on_time, rotation_interval::text,
                interval_days, last_rotated_at, cycle, status, acknowledged_at, acknowledged_by, snoozed_until,
                verified_at, external_id, created_at <= now() as created, updated_at >= created_at as updated
             from rotator.secrets",
        )
        .await?;
    assert_eq!(
        seen,
        json!([{
            "id": id.to_string(), "name": "Stripe Prod Key", "provider_type": "stripe", "provider_ref": "acct_1",
            "purpose": "charges cards\nat checkout", "environment": "production", "priority": "P1",
            "labels": {"team": "payments"}, "owner_id": "priya@acme.example", "secondary_owner_id": "tom",
            "team_lead_id": "mei", "on_time": true, "rotation_interval": "90 days", "interval_days": 90,
            "last_rotated_at": null, "cycle": 1, "status": "healthy", "acknowledged_at": null,
            "acknowledged_by": null, "snoozed_until": null, "verified_at": null, "external_id": "cal-1",
            "created": true, "updated": true
        }])
    );
    Ok(())
}

#[tokio::test]
async fn defaults_are_those_of_the_contract() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("nightly", "rotation_interval => '1 month'")
        .await?;
    let seen = acme
        .rows(
            "select provider_type, priority, labels, owner_id = rotator.current_actor() as mine, environment, purpose,
                expiry_date between now() + interval '1 month' - interval '1 minute' and now() + interval '1 month' as in_a_month,
                interval_days from rotator.secrets",
        )
        .await?;
    assert_eq!(
        seen,
        json!([{
            "provider_type": "manual", "priority": "P3", "labels": {}, "mine": true, "environment": null,
            "purpose": null, "in_a_month": true, "interval_days": null
        }])
    );
    Ok(())
}

#[tokio::test]
async fn a_name_is_taken_once_whatever_its_case_and_spaces() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme
        .register("Stripe  Prod Key", "rotation_interval => '90 days'")
        .await?;
    let again =
        "select rotator.register_secret('  stripe prod KEY ', rotation_interval => '90 days')";
    let refusal = refused(acme.editor.query(again, &[]).await, "23505")?;
    ensure!(
        refusal.detail().is_none(),
        "no index bytes: {:?}",
        refusal.detail()
    );

    // The name is free again once its secret is retired, and another tenant never had it.
    acme.editor
        .execute("select rotator.retire_secret($1)", &[&id])
        .await?;
    acme.editor.query(again, &[]).await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "editor").await?;
    other.query(again, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn status_and_days_follow_the_tenant_s_clock() -> Result<()> {
    let acme = Acme::in_zone("Pacific/Auckland").await?;
    for (name, expiry) in [
        ("healthy", "now() + interval '15 days'"),
        ("soon", "now() + interval '13 days'"),
        ("overdue", "now() - interval '2 days'"),
    ] {
        acme.register(name, &format!("expiry_date => {expiry}"))
            .await?;
    }
    let gone = acme
        .register("gone", "expiry_date => now() - interval '1 day'")
        .await?;
    acme.editor
        .execute(
            "select rotator.retire_secret($1, 'service shut down')",
            &[&gone],
        )
        .await?;
    let seen = acme
        .rows(
            "select name, status, days_until_expiry
                = (expiry_date at time zone 'Pacific/Auckland')::date - (now() at time zone 'Pacific/Auckland')::date as days
             from rotator.secrets order by name",
        )
        .await?;
    assert_eq!(
        seen,
        json!([
            {"name": "gone", "status": "retired", "days": true}, {"name": "healthy", "status": "healthy", "days": true},
            {"name": "overdue", "status": "overdue", "days": true}, {"name": "soon", "status": "expiring_soon", "days": true}
        ])
    );
    let negative: i32 = scalar(
        &acme.editor,
        "select days_until_expiry from rotator.secrets where name = 'overdue'",
        &[],
    )
    .await?;
    assert_eq!(negative, -2);
    Ok(())
}

#[tokio::test]
async fn retiring_silences_and_keeps_the_history() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("old key").await?;
    acme.tick().await?;
    acme.editor
        .execute(
            "select rotator.retire_secret($1, 'replaced by SSO')",
            &[&id],
        )
        .await?;
    let seen = acme
        .rows(
            "select s.status, a.state as alert, a.resolved_at is not null as resolved, n.state as notification
             from rotator.secrets as s join rotator.alerts as a on a.secret_id = s.id
             join rotator.notifications as n on n.secret_id = s.id",
        )
        .await?;
    assert_eq!(
        seen,
        json!([{"status": "retired", "alert": "resolved", "resolved": true, "notification": "cancelled"}])
    );

    let before = acme.fingerprint().await?;
    acme.editor
        .execute("select rotator.retire_secret($1)", &[&id])
        .await?;
    assert_eq!(
        acme.fingerprint().await?,
        before,
        "a repeat changes nothing"
    );
    for call in ["mark_rotated($1)", "acknowledge($1)"] {
        refused(
            acme.editor
                .query(&format!("select rotator.{call}"), &[&id])
                .await,
            "PT409",
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn viewers_and_auditors_read_and_change_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    for role in ["viewer", "auditor"] {
        let session = acme.db.session("acme", role).await?;
        assert_eq!(
            rows(&session, "select name from rotator.secrets").await?,
            json!([{"name": "stripe"}])
        );
        let before = acme.fingerprint().await?;
        let refusals = [
            session.query("select rotator.register_secret('x', rotation_interval => '1 day')", &[]).await,
            session.query("select rotator.retire_secret($1)", &[&id]).await,
            session.query("select * from rotator.import_secrets('[]')", &[]).await,
            session.query("select rotator.mark_rotated($1)", &[&id]).await,
            session.query("update rotator.secrets set priority = 'P1' returning id", &[]).await,
            session.query("insert into rotator.secrets (name, interval_days) values ('x', 1) returning id", &[]).await,
            session.query("delete from rotator.secrets returning id", &[]).await,
        ];
        for outcome in refusals {
            refused(outcome, "42501")?;
        }
        assert_eq!(acme.fingerprint().await?, before, "{role}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_tenant_reads_are_empty_and_writes_are_refused() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    // A superuser who chose no tenant, and a login role that has none.
    let stranger = acme.db.login_role("stranger", &["rotator_user"]).await?;
    for session in [
        acme.db.superuser().await?,
        acme.db.connect_as(&stranger).await?,
    ] {
        for view in [
            "secrets",
            "alerts",
            "notifications",
            "contacts",
            "notification_policies",
            "overview",
        ] {
            let count: i64 = scalar(
                &session,
                &format!("select count(*) from rotator.{view}"),
                &[],
            )
            .await?;
            assert_eq!(count, 0, "{view}");
        }
        let refusal = register(&session, "x", "rotation_interval => '1 day'").await;
        let code = refusal
            .expect_err("no tenant")
            .downcast_ref::<tokio_postgres::Error>()
            .and_then(|e| e.code().cloned());
        assert_eq!(code.as_ref().map(|code| code.code()), Some("RT002"));
        let found = session
            .query("select * from rotator.search_secrets()", &[])
            .await?;
        ensure!(found.is_empty(), "search_secrets without a tenant");
    }
    Ok(())
}

#[tokio::test]
async fn everything_can_be_read_in_a_read_only_transaction() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    acme.tick().await?;
    // As PostgREST does for GET and for stable functions.
    acme.editor.batch_execute("begin read only").await?;
    for relation in [
        "secrets",
        "search_secrets(query => 'str')",
        "alerts",
        "notifications",
        "overview",
    ] {
        let count: i64 = scalar(
            &acme.editor,
            &format!("select count(*) from rotator.{relation}"),
            &[],
        )
        .await?;
        assert_eq!(count, 1, "{relation}");
    }
    Ok(())
}

#[tokio::test]
async fn of_two_who_register_the_same_name_at_once_one_is_refused() -> Result<()> {
    let acme = Acme::new().await?;
    let mut first = acme.db.session("acme", "editor").await?;
    let second = acme.db.session("acme", "editor").await?;
    let backend: i32 = scalar(&second, "select pg_backend_pid()", &[]).await?;
    let transaction = first.transaction().await?;
    let call = "select rotator.register_secret('stripe', rotation_interval => '90 days')";
    transaction.execute(call, &[]).await?;
    let waiting = tokio::spawn(async move { second.query(call, &[]).await });
    wait_for_lock(&acme, backend).await?;
    transaction.commit().await?;
    refused(waiting.await?, "23505")?;
    assert_eq!(
        acme.rows("select name from rotator.secrets").await?,
        json!([{"name": "stripe"}])
    );
    Ok(())
}

#[tokio::test]
async fn a_tenant_without_policies_registers_and_is_told_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .execute(
            "select rotator.remove_notification_policy(id) from rotator.notification_policies",
            &[],
        )
        .await?;
    let id = acme.due("stripe").await?;
    assert_eq!(acme.tick().await?["queued"], 0);
    acme.operator
        .execute("select rotator.add_notification_policy(7)", &[])
        .await?;
    assert_eq!(acme.tick().await?["queued"], 1);
    acme.editor
        .execute("select rotator.mark_rotated($1)", &[&id])
        .await?;
    Ok(())
}
