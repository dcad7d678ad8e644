//! INSERT, UPDATE and DELETE on the view `rotator.secrets`, as psql and PostgREST do them.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;

use crate::seed::{Acme, rows, wait_for_lock};

#[tokio::test]
async fn insert_registers_and_returns_the_stored_row() -> Result<()> {
    let acme = Acme::new().await?;
    let row = acme
        .editor
        .query_one(
            "insert into rotator.secrets (name, provider_type, interval_days, labels)
             values ('  stripe  ', 'STRIPE', 30, '{\"tier\": 1}')
             returning id is not null and created_at is not null, name, provider_type, priority, status,
                rotation_interval::text, interval_days, cycle, owner_id = rotator.current_actor(), expiry_date > now() + interval '29 days'",
            &[],
        )
        .await?;
    assert!(
        row.get::<_, bool>(0) && row.get::<_, bool>(8) && row.get::<_, bool>(9),
        "{row:?}"
    );
    let text: Vec<String> = (1..6).map(|column| row.get(column)).collect();
    assert_eq!(text, ["stripe", "stripe", "P3", "healthy", "30 days"]);
    assert_eq!((row.get::<_, i32>(6), row.get::<_, i32>(7)), (30, 1));
    Ok(())
}

#[tokio::test]
async fn every_writable_column_can_be_updated() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("stripe", "rotation_interval => '90 days', purpose => 'old'")
        .await?;
    let changes = [
        ("name", "'Stripe live'"),
        ("provider_type", "'vault'"),
        ("provider_ref", "'kv/stripe'"),
        ("purpose", "null"),
        ("environment", "'production'"),
        ("priority", "'P2'"),
        ("labels", "'{\"a\": \"b\"}'::jsonb"),
        ("owner_id", "'priya'"),
        ("secondary_owner_id", "'tom'"),
        ("team_lead_id", "'mei'"),
        ("expiry_date", "'2030-02-03 04:05:06+00'::timestamptz"),
        ("rotation_interval", "'1 year'::interval"),
        ("interval_days", "45"),
        ("external_id", "'cal-7'"),
    ];
    for (column, value) in changes {
        let sql = format!(
            "update rotator.secrets set {column} = {value} returning {column} is not distinct from {value}"
        );
        ensure!(
            scalar::<bool>(&acme.editor, &sql, &[]).await?,
            "{column} became {value}"
        );
        let check = format!("select {column} is not distinct from {value} from rotator.secrets");
        ensure!(
            scalar::<bool>(&acme.editor, &check, &[]).await?,
            "{column} stayed {value}"
        );
    }
    let audited: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.audit_event where action = 'secret.updated'",
        &[],
    )
    .await?;
    assert_eq!(audited, changes.len() as i64, "one audit event a change");
    Ok(())
}

#[tokio::test]
async fn every_other_column_is_refused() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("stripe", "rotation_interval => '90 days'")
        .await?;
    let before = acme.fingerprint().await?;
    for (column, value) in [
        ("id", "gen_random_uuid()"),
        ("last_rotated_at", "now()"),
        ("cycle", "7"),
        ("status", "'retired'"),
        ("days_until_expiry", "3"),
        ("acknowledged_at", "now()"),
        ("acknowledged_by", "'me'"),
        ("snoozed_until", "now()"),
        ("verified_at", "now()"),
        ("verified_expiry_date", "now()"),
        ("created_at", "'2020-01-01'"),
        ("updated_at", "'2020-01-01'"),
    ] {
        let update = format!("update rotator.secrets set {column} = {value}, priority = 'P1'");
        let refusal = refused(acme.editor.execute(&update, &[]).await, "22023")?;
        ensure!(
            refusal.message().contains(column),
            "{column}: {}",
            refusal.message()
        );
        let insert = format!(
            "insert into rotator.secrets (name, interval_days, {column}) values ('x', 1, {value})"
        );
        refused(acme.editor.execute(&insert, &[]).await, "22023")?;
    }
    // Nor is an owner taken away without another one.
    let nobody = "update rotator.secrets set owner_id = null, priority = 'P1'";
    let refusal = refused(acme.editor.execute(nobody, &[]).await, "22023")?;
    ensure!(refusal.message().contains("owner_id"), "{refusal}");
    assert_eq!(acme.fingerprint().await?, before);
    // Writing back what one read changes nothing, so it is no error: clients send whole rows.
    let count = acme
        .editor
        .execute(
            "update rotator.secrets set status = status, cycle = cycle, id = id",
            &[],
        )
        .await?;
    assert_eq!(count, 1);
    assert_eq!(
        acme.fingerprint().await?,
        before,
        "an update that changes nothing leaves no trace"
    );
    Ok(())
}

#[tokio::test]
async fn two_sessions_that_change_different_columns_both_win() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register(
        "stripe",
        "rotation_interval => '90 days', owner_id => 'nobody'",
    )
    .await?;
    let mut first = acme.db.session("acme", "editor").await?;
    let second = acme.db.session("acme", "editor").await?;

    let transaction = first.transaction().await?;
    transaction
        .execute(
            "update rotator.secrets set owner_id = 'priya', purpose = 'cards'",
            &[],
        )
        .await?;
    let backend: i32 = scalar(&second, "select pg_backend_pid()", &[]).await?;
    let blocked = tokio::spawn(async move {
        second
            .execute(
                "update rotator.secrets set priority = 'P1', expiry_date = '2031-01-01 00:00+00'",
                &[],
            )
            .await
    });
    wait_for_lock(&acme, backend).await?;
    transaction.commit().await?;
    assert_eq!(blocked.await??, 1);

    assert_eq!(
        acme.rows("select owner_id, purpose, priority, expiry_date = '2031-01-01 00:00+00' as moved from rotator.secrets").await?,
        json!([{"owner_id": "priya", "purpose": "cards", "priority": "P1", "moved": true}])
    );
    Ok(())
}

