//! The mail itself: subject, plain text, HTML and headers, built here once, sent by SMTP (`email.rs`) or by SendGrid
//! (`sendgrid.rs`). Repeats of one notification carry one Message-ID, so that mail systems can drop them; all messages
//! about one cycle of one secret are one thread, and those about one key rotation.
//!
//! Header injection: whatever goes into a header or an address is refused if it holds CR, LF, NUL or another control
//! character (lettre lets a bare one through, GHSA-g7hc-96xr-gvvx). What it looks like: `templates/mail.{txt,html}`.

use askama::Template;
use lettre::Address;
use lettre::message::Mailbox;
use uuid::Uuid;

use super::outcome::Outcome;
use super::{Delivery, Message};
use crate::config::ConfigError;

#[derive(Template)]
#[template(path = "mail.txt", escape = "none")]
struct Plain<'a> {
    message: &'a Message,
}

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a> {
    message: &'a Message,
    /// A colour that is readable as a bar on white and on black.
    accent: &'static str,
}

/// One mail, ready for any transport: each header checked, each body complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Mail {
    pub from: Mailbox,
    pub to: Address,
    pub subject: String,
    /// With its angle brackets.
    pub message_id: String,
    /// The thread it belongs to: for References and In-Reply-To.
    pub thread: Option<String>,
    /// By which mail programs sort: one list a tenant (RFC 2919).
    pub list_id: String,
    pub text: String,
    pub html: String,
}

/// What machines should know: nobody is to answer it by machine (RFC 3834; Microsoft's own header for the same), and
/// nobody can write to this list (RFC 2369).
pub const STANDING_HEADERS: [(&str, &str); 3] = [
    ("Auto-Submitted", "auto-generated"),
    ("X-Auto-Response-Suppress", "All"),
    ("List-Post", "NO"),
];
pub const LIST_ID: &str = "List-Id";

impl Mail {
    /// The mail for a delivery.
    ///
    /// # Errors
    /// An outcome that is final: the recipient is no plain address, or a header would hold a control character.
    pub fn compose(from: &Mailbox, delivery: &Delivery<'_>) -> Result<Self, Outcome> {
        let message = delivery.message;
        let domain = from.email.domain();
        let mail = Self {
            from: from.clone(),
            to: recipient(delivery.recipient)?,
            // A name may look like an encoded word (RFC 2047), which mail programs would decode into another one.
            subject: message.subject.replace("=?", "= ?"),
            message_id: message_id(delivery.notification_id, from),
            thread: message
                .has_thread()
                .then(|| format!("<{}@{domain}>", message.thread)),
            list_id: list_id(delivery, domain),
            text: render(&Plain { message })?,
            html: render(&Html {
                message,
                accent: if message.urgent { "#c5221f" } else { "#1f5fbf" },
            })?,
        };
        let name = mail.from.name.as_deref().unwrap_or_default();
        let thread = mail.thread.as_deref().unwrap_or_default();
        for text in [name, &mail.subject, &mail.message_id, thread, &mail.list_id] {
            if !is_header_safe(text) {
                return Err(Outcome::permanent(
                    "a mail header would hold a control character",
                ));
            }
        }
        Ok(mail)
    }
}

/// The address mail is sent from.
///
/// # Errors
/// `ROTATOR_EMAIL_FROM` is not one.
pub fn sender(text: &str) -> Result<Mailbox, ConfigError> {
    let hint = "write it like rotator <rotator@example.com>";
    let wrong = |problem| ConfigError::invalid("ROTATOR_EMAIL_FROM", problem, hint);
    if !is_header_safe(text) {
        return Err(wrong("it holds a control character"));
    }
    text.parse().map_err(|_| wrong("it is not a mail address"))
}

/// One list a tenant, below the sender's domain; the tenant's slug has small letters, digits and hyphens.
fn list_id(delivery: &Delivery<'_>, domain: &str) -> String {
    let slug = delivery.facts.tree()["tenant"]["slug"]
        .as_str()
        .unwrap_or_default();
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !slug.is_empty() && slug.chars().all(is_label) {
        format!("<{slug}.rotator.{domain}>")
    } else {
        format!("<rotator.{domain}>")
    }
}

/// Stays the same over all attempts.
fn message_id(notification: Uuid, from: &Mailbox) -> String {
    format!("<{notification}@{}>", from.email.domain())
}

