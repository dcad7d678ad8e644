//! Slack: `chat.postMessage` with a bot token for channels and people, or an incoming webhook when the recipient is
//! its URL. Slack has no idempotency key: after a timeout the same message may arrive twice.
//!
//! Elsewhere: how a message looks (`slack_layout.rs`), how HTTP is spoken (`web.rs`).

use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use url::{Host, Url};

use super::egress::Egress;
use super::outcome::{Outcome, RetryReason};
use super::web::{self, Answer};
use super::{Channel, Delivering, Delivery, Lacking, slack_layout};
use crate::config::{ConfigError, Secret, Settings};

const API: &str = "https://slack.com";
const HOOKS_HOST: &str = "hooks.slack.com";
const HOOKS_PATH: &str = "/services/";
/// Longest channel name is 80 characters: <https://docs.slack.dev/reference/methods/conversations.create>
const RECIPIENT_LIMIT: usize = 81;

/// `ok: false`, but worth another try: <https://docs.slack.dev/reference/methods/chat.postMessage#errors>
const RETRY: &[&str] = &[
    "fatal_error",
    "internal_error",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];
const RATE_LIMITED: &[&str] = &["message_limit_exceeded", "rate_limited", "ratelimited"];
/// There is no such channel or person any more.
const GONE: &[&str] = &[
    "channel_is_archived",
    "channel_not_found",
    "is_archived",
    "no_service",
    "user_not_found",
];

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
        let client = match settings.slack_url {
            Some(_) => web::stand_in_client(),
            None => web::public_client(egress.clone()),
        };
        let client = client.map_err(|error| {
            let hint = "install the system's CA certificates (Debian: ca-certificates), or set SSL_CERT_FILE";
            ConfigError::invalid("TLS", &error.without_url().to_string(), hint)
        })?;
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
            Ok(answer) => judge_api(&answer),
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
            Ok(answer) => judge_webhook(&answer, id),
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

