//! The channel `email`: which of the two ways mail goes, and the one by SMTP. What a mail says and its headers:
//! `mail.rs`; by SendGrid: `sendgrid.rs`; the dialogue with the server: `smtp.rs`.

use std::time::Duration;

use lettre::Message as Letter;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;

use super::mail::{self, LIST_ID, Mail, STANDING_HEADERS};
use super::outcome::Outcome;
use super::sendgrid::SendGrid;
use super::smtp::{Connections, Failure};
use super::{Channel, Delivering, Delivery, Lacking};
use crate::config::{ConfigError, Settings};

/// From connecting to the server's last word.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);
const NO_TLS: &str =
    "TLS with the mail server failed: check its certificate and tls=… in ROTATOR_SMTP_URL";
const NOT_SMTP: &str = "the mail server answered something that is not SMTP";

/// Sends mail through one SMTP server.
struct Smtp {
    server: Connections,
    from: Mailbox,
    limit: Duration,
}

/// The email channel, or one that says which setting it lacks.
///
/// # Errors
/// A setting of it can't be used, or two of them name different ways: which one was meant is not for us to guess.
pub fn channel(settings: &Settings) -> Result<Box<dyn Channel>, ConfigError> {
    let from = settings
        .email_from
        .as_deref()
        .map(mail::sender)
        .transpose()?;
    let smtp = settings
        .smtp_url
        .as_ref()
        .map(Connections::new)
        .transpose()?;
    let key = settings.sendgrid_api_key.as_ref();
    Ok(match (smtp, key, from) {
        (Some(_), Some(_), _) => {
            return Err(ConfigError::invalid(
                "ROTATOR_SENDGRID_API_KEY",
                "ROTATOR_SMTP_URL is set, too, and mail can go only one way",
                "keep one of the two",
            ));
        }
        (None, None, _) => Box::new(Lacking::new(
            "neither ROTATOR_SMTP_URL nor ROTATOR_SENDGRID_API_KEY is set",
        )),
        (_, _, None) => Box::new(Lacking::new("ROTATOR_EMAIL_FROM is not set")),
        (Some(server), None, Some(from)) => Box::new(Smtp {
            server,
            from,
            limit: TOTAL_TIMEOUT,
        }),
        (None, Some(key), Some(from)) => Box::new(SendGrid::new(settings, key, from)?),
    })
}

impl Smtp {
    async fn send(&self, delivery: Delivery<'_>) -> Outcome {
        let mail = match Mail::compose(&self.from, &delivery) {
            Ok(mail) => mail,
            Err(outcome) => return outcome,
        };
        let id = mail.message_id.clone();
        let letter = match letter(mail) {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let written = letter.formatted();
        let sending = self.server.send(letter.envelope(), &written);
        match tokio::time::timeout(self.limit, sending).await {
            Ok(Ok(())) => Outcome::Delivered { id },
            Ok(Err(error)) => judge(&error),
            Err(_) => Outcome::timeout("no answer from the mail server within 20 s"),
        }
    }
}

impl Channel for Smtp {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        Box::pin(self.send(delivery))
    }

    /// The server.
    fn destination<'a>(&self, _: &'a str) -> &'a str {
        ""
    }
}

/// The mail as MIME, bodies encoded.
fn letter(mail: Mail) -> Result<Letter, Outcome> {
    let mut letter = Letter::builder()
        .from(mail.from)
        .to(Mailbox::new(None, mail.to))
        .subject(mail.subject)
        .message_id(Some(mail.message_id));
    if let Some(thread) = mail.thread {
        letter = letter.references(thread.clone()).in_reply_to(thread);
    }
    let list = (LIST_ID, mail.list_id.as_str());
    for (name, value) in STANDING_HEADERS.into_iter().chain([list]) {
        letter = letter.raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str(name),
            value.to_owned(),
        ));
    }
    letter
        .multipart(MultiPart::alternative_plain_html(mail.text, mail.html))
        .map_err(|_| Outcome::permanent("the message can't be written as mail"))
}

fn judge(failure: &Failure) -> Outcome {
    let error = match failure {
        Failure::Smtp(error) | Failure::Mailbox(error) => error,
        Failure::ConnectTimeout => return Outcome::timeout("no connection within 10 s"),
        Failure::Connect => return Outcome::transient("can't connect to the mail server"),
        Failure::Tls => return Outcome::transient(NO_TLS),
        Failure::Nonsense => return Outcome::transient(NOT_SMTP),
    };
    let code = error.status().map(u16::from);
    if let Some(code) = code {
        // The server's text often quotes the recipient; only its enhanced status code (RFC 3463) is kept.
        let mut text = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(error);
        while let Some(inner) = source {
            text.push_str(&format!("{inner} "));
            source = inner.source();
        }
        let outcome = judge_reply(code, enhanced_status(&text));
        // Before the server has heard of the recipient, it can't mean that one.
        return match (failure, outcome) {
            (Failure::Smtp(_), Outcome::Permanent { error, .. }) => Outcome::permanent(error),
            (_, outcome) => outcome,
        };
    }
    if error.is_timeout() {
        Outcome::timeout("the mail server is too slow")
    } else if error.is_tls() {
        Outcome::transient(NO_TLS)
    } else if error.is_client() {
        Outcome::transient(
            "the mail server does not offer what ROTATOR_SMTP_URL asks for (TLS or authentication)",
        )
    } else if error.is_response() || is_nonsense(error) {
        Outcome::transient(NOT_SMTP)
    } else {
        Outcome::transient("the connection to the mail server broke")
    }
}