fn render(template: &impl Template) -> Result<String, Outcome> {
    template
        .render()
        .map_err(|_| Outcome::permanent("the mail can't be rendered"))
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::delivery::message::tests::{
        facts, facts_of, key_rotation_facts, render, summary_facts, test_facts,
    };
    use serde_json::{Value, json};

    pub fn mail(facts: &Value, to: &str) -> Result<Mail, Outcome> {
        let message = render(facts);
        let from = sender("rotator <rotator@example.com>").unwrap();
        let delivery = Delivery {
            notification_id: Uuid::nil(),
            recipient: to,
            message: &message,
            facts: &facts.into(),
            attempt: 1,
        };
        Mail::compose(&from, &delivery)
    }

    fn to_alice(facts: &Value) -> Mail {
        mail(facts, "alice@example.com").unwrap()
    }

    #[test]
    fn repeats_share_an_id_and_cycles_a_thread() {
        let mail = to_alice(&facts("k", 3));
        assert_eq!(
            mail.message_id,
            "<00000000-0000-0000-0000-000000000000@example.com>"
        );
        assert_eq!(mail.thread.as_deref(), Some("<0192.3@example.com>"));
        assert_eq!(to_alice(&facts("renamed", -1)).thread, mail.thread);
        assert_eq!(to_alice(&test_facts()).thread, None);
        assert_eq!(to_alice(&summary_facts(3, 1)).thread, None);
        let failed = to_alice(&key_rotation_facts("failed")).thread;
        assert_eq!(failed.as_deref(), Some("<key_rotation.0193.7@example.com>"));
        assert_eq!(to_alice(&key_rotation_facts("stalled")).thread, failed);
    }

    #[test]
    fn a_tenants_mails_are_one_list() {
        let of = |slug: Value| {
            let mut facts = facts("k", 3);
            facts["tenant"]["slug"] = slug;
            to_alice(&facts).list_id
        };
        assert_eq!(of(json!("acme-2")), "<acme-2.rotator.example.com>");
        assert_eq!(
            to_alice(&test_facts()).list_id,
            "<acme.rotator.example.com>"
        );
        for none in [json!(null), json!(""), json!("a>\r\nBcc: eve@evil.test")] {
            assert_eq!(of(none), "<rotator.example.com>");
        }
    }

    #[test]
    fn both_bodies_say_all_of_it() {
        let mut facts = facts("stripe-prod", 3);
        facts["secret"]["purpose"] = json!("takes money");
        let mail = to_alice(&facts);
        let message = render(&facts);
        assert_eq!(mail.subject, "stripe-prod expires in 3 days");
        for text in [&message.what, &message.when, &message.who] {
            assert!(mail.text.contains(text.as_str()), "{}", mail.text);
            assert!(mail.html.contains(text.as_str()), "{}", mail.html);
        }
        assert!(mail.text.contains(&message.todo));
        assert!(mail.text.contains("\nhttps://x.test/a/t?b=1&c\n"));
        assert!(
            mail.html.contains("href=\"https://x.test/a/t?b=1&#38;c\""),
            "{}",
            mail.html
        );
    }

    #[test]
    fn a_summary_has_a_link_for_each_and_says_how_to_see_the_rest() {
        let mail = to_alice(&summary_facts(37, 12));
        for i in 0..20 {
            let link = format!("https://x.test/a/token-{i}");
            assert!(mail.text.contains(&format!("   {link}\n")), "{}", mail.text);
            assert_eq!(mail.html.matches(&format!("href=\"{link}\"")).count(), 1);
        }
        for text in [&mail.text, &mail.html] {
            assert!(text.contains("17 more are not listed here"), "{text}");
        }
    }

    #[test]
    fn names_are_text_and_not_markup() {
        let hostile = "x\r\nBcc: eve@evil.test\r\n\r\n<script>alert(1)</script>\"'&";
        let mut many = summary_facts(2, 1);
        many["items"][0]["secret"]["name"] = json!(hostile);
        many["items"][1]["link_token"] = json!("\"><img src=x>");
        for facts in [facts(hostile, 3), facts_of("test", hostile, 3), many] {
            let mail = to_alice(&facts);
            assert!(
                !mail.html.contains("<script") && !mail.html.contains("<img"),
                "{}",
                mail.html
            );
            assert!(!mail.text.contains("\nBcc:") && !mail.subject.contains('\n'));
        }
    }

    #[test]
    fn the_page_loads_nothing_and_needs_no_styles_but_its_own() {
        for facts in [
            facts("k", 3),
            test_facts(),
            summary_facts(30, 30),
            key_rotation_facts("failed"),
        ] {
            let html = to_alice(&facts).html;
            for loaded in [
                "<img", "<link", "<style", "<script", "src=", "url(", "@import",
            ] {
                assert!(!html.contains(loaded), "{loaded}: {html}");
            }
            for (place, _) in html.match_indices("font-size:") {
                let size: u32 = html[place + "font-size:".len()..]
                    .split("px")
                    .next()
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap();
                assert!(size >= 16, "{size} px can't be read on a phone");
            }
            // Gmail cuts a mail off beyond this.
            assert!(html.len() < 100_000, "{}", html.len());
        }
    }

    #[test]
    fn a_name_can_not_pass_for_an_encoded_word() {
        let mail = to_alice(&facts("=?utf-8?q?Bcc=3A_eve=0D=0A?=", 3));
        assert_eq!(
            mail.subject,
            "= ?utf-8?q?Bcc=3A_eve=0D=0A?= expires in 3 days"
        );
        assert!(mail.text.contains("=?utf-8?q?Bcc=3A_eve=0D=0A?="));
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
                mail(&facts("k", 3), bad),
                Err(Outcome::permanent("the recipient is not a mail address")),
                "{bad:?}"
            );
        }
        assert!(mail(&facts("k", 3), "a.b+c@x-y.example").is_ok());
    }

    #[test]
    fn senders_are_one_address_with_or_without_a_name() {
        for good in ["ops@acme.example", "Über uns <ops@acme.example>"] {
            assert!(sender(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ops",
            "ops@acme.example\r\nBcc: eve@evil.test",
            "a\nb <ops@acme.example>",
            "a <ops@acme.example>, b <eve@evil.test>",
            "a\0 <ops@acme.example>",
        ] {
            assert!(sender(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_control_character_in_a_header_is_refused_wherever_it_comes_from() {
        let mut message = render(&facts("k", 3));
        let from = sender("rotator@example.com").unwrap();
        for hostile in ["a\rb", "a\nb", "a\0b", "a\u{85}b", "a\u{2028}b"] {
            message.subject = hostile.to_owned();
            let delivery = Delivery {
                notification_id: Uuid::nil(),
                recipient: "alice@example.com",
                message: &message,
                facts: &crate::db::RawMessage::default(),
                attempt: 1,
            };
            assert_eq!(
                Mail::compose(&from, &delivery),
                Err(Outcome::permanent(
                    "a mail header would hold a control character"
                )),
                "{hostile:?}"
            );
        }
    }
}