#[derive(Deserialize)]
struct ApiAnswer {
    ok: bool,
    #[serde(default)]
    ts: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// What an answer of the API means. HTTP 200 with `ok: false` is a failure.
fn judge_api(answer: &Answer) -> Outcome {
    if answer.status != 200 {
        return judge_status(answer, None);
    }
    match serde_json::from_slice(&answer.body) {
        Ok(ApiAnswer {
            ok: true,
            ts: Some(ts),
            ..
        }) => Outcome::Delivered { id: shown(&ts) },
        Ok(ApiAnswer {
            ok: true, ts: None, ..
        }) => Outcome::Delivered {
            id: "slack".to_owned(),
        },
        Ok(ApiAnswer {
            ok: false, error, ..
        }) => judge_code(
            error
                .as_deref()
                .map_or_else(|| "no reason given".to_owned(), shown),
            answer,
        ),
        Err(_) => Outcome::transient("Slack answered something that is not its JSON"),
    }
}

/// What an answer of an incoming webhook means: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
fn judge_webhook(answer: &Answer, id: String) -> Outcome {
    match answer.status {
        200 => Outcome::Delivered { id },
        404 | 410 => Outcome::recipient_gone(format!("Slack webhook: HTTP {}", answer.status)),
        _ => judge_status(answer, std::str::from_utf8(&answer.body).ok()),
    }
}

fn judge_code(code: String, answer: &Answer) -> Outcome {
    let error = format!("Slack: {code}");
    if RETRY.contains(&code.as_str()) {
        Outcome::transient(error)
    } else if RATE_LIMITED.contains(&code.as_str()) {
        Outcome::Retry {
            after: answer.retry_after,
            reason: RetryReason::RateLimited,
            error,
        }
    } else if GONE.contains(&code.as_str()) {
        Outcome::recipient_gone(error)
    } else {
        // invalid_auth, token_revoked, account_inactive, not_in_channel, missing_scope, invalid_blocks, …: somebody
        // has to change something first.
        Outcome::permanent(error)
    }
}

fn judge_status(answer: &Answer, code: Option<&str>) -> Outcome {
    let code = code
        .map(shown)
        .filter(|code| code != UNPRINTABLE)
        .map(|code| format!(" {code}"))
        .unwrap_or_default();
    let error = format!("Slack: HTTP {}{code}", answer.status);
    match answer.status {
        429 => Outcome::Retry {
            after: answer.retry_after,
            reason: RetryReason::RateLimited,
            error,
        },
        408 | 425 | 500..=599 => Outcome::Retry {
            after: answer.retry_after,
            reason: RetryReason::Transient,
            error,
        },
        _ => Outcome::permanent(error),
    }
}

const UNPRINTABLE: &str = "unknown reason";

/// Slack's codes and timestamps are short words; whatever else is there might quote what must not be recorded.
fn shown(code: &str) -> String {
    let code = code.trim();
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    if !code.is_empty() && code.len() <= 64 && code.chars().all(word) {
        code.to_owned()
    } else {
        UNPRINTABLE.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_api_outcome_table() {
        let cases = [
            (200, r#"{"ok":true,"ts":"1405895017.000506"}"#, "delivered"),
            (200, r#"{"ok":false,"error":"internal_error"}"#, "transient"),
            (200, r#"{"ok":false,"error":"fatal_error"}"#, "transient"),
            (
                200,
                r#"{"ok":false,"error":"service_unavailable"}"#,
                "transient",
            ),
            (200, r#"{"ok":false,"error":"ratelimited"}"#, "rate_limited"),
            (
                200,
                r#"{"ok":false,"error":"channel_not_found"}"#,
                "recipient_gone",
            ),
            (
                200,
                r#"{"ok":false,"error":"is_archived"}"#,
                "recipient_gone",
            ),
            (
                200,
                r#"{"ok":false,"error":"account_inactive"}"#,
                "permanent",
            ),
            (200, r#"{"ok":false,"error":"token_revoked"}"#, "permanent"),
            (200, r#"{"ok":false,"error":"invalid_auth"}"#, "permanent"),
            (200, r#"{"ok":false,"error":"not_in_channel"}"#, "permanent"),
            (200, r#"{"ok":false,"error":"invalid_blocks"}"#, "permanent"),
            (200, r#"{"ok":false}"#, "permanent"),
            (200, "<html>maintenance</html>", "transient"),
            (200, "", "transient"),
            (301, "", "permanent"),
            (400, "", "permanent"),
            (403, "", "permanent"),
            (404, "", "permanent"),
            (408, "", "transient"),
            (429, "", "rate_limited"),
            (500, "", "transient"),
            (503, "", "transient"),
        ];
        for (status, body, label) in cases {
            assert_eq!(
                judge_api(&answer(status, body)).label(),
                label,
                "{status} {body}"
            );
        }
        assert_eq!(
            judge_api(&answer(200, cases[0].1)),
            Outcome::Delivered {
                id: "1405895017.000506".to_owned()
            }
        );
    }

    #[test]
    fn the_webhook_outcome_table() {
        let cases = [
            (200, "ok", "delivered"),
            (400, "invalid_payload", "permanent"),
            (403, "action_prohibited", "permanent"),
            (404, "no_service", "recipient_gone"),
            (410, "channel_is_archived", "recipient_gone"),
            (429, "", "rate_limited"),
            (500, "rollup_error", "transient"),
            (302, "", "permanent"),
        ];
        for (status, body, label) in cases {
            assert_eq!(
                judge_webhook(&answer(status, body), "w".to_owned()).label(),
                label,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn the_wait_is_kept_and_answers_are_not_quoted() {
        let Outcome::Retry {
            after,
            reason,
            error,
        } = judge_api(&answer(429, "secret stuff"))
        else {
            panic!("retry")
        };
        assert_eq!(
            (after, reason),
            (Some(Duration::from_secs(7)), RetryReason::RateLimited)
        );
        assert_eq!(error, "Slack: HTTP 429");
        let outcome = judge_api(&answer(
            200,
            r#"{"ok":false,"error":"token xoxb-1 is bad"}"#,
        ));
        assert_eq!(outcome, Outcome::permanent("Slack: unknown reason"));
        let outcome = judge_webhook(
            &answer(400, "https://hooks.slack.com/services/T/B/x"),
            String::new(),
        );
        assert_eq!(outcome, Outcome::permanent("Slack: HTTP 400"));
    }

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
