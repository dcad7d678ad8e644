//! Settings that any session may change reach into functions that run with other rights: how string constants are read,
//! row security, time zone, date and interval styles. None may weaken a check or move a date.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, refused, scalar};

use crate::fixture::{text, texts, verdict};

async fn admin_of_acme() -> Result<(TestDb, tokio_postgres::Client)> {
    let db = TestDb::new().await?;
    db.tenant_in("acme", "Europe/Berlin").await?;
    let session = db.session("acme", "admin").await?;
    Ok((db, session))
}

#[tokio::test]
async fn reading_backslashes_otherwise_weakens_no_check() -> Result<()> {
    let (db, session) = admin_of_acme().await?;
    session.batch_execute("set standard_conforming_strings = off; set escape_string_warning = off; set backslash_quote = on").await?;
    for (channel, recipient) in [
        ("slack", "https://hooks-slack.com/services/T0/B0/x"),
        ("slack", "https://hooks.slack-com/services/T0/B0/x"),
        ("slack", "https://hooks@slack.com/services/T0/B0/x"),
        ("slack", "#a b"),
        ("webhook", "https://a b.example.com/x"),
        ("webhook", "https://example.com/x y"),
        ("email", "a@b c"),
        ("email", "a@b\u{2028}c.de"),
    ] {
        let outcome = session
            .execute(
                "select rotator.set_contact('x', $1, $2)",
                &[&channel, &recipient],
            )
            .await;
        refused(outcome, "22023")?;
    }
    for name in ["a\nb", "a\u{200b}b", "a\u{e0041}b", "\u{7f}x", "a\u{202e}b"] {
        let outcome = session
            .execute(
                "select rotator.register_secret($1, rotation_interval => '1 day')",
                &[&name],
            )
            .await;
        refused(outcome, "22023")?;
    }
    let honest = session.execute("select rotator.set_contact('x', 'slack', '#usss'), rotator.set_contact('x', 'webhook', 'https://sss.example.com/s')", &[]).await;
    ensure!(honest.is_ok(), "{honest:?}");

    // Whoever writes the next backslash into a function: this is why it must not be there.
    let bodies = texts(&db.admin, "select oid::regprocedure from pg_proc where pronamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace)
        and position(chr(92) in prosrc) > 0 and proname <> 'check_line' and probin is null").await?;
    ensure!(bodies.is_empty(), "bodies with a backslash: {bodies:?}");
    Ok(())
}

#[tokio::test]
async fn turning_row_security_off_shows_nothing_more() -> Result<()> {
    let (db, session) = admin_of_acme().await?;
    db.tenant("beta").await?;
    session
        .batch_execute("select rotator.register_secret('one', rotation_interval => '1 day')")
        .await?;
    session.batch_execute("set row_security = off").await?;
    for view in [
        "secrets",
        "alerts",
        "notifications",
        "contacts",
        "audit_log",
        "encryption_keys",
    ] {
        ensure!(
            verdict(&session, &format!("select * from rotator.{view}")).await? == "42501",
            "{view} must refuse rather than filter nothing"
        );
    }
    ensure!(
        verdict(
            &session,
            "select rotator.register_secret('two', rotation_interval => '1 day')"
        )
        .await?
            == "42501"
    );
    Ok(())
}

#[tokio::test]
async fn styles_of_the_session_move_no_date() -> Result<()> {
    let (_db, session) = admin_of_acme().await?;
    let items = r#"[{"name": "a", "expiry_date": "2027-02-03", "rotation_interval": "90 days"}]"#;
    let mut seen = Vec::new();
    for settings in [
        "select 1",
        "set timezone = 'Pacific/Apia'",
        "set datestyle = 'SQL, DMY'",
        "set intervalstyle = 'sql_standard'; set datestyle = 'German'",
        "set standard_conforming_strings = off; set escape_string_warning = off; set timezone = 'America/New_York'",
        "set transform_null_equals = on; set array_nulls = off; set quote_all_identifiers = on; set extra_float_digits = -15; set bytea_output = escape",
        "set enable_indexscan = off; set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set jit = off",
    ] {
        session.batch_execute(settings).await?;
        let item = serde_json::from_str::<serde_json::Value>(items)?;
        let action: String = scalar(
            &session,
            "select action || coalesce(error, '') from rotator.import_secrets($1)",
            &[&item],
        )
        .await?;
        ensure!(action == "created", "{settings}: {action}");
        session
            .batch_execute(
                "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'",
            )
            .await?;
        seen.push(text(&session, "select concat_ws(' ', expiry_date, rotation_interval, interval_days, status) from rotator.secrets where status <> 'retired'").await?);
        session
            .batch_execute("delete from rotator.secrets where status <> 'retired'; reset all")
            .await?;
    }
    ensure!(
        seen.iter()
            .all(|row| row == "2027-02-02 23:00:00+00 90 days 90 healthy"),
        "{seen:#?}"
    );
    Ok(())
}
