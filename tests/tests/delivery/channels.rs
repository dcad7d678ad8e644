//! Channels that can't deliver: one that this version doesn't know is given up and says so, one that lacks a setting
//! waits for the operator.

use anyhow::{Result, ensure};
use rotator_tests::Sidecar;

use crate::seed::{Acme, SOON};

#[tokio::test]
async fn a_channel_of_a_later_version_is_given_up_and_named() -> Result<()> {
    let acme = Acme::new().await?;
    let _sidecar = Sidecar::start(&acme.db, &[]).await?;
    for (owner, channel, recipient) in [
        ("dana", "pagerduty", "0123456789abcdef0123456789abcdef"),
        ("erin", "webhook", "https://hooks.acme.example/rotator"),
    ] {
        acme.contact_of(owner, channel, recipient).await?;
        let secret = acme.due_for(owner, &format!("{owner}'s")).await?;
        acme.tick().await?;
        let dead = acme.becomes(secret, "dead").await?;
        let error = dead.last_error.unwrap_or_default();
        ensure!(
            error == format!("channel {channel} is not supported by this sidecar version"),
            "{error}"
        );
        ensure!(acme.outcomes(secret).await? == ["permanent"]);
    }
    Ok(())
}

#[tokio::test]
async fn email_without_its_settings_waits_and_says_which() -> Result<()> {
    let acme = Acme::new().await?;
    acme.contact("email", "dana@acme.example").await?;
    let secret = acme.due("stripe-live").await?;
    for (settings, missing) in [
        (&[][..], "ROTATOR_SMTP_URL is not set"),
        (
            &[("ROTATOR_SMTP_URL", "smtp://127.0.0.1:1")],
            "ROTATOR_EMAIL_FROM is not set",
        ),
    ] {
        let mut sidecar = Sidecar::start(&acme.db, settings).await?;
        acme.tick().await?;
        acme.end_waiting().await?;
        sidecar.logged(SOON, missing).await?;
        ensure!(sidecar.terminate().await?.success());
        let waiting = acme.notification(secret).await?;
        ensure!(
            waiting.state == "retry" && waiting.last_error.as_deref() == Some(missing),
            "{waiting:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_owner_without_a_contact_is_told_on_the_console() -> Result<()> {
    let acme = Acme::new().await?;
    let sidecar = Sidecar::start(&acme.db, &[]).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;
    ensure!(
        sidecar.log()?.contains("-- stripe-live expires in 5 days"),
        "nothing registered is silently uncovered"
    );
    Ok(())
}
