//! Slack: `chat.postMessage` with a bot token for channels and people, or an incoming webhook when the recipient is
//! its URL. Slack has no idempotency key: after a timeout the same message may arrive twice.
//!
//! Elsewhere: how a message looks (`slack_layout.rs`), what Slack's answers mean (`slack_answer.rs`), how HTTP is spoken
//! (`web.rs`).

use reqwest::Client;
use serde_json::{Value, json};
use url::{Host, Url};

use super::egress::Egress;
use super::outcome::Outcome;
use super::web;
use super::{Channel, Delivering, Delivery, Lacking, slack_answer, slack_layout};
use crate::config::{ConfigError, Secret, Settings};

const API: &str = "https://slack.com";
const HOOKS_HOST: &str = "hooks.slack.com";
const HOOKS_PATH: &str = "/services/";
/// Longest channel name is 80 characters: <https://docs.slack.dev/reference/methods/conversations.create>
const RECIPIENT_LIMIT: usize = 81;

/// Posts messages to Slack.
pub struct Slack {
    client: Client,
    egress: Egress,
    token: Option<Secret>,
    /// Stands for Slack's hosts.
    stand_in: Option<Url>,
    no_token: Lacking,
}

/// What a recipient means.
enum Address {
    /// A channel, a group or a person, for the API.
    Conversation(String),
    Webhook(Url),
}

impl Slack {
    /// Takes token and stand-in URL from the settings.
    ///
    /// # Errors
    /// A token that can't be a header, or no usable TLS roots on this machine.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let egress = Egress::new(settings.egress_allow.clone());
        let client = web::vendor_client(settings.slack_url.as_ref(), &egress)?;
        let token = settings
            .slack_bot_token
            .as_ref()
            .map(|token| Secret::new(token.expose().to_owned()));
        if token
            .as_ref()
            .is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let hint = "copy the Bot User OAuth Token from the app's page \"OAuth & Permissions\"";
            return Err(ConfigError::invalid(
                "ROTATOR_SLACK_BOT_TOKEN",
                "it holds a blank or a special character",
                hint,
            ));
        }
        Ok(Self {
            client,
            egress,
            token,
            stand_in: settings.slack_url.clone(),
            no_token: Lacking::new("ROTATOR_SLACK_BOT_TOKEN is not set"),
        })
    }

    async fn post(&self, delivery: Delivery<'_>) -> Outcome {
        let body = slack_layout::body(delivery.message);
        match address(delivery.recipient) {
            Some(Address::Conversation(channel)) => self.call_api(channel, body).await,
            Some(Address::Webhook(url)) => {
                let id = format!("webhook:{}", delivery.notification_id);
                self.call_webhook(url, &body, id).await
            }
            None => Outcome::permanent(
                "the recipient is neither a Slack channel nor an incoming webhook",
            ),
        }
    }

    async fn call_api(&self, channel: String, mut body: Value) -> Outcome {
        let Some(token) = &self.token else {
            return self.no_token.outcome();
        };
        body["channel"] = json!(channel);
        let base = self
            .stand_in
            .as_ref()
            .map_or(API, |url| url.as_str().trim_end_matches('/'));
        let request = self
            .client
            .post(format!("{base}/api/chat.postMessage"))
            .bearer_auth(token.expose())
            .json(&body);
        match web::send(request).await {
            Ok(answer) => slack_answer::judge_api(&answer),
            Err(outcome) => outcome,
        }
    }

    async fn call_webhook(&self, url: Url, body: &Value, id: String) -> Outcome {
        let url = match &self.stand_in {
            Some(base) => format!("{}{}", base.as_str().trim_end_matches('/'), url.path()),
            None if self.egress.permits_host(url.host().as_ref()) => url.into(),
            None => return Outcome::permanent("the webhook's host is not permitted"),
        };
        match web::send(self.client.post(url).json(body)).await {
            Ok(answer) => slack_answer::judge_webhook(&answer, id),
            Err(outcome) => outcome,
        }
    }
}

impl Channel for Slack {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        Box::pin(self.post(delivery))
    }
}

fn address(recipient: &str) -> Option<Address> {
    let recipient = recipient.trim();
    if recipient.contains("://") {
        let url = Url::parse(recipient).ok()?;
        let ours = url.scheme() == "https"
            && url.host() == Some(Host::Domain(HOOKS_HOST))
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path().starts_with(HOOKS_PATH)
            && url.path().len() > HOOKS_PATH.len();
        return ours.then_some(Address::Webhook(url));
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