/// What `smtp_stream.rs` says of a server that doesn't keep to its turn.
fn is_nonsense(error: &SmtpError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::InvalidData;
        }
        source = inner.source();
    }
    false
}

/// What a reply means: 4xx is for later, 5xx final (RFC 5321, 4.2.1), an unknown mailbox its own case.
fn judge_reply(code: u16, enhanced: Option<&str>) -> Outcome {
    let error = match enhanced {
        Some(enhanced) => format!("SMTP {code} {enhanced}"),
        None => format!("SMTP {code}"),
    };
    match (code, enhanced) {
        // The server closes, RFC 5321, 3.8; other 4xx are about this mailbox.
        (421, _) => Outcome::transient(error),
        (400..=499, _) => Outcome::refused(error),
        // It is us who is refused, not this message: once the operator corrects the login, the reminder should go out.
        (530 | 534 | 535 | 538, _) => Outcome::refused(format!(
            "{error}: check user and password in ROTATOR_SMTP_URL"
        )),
        (_, Some("5.1.1" | "5.1.6" | "5.1.10" | "5.2.1")) => Outcome::recipient_gone(error),
        _ => Outcome::permanent(error),
    }
}

/// The first `5.1.1`-like word (RFC 3463): class 2, 4 or 5, then two numbers of up to three digits.
fn enhanced_status(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find(|word| {
            let parts: Vec<&str> = word.split('.').collect();
            parts.len() == 3
                && matches!(parts[0], "2" | "4" | "5")
                && parts[1..].iter().all(|part| (1..=3).contains(&part.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::mail::tests::mail;
    use crate::delivery::message::tests::{facts, test_facts};
    use serde_json::Value;

    fn written(facts: &Value) -> String {
        let letter = letter(mail(facts, "alice@example.com").unwrap()).unwrap();
        String::from_utf8(letter.formatted()).unwrap()
    }

    #[test]
    fn headers_tell_machines_what_this_is() {
        let text = written(&facts("stripe-prod", 3));
        for line in [
            "From: rotator <rotator@example.com>",
            "To: alice@example.com",
            "Subject: stripe-prod expires in 3 days",
            "Message-ID: <00000000-0000-0000-0000-000000000000@example.com>",
            "References: <0192.3@example.com>",
            "In-Reply-To: <0192.3@example.com>",
            "Auto-Submitted: auto-generated",
            "X-Auto-Response-Suppress: All",
            "List-Id: <acme.rotator.example.com>",
            "List-Post: NO",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}\n{text}");
        }
        let plain = text.find("text/plain").unwrap();
        assert!(plain < text.find("text/html").unwrap());
        assert!(!written(&test_facts()).contains("References"));
    }

    #[test]
    fn everything_is_ascii_lines_of_a_length_that_servers_take() {
        let text = written(&facts(&"Schlüssel für Kölle ".repeat(12), 3));
        assert!(text.contains("Subject: =?utf-8?"), "{text}");
        assert!(text.is_ascii());
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']));
    }

    #[test]
    fn the_smtp_outcome_table() {
        let cases = [
            (421, None, "transient"),
            (450, Some("4.2.0"), "transient"),
            (452, None, "transient"),
            (535, Some("5.7.8"), "transient"),
            (550, Some("5.1.1"), "recipient_gone"),
            (550, Some("5.7.1"), "permanent"),
            (552, None, "permanent"),
            (554, None, "permanent"),
        ];
        for (code, enhanced, label) in cases {
            assert_eq!(
                judge_reply(code, enhanced).label(),
                label,
                "{code} {enhanced:?}"
            );
        }
    }

    #[test]
    fn of_the_servers_text_only_the_status_code_is_kept() {
        let text = "permanent error (550): 5.1.1 <bob@10.1.2.3>: Recipient address rejected";
        assert_eq!(enhanced_status(text), Some("5.1.1"));
        assert_eq!(
            enhanced_status("550 no such user bob@example.com 1.2"),
            None
        );
    }
}

#[cfg(test)]
#[path = "email_tests.rs"]
mod bad_servers;
