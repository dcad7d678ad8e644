//! A key rotation that fails arrives at the tenant's admins over each channel: a row that can't be opened, a real rotation,
//! the real sidecar. Who is told, and how often: `behaviour/key_alert.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::StandIn;
use rotator_tests::smtp::Server;
use rotator_tests::vendor::{Answer, Vendor};
use rotator_tests::{Sidecar, scalar, until};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::outbox::Outbox;
use crate::pagerduty::{KEY, pagerduty};
use crate::seed::{Acme, SOON};
use crate::webhook::settings;

/// Rotates acme's keys, with one secret whose ciphertext was tampered with; gives that secret and the rotation.
async fn failing_rotation(acme: &Acme) -> Result<(Uuid, i64)> {
    // Far from any reminder: sidecars tick.
    let with = "expiry_date => now() + interval '1 year', owner_id => 'dana'";
    acme.register("intact", with).await?;
    let bad = acme.register("CANARY-name-of-a-secret", with).await?;
    let tamper = "update rotator_internal.secret
        set name = set_byte(name, octet_length(name) - 1, get_byte(name, octet_length(name) - 1) # 1) where id = $1";
    acme.db.admin.execute(tamper, &[&bad]).await?;
    let rotation: i64 = scalar(&acme.operator, "select rotator.rotate_key()", &[]).await?;
    until(SOON, "the rotation to fail", async || {
        acme.operator
            .execute("select rotator.reencrypt_step()", &[])
            .await?;
        let sql = "select status = 'failed' from rotator.key_rotations where id = $1";
        scalar(&acme.operator, sql, &[&rotation]).await
    })
    .await?;
    Ok((bad, rotation))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn each_channel_says_what_failed_where_and_what_to_do() -> Result<()> {
    let acme = Acme::in_zone("Asia/Kathmandu").await?;
    let (slack, mail, pager) = (
        StandIn::start().await?,
        Server::start().await?,
        pagerduty().await?,
    );
    let hooks = Vendor::start_with_tls(Answer::status(204)).await?;
    let outbox = Outbox::new()?;
    let mut all = settings(&hooks).to_vec();
    all.extend([
        ("ROTATOR_SLACK_URL", slack.url()),
        ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-test".to_owned()),
        ("ROTATOR_SMTP_URL", mail.url()),
        ("ROTATOR_EMAIL_FROM", "rotator@acme.example".to_owned()),
        ("ROTATOR_PAGERDUTY_URL", pager.url()),
        ("ROTATOR_CONSOLE_OUTBOX", outbox.setting()),
    ]);
    let all: Vec<_> = all
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let sql = "select rotator.add_member('dana', 'admin')";
    acme.operator.execute(sql, &[]).await?;
    for (channel, recipient) in [
        ("slack", "C0SECURITY"),
        ("email", "dana@acme.example"),
        ("pagerduty", KEY),
        ("webhook", &format!("{}/hook/", hooks.url())),
        ("console", "the desk"),
    ] {
        acme.contact(channel, recipient).await?;
    }
    let (bad, rotation) = failing_rotation(&acme).await?;
    let _sidecar = Sidecar::start(&acme.db, &all).await?;

    let posted = slack.received(1, SOON).await?.remove(0).json()?;
    let mailed = mail.received(1, SOON).await?.remove(0);
    let event = pager.received(1, SOON).await?.remove(0).json()?;
    let hook = hooks.received(1, SOON).await?.remove(0).json()?;
    let printed = outbox.received(1).await?.remove(0);

    // Five recipients and two secrets, and what the audit log keeps of each.
    let subject = "Key rotation of acme failed: 1 of 14 rows could not be re-encrypted";
    let section = text(&posted["blocks"][0]["text"]["text"]);
    let lead = format!(":rotating_light: *{subject}*\nKey version 1 to 2: ");
    ensure!(section.starts_with(&lead), "{posted:#}");
    ensure!(
        posted["blocks"]
            .as_array()
            .is_some_and(|blocks| blocks.len() == 2)
    );

    ensure!(mailed.headers["subject"] == subject, "{mailed:?}");
    let thread = mailed.headers.get("references").context("a thread")?;
    let tenant: Uuid = scalar(&acme.operator, "select rotator.current_tenant()", &[]).await?;
    assert_eq!(
        *thread,
        format!("<key_rotation.{tenant}.{rotation}@acme.example>")
    );
    ensure!(!mailed.text.contains("http") && !mailed.html.contains("<a "));

    assert_eq!(event["event_action"], "trigger");
    assert_eq!(
        event["dedup_key"],
        format!("rotator.key_rotation.{tenant}.{rotation}")
    );
    assert_eq!(event["payload"]["summary"], format!("{subject} · acme"));
    assert_eq!(event["payload"]["severity"], "error");

    assert_eq!(hook["type"], "rotator.key_rotation");
    let data = &hook["data"];
    assert_eq!(
        (&data["state"], &data["summary"]),
        (&json!("failed"), &json!(subject))
    );
    let row = &data["rotation"];
    assert_eq!(
        (&row["id"], &row["total"], &row["done"], &row["failed"]),
        (&json!(rotation), &json!(14), &json!(13), &json!(1))
    );

    assert_eq!(
        (text(&printed["kind"]), text(&printed["subject"])),
        ("key_rotation", subject)
    );
    ensure!(printed["link"].is_null() && printed["recipient"] == "the desk");

    let retry = format!("rotator keys reencrypt --retry {rotation}");
    for said in [
        section,
        &mailed.text,
        &mailed.html,
        &event["payload"]["custom_details"].to_string(),
        &data.to_string(),
        &printed.to_string(),
    ] {
        ensure!(said.contains(&retry), "what to do: {said}");
        ensure!(said.contains(&bad.to_string()), "which row: {said}");
        ensure!(!said.contains("CANARY"), "a name in the clear: {said}");
    }
    for said in [section, &mailed.text, text(&printed["when"])] {
        ensure!(said.contains("(Asia/Kathmandu)"), "local time: {said}");
    }
    until(SOON, "all to be recorded", async || {
        Ok(acme.count("sent").await? == 5)
    })
    .await
}

#[tokio::test]
async fn with_nobody_to_tell_it_is_on_the_console() -> Result<()> {
    let acme = Acme::new().await?;
    let (bad, _) = failing_rotation(&acme).await?;
    let sidecar = Sidecar::start(&acme.db, &[]).await?;
    let subject = "!! Key rotation of acme failed: 1 of ";
    sidecar.logged(SOON, subject).await?;
    let log = sidecar.log()?;
    ensure!(
        log.contains(&bad.to_string()) && !log.contains("CANARY"),
        "{log}"
    );
    Ok(())
}
