//! The console channel's file as a peer: where tests that are about something else read what was delivered, and its link.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Sidecar, eventually, until};
use serde_json::Value;

use crate::seed::{Acme, SOON};

pub struct Outbox {
    folder: Scratch,
}

impl Outbox {
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: Scratch::new("outbox")?,
        })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("outbox.jsonl")
    }

    /// For `ROTATOR_CONSOLE_OUTBOX`.
    pub fn setting(&self) -> String {
        self.path().display().to_string()
    }

    pub fn messages(&self) -> Result<Vec<Value>> {
        let text = match std::fs::read_to_string(self.path()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        // A line that is being written has no end yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    pub async fn received(&self, count: usize) -> Result<Vec<Value>> {
        eventually(
            SOON,
            &format!("{count} messages in the outbox"),
            async || {
                let messages = self.messages()?;
                Ok((messages.len() >= count).then_some(messages))
            },
        )
        .await
    }
}

/// A sidecar that delivers to the outbox, and acme's dana as a reader of it.
pub struct Desk {
    pub acme: Acme,
    pub outbox: Outbox,
    pub sidecar: Sidecar,
}

impl Desk {
    pub async fn new() -> Result<Self> {
        Self::of(Acme::new().await?).await
    }

    pub async fn of(acme: Acme) -> Result<Self> {
        acme.contact("console", "dana's desk").await?;
        let outbox = Outbox::new()?;
        let sidecar =
            Sidecar::start(&acme.db, &[("ROTATOR_CONSOLE_OUTBOX", &outbox.setting())]).await?;
        Ok(Self {
            acme,
            outbox,
            sidecar,
        })
    }

    /// Ticks, and gives the link of the one message that comes of it, once nothing is under way any more.
    pub async fn link(&self) -> Result<String> {
        let before = self.outbox.messages()?.len();
        self.acme.tick().await?;
        let messages = self.outbox.received(before + 1).await?;
        until(SOON, "the delivery to be recorded", async || {
            Ok(self.acme.count("leased").await? == 0)
        })
        .await?;
        link(&messages[before])
    }
}

pub fn link(message: &Value) -> Result<String> {
    Ok(message["link"]
        .as_str()
        .context("a message with a link")?
        .to_owned())
}
