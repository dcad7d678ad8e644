//! The console channel: on standard output for people, in a file for programs. It is also what is left when nobody has
//! said how an owner is reached.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use crate::outbox::{Desk, link};

#[tokio::test]
async fn a_message_is_printed_and_written_to_the_outbox() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    desk.acme.tick().await?;
    let message = desk.outbox.received(1).await?.remove(0);
    let sent = desk.acme.becomes(secret, "sent").await?;
    ensure!(
        message["notification_id"] == sent.id.to_string(),
        "{message}"
    );
    ensure!(
        message["recipient"] == "dana's desk" && message["attempt"] == 1,
        "{message}"
    );
    ensure!(
        message["subject"] == "stripe-live expires in 5 days",
        "{message}"
    );
    ensure!(sent.provider_message_id == Some(format!("console:{}", sent.id)));

    let log = desk.sidecar.log()?;
    ensure!(
        log.contains("-- stripe-live expires in 5 days") && log.contains(&link(&message)?),
        "{log}"
    );
    let mode = std::fs::metadata(desk.outbox.path())?.permissions().mode();
    ensure!(mode & 0o077 == 0, "the links in it work: {mode:o}");
    Ok(())
}

#[tokio::test]
async fn an_outbox_that_can_not_be_written_is_tried_again() -> Result<()> {
    let desk = Desk::new().await?;
    std::fs::create_dir(desk.outbox.path())?;
    let secret = desk.acme.due("stripe-live").await?;
    desk.acme.tick().await?;
    let waiting = desk.acme.becomes(secret, "retry").await?;
    ensure!(
        waiting
            .last_error
            .is_some_and(|error| error.contains("ROTATOR_CONSOLE_OUTBOX"))
    );
    std::fs::remove_dir(desk.outbox.path())?;
    desk.acme.end_waiting().await?;
    desk.acme.becomes(secret, "sent").await?;
    ensure!(desk.outbox.messages()?.len() == 1);
    Ok(())
}
