//! Delivering one notification: pick the channel, put the message into words, hand it over, judge the answer.
//!
//! A channel is one file and one small trait. To add one: write `<channel>.rs` with its limits as named constants and
//! its outcome table as a pure function, add it to [`Channels::new`], name its settings in `config/names.rs`.
//! Elsewhere: claiming and reporting (`serve/`), retries, backoff and fallbacks (`sql/api`).

mod console;
mod egress;
mod email;
#[cfg(test)]
mod hostile_tests;
mod mail;
mod message;
mod outcome;
mod pace;
mod pagerduty;
mod pagerduty_event;
mod retry_after;
mod sendgrid;
mod slack;
mod slack_answer;
mod slack_api;
mod slack_blocks;
mod slack_buttons;
mod slack_desk;
mod slack_layout;
mod slack_rows;
mod smtp;
mod smtp_stream;
mod smtp_url;
mod web;
mod webhook;
mod webhook_event;

use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use uuid::Uuid;

pub use egress::Egress;
pub use message::{Item, Kind, Message, MessageError, Pages, one_line, shorten};
pub use outcome::{FinalReason, Outcome, RetryReason};
pub use slack_desk::{Action, Deed, OPEN, Original, Press, SlackDesk, Spot};

use crate::config::{ConfigError, Settings};
use crate::db::{Claim, RawMessage};

/// What a channel gets to deliver.
pub struct Delivery<'a> {
    /// Stays the same through all attempts: receivers can drop repeats by it.
    pub notification_id: Uuid,
    /// In the channel's own grammar. Neither logged nor put into an error.
    pub recipient: &'a str,
    pub message: &'a Message,
    /// What the message was made of, for receivers that are programs: the `message` of the claim.
    pub facts: &'a RawMessage,
    /// Counts from 1.
    pub attempt: i32,
}

impl Delivery<'_> {
    /// When it was queued, by the clock of the database: the id says so (RFC 9562, version 7).
    fn queued_at(&self) -> Option<Timestamp> {
        let (seconds, nanoseconds) = self.notification_id.get_timestamp()?.to_unix();
        let seconds = i64::try_from(seconds).ok()?;
        Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
    }
}

/// A delivery is ended after that. Channels that make one call each have a limit of their own, and say more.
const LONGEST: Duration = Duration::from_secs(21);

/// The answer to [`Channel::deliver`], boxed so that channels can live in one map.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A way to reach people.
pub trait Channel: Send + Sync {
    /// Hands one message over. Ends within 20 seconds, and never panics on what a vendor answers.
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a>;

    /// Who works or fails as one: with the recipient, or with all of the channel's where one server is behind them.
    fn destination<'a>(&self, recipient: &'a str) -> &'a str {
        recipient
    }

    /// How often the vendor takes a message for one destination, if it says so and the channel doesn't see to it itself.
    fn rate(&self) -> Option<Rate> {
        None
    }
}

/// So many at once, and then one every so often.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub at_once: u32,
    pub every: Duration,
}

/// All channels of this version, by the name the database uses.
pub struct Channels {
    by_name: HashMap<&'static str, Box<dyn Channel>>,
    pages: Pages,
    limit: Duration,
}

impl Channels {
    /// Sets up every channel. One without its settings is there too, and says what it lacks when it is used.
    ///
    /// # Errors
    /// A setting that is there but can't be used.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let mut by_name: HashMap<&'static str, Box<dyn Channel>> = HashMap::new();
        by_name.insert("slack", Box::new(slack::Slack::new(settings)?));
        by_name.insert("email", email::channel(settings)?);
        by_name.insert("pagerduty", Box::new(pagerduty::PagerDuty::new(settings)?));
        by_name.insert("webhook", webhook::channel(settings)?);
        by_name.insert(
            "console",
            Box::new(console::Console::new(settings.console_outbox.clone())),
        );
        Ok(Self {
            by_name,
            pages: Pages::below(settings.link("")),
            limit: LONGEST,
        })
    }

    /// A name for the destination of a claim, the same for all that go there, and how often it takes one.
    pub fn destination(&self, claim: &Claim) -> (u64, Option<Rate>) {
        let mut hasher = DefaultHasher::new();
        claim.channel.hash(&mut hasher);
        let Some(channel) = self.by_name.get(claim.channel.as_str()) else {
            return (hasher.finish(), None);
        };
        channel.destination(&claim.recipient).hash(&mut hasher);
        (hasher.finish(), channel.rate())
    }

    /// Delivers one claim with the page of its token as link.
    pub async fn deliver(&self, claim: &Claim, link: Option<String>) -> Outcome {
        let Some(channel) = self.by_name.get(claim.channel.as_str()) else {
            return Outcome::permanent(format!(
                "channel {} is not supported by this sidecar version",
                shorten(&one_line(&claim.channel), 40)
            ));
        };
        if claim.recipient.is_empty() {
            return Outcome::refused("the recipient can't be decrypted");
        }
        match Message::render(claim.message.text(), link, &self.pages) {
            Ok(message) => {
                let delivering = channel.deliver(Delivery {
                    notification_id: claim.id,
                    recipient: &claim.recipient,
                    message: &message,
                    facts: &claim.message,
                    attempt: claim.attempt,
                });
                // Several calls that are slow, but not too slow each, must not outlive the lease.
                timeout(self.limit, delivering)
                    .await
                    .unwrap_or_else(|_| Outcome::timeout("not done within 20 s"))
            }
            Err(error @ MessageError::Undecipherable) => Outcome::refused(error.to_string()),
            Err(error @ (MessageError::Kind(_) | MessageError::Shape)) => {
                Outcome::permanent(error.to_string())
            }
        }
    }
}

/// Says once in the log, and in every attempt's error, that a channel lacks a setting. The attempt is not final: the
/// operator may set it, and the reminder should still go out then.
struct Lacking {
    error: &'static str,
    said: AtomicBool,
}

impl Lacking {
    const fn new(error: &'static str) -> Self {
        Self {
            error,
            said: AtomicBool::new(false),
        }
    }

    fn outcome(&self) -> Outcome {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "{}; notifications of this channel wait and are tried again",
                self.error
            );
        }
        Outcome::refused(self.error)
    }
}

impl Channel for Lacking {
    fn deliver<'a>(&'a self, _: Delivery<'a>) -> Delivering<'a> {
        Box::pin(async { self.outcome() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::message::tests::facts;

    struct Hangs;

    impl Channel for Hangs {
        fn deliver<'a>(&'a self, _: Delivery<'a>) -> Delivering<'a> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_delivery_that_does_not_end_is_ended() {
        let hangs: Box<dyn Channel> = Box::new(Hangs);
        let channels = Channels {
            by_name: HashMap::from([("slack", hangs)]),
            pages: Pages::below("https://x.test/a/".to_owned()),
            limit: Duration::from_millis(10),
        };
        let claim = Claim {
            id: Uuid::nil(),
            claim_id: Uuid::nil(),
            channel: "slack".to_owned(),
            recipient: "C0DEPLOYS1".to_owned(),
            message: RawMessage::from(&facts("stripe-prod", 3)),
            attempt: 1,
            link_token: None,
            traceparent: None,
        };
        let outcome = channels.deliver(&claim, None).await;
        assert_eq!(outcome, Outcome::timeout("not done within 20 s"));
    }
}
