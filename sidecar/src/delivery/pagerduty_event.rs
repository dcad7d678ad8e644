//! What PagerDuty is told, and what its answers mean; both pure. An event by the kind of the message: `acknowledge` and
//! `resolve` name the alert, everything else triggers it.
//!
//! Severity, by priority and whether the date has passed:
//!
//! | priority | before | after |
//! |---|---|---|
//! | P1 | error | critical |
//! | P2 | warning | critical |
//! | P3 | warning | error |
//! | P4 | info | warning |
//! | none (a summary) | warning | error |
//!
//! A test is info. Sending: `pagerduty.rs`.

use serde_json::{Map, Value, json};

use super::message::{one_line, shorten};
use super::outcome::{Outcome, RetryReason};
use super::web::Answer;
use super::{Delivery, Kind, Message};

/// Limits of an event: <https://developer.pagerduty.com/docs/send-alert-event>
const SUMMARY_LIMIT: usize = 1024;
const DEDUP_KEY_LIMIT: usize = 255;
const EVENT_LIMIT: usize = 512 * 1024;
/// Of the above for the routing key and its name.
const ROUTING_KEY_ROOM: usize = 64;
/// Ours, for every other text: an event is read on a phone.
const TEXT_LIMIT: usize = 1024;

/// The alert that a message is about: one a secret and cycle.
pub fn dedup_key(message: &Message) -> String {
    let mut key = format!("rotator.{}", message.thread);
    let mut end = key.len().min(DEDUP_KEY_LIMIT);
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    key.truncate(end);
    key
}

/// The event without its routing key.
pub fn event(delivery: &Delivery<'_>, client_url: &str) -> Value {
    let message = delivery.message;
    let action = match message.kind {
        Kind::Acknowledge => "acknowledge",
        Kind::Resolve => "resolve",
        Kind::Reminder | Kind::Escalation | Kind::Summary | Kind::Test => "trigger",
    };
    let mut event = json!({"event_action": action, "dedup_key": dedup_key(message)});
    if action != "trigger" {
        return event;
    }
    let fact = |pointer: &str| text(delivery.facts.pointer(pointer));
    let tenant = fact("/tenant/name");
    let mut payload = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            payload.insert(name.to_owned(), json!(value));
        }
    };
    let summary = match &tenant {
        Some(tenant) => format!("{} · {tenant}", message.subject),
        None => message.subject.clone(),
    };
    put("summary", Some(shorten(&summary, SUMMARY_LIMIT)));
    put("source", Some(source(delivery, tenant)));
    put("severity", Some(severity(message).to_owned()));
    put("timestamp", delivery.queued_at().map(|at| at.to_string()));
    put("component", fact("/secret/provider_type"));
    put("group", fact("/secret/environment"));
    put("class", Some(class(message).to_owned()));
    payload.insert("custom_details".to_owned(), details(delivery));
    event["payload"] = Value::Object(payload);
    event["links"] = links(message);
    event["client"] = json!("rotator");
    event["client_url"] = json!(client_url);
    within_limit(event)
}

/// What is affected: the credential by its name; the tenant, where it is about many.
fn source(delivery: &Delivery<'_>, tenant: Option<String>) -> String {
    text(delivery.facts.pointer("/secret/name"))
        .or(tenant)
        .unwrap_or_else(|| "rotator".to_owned())
}

fn severity(message: &Message) -> &'static str {
    if message.kind == Kind::Test {
        return "info";
    }
    match (message.priority.as_deref(), message.overdue) {
        (Some("P1" | "P2"), true) => "critical",
        (Some("P1"), false) => "error",
        (Some("P4"), true) => "warning",
        (Some("P4"), false) => "info",
        (_, true) => "error",
        (_, false) => "warning",
    }
}

fn class(message: &Message) -> &'static str {
    match (message.kind, message.overdue) {
        (Kind::Test, _) => "test",
        (_, true) => "credential overdue",
        (_, false) => "credential expiring",
    }
}

fn details(delivery: &Delivery<'_>) -> Value {
    let message = delivery.message;
    let mut details = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            details.insert(name.to_owned(), json!(shorten(&value, TEXT_LIMIT)));
        }
    };
    put("what", Some(message.what.clone()));
    put("when", Some(message.when.clone()));
    put("what to do", Some(message.todo.clone()));
    put("who", Some(message.who.clone()));
    put("and more", message.rest.clone());
    for (name, pointer) in [
        ("tenant", "/tenant/slug"),
        ("owner", "/secret/owner_id"),
        ("priority", "/secret/priority"),
        ("reference", "/secret/provider_ref"),
        ("expiry date", "/expiry_date"),
    ] {
        put(name, text(delivery.facts.pointer(pointer)));
    }
    put("secret", message.secret_id.clone());
    put("cycle", message.cycle.map(|cycle| cycle.to_string()));
    put("notification", Some(delivery.notification_id.to_string()));
    if !message.items.is_empty() {
        let items = message.items.iter();
        let lines = items.map(|item| shorten(&format!("{}: {}", item.what, item.when), TEXT_LIMIT));
        details.insert("credentials".to_owned(), lines.collect());
    }
    Value::Object(details)
}

