//! The one place that turns the `message` of a claim into words: what, when, what to do, in that order, so that it is
//! read in two seconds on a phone. Channels only lay these texts out.
//!
//! - here: the type that channels get, and which kind is worded where
//! - `message/facts.rs`: what the database says about a notification, as types
//! - `message/words.rs`: the sentences about one secret; `message/summary.rs`: about many;
//!   `message/key_rotation.rs`: about a tenant's keys; `message/contact_gone.rs`: about an address that is gone
//! - `message/line.rs`: one line, and short
//!
//! Elsewhere: the facts themselves, local dates included (`sql/api`); layout and escaping (each channel's file).

mod contact_gone;
mod facts;
mod key_rotation;
mod line;
mod summary;
#[cfg(test)]
pub(super) mod tests;
mod words;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use line::{one_line, shorten};

use facts::{Head, Turns};

/// What a notification is for. The names are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Reminder,
    /// Nobody took it on: somebody else is told.
    Escalation,
    Summary,
    Test,
    /// Somebody took it on; for channels that keep an incident open.
    Acknowledge,
    /// It was rotated; for channels that keep an incident open.
    Resolve,
    /// A key rotation failed, is stalled or can't start.
    KeyRotation,
    /// Nobody is there any more where somebody was reached.
    ContactGone,
}

impl Kind {
    /// As the database spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reminder => "reminder",
            Self::Escalation => "escalation",
            Self::Summary => "summary",
            Self::Test => "test",
            Self::Acknowledge => "acknowledge",
            Self::Resolve => "resolve",
            Self::KeyRotation => "key_rotation",
            Self::ContactGone => "contact_gone",
        }
    }

    fn find(name: &str) -> Option<Self> {
        [
            Self::Reminder,
            Self::Escalation,
            Self::Summary,
            Self::Test,
            Self::Acknowledge,
            Self::Resolve,
            Self::KeyRotation,
            Self::ContactGone,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }
}

/// One notification in words, each text a single line without control characters, not yet escaped for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    /// `stripe-prod expires in 14 days`
    pub subject: String,
    /// `stripe-prod (stripe, production): card payments`
    pub what: String,
    /// `Expires Sun 6 Dec 2026, 09:00 (Europe/Berlin)`
    pub when: String,
    /// `Rotate it, then …`
    pub todo: String,
    /// `Owner alice · P2 · Acme`
    pub who: String,
    /// `Sent 14 days before it expires.` None where the rest says it.
    pub why: Option<String>,
    /// Where to act, if this attempt has a link.
    pub link: Option<String>,
    /// P1 is the most urgent. None for what is about no single secret.
    pub priority: Option<String>,
    /// Past its date, or on it; of a key rotation: it failed.
    pub urgent: bool,
    /// Past its date. For a summary: something in it is.
    pub overdue: bool,
    /// What it is about, where that is one secret; a test is about none.
    pub secret_id: Option<String>,
    /// Counts the rotations of that secret.
    pub cycle: Option<i64>,
    /// The secrets of a summary, most urgent first; otherwise empty.
    pub items: Vec<Item>,
    /// What a summary left out and how to see it.
    pub rest: Option<String>,
    /// The same for all messages about one cycle of one secret, or about one key rotation; made of ids only.
    pub thread: String,
}

/// One secret of a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Of its own notification, that the summary speaks for.
    pub id: Option<String>,
    /// `stripe-prod`
    pub name: String,
    /// `stripe-prod (stripe, production)`
    pub what: String,
    /// `expired 9 days ago, 6 Dec 2026`
    pub when: String,
    pub overdue: bool,
    pub turn: Turn,
    /// Its own page.
    pub link: Option<String>,
}

impl Item {
    /// Of its link, the right to act: never logged.
    pub fn token(&self) -> Option<&str> {
        self.link.as_deref()?.rsplit('/').next()
    }
}

/// What became of it since it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Open,
    Snoozed,
    Acknowledged,
    /// Rotated, or not needed any more.
    Ended,
}

/// Why a message can't be put into words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    #[error("notifications of kind {0} are not supported by this sidecar version")]
    Kind(String),
    #[error("the notification's message is not of the agreed form")]
    Shape,
    /// Its key is gone, or the row was tampered with. The operator may still put it right.
    #[error("the secret's name can't be decrypted")]
    Undecipherable,
}

/// Where the pages behind links are.
#[derive(Clone, Debug)]
pub struct Pages(String);

impl Pages {
    /// `base` is what stands before a token, like `https://rotator.example.com/a/`.
    pub const fn below(base: String) -> Self {
        Self(base)
    }

    pub fn of(&self, token: &str) -> String {
        format!("{}{token}", self.0)
    }

    /// The page that says that links from notifications arrive.
    fn test(&self) -> String {
        self.of("test")
    }
}

impl Message {
    /// Puts the facts of a claim into words. `link` is the page of this attempt's token.
    ///
    /// # Errors
    /// A kind this version doesn't know, or facts that are not of the agreed form.
    pub fn render<'a>(
        facts: impl Deserializer<'a> + Copy,
        link: Option<String>,
        pages: &Pages,
    ) -> Result<Self, MessageError> {
        let head: Head<'_> = read(facts)?;
        let unknown = || MessageError::Kind(shorten(&one_line(&head.kind), 40));
        match Kind::find(&head.kind).ok_or_else(unknown)? {
            Kind::Summary => summary::render(&read(facts)?, pages),
            Kind::KeyRotation => Ok(key_rotation::render(&read(facts)?)),
            Kind::ContactGone => Ok(contact_gone::render(&read(facts)?)),
            Kind::Test => words::render(Kind::Test, &read(facts)?, Some(pages.test())),
            kind @ (Kind::Reminder | Kind::Escalation | Kind::Acknowledge | Kind::Resolve) => {
                words::render(kind, &read(facts)?, link)
            }
        }
    }

    /// What became of each secret that a summary listed, after somebody acted by one of its links.
    ///
    /// # Errors
    /// Facts that are not of the agreed form.
    pub fn turns(facts: &Value, pages: &Pages) -> Result<Vec<Item>, MessageError> {
        let turns: Turns = read(facts)?;
        Ok(summary::turns(&turns, pages))
    }

    /// Of its link, the right to act: never logged.
    pub fn token(&self) -> Option<&str> {
        self.link.as_deref()?.rsplit('/').next()
    }

    /// Others may follow it about the same thing.
    pub fn has_thread(&self) -> bool {
        self.secret_id.is_some() || self.kind == Kind::KeyRotation
    }

    /// What the button that opens the link says.
    pub const fn button(&self) -> &'static str {
        match self.kind {
            Kind::Test => "Check that links work",
            _ => "Open: rotated or acknowledge",
        }
    }
}

fn read<'a, T: Deserialize<'a>>(facts: impl Deserializer<'a>) -> Result<T, MessageError> {
    T::deserialize(facts).map_err(|_| MessageError::Shape)
}
