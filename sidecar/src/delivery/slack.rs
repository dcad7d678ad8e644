//! Slack: `chat.postMessage` with a bot token for channels and people, or an incoming webhook when the recipient is
//! its URL. Slack has no idempotency key: after a timeout the same message may arrive twice. A later step of an alert
//! replies to the first message about it; once somebody acted, those messages are changed in place.
//!
//! Elsewhere: how a message looks (`slack_layout.rs`, `slack_rows.rs`, `slack_buttons.rs`), how Slack is called (`slack_api.rs`), what its
//! answers mean (`slack_answer.rs`), what a press is answered with (`slack_desk.rs`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::outcome::Outcome;
use super::slack_answer::{self, Place};
use super::slack_api::{Post, SlackApi, hook};
use super::slack_blocks::Body;
use super::slack_buttons::Choices;
use super::{Channel, Delivering, Delivery, Kind, Lacking, Message, Rate, slack_layout};
use crate::config::{ConfigError, Settings};

const WEBHOOKS: &str = "/services/";
/// Longest channel name is 80 characters: <https://docs.slack.dev/reference/methods/conversations.create>
const RECIPIENT_LIMIT: usize = 81;
/// Messages of one alert that are changed in place; there are rarely more than three.
const CHANGED: usize = 10;

/// Posts messages to Slack.
pub struct Slack {
    api: SlackApi,
    /// Presses are heard: `ROTATOR_SLACK_SIGNING_SECRET` is set.
    has_buttons: bool,
    no_token: Lacking,
}

/// What a recipient means.
enum Address {
    /// A channel, a group or a person, for the API.
    Conversation(String),
    Webhook(Url),
}

/// Messages about the same alert that this recipient has.
#[derive(Default, Deserialize)]
struct Thread {
    provider_message_id: String,
    /// Oldest first.
    #[serde(default)]
    messages: Vec<String>,
}

impl Slack {
    /// Takes token and stand-in URL from the settings.
    ///
    /// # Errors
    /// As [`SlackApi::new`].
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            api: SlackApi::new(settings)?,
            has_buttons: settings.slack_signing_secret.is_some(),
            no_token: Lacking::new("ROTATOR_SLACK_BOT_TOKEN is not set"),
        })
    }

    async fn post(&self, delivery: Delivery<'_>) -> Outcome {
        let facts = delivery.facts.text();
        let choices = self.has_buttons.then(|| Choices::deserialize(facts).ok());
        let body = slack_layout::body(delivery.message, choices.flatten().as_ref());
        let thread = Thread::read(facts);
        match (address(delivery.recipient), delivery.message.kind) {
            (Some(Address::Conversation(channel)), Kind::Acknowledge | Kind::Resolve) => {
                self.settle(
                    &channel,
                    &body,
                    thread.unwrap_or_default(),
                    delivery.message.kind,
                )
                .await
            }
            (Some(Address::Conversation(channel)), Kind::Summary) => {
                self.post_list(&channel, &body, delivery.message).await
            }
            (Some(Address::Conversation(channel)), _) => {
                self.post_message(&channel, &body, thread.as_ref()).await
            }
            (Some(Address::Webhook(_)), Kind::Acknowledge | Kind::Resolve) => {
                Outcome::permanent("a message by a webhook can't be changed")
            }
            (Some(Address::Webhook(url)), _) => {
                let id = format!("webhook:{}", delivery.notification_id);
                match self.api.post_to_hook(url, &body).await {
                    Ok(answer) => slack_answer::judge_webhook(&answer, id),
                    Err(outcome) => outcome,
                }
            }
            (None, _) => Outcome::permanent(
                "the recipient is neither a Slack channel nor an incoming webhook",
            ),
        }
    }

    /// A message; a reply that the channel sees as well where there is a thread.
    async fn post_message(&self, channel: &str, body: &Body, thread: Option<&Thread>) -> Outcome {
        if let Some(first) = thread.and_then(Thread::first) {
            let outcome = self.reply(channel, body, first, true).await;
            // Without its first message it stands for itself.
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        let post = Post::to(channel, body);
        match self.api.call("chat.postMessage", &post).await {
            None => self.no_token.outcome(),
            Some(Err(outcome)) => outcome,
            Some(Ok(answer)) => slack_answer::judge_message(&answer, channel),
        }
    }

    /// A message about many; with less below each row if it is more than Slack takes.
    async fn post_list(&self, channel: &str, body: &Body, message: &Message) -> Outcome {
        let post = Post::to(channel, body);
        match self.api.call("chat.postMessage", &post).await {
            None => self.no_token.outcome(),
            Some(Err(outcome)) => outcome,
            Some(Ok(answer)) if self.has_buttons && slack_answer::is_too_long(&answer) => {
                tracing::warn!("Slack refused a message as too long; it is sent without buttons");
                let body = slack_layout::body(message, None);
                self.post_message(channel, &body, None).await
            }
            Some(Ok(answer)) => slack_answer::judge_message(&answer, channel),
        }
    }

    /// None when what it replies to is gone.
    async fn reply(&self, channel: &str, body: &Body, first: &str, loud: bool) -> Option<Outcome> {
        let post = Post {
            thread_ts: Some(first),
            reply_broadcast: Some(loud),
            ..Post::to(channel, body)
        };
        match self.api.call("chat.postMessage", &post).await {
            None => Some(self.no_token.outcome()),
            Some(Err(outcome)) => Some(outcome),
            Some(Ok(answer)) if slack_answer::is_gone(&answer) => None,
            Some(Ok(answer)) => Some(slack_answer::judge_message(&answer, channel)),
        }
    }

    /// Somebody acted: the messages about it say so from now on, and its end is told to who follows the thread.
    async fn settle(&self, channel: &str, body: &Body, thread: Thread, kind: Kind) -> Outcome {
        let newest = thread.messages.len().saturating_sub(CHANGED);
        for message in &thread.messages[newest..] {
            let Some(place) = Place::read(message, channel) else {
                continue;
            };
            let post = Post {
                ts: Some(&place.ts),
                ..Post::to(&place.channel, body)
            };
            let outcome = match self.api.call("chat.update", &post).await {
                None => return self.no_token.outcome(),
                Some(Err(outcome)) => outcome,
                Some(Ok(answer)) if slack_answer::is_gone(&answer) => continue,
                Some(Ok(answer)) => slack_answer::judge_api(&answer),
            };
            if !matches!(outcome, Outcome::Delivered { .. }) {
                return outcome;
            }
        }
        let id = thread.provider_message_id.clone();
        if let (Kind::Resolve, Some(first)) = (kind, thread.first())
            && let Some(outcome) = self.reply(channel, body, first, false).await
        {
            return outcome;
        }
        Outcome::Delivered { id }
    }
}