fn links(message: &Message) -> Value {
    let link = |href: &String, text: &str| json!({"href": href, "text": shorten(text, TEXT_LIMIT)});
    let own = message.link.iter().map(|href| link(href, message.button()));
    let items = message.items.iter();
    own.chain(items.filter_map(|item| Some(link(item.link.as_ref()?, &item.what))))
        .collect()
}

/// Never too long, whatever a later version puts in: the details go before the alert does.
fn within_limit(mut event: Value) -> Value {
    if event.to_string().len() > EVENT_LIMIT - ROUTING_KEY_ROOM {
        if let Some(payload) = event["payload"].as_object_mut() {
            payload.remove("custom_details");
        }
        event["links"] = json!([]);
    }
    event
}

fn text(value: Option<&Value>) -> Option<String> {
    let text = one_line(value?.as_str()?);
    (!text.is_empty()).then(|| shorten(&text, TEXT_LIMIT))
}

/// What an answer means: <https://developer.pagerduty.com/docs/events-api-v2-overview#response-codes--retry-logic>
pub fn judge(answer: &Answer, dedup_key: String) -> Outcome {
    let retry = |reason| Outcome::Retry {
        after: answer.retry_after,
        reason,
        error: format!("PagerDuty: HTTP {}", answer.status),
    };
    match answer.status {
        202 => Outcome::Delivered { id: dedup_key },
        400 if complains_of_the_key(&answer.body) => {
            Outcome::permanent("PagerDuty: HTTP 400: it doesn't know this integration key")
        }
        413 => Outcome::permanent("PagerDuty: HTTP 413: the event is too long"),
        408 | 425 | 500..=599 => retry(RetryReason::Transient),
        429 => retry(RetryReason::RateLimited),
        400..=499 => Outcome::permanent(format!("PagerDuty: HTTP {}", answer.status)),
        // Nothing of PagerDuty's: a proxy's page, say. The event was not taken.
        _ => retry(RetryReason::Transient),
    }
}

