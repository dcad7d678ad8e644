//! Webhooks to the operator's own receivers, signed as Standard Webhooks says: <https://www.standardwebhooks.com>.
//! The id stays the same through all attempts, so that a receiver can drop repeats.
//!
//! Elsewhere: the body (`webhook_event.rs`), how HTTP is spoken and which addresses are allowed (`web.rs`, `egress.rs`).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use ring::hmac;
use url::Url;
use zeroize::Zeroizing;

use super::egress::Egress;
use super::outcome::{Outcome, RetryReason};
use super::web::{self, Answer};
use super::{Channel, Delivering, Delivery, Lacking, webhook_event};
use crate::config::{ConfigError, Secret, Settings};

/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme>
const SECRET_PREFIX: &str = "whsec_";
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Keys come with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Posts to URLs that members gave.
struct Webhook {
    client: Client,
    egress: Egress,
    signer: Signer,
}

/// The channel, or one that says what it lacks.
///
/// # Errors
/// A signing secret that is none, or no usable TLS roots on this machine.
pub fn channel(settings: &Settings) -> Result<Box<dyn Channel>, ConfigError> {
    let Some(secret) = &settings.webhook_signing_secret else {
        let lacking = Lacking::new("ROTATOR_WEBHOOK_SIGNING_SECRET is not set");
        return Ok(Box::new(lacking));
    };
    let egress = Egress::new(settings.egress_allow.clone());
    Ok(Box::new(Webhook {
        client: web::vendor_client(None, &egress)?,
        egress,
        signer: Signer::new(secret)?,
    }))
}

impl Webhook {
    async fn send(&self, delivery: Delivery<'_>) -> Outcome {
        let Some(url) = address(delivery.recipient) else {
            return Outcome::permanent("the recipient is not an https URL");
        };
        if !self.egress.permits_host(url.host().as_ref()) {
            return Outcome::permanent(
                "the webhook's address is not public; ROTATOR_EGRESS_ALLOW can permit private networks",
            );
        }
        let id = delivery.notification_id.to_string();
        let body = webhook_event::body(&delivery).to_string();
        // The receiver compares with its own clock, so it is the time of the attempt.
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signer.sign(&id, timestamp, &body))
            .body(body);
        match web::send_for_status(request).await {
            Ok(answer) => judge(&answer, id),
            Err(outcome) => outcome,
        }
    }
}

impl Channel for Webhook {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        Box::pin(self.send(delivery))
    }
}

fn address(recipient: &str) -> Option<Url> {
    if recipient.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return None; // the parser would take some of them out
    }
    let url = Url::parse(recipient).ok()?;
    let plain = url.scheme() == "https"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    plain.then_some(url)
}

/// Signs with the operator's secret.
struct Signer(hmac::Key);

impl Signer {
    fn new(secret: &Secret) -> Result<Self, ConfigError> {
        let key = secret
            .expose()
            .strip_prefix(SECRET_PREFIX)
            .and_then(|text| BASE64.decode(text).ok())
            .map(Zeroizing::new)
            .filter(|key| SECRET_BYTES.contains(&key.len()))
            .ok_or_else(|| {
                ConfigError::invalid(
                    "ROTATOR_WEBHOOK_SIGNING_SECRET",
                    "it is not whsec_ and the base64 of 24 to 64 bytes",
                    "make one: echo \"whsec_$(openssl rand -base64 32)\"",
                )
            })?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The header's value.
    fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let signed = format!("{id}.{timestamp}.{body}");
        let tag = hmac::sign(&self.0, signed.as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag))
    }
}

/// What an answer means; only its status counts:
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#operational-considerations>
fn judge(answer: &Answer, id: String) -> Outcome {
    let error = format!("webhook: HTTP {}", answer.status);
    let retry = |reason, error| Outcome::Retry {
        after: answer.retry_after,
        reason,
        error,
    };
    match answer.status {
        200..=299 => Outcome::Delivered { id },
        300..=399 => Outcome::permanent(format!("{error}: redirects are not followed")),
        410 => Outcome::recipient_gone(error),
        429 => retry(RetryReason::RateLimited, error),
        408 | 425 | 500..=599 => retry(RetryReason::Transient, error),
        400..=499 => Outcome::permanent(error),
        _ => retry(RetryReason::Transient, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn signer(secret: &str) -> Result<Signer, ConfigError> {
        Signer::new(&Secret::new(secret.to_owned()))
    }

    #[test]
    fn signatures_are_those_of_the_specifications_libraries() {
        let signer = signer("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            signer.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_signing_secret_is_checked_and_never_quoted() {
        let bytes = |count| BASE64_STANDARD.encode(vec![7u8; count]);
        for (text, good) in [
            (format!("whsec_{}", bytes(24)), true),
            (format!("whsec_{}", bytes(32)), true),
            (format!("whsec_{}", bytes(32).trim_end_matches('=')), true),
            (format!("whsec_{}", bytes(64)), true),
            (format!("whsec_{}", bytes(23)), false),
            (format!("whsec_{}", bytes(65)), false),
            (bytes(32), false),
            ("whsec_".to_owned(), false),
            ("whsec_not base64 at all, by far!".to_owned(), false),
        ] {
            match signer(&text) {
                Ok(_) => assert!(good, "{text}"),
                Err(error) => {
                    let said = format!("{error} {}", error.hint());
                    assert!(!good && (text.len() < 8 || !said.contains(&text)), "{said}");
                }
            }
        }
    }

    #[test]
    fn recipients_are_https_urls_and_nothing_more() {
        for recipient in [
            "https://hooks.acme.example/rotator?team=1",
            "https://hooks.acme.example:8443",
            "https://[2606:4700::1111]/x",
            "https://büro.example/",
        ] {
            assert!(address(recipient).is_some(), "{recipient}");
        }
        for recipient in [
            "",
            "hooks.acme.example",
            "http://hooks.acme.example/",
            "https://",
            "https://u:p@hooks.acme.example/",
            "https://u@hooks.acme.example/",
            "https://hooks.acme.example/\r\nx: y",
            "https://hooks.acme.example/\0",
            "https://hooks.acme.example/a b",
            "file:///etc/passwd",
        ] {
            assert!(address(recipient).is_none(), "{recipient:?}");
        }
    }

    #[test]
    fn the_outcome_table() {
        let cases = [
            (200, "delivered"),
            (202, "delivered"),
            (204, "delivered"),
            (301, "permanent"),
            (307, "permanent"),
            (400, "permanent"),
            (401, "permanent"),
            (403, "permanent"),
            (404, "permanent"),
            (408, "transient"),
            (410, "recipient_gone"),
            (413, "permanent"),
            (425, "transient"),
            (429, "rate_limited"),
            (500, "transient"),
            (599, "transient"),
            (999, "transient"),
        ];
        for (status, label) in cases {
            let answer = Answer {
                status,
                retry_after: Some(Duration::from_secs(7)),
                headers: Default::default(),
                body: b"<html>".to_vec(),
            };
            let outcome = judge(&answer, "id".to_owned());
            assert_eq!(outcome.label(), label, "{status}");
            if let Outcome::Retry { after, .. } = outcome {
                assert_eq!(after, Some(Duration::from_secs(7)), "{status}");
            }
        }
    }
}