#[tokio::test]
async fn interval_days_speaks_for_whole_days_only() -> Result<()> {
    let acme = Acme::new().await?;
    for (interval, days) in [
        ("90 days", json!(90)),
        ("1 week", json!(7)),
        ("1 month", json!(null)),
        ("1 year", json!(null)),
        ("1 month 3 days", json!(null)),
        ("1 day 12 hours", json!(null)),
        ("36 hours", json!(null)),
        ("30 seconds", json!(null)),
    ] {
        acme.register(interval, &format!("rotation_interval => '{interval}'"))
            .await?;
        let seen = acme
            .rows(&format!(
                "select interval_days from rotator.secrets where name = '{interval}'"
            ))
            .await?;
        assert_eq!(seen, json!([{"interval_days": days}]), "{interval}");
    }
    // Contradictions are refused, agreement is fine, and null takes the interval away.
    let both = "insert into rotator.secrets (name, interval_days, rotation_interval) values ('x', 30, '60 days')";
    refused(acme.editor.execute(both, &[]).await, "22023")?;
    let change = "update rotator.secrets set interval_days = 30, rotation_interval = '60 days' where name = '90 days'";
    refused(acme.editor.execute(change, &[]).await, "22023")?;
    let agree = "update rotator.secrets set interval_days = 60, rotation_interval = '60 days' where name = '90 days'";
    assert_eq!(acme.editor.execute(agree, &[]).await?, 1);
    let none = "update rotator.secrets set interval_days = null where name = '90 days' returning rotation_interval is null";
    ensure!(scalar::<bool>(&acme.editor, none, &[]).await?);
    Ok(())
}

#[tokio::test]
async fn delete_retires_and_upserts_belong_elsewhere() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    acme.register("other", "rotation_interval => '90 days'")
        .await?;
    assert_eq!(
        acme.editor
            .execute("delete from rotator.secrets where name = 'stripe'", &[])
            .await?,
        1
    );
    assert_eq!(
        acme.rows("select name, status from rotator.secrets order by name")
            .await?,
        json!([{"name": "other", "status": "healthy"}, {"name": "stripe", "status": "retired"}])
    );
    refused(
        acme.editor
            .execute(
                "update rotator.secrets set priority = 'P1' where name = 'stripe'",
                &[],
            )
            .await,
        "PT409",
    )?;
    let taken = "update rotator.secrets set name = 'Other' where name = 'other'";
    assert_eq!(
        acme.editor.execute(taken, &[]).await?,
        1,
        "its own name in another case"
    );
    acme.register("third", "rotation_interval => '90 days'")
        .await?;
    refused(
        acme.editor
            .execute(
                "update rotator.secrets set name = 'third' where name = 'Other'",
                &[],
            )
            .await,
        "23505",
    )?;
    Ok(())
}

#[tokio::test]
async fn many_rows_change_in_one_statement_or_none() -> Result<()> {
    let acme = Acme::new().await?;
    for name in ["a", "b", "c"] {
        acme.register(name, "rotation_interval => '90 days'")
            .await?;
    }
    assert_eq!(
        acme.editor
            .execute(
                "update rotator.secrets set team_lead_id = 'mei' where name <> 'b'",
                &[]
            )
            .await?,
        2
    );
    let before = acme.fingerprint().await?;
    refused(
        acme.editor
            .execute("update rotator.secrets set name = 'same'", &[])
            .await,
        "23505",
    )?;
    assert_eq!(
        acme.fingerprint().await?,
        before,
        "the statement is undone as a whole"
    );
    Ok(())
}

#[tokio::test]
async fn another_tenant_s_rows_can_not_be_reached_through_the_view() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "admin").await?;
    let before = acme.fingerprint().await?;
    for statement in [
        "update rotator.secrets set priority = 'P1' where id = $1",
        "delete from rotator.secrets where id = $1",
    ] {
        assert_eq!(other.execute(statement, &[&id]).await?, 0, "{statement}");
    }
    assert_eq!(
        rows(&other, "select * from rotator.secrets").await?,
        json!([])
    );
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_registered_can_not_be_written_by_an_update() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register("certificate", "expiry_date => '2030-01-01'")
        .await?;
    let before = acme.fingerprint().await?;
    for change in [
        "name = null",
        "name = ''",
        "name = repeat('x', 257)",
        "expiry_date = null",
        "expiry_date = '99999-01-01'",
        "rotation_interval = '-1 day'",
        "interval_days = 0",
        "interval_days = -5",
        "interval_days = 2147483647",
        "priority = 'P9'",
        "provider_type = 'a b'",
        "labels = '[]'",
        "purpose = repeat('x', 10001)",
    ] {
        let sql = format!("update rotator.secrets set {change}");
        refused(acme.editor.execute(&sql, &[]).await, "22023")
            .map_err(|error| error.context(change))?;
    }
    assert_eq!(acme.fingerprint().await?, before);

    // With an interval a date can be left to it.
    let moved = "update rotator.secrets set rotation_interval = '90 days', expiry_date = null returning expiry_date = now() + interval '90 days'";
    ensure!(scalar::<bool>(&acme.editor, moved, &[]).await?);
    Ok(())
}
