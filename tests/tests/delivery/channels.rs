//! Channels that can't deliver: one that lacks a setting waits for the operator. Webhooks without theirs: `webhook`.

use anyhow::{Result, ensure};
use rotator_tests::Sidecar;

use crate::seed::{Acme, SOON};

#[tokio::test]
async fn email_without_its_settings_waits_and_says_which() -> Result<()> {
    let acme = Acme::new().await?;
    acme.contact("email", "dana@acme.example").await?;
    let secret = acme.due("stripe-live").await?;
    for (settings, missing) in [
        (
            &[][..],
            "neither ROTATOR_SMTP_URL nor ROTATOR_SENDGRID_API_KEY is set",
        ),
        (
            &[("ROTATOR_SMTP_URL", "smtp://127.0.0.1:1")],
            "ROTATOR_EMAIL_FROM is not set",
        ),
        (
            &[("ROTATOR_SENDGRID_API_KEY", "SG.x")],
            "ROTATOR_EMAIL_FROM is not set",
        ),
    ] {
        let mut sidecar = Sidecar::start(&acme.db, settings).await?;
        acme.tick().await?;
        acme.end_waiting().await?;
        sidecar.logged(SOON, missing).await?;
        ensure!(sidecar.terminate().await?.success());
        let waiting = acme.notification(secret).await?;
        // Claimed once more before it was told to stop, it was given back, and waits all the same.
        ensure!(
            ["retry", "queued"].contains(&waiting.state.as_str())
                && waiting.last_error.as_deref() == Some(missing),
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