impl Thread {
    /// Of what the message was made of; none where there is none.
    fn read(facts: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Threaded {
            #[serde(default)]
            thread: Option<Thread>,
        }
        Threaded::deserialize(facts).ok()?.thread
    }

    /// The timestamp that replies name.
    fn first(&self) -> Option<&str> {
        let kept = self.provider_message_id.as_str();
        let ts = kept.rsplit_once('/').map_or(kept, |(_, ts)| ts);
        (!ts.is_empty()).then_some(ts)
    }
}

impl Channel for Slack {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        Box::pin(self.post(delivery))
    }

    /// A channel takes about one message a second, and short bursts of more:
    /// <https://docs.slack.dev/apis/web-api/rate-limits#posting-messages>
    fn rate(&self) -> Option<Rate> {
        Some(Rate {
            at_once: 10,
            every: Duration::from_secs(1),
        })
    }
}

fn address(recipient: &str) -> Option<Address> {
    let recipient = recipient.trim();
    if recipient.contains("://") {
        return hook(recipient, WEBHOOKS).map(Address::Webhook);
    }
    let name = recipient.strip_prefix(['#', '@']).unwrap_or(recipient);
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits =
        !name.is_empty() && recipient.chars().count() <= RECIPIENT_LIMIT && name.chars().all(plain);
    fits.then(|| Address::Conversation(recipient.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_channels_people_or_slacks_own_webhooks() {
        for recipient in [
            "C024BE91L",
            "#deploys",
            "U1",
            "@alice",
            "#büro",
            "https://hooks.slack.com/services/T/B/x",
        ] {
            assert!(address(recipient).is_some(), "{recipient}");
        }
        for recipient in [
            "",
            "#",
            "two words",
            "http://hooks.slack.com/services/T/B/x",
            "https://hooks.slack.com/workflows/x",
            "https://hooks.slack.com:8443/services/T/B/x",
            "https://hooks.slack.com@evil.test/services/T/B/x",
            "https://hooks.slack.com.evil.test/services/T/B/x",
            "https://127.0.0.1/services/T/B/x",
            "https://hooks.slack.com/services/",
            "https://u:p@hooks.slack.com/services/T/B/x",
        ] {
            assert!(address(recipient).is_none(), "{recipient}");
        }
    }
}
