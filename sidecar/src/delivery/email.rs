//! Mail by SMTP. Repeats of one notification carry one Message-ID, so that mail systems can drop them; all messages
//! about one cycle of one secret are one thread.
//!
//! Header injection: whatever goes into a header or an address is refused if it holds CR, LF, NUL or another control
//! character (lettre lets a bare one through, GHSA-g7hc-96xr-gvvx), and bodies are encoded. Settings: `smtp_url.rs`.

use std::time::Duration;

use askama::Template;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor};
use uuid::Uuid;

use super::outcome::Outcome;
use super::{Channel, Delivering, Delivery, Lacking, Message, smtp_url};
use crate::config::{ConfigError, Settings};

/// From connecting to the server's last word.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Template)]
#[template(path = "mail.txt", escape = "none")]
struct Plain<'a> {
    message: &'a Message,
}

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a> {
    message: &'a Message,
}

/// Sends mail through one SMTP server.
struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// The email channel, or one that says which setting it lacks.
///
/// # Errors
/// `ROTATOR_SMTP_URL` or `ROTATOR_EMAIL_FROM` is set but can't be used.
pub fn channel(settings: &Settings) -> Result<Box<dyn Channel>, ConfigError> {
    let from = settings.email_from.as_deref().map(sender).transpose()?;
    let transport = settings
        .smtp_url
        .as_ref()
        .map(smtp_url::transport)
        .transpose()?;
    Ok(match (transport, from) {
        (Some(transport), Some(from)) => Box::new(Email { transport, from }),
        (None, _) => Box::new(Lacking::new("ROTATOR_SMTP_URL is not set")),
        (_, None) => Box::new(Lacking::new("ROTATOR_EMAIL_FROM is not set")),
    })
}

fn sender(text: &str) -> Result<Mailbox, ConfigError> {
    text.parse().map_err(|_| {
        let hint = "write it like rotator <rotator@example.com>";
        ConfigError::invalid("ROTATOR_EMAIL_FROM", "it is not a mail address", hint)
    })
}

impl Email {
    async fn send(&self, delivery: Delivery<'_>) -> Outcome {
        let mail = match compose(&self.from, &delivery) {
            Ok(mail) => mail,
            Err(outcome) => return outcome,
        };
        match tokio::time::timeout(TOTAL_TIMEOUT, self.transport.send(mail)).await {
            Ok(Ok(_)) => Outcome::Delivered {
                id: message_id(delivery.notification_id, &self.from),
            },
            Ok(Err(error)) => judge(&error),
            Err(_) => Outcome::timeout("no answer from the mail server within 20 s"),
        }
    }
}

impl Channel for Email {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        Box::pin(self.send(delivery))
    }
}

fn compose(from: &Mailbox, delivery: &Delivery<'_>) -> Result<Mail, Outcome> {
    let message = delivery.message;
    let to = recipient(delivery.recipient)?;
    let thread = format!("<{}@{}>", message.thread, from.email.domain());
    let id = message_id(delivery.notification_id, from);
    for text in [&message.subject, &message.thread, &id, &thread] {
        if !is_header_safe(text) {
            return Err(Outcome::permanent(
                "a mail header would hold a control character",
            ));
        }
    }
    let failed = |_| Outcome::permanent("the message can't be written as mail");
    let plain = Plain { message }
        .render()
        .map_err(|_| Outcome::permanent("the mail's text can't be rendered"))?;
    let html = Html { message }
        .render()
        .map_err(|_| Outcome::permanent("the mail's page can't be rendered"))?;
    Mail::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(&message.subject)
        .message_id(Some(id))
        .references(thread.clone())
        .in_reply_to(thread)
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("X-Auto-Response-Suppress", "All"))
        .multipart(MultiPart::alternative_plain_html(plain, html))
        .map_err(failed)
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// A plain address: no display name, no quoted local part, nothing that could start another SMTP command.
fn recipient(text: &str) -> Result<Address, Outcome> {
    let wrong = || Outcome::permanent("the recipient is not a mail address");
    let unsafe_mark =
        |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | ',' | ';' | '\\');
    if !is_header_safe(text) || text.contains(unsafe_mark) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// No control character of any kind: CR, LF and NUL among them, and the line separators of Unicode.
