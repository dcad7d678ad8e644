//! Events by kind, severity and limit; and what answers mean.

use super::*;
use crate::delivery::message::tests::{
    facts, facts_of, key_rotation_facts, render, summary_facts, test_facts,
};
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
            facts: &facts.into(),
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
fn a_key_rotation_triggers_by_a_key_of_its_own() {
    let event = event_of(&key_rotation_facts("failed"));
    assert_eq!(event["event_action"], "trigger");
    assert_eq!(event["dedup_key"], "rotator.key_rotation.0193.7");
    assert_eq!(event["links"], json!([]));
    let payload = &event["payload"];
    assert_eq!(
        payload["summary"],
        "Key rotation of Acme failed: 3 of 10,000 rows could not be re-encrypted · Acme"
    );
    assert_eq!(payload["source"], "Acme");
    assert_eq!(payload["class"], "key rotation");
    let details = &payload["custom_details"];
    assert_eq!(details["rotation"], "7");
    assert_eq!(
        details["what to do"],
        "Mend these rows, then select rotator.retry_key_rotation(7)"
    );
    for (state, severity) in [
        ("failed", "error"),
        ("stalled", "warning"),
        ("overdue", "warning"),
    ] {
        let event = event_of(&key_rotation_facts(state));
        assert_eq!(event["payload"]["severity"], severity, "{state}");
    }
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
    let body = r#"{"status":"invalid event","errors":["Invalid routing key 0123456789abcdef"]}"#;
    let answer = Answer {
        status: 400,
        retry_after: None,
        headers: Default::default(),
        body: body.as_bytes().to_vec(),
    };
    let expected = "PagerDuty: HTTP 400: it doesn't know this integration key";
    assert_eq!(judge(&answer, String::new()), Outcome::permanent(expected));
}
