//! Where owners are reached: each channel's grammar, what is shown of an address, and who may set it.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;

use crate::seed::{Acme, rows};

#[tokio::test]
async fn each_channel_takes_its_own_addresses_and_shows_a_hint() -> Result<()> {
    let acme = Acme::new().await?;
    for (channel, recipient, hint) in [
        ("email", "priya@acme.com", "…@acme.com"),
        (
            "email",
            "o'neil+alerts@mail.acme.co.uk",
            "…@mail.acme.co.uk",
        ),
        ("email", "root@localhost", "…@localhost"),
        ("slack", "C0123456789", "C…789"),
        ("slack", "U0123ABCDEF", "U…DEF"),
        ("slack", "#payments-alerts", "#pa…"),
        (
            "slack",
            "https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnopqrstx7Qz",
            "hooks.slack.com/…x7Qz",
        ),
        ("pagerduty", "0123456789abcdef0123456789ABCDEF", "0…DEF"),
        (
            "webhook",
            "https://hooks.acme.example/rotator?team=1",
            "hooks.acme.example/…am=1",
        ),
        (
            "webhook",
            "https://büro.example:8443?team=1",
            "büro.example:8443/…am=1",
        ),
        (
            "webhook",
            "https://[2606:4700::1111]:65535/~x/%20",
            "[2606:4700::1111]:65535/…/%20",
        ),
        ("webhook", "https://203.0.113.7/abcd", "203.0.113.7/…abcd"),
        ("slack", "#büro_ops-2.b", "#bü…"),
        ("console", "the operators", "the operators"),
    ] {
        acme.operator
            .execute(
                "select rotator.set_contact('priya', $1, $2)",
                &[&channel, &recipient],
            )
            .await?;
        let seen = rows(
            &acme.operator,
            &format!("select owner_id, channel, recipient_hint from rotator.contacts where channel = '{channel}'"),
        )
        .await?;
        assert_eq!(
            seen,
            json!([{"owner_id": "priya", "channel": channel, "recipient_hint": hint}])
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_null_character_is_in_no_address() -> Result<()> {
    let acme = Acme::new().await?;
    for (channel, recipient) in [
        ("email", "priya@acme.com\0"),
        ("slack", "C0123456789\0"),
        ("pagerduty", "0123456789abcdef\x000123456789abcde"),
        ("webhook", "https://hooks.acme.example/\0"),
        ("console", "\0"),
    ] {
        let sql = "select rotator.set_contact('priya', $1, $2)";
        let outcome = acme.operator.query(sql, &[&channel, &recipient]).await;
        // PostgreSQL's own refusal, before anything of ours runs.
        let error = outcome
            .err()
            .and_then(|error| Some(error.code()?.code().to_owned()));
        assert_eq!(error.as_deref(), Some("22021"), "{channel}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_channel_can_not_reach_is_refused() -> Result<()> {
    let acme = Acme::new().await?;
    let before = acme.fingerprint().await?;
    let long = "x".repeat(3000);
    for (channel, recipient) in [
        ("email", ""),
        ("email", "priya"),
        ("email", "@acme.com"),
        ("email", "priya@"),
        ("email", "Priya <priya@acme.com>"),
        ("email", "a@acme.com, b@acme.com"),
        ("email", "priya@acme.com\r\nBcc: all@acme.com"),
        ("email", "priya@acme.com\n"),
        ("email", "pri ya@acme.com"),
        ("email", "priya@acme..com"),
        ("email", "pri..ya@acme.com"),
        ("email", ".priya@acme.com"),
        ("email", "priya.@acme.com"),
        ("email", "priya@-acme.com"),
        ("slack", "payments"),
        ("slack", "# payments"),
        ("slack", "http://hooks.slack.com/services/T/B/x"),
        (
            "slack",
            "https://hooks.slack.com.evil.example/services/T/B/x",
        ),
        ("slack", "https://evil.example/hooks.slack.com/"),
        ("slack", "https://hooks.slack.com@evil.example/x"),
        ("slack", "https://hooks.slack.com/services/../../x?y=z"),
        ("pagerduty", "0123"),
        ("slack", "C0123456789\n"),
        ("slack", "#payments\r\nx"),
        ("slack", "https://hooks.slack.com/services/T/B/x\r\n"),
        ("slack", "https://hooks.slack.com/workflows/T/B/x"),
        ("slack", "#pay\u{200b}ments"),
        ("slack", "#<!channel>"),
        ("slack", "#a&b"),
        ("slack", "C0123456789, C0123456780"),
        ("slack", "c0123456789"),
        ("pagerduty", "0123456789abcdef0123456789abcde!"),
        ("pagerduty", "0123456789abcdef0123456789abcdef\n"),
        ("pagerduty", "0123456789abcdef\r0123456789abcde"),
        ("webhook", "http://hooks.acme.example/"),
        ("webhook", "https://"),
        ("webhook", "https://user:pass@hooks.acme.example/"),
        ("webhook", "https://hooks.acme.example/a b"),
        (
            "webhook",
            "https://hooks.acme.example/\r\nhost: evil.example",
        ),
        ("webhook", "https://hooks.acme.example\n"),
        ("webhook", "file:///etc/passwd"),
        ("webhook", "https://hooks.acme.example:0/"),
        ("webhook", "https://hooks.acme.example:65536/"),
        ("webhook", "https://hooks.acme.example:8443x/"),
        ("webhook", "https://hooks.acme.example:/"),
        ("webhook", "https://hooks.acme.example:1:2/"),
        ("webhook", "https://hooks.acme.example\\evil.example/"),
        ("webhook", "https://hooks.acme.example/\\evil.example"),
        ("webhook", "https://hooks.acme.example#x"),
        ("webhook", "https://hooks.acme.example/a\u{202e}b"),
        ("webhook", "https://hooks.acme.example/a\u{a0}b"),
        ("webhook", "https://./"),
        ("webhook", "https://[::1/"),
        ("webhook", "https://[fe80::1%25eth0]/"),
        ("webhook", "https://::1/"),
        // Numbers that one program takes for another address than the next one.
        ("webhook", "https://2130706433/"),
        ("webhook", "https://017700000001/"),
        ("webhook", "https://0x7f000001/"),
        ("webhook", "https://0x7F.1/"),
        ("webhook", "https://127.1/"),
        ("webhook", "https://0177.0.0.1/"),
        ("webhook", "https://127.0.0.01/"),
        ("webhook", "https://256.0.0.1/"),
        ("webhook", "https://1.2.3.4.5/"),
        ("webhook", "https://%31%32%37.0.0.1/"),
        ("console", ""),
        ("console", "  "),
        ("console", "the \u{202e}srotarepo"),
        ("console", "\u{1b}[2J"),
        ("email", &long),
        ("console", &long),
        ("fax", "123"),
        ("EMAIL", "priya@acme.com"),
    ] {
        let outcome = acme
            .operator
            .query(
                "select rotator.set_contact('priya', $1, $2)",
                &[&channel, &recipient],
            )
            .await;
        let refusal = refused(outcome, "22023")
            .map_err(|error| error.context(format!("{channel} {recipient:?}")))?;
        ensure!(
            recipient.len() < 8 || !refusal.message().contains(recipient),
            "it quotes: {}",
            refusal.message()
        );
    }
    for arguments in [
        "null, 'email', 'a@b.example'",
        "'', 'email', 'a@b.example'",
        "'priya', null, 'x'",
        "'priya', 'email', null",
    ] {
        let sql = format!("select rotator.set_contact({arguments})");
        refused(acme.operator.query(&sql, &[]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_second_call_replaces_the_first_and_counts_from_the_next_tick() -> Result<()> {
    let acme = Acme::new().await?;
    let set = "select rotator.set_contact('priya', 'email', $1)";
    let first: uuid::Uuid = scalar(&acme.operator, set, &[&"old@acme.example"]).await?;
    let second: uuid::Uuid = scalar(&acme.operator, set, &[&"new@acme.example"]).await?;
    assert_eq!(first, second, "one contact an owner and channel");
    acme.register(
        "stripe",
        "owner_id => 'priya', expiry_date => now() + interval '5 days'",
    )
    .await?;
    acme.tick().await?;
    assert_eq!(
        acme.claim_one().await?.recipient.as_deref(),
        Some("new@acme.example")
    );
    Ok(())
}

#[tokio::test]
async fn members_set_their_own_and_admins_anybody_s() -> Result<()> {
    let acme = Acme::new().await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    let session = acme.db.connect_as(&viewer).await?;
    let set = "select rotator.set_contact($1, 'email', 'me@acme.example')";
    session.execute(set, &[&viewer.subject()]).await?;
    refused(session.query(set, &[&"priya"]).await, "42501")?;
    refused(session.query(set, &[&"manager"]).await, "42501")?;
    refused(acme.editor.query(set, &[&"priya"]).await, "42501")?;
    let admin = acme.db.session("acme", "admin").await?;
    admin.execute(set, &[&"priya"]).await?;
    admin.execute(set, &[&"manager"]).await?;
    let stranger = acme.db.login_role("stranger", &["rotator_user"]).await?;
    let stranger = acme.db.connect_as(&stranger).await?;
    refused(stranger.query(set, &[&"priya"]).await, "RT002")?;
    Ok(())
}

#[tokio::test]
async fn no_member_ever_sees_an_address() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'email', 'canary.7f3a@acme.example')",
            &[],
        )
        .await?;
    acme.operator
        .execute(
            "select rotator.add_notification_policy(9, 'email', 'canary.7f3a@acme.example')",
            &[],
        )
        .await?;
    acme.register(
        "stripe",
        "owner_id => 'priya', expiry_date => now() + interval '5 days'",
    )
    .await?;
    acme.tick().await?;
    for view in [
        "contacts",
        "notification_policies",
        "notifications",
        "audit_log",
        "audit_values",
        "alerts",
        "secrets",
    ] {
        let seen = rows(&acme.operator, &format!("select * from rotator.{view}"))
            .await?
            .to_string();
        ensure!(!seen.contains("canary"), "{view}: {seen}");
    }
    assert_eq!(
        acme.claim_one().await?.recipient.as_deref(),
        Some("canary.7f3a@acme.example")
    );
    Ok(())
}