fn is_header_safe(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

fn message_id(notification: Uuid, from: &Mailbox) -> String {
    format!("<{notification}@{}>", from.email.domain())
}

fn judge(error: &SmtpError) -> Outcome {
    let code = error.status().map(u16::from);
    if let Some(code) = code {
        // The server's text often quotes the recipient; only its enhanced status code (RFC 3463) is kept.
        let mut text = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(error);
        while let Some(inner) = source {
            text.push_str(&format!("{inner} "));
            source = inner.source();
        }
        return judge_reply(code, enhanced_status(&text));
    }
    if error.is_timeout() {
        Outcome::timeout("the mail server is too slow")
    } else if error.is_tls() {
        Outcome::transient(
            "TLS with the mail server failed: check its certificate and tls=… in ROTATOR_SMTP_URL",
        )
    } else if error.is_client() {
        Outcome::transient(
            "the mail server does not offer what ROTATOR_SMTP_URL asks for (TLS or authentication)",
        )
    } else if error.is_response() {
        Outcome::transient("the mail server answered something that is not SMTP")
    } else {
        Outcome::transient("can't connect to the mail server")
    }
}

/// What a reply means: 4xx is for later, 5xx final (RFC 5321, 4.2.1), an unknown mailbox its own case.
fn judge_reply(code: u16, enhanced: Option<&str>) -> Outcome {
    let error = match enhanced {
        Some(enhanced) => format!("SMTP {code} {enhanced}"),
        None => format!("SMTP {code}"),
    };
    match (code, enhanced) {
        (400..=499, _) => Outcome::transient(error),
        // It is us who is refused, not this message: once the operator corrects the login, the reminder should go out.
        (530 | 534 | 535 | 538, _) => Outcome::transient(format!(
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
    use crate::delivery::message::tests::facts;

    fn mail(name: &str, to: &str) -> Result<String, Outcome> {
        let message =
            Message::render(&facts(name, 3), Some("https://x.test/a/t".to_owned())).unwrap();
        let from = sender("rotator <rotator@example.com>").unwrap();
        let delivery = Delivery {
            notification_id: Uuid::nil(),
            recipient: to,
            message: &message,
            attempt: 1,
        };
        compose(&from, &delivery).map(|mail| String::from_utf8(mail.formatted()).unwrap())
    }

    #[test]
    fn headers_tell_machines_what_this_is() {
        let text = mail("stripe-prod", "alice@example.com").unwrap();
        for line in [
            "From: rotator <rotator@example.com>",
            "To: alice@example.com",
            "Subject: stripe-prod expires in 3 days",
            "Message-ID: <00000000-0000-0000-0000-000000000000@example.com>",
            "References: <0192.3@example.com>",
            "Auto-Submitted: auto-generated",
            "X-Auto-Response-Suppress: All",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}\n{text}");
        }
        let plain = text.find("text/plain").unwrap();
        assert!(plain < text.find("text/html").unwrap());
    }

    #[test]
    fn names_can_add_neither_headers_nor_markup() {
        let text = mail(
            "x\r\nBcc: eve@evil.test\r\n\r\n<script>alert(1)</script>",
            "alice@example.com",
        )
        .unwrap();
        let html = text.split("text/html").nth(1).unwrap();
        assert!(
            !text.contains("\nBcc:") && !html.contains("<script>"),
            "{text}"
        );
        let text = mail("Schlüssel für Kölle", "alice@example.com").unwrap();
        assert!(text.contains("Subject: =?utf-8?"), "{text}");
    }

    #[test]
    fn recipients_are_plain_addresses() {
        for bad in [
            "",
            "alice",
            "a@b@c",
            "alice@example.com\r\nRCPT TO:<eve@evil.test>",
            "\"a\r\nRCPT TO:\"@x.test",
            "a\0@x.test",
            "Alice <alice@example.com>",
            "a@x.test,b@x.test",
            "\"a b\"@x.test",
            "a@x.test\u{2028}",
            " a@x.test",
        ] {
            assert_eq!(
                mail("k", bad),
                Err(Outcome::permanent("the recipient is not a mail address")),
                "{bad:?}"
            );
        }
        assert!(mail("k", "alice+tag@mail.example.co.uk").is_ok());
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