/// Its sentences are not kept: they may quote what they were given.
fn complains_of_the_key(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    text.contains("routing_key") || text.contains("routing key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::message::tests::{facts, facts_of, render, summary_facts, test_facts};
    use std::time::Duration;
    use uuid::Uuid;

    /// Made at 2026-11-22T10:00:00Z.
    const ID: &str = "01a202b2-c500-7000-8000-000000000000";

    fn event_of(facts: &Value) -> Value {
        let message = render(facts);
        event(
            &Delivery {
                notification_id: ID.parse::<Uuid>().unwrap(),
                recipient: "",
                message: &message,
                facts,
                attempt: 1,
            },
            "https://x.test/",
        )
    }

    #[test]
    fn a_reminder_triggers_with_all_there_is_to_know() {
        let mut facts = facts("stripe-prod", 14);
        facts["secret"]["environment"] = json!("production");
        let event = event_of(&facts);
        assert_eq!(event["event_action"], "trigger");
        assert_eq!(event["dedup_key"], "rotator.0192.3");
        assert_eq!(event["client"], "rotator");
        assert_eq!(event["client_url"], "https://x.test/");
        assert_eq!(
            event["links"],
            json!([{"href": "https://x.test/a/t?b=1&c", "text": "Open: rotated or acknowledge"}])
        );
        let payload = &event["payload"];
        assert_eq!(payload["summary"], "stripe-prod expires in 14 days · Acme");
        assert_eq!(payload["source"], "stripe-prod");
        assert_eq!(payload["severity"], "warning");
        assert_eq!(payload["timestamp"], "2026-11-22T10:00:00Z");
        assert_eq!(payload["component"], "stripe");
        assert_eq!(payload["group"], "production");
        assert_eq!(payload["class"], "credential expiring");
        let details = &payload["custom_details"];
        assert_eq!(details["owner"], "alice");
        assert_eq!(details["cycle"], "3");
        assert_eq!(details["notification"], ID);
        assert!(details.get("reference").is_none(), "{details}");
    }

    #[test]
    fn acknowledging_and_rotating_name_the_same_alert_and_say_no_more() {
        for action in ["acknowledge", "resolve"] {
            assert_eq!(
                event_of(&facts_of(action, "stripe-prod", 14)),
                json!({"event_action": action, "dedup_key": "rotator.0192.3"})
            );
        }
    }

    #[test]
    fn the_severity_table() {
        let table = [
            ("P1", "error", "critical"),
            ("P2", "warning", "critical"),
            ("P3", "warning", "error"),
            ("P4", "info", "warning"),
        ];
        for (priority, before, after) in table {
            for (days, severity) in [(1, before), (-1, after)] {
                let mut facts = facts("k", days);
                facts["secret"]["priority"] = json!(priority);
                assert_eq!(
                    event_of(&facts)["payload"]["severity"],
                    severity,
                    "{priority} {days}"
                );
            }
        }
        for (overdue, severity) in [(0, "warning"), (1, "error")] {
            assert_eq!(
                event_of(&summary_facts(3, overdue))["payload"]["severity"],
                severity
            );
        }
        assert_eq!(event_of(&test_facts())["payload"]["severity"], "info");
    }

    #[test]
    fn a_summary_is_one_alert_with_a_link_for_each() {
        let event = event_of(&summary_facts(37, 12));
        assert_eq!(event["dedup_key"], "rotator.summary.0190");
        assert_eq!(event["payload"]["source"], "Acme");
        let details = &event["payload"]["custom_details"];
        assert_eq!(details["credentials"].as_array().unwrap().len(), 20);
        assert_eq!(event["links"].as_array().unwrap().len(), 20);
        assert_eq!(event["links"][0]["href"], "https://x.test/a/token-0");
    }

    #[test]
    fn whatever_a_name_holds_the_limits_are_kept() {
        for name in [
            "n".repeat(5000),
            "\u{1F511}".repeat(5000),
            "\u{0}\u{1b}[2J\r\n\u{202e}".repeat(5000),
            "\"\\</script>".repeat(5000),
        ] {
            let mut facts = facts(&name, -3);
            for field in [
                "provider_type",
                "environment",
                "owner_id",
                "purpose",
                "provider_ref",
            ] {
                facts["secret"][field] = json!(name);
            }
            facts["tenant"]["name"] = json!(name);
            let event = event_of(&facts);
            let payload = &event["payload"];
            let summary = payload["summary"].as_str().unwrap();
            assert!(summary.chars().count() <= SUMMARY_LIMIT);
            assert!(
                !summary.contains(['\0', '\u{1b}', '\r', '\n', '\u{202e}']),
                "{summary}"
            );
            for text in ["source", "component", "group"] {
                let text = payload[text].as_str().unwrap_or_default();
                assert!(text.chars().count() <= TEXT_LIMIT);
            }
            assert!(event.to_string().len() <= EVENT_LIMIT - ROUTING_KEY_ROOM);
            assert!(payload["custom_details"].is_object());
        }
    }

    #[test]
    fn details_go_before_an_alert_is_too_long() {
        let mut event = event_of(&facts("k", 1));
        event["payload"]["custom_details"]["what"] = json!("x".repeat(EVENT_LIMIT));
        let event = within_limit(event);
        assert!(event.to_string().len() < 2000);
        assert_eq!(event["payload"]["summary"], "k expires tomorrow · Acme");
    }

    #[test]
    fn a_dedup_key_is_never_too_long() {
        let mut message = render(&facts("k", 1));
        message.thread = "é".repeat(300);
        let key = dedup_key(&message);
        assert!((DEDUP_KEY_LIMIT - 1..=DEDUP_KEY_LIMIT).contains(&key.len()));
    }

    #[test]
    fn the_outcome_table() {
        let cases = [
            (202, "", "delivered"),
            (400, "", "permanent"),
            (401, "", "permanent"),
            (403, "", "permanent"),
            (404, "", "permanent"),
            (408, "", "transient"),
            (413, "", "permanent"),
            (429, "", "rate_limited"),
            (500, "", "transient"),
            (503, "", "transient"),
            (200, "<html>", "transient"),
            (302, "", "transient"),
        ];
        for (status, body, label) in cases {
            let answer = Answer {
                status,
                retry_after: Some(Duration::from_secs(7)),
                headers: Default::default(),
                body: body.as_bytes().to_vec(),
            };
            let outcome = judge(&answer, "key".to_owned());
            assert_eq!(outcome.label(), label, "{status}");
            match outcome {
                Outcome::Delivered { id } => assert_eq!(id, "key"),
                Outcome::Retry { after, .. } => assert_eq!(after, Some(Duration::from_secs(7))),
                Outcome::Permanent { .. } => {}
            }
        }
    }

    #[test]
    fn of_a_complaint_no_word_is_kept() {
        let body =
            r#"{"status":"invalid event","errors":["Invalid routing key 0123456789abcdef"]}"#;
        let answer = Answer {
            status: 400,
            retry_after: None,
            headers: Default::default(),
            body: body.as_bytes().to_vec(),
        };
        let expected = "PagerDuty: HTTP 400: it doesn't know this integration key";
        assert_eq!(judge(&answer, String::new()), Outcome::permanent(expected));
    }
}
