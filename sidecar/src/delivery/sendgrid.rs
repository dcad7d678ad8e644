//! Mail through SendGrid: <https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send>. 202 means that it
//! took the mail. It has no idempotency key: repeats carry our Message-ID. What a mail says: `mail.rs`.

use lettre::message::Mailbox;
use reqwest::Client;
use serde_json::{Value, json};

use super::egress::Egress;
use super::mail::{LIST_ID, Mail, STANDING_HEADERS};
use super::outcome::{Outcome, RetryReason};
use super::web::{self, Answer};
use super::{Channel, Delivering, Delivery};
use crate::config::{ConfigError, Secret, Settings};

const API: &str = "https://api.sendgrid.com";
/// The name under which our id comes back in SendGrid's event webhook.
const ID_ARGUMENT: &str = "rotator_notification_id";
/// SendGrid's own id of a mail.
const VENDOR_ID: &str = "x-message-id";
/// Longest text of SendGrid that is kept.
const WORD_LIMIT: usize = 100;

/// Sends mail through SendGrid's API.
pub struct SendGrid {
    client: Client,
    key: Secret,
    from: Mailbox,
    url: String,
}

impl SendGrid {
    /// Takes the base URL from the settings.
    ///
    /// # Errors
    /// A key that can't be a header, or no usable TLS roots on this machine.
    pub fn new(settings: &Settings, key: &Secret, from: Mailbox) -> Result<Self, ConfigError> {
        let stand_in = settings.sendgrid_url.as_ref();
        let client = web::vendor_client(stand_in, &Egress::new(settings.egress_allow.clone()))?;
        if key.expose().is_empty() || !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            let hint =
                "copy it from SendGrid's page \"API Keys\"; it needs the permission Mail Send";
            return Err(ConfigError::invalid(
                "ROTATOR_SENDGRID_API_KEY",
                "it is empty, or holds a blank or a special character",
                hint,
            ));
        }
        let base = stand_in.map_or(API, |url| url.as_str().trim_end_matches('/'));
        Ok(Self {
            client,
            key: Secret::new(key.expose().to_owned()),
            from,
            url: format!("{base}/v3/mail/send"),
        })
    }

    async fn send(&self, delivery: Delivery<'_>) -> Outcome {
        let mail = match Mail::compose(&self.from, &delivery) {
            Ok(mail) => mail,
            Err(outcome) => return outcome,
        };
        let request = self
            .client
            .post(&self.url)
            .bearer_auth(self.key.expose())
            .json(&body(&mail, &delivery.notification_id.to_string()));
        match web::send_for_status(request).await {
            Ok(answer) => judge(&answer, mail.message_id),
            Err(outcome) => outcome,
        }
    }
}

impl Channel for SendGrid {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        Box::pin(self.send(delivery))
    }

    /// Its API.
    fn destination<'a>(&self, _: &'a str) -> &'a str {
        ""
    }
}

fn body(mail: &Mail, id: &str) -> Value {
    let mut headers = json!({"Message-ID": mail.message_id, LIST_ID: mail.list_id});
    for (name, value) in STANDING_HEADERS {
        headers[name] = json!(value);
    }
    if let Some(thread) = &mail.thread {
        headers["References"] = json!(thread);
        headers["In-Reply-To"] = json!(thread);
    }
    let mut from = json!({"email": mail.from.email.to_string()});
    if let Some(name) = &mail.from.name {
        from["name"] = json!(name);
    }
    json!({
        "personalizations": [{"to": [{"email": mail.to.to_string()}]}],
        "from": from,
        "subject": mail.subject,
        "content": [
            {"type": "text/plain", "value": mail.text},
            {"type": "text/html", "value": mail.html},
        ],
        "headers": headers,
        "custom_args": {ID_ARGUMENT: id},
        // Else links go through SendGrid, which then knows the tokens in them, and its scanners open them.
        "tracking_settings": {
            "click_tracking": {"enable": false, "enable_text": false},
            "open_tracking": {"enable": false},
            "subscription_tracking": {"enable": false},
            "ganalytics": {"enable": false},
        },
    })
}

/// What an answer means. `message_id` is ours, for an answer without SendGrid's own.
fn judge(answer: &Answer, message_id: String) -> Outcome {
    let retry = |reason, error| Outcome::Retry {
        after: answer.retry_after,
        reason,
        error,
    };
    let error = match reason(&answer.body) {
        Some(field) => format!("SendGrid: HTTP {} about {field}", answer.status),
        None => format!("SendGrid: HTTP {}", answer.status),
    };
    match answer.status {
        202 => Outcome::Delivered {
            id: vendor_id(answer).unwrap_or(message_id),
        },
        401 => Outcome::permanent(format!("{error}: check ROTATOR_SENDGRID_API_KEY")),
        403 => Outcome::permanent(format!(
            "{error}: the key needs the permission Mail Send, and ROTATOR_EMAIL_FROM must be a verified sender"
        )),
        429 => retry(RetryReason::RateLimited, error),
        408 | 425 | 500..=599 => retry(RetryReason::Transient, error),
        400..=499 => Outcome::permanent(error),
        // A proxy's page, say: the mail was not taken.
        _ => retry(RetryReason::Transient, error),
    }
}

