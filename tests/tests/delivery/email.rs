//! Email through a real SMTP server: what the mail looks like to people and to machines, and what the server's answers
//! mean. Recovery under the same Message-ID: `recovery.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::smtp::{Server, Stage};
use rotator_tests::{Sidecar, until};
use uuid::Uuid;

use crate::seed::{Acme, SOON};

async fn start() -> Result<(Acme, Server, Sidecar)> {
    let (acme, mail) = (Acme::new().await?, Server::start().await?);
    let url = mail.url();
    let settings = [
        ("ROTATOR_SMTP_URL", url.as_str()),
        ("ROTATOR_EMAIL_FROM", "rotator <rotator@acme.example>"),
    ];
    let sidecar = Sidecar::start(&acme.db, &settings).await?;
    Ok((acme, mail, sidecar))
}

#[tokio::test]
async fn a_reminder_is_one_mail_for_people_and_machines() -> Result<()> {
    let (acme, mail, sidecar) = start().await?;
    acme.contact("email", "dana@acme.example").await?;
    let secret = acme.due("Schlüssel <live> & more").await?;
    acme.tick().await?;
    let mail = mail.received(1, SOON).await?.remove(0);
    let sent = acme.becomes(secret, "sent").await?;

    ensure!(
        mail.from == "rotator@acme.example" && mail.recipients == ["dana@acme.example"],
        "{mail:?}"
    );
    let header = |name: &str| {
        mail.headers
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    ensure!(
        header("subject") == "Schlüssel <live> & more expires in 5 days",
        "{}",
        header("subject")
    );
    ensure!(
        header("from").contains("rotator@acme.example")
            && header("to").contains("dana@acme.example")
    );
    ensure!(
        header("auto-submitted") == "auto-generated",
        "vacation answers must not come back"
    );
    ensure!(header("x-auto-response-suppress") == "All");
    let id = header("message-id");
    ensure!(id.contains(&sent.id.to_string()), "{id}");
    ensure!(sent.provider_message_id.as_deref() == Some(id), "{sent:?}");
    ensure!(
        header("references").contains(&secret.to_string()),
        "reminders of one cycle are one thread"
    );
    ensure!(!header("date").is_empty());

    let link = mail
        .text
        .lines()
        .find(|line| line.starts_with("http"))
        .context("a link in the plain part")?;
    ensure!(link.starts_with(&sidecar.url("/a/")), "{link}");
    ensure!(
        mail.text.contains("Schlüssel <live> & more") && mail.text.contains("Rotate it"),
        "{}",
        mail.text
    );
    ensure!(
        mail.html.contains(&format!("href=\"{link}\"")),
        "{}",
        mail.html
    );
    ensure!(
        !mail.html.contains("<live>") && mail.html.contains("Schlüssel"),
        "{}",
        mail.html
    );
    let (plain, html) = (mail.raw.find("text/plain"), mail.raw.find("text/html"));
    ensure!(
        plain < html && plain.is_some(),
        "the plain part comes first"
    );
    ensure!(http().get(link).send().await?.status() == 200);
    Ok(())
}

/// The server answers so once; the notification after that attempt.
async fn refused(stage: Stage, reply: &str, state: &str) -> Result<(Acme, Server, Sidecar, Uuid)> {
    let (acme, mail, sidecar) = start().await?;
    mail.refuse("dana@acme.example", stage, Some(reply))?;
    acme.contact("email", "dana@acme.example").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    let found = acme.becomes(secret, state).await?;
    let error = found.last_error.as_deref().unwrap_or_default();
    ensure!(error.contains(&reply[..3]), "the code is kept: {found:?}");
    ensure!(
        !error.contains("dana@"),
        "the server's text may name the recipient: {found:?}"
    );
    Ok((acme, mail, sidecar, secret))
}

#[tokio::test]
async fn a_4xx_is_tried_again() -> Result<()> {
    for stage in [Stage::Recipient, Stage::Data] {
        let (acme, mail, _sidecar, secret) =
            refused(stage, "451 4.3.0 <dana@acme.example> greylisted", "retry").await?;
        mail.refuse("dana@acme.example", stage, None)?;
        acme.end_waiting().await?;
        acme.becomes(secret, "sent").await?;
        ensure!(acme.outcomes(secret).await? == ["transient", "sent"]);
        ensure!(mail.mails()?.len() == 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_5xx_is_final() -> Result<()> {
    let (acme, mail, _sidecar, secret) =
        refused(Stage::Data, "554 5.7.1 <dana@acme.example> policy", "dead").await?;
    ensure!(acme.outcomes(secret).await? == ["permanent"]);
    ensure!(mail.mails()?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_unknown_mailbox_means_the_recipient_is_gone() -> Result<()> {
    let (acme, _mail, _sidecar, secret) = refused(
        Stage::Recipient,
        "550 5.1.1 <dana@acme.example> user unknown",
        "dead",
    )
    .await?;
    ensure!(acme.outcomes(secret).await? == ["recipient_gone"]);
    Ok(())
}

#[tokio::test]
async fn one_refused_recipient_does_not_stop_the_others() -> Result<()> {
    let (acme, mail, _sidecar) = start().await?;
    mail.refuse(
        "gone@acme.example",
        Stage::Recipient,
        Some("550 5.1.1 user unknown"),
    )?;
    acme.contact("email", "dana@acme.example").await?;
    acme.contact_of("erin", "email", "gone@acme.example")
        .await?;
    // A tick each: else it would be one mail about all.
    for number in 0..20 {
        acme.due(&format!("key {number}")).await?;
        acme.tick().await?;
    }
    let gone = acme.due_for("erin", "hers").await?;
    acme.tick().await?;
    until(Duration::from_secs(40), "all to be delivered", async || {
        Ok(mail.mails()?.len() == 20)
    })
    .await?;
    acme.becomes(gone, "dead").await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again() -> Result<()> {
    let (acme, mail, sidecar) = start().await?;
    drop(mail);
    acme.contact("email", "dana@acme.example").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "retry").await?;
    ensure!(acme.outcomes(secret).await? == ["transient"]);
    drop(sidecar);
    Ok(())
}
