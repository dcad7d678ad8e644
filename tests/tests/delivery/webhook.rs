//! Webhooks: signed so that any library for Standard Webhooks can check them, to public addresses by TLS, and what
//! becomes of them where that can't be. Answers of all kinds: `vendors`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rotator_tests::Sidecar;
use rotator_tests::vendor::{Answer, Request, Vendor};
use serde_json::json;

use crate::seed::{Acme, SOON};

/// `whsec_` and the base64 of 32 bytes.
pub const SIGNING_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECRET_IN_HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What lets webhooks reach a receiver on loopback.
pub fn settings(hooks: &Vendor) -> [(&'static str, String); 3] {
    [
        ("ROTATOR_WEBHOOK_SIGNING_SECRET", SIGNING_SECRET.to_owned()),
        ("ROTATOR_EGRESS_ALLOW", "127.0.0.0/8".to_owned()),
        (
            "SSL_CERT_FILE",
            hooks.certificate().unwrap_or_default().to_owned(),
        ),
    ]
}

async fn sidecar(acme: &Acme, settings: &[(&str, String)]) -> Result<Sidecar> {
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Sidecar::start(&acme.db, &settings).await
}

/// By openssl, not by us.
fn signature(request: &Request) -> Result<String> {
    let header = |name| request.header(name).with_context(|| format!("no {name}"));
    let folder = rotator_tests::scratch::Scratch::new("signature")?;
    let file = folder.join("signed");
    std::fs::write(
        &file,
        format!(
            "{}.{}.{}",
            header("webhook-id")?,
            header("webhook-timestamp")?,
            request.text()
        ),
    )?;
    let script =
        r#"openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary "$2" | openssl base64"#;
    let output = Command::new("sh")
        .args(["-c", script, "sh", SECRET_IN_HEX])
        .arg(&file)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(format!("v1,{}", String::from_utf8(output.stdout)?.trim()))
}

#[tokio::test]
async fn a_webhook_is_signed_and_a_repeat_keeps_its_id() -> Result<()> {
    let (acme, hooks) = (
        Acme::new().await?,
        Vendor::start_with_tls(Answer::status(204)).await?,
    );
    hooks.answer(Answer::status(503));
    let sidecar = sidecar(&acme, &settings(&hooks)).await?;
    let path = "/hooks/rotator-4711?team=pay%20ments";
    acme.contact("webhook", &format!("{}{path}", hooks.url()))
        .await?;
    let secret = acme.due("stripe \"live\" 🔑").await?;
    acme.tick().await?;
    acme.becomes(secret, "retry").await?;
    acme.end_waiting().await?;
    let requests = hooks.received(2, SOON).await?;
    let sent = acme.becomes(secret, "sent").await?;

    let id = sent.id.to_string();
    assert_eq!(sent.provider_message_id.as_deref(), Some(id.as_str()));
    for request in &requests {
        ensure!(
            request.method == "POST" && request.path == "/hooks/rotator-4711",
            "{request:?}"
        );
        assert_eq!(request.query, "team=pay%20ments");
        assert_eq!(request.header("webhook-id"), Some(id.as_str()));
        assert_eq!(
            request.header("webhook-signature"),
            Some(signature(request)?.as_str())
        );
        let stamp: u64 = request
            .header("webhook-timestamp")
            .context("no timestamp")?
            .parse()?;
        let arrived = request
            .time
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs();
        ensure!(arrived.abs_diff(stamp) <= 5, "{stamp} {arrived}");
        let body = request.json()?;
        assert_eq!(
            (&body["type"], &body["version"]),
            (&json!("rotator.reminder"), &json!(1))
        );
        assert_eq!(body["id"], id);
        let data = &body["data"];
        assert_eq!(data["summary"], "stripe \"live\" 🔑 expires in 5 days");
        assert_eq!(data["secret"]["id"], secret.to_string());
        assert_eq!(
            (&data["cycle"], &data["days_until_expiry"]),
            (&json!(1), &json!(5))
        );
        let link = data["link"].as_str().context("a link")?;
        ensure!(link.starts_with(&sidecar.url("/a/")), "{link}");
    }
    let links: Vec<_> = requests
        .iter()
        .filter_map(|request| request.json().ok())
        .collect();
    ensure!(
        links[0]["data"]["link"] != links[1]["data"]["link"],
        "each attempt has its own token"
    );
    let log = sidecar.log()?;
    ensure!(!log.contains("4711") && !log.contains("whsec"), "{log}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_public_is_not_reached() -> Result<()> {
    let (acme, hooks) = (
        Acme::new().await?,
        Vendor::start_with_tls(Answer::status(204)).await?,
    );
    let mut all = settings(&hooks);
    all[1].1 = "10.0.0.0/8".to_owned();
    let _sidecar = sidecar(&acme, &all).await?;
    let port = hooks
        .url()
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let literal =
        "the webhook's address is not public; ROTATOR_EGRESS_ALLOW can permit private networks";
    let resolved = "the host has no address that may be connected to; ROTATOR_EGRESS_ALLOW can permit private networks";
    let hosts = [
        ("127.0.0.1", "dead", literal),
        ("127.0.0.1.", "dead", literal),
        ("169.254.169.254", "dead", literal),
        ("[::1]", "dead", literal),
        ("[::ffff:127.0.0.1]", "dead", literal),
        ("[::ffff:7f00:1]", "dead", literal),
        ("[::127.0.0.1]", "dead", literal),
        ("[64:ff9b::7f00:1]", "dead", literal),
        ("localhost", "retry", resolved),
    ];
    let mut secrets = Vec::new();
    for (host, ..) in hosts {
        acme.contact_of(host, "webhook", &format!("https://{host}:{port}/"))
            .await?;
        secrets.push(acme.due_for(host, host).await?);
    }
    acme.tick().await?;
    for ((host, state, error), secret) in hosts.into_iter().zip(secrets) {
        let failed = acme.becomes(secret, state).await?;
        assert_eq!(failed.last_error.as_deref(), Some(error), "{host}");
    }
    ensure!(hooks.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Result<()> {
    let (acme, hooks) = (
        Acme::new().await?,
        Vendor::start_with_tls(Answer::status(204)).await?,
    );
    let elsewhere = Vendor::start(Answer::status(204)).await?;
    hooks.answer(Answer::with_header(307, "location", &elsewhere.url()));
    let _sidecar = sidecar(&acme, &settings(&hooks)).await?;
    acme.contact("webhook", &hooks.url()).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    let dead = acme.becomes(secret, "dead").await?;
    assert_eq!(
        dead.last_error.as_deref(),
        Some("webhook: HTTP 307: redirects are not followed")
    );
    ensure!(elsewhere.requests().is_empty() && hooks.requests().len() == 1);
    Ok(())
}

#[tokio::test]
async fn who_can_not_prove_to_be_the_receiver_gets_nothing() -> Result<()> {
    let (acme, hooks) = (
        Acme::new().await?,
        Vendor::start_with_tls(Answer::status(204)).await?,
    );
    let stranger = Vendor::start_with_tls(Answer::status(204)).await?;
    // The sidecar trusts another certificate than the one it meets.
    let _sidecar = sidecar(&acme, &settings(&stranger)).await?;
    acme.contact("webhook", &hooks.url()).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    let waiting = acme.becomes(secret, "retry").await?;
    assert_eq!(waiting.last_error.as_deref(), Some("can't connect"));
    ensure!(hooks.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn without_a_signing_secret_webhooks_wait_for_one_and_say_so() -> Result<()> {
    let (acme, hooks) = (
        Acme::new().await?,
        Vendor::start_with_tls(Answer::status(204)).await?,
    );
    let all = settings(&hooks);
    let mut without = sidecar(&acme, &all[1..]).await?;
    acme.contact("webhook", &hooks.url()).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    let missing = "ROTATOR_WEBHOOK_SIGNING_SECRET is not set";
    let waiting = acme.becomes(secret, "retry").await?;
    assert_eq!(waiting.last_error.as_deref(), Some(missing));
    without.logged(SOON, missing).await?;
    ensure!(without.terminate().await?.success() && hooks.requests().is_empty());

    let _with = sidecar(&acme, &all).await?;
    acme.end_waiting().await?;
    acme.becomes(secret, "sent").await?;
    Ok(())
}

#[tokio::test]
async fn a_signing_secret_that_is_none_ends_the_start_and_is_not_quoted() -> Result<()> {
    let wrong = [("ROTATOR_WEBHOOK_SIGNING_SECRET", "hunter2hunter2")];
    let url = "postgres://nobody@127.0.0.1:1/nowhere";
    let mut sidecar = Sidecar::spawn(url, &wrong).await?;
    assert_eq!(sidecar.ended(SOON).await?.code(), Some(4));
    let log = sidecar.log()?;
    ensure!(
        log.contains("ROTATOR_WEBHOOK_SIGNING_SECRET: it is not whsec_")
            && !log.contains("hunter2"),
        "{log}"
    );
    Ok(())
}