fn vendor_id(answer: &Answer) -> Option<String> {
    let id = answer.headers.get(VENDOR_ID)?.to_str().ok()?.trim();
    let plain = |c: char| c.is_ascii_graphic();
    (!id.is_empty() && id.len() <= WORD_LIMIT && id.chars().all(plain)).then(|| id.to_owned())
}

/// The field that SendGrid complains about, like `personalizations.0.to.0.email`. Its sentences are not kept: they may
/// quote what they were given.
fn reason(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let field = body["errors"][0]["field"].as_str()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '[' | ']');
    (!field.is_empty() && field.len() <= WORD_LIMIT && field.chars().all(plain))
        .then(|| field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::mail::tests::mail;
    use crate::delivery::message::tests::{facts, summary_facts};
    use reqwest::header::{HeaderMap, HeaderValue};
    use std::time::Duration;

    fn answer(status: u16, body: &str, id: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(id) = id {
            headers.insert(VENDOR_ID, HeaderValue::from_static(id));
        }
        Answer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_outcome_table() {
        let cases = [
            (202, "delivered"),
            (400, "permanent"),
            (401, "permanent"),
            (403, "permanent"),
            (404, "permanent"),
            (405, "permanent"),
            (408, "transient"),
            (413, "permanent"),
            (415, "permanent"),
            (422, "permanent"),
            (429, "rate_limited"),
            (500, "transient"),
            (503, "transient"),
            (200, "transient"),
            (302, "transient"),
        ];
        for (status, label) in cases {
            let outcome = judge(&answer(status, "<html>", None), "<id>".to_owned());
            assert_eq!(outcome.label(), label, "{status}");
            if let Outcome::Retry { after, .. } = outcome {
                assert_eq!(after, Some(Duration::from_secs(7)), "{status}");
            }
        }
    }

    #[test]
    fn sendgrids_id_is_kept_if_it_looks_like_one() {
        let judged = |id| judge(&answer(202, "", id), "<ours>".to_owned());
        let delivered = |id: &str| Outcome::Delivered { id: id.to_owned() };
        assert_eq!(judged(Some("s4Q_x-1.filter")), delivered("s4Q_x-1.filter"));
        assert_eq!(judged(None), delivered("<ours>"));
        assert_eq!(judged(Some("two words")), delivered("<ours>"));
    }

    #[test]
    fn of_a_complaint_only_the_field_is_kept() {
        let error = |body: &str| match judge(&answer(400, body, None), String::new()) {
            Outcome::Permanent { error, .. } => error,
            other => panic!("{other:?}"),
        };
        let body = r#"{"errors":[{"message":"dana@acme.example is bad","field":"personalizations.0.to.0.email","help":null}]}"#;
        assert_eq!(
            error(body),
            "SendGrid: HTTP 400 about personalizations.0.to.0.email"
        );
        for body in [
            "",
            "[]",
            "{\"errors\":{}}",
            r#"{"errors":[{"field":null}]}"#,
            r#"{"errors":[{"field":"dana@acme.example"}]}"#,
            "\0\u{ff}",
        ] {
            assert_eq!(error(body), "SendGrid: HTTP 400", "{body}");
        }
    }

    #[test]
    fn the_body_is_the_mail_and_nothing_is_tracked() {
        let mail = mail(&facts("Schlüssel", 3), "alice@example.com").unwrap();
        let body = body(&mail, "0190");
        assert_eq!(
            body["personalizations"],
            json!([{"to": [{"email": "alice@example.com"}]}])
        );
        assert_eq!(
            body["from"],
            json!({"email": "rotator@example.com", "name": "rotator"})
        );
        assert_eq!(body["subject"], "Schlüssel expires in 3 days");
        assert_eq!(body["content"][0]["type"], "text/plain");
        assert_eq!(body["content"][1]["type"], "text/html");
        assert_eq!(body["headers"]["References"], "<0192.3@example.com>");
        assert_eq!(body["headers"]["Auto-Submitted"], "auto-generated");
        assert_eq!(body["custom_args"][ID_ARGUMENT], "0190");
        for tracking in ["click_tracking", "open_tracking", "subscription_tracking"] {
            assert_eq!(body["tracking_settings"][tracking]["enable"], false);
        }
    }

    #[test]
    fn a_summary_is_no_reply_to_anything() {
        let mail = mail(&summary_facts(3, 1), "alice@example.com").unwrap();
        let body = body(&mail, "0190");
        assert!(body["headers"].get("References").is_none());
    }
}
