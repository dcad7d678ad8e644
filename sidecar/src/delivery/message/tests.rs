//! What messages say, by kind; and `facts`, which the tests of the channels render, too.

use serde_json::{Value, json};

use super::*;

/// A reminder about a secret of that name.
pub fn facts(name: &str, days: i64) -> Value {
    json!({
        "kind": "reminder", "notification_id": "0190", "alert_id": "0191",
        "tenant": {"slug": "acme", "name": "Acme", "time_zone": "Europe/Berlin"},
        "secret": {"id": "0192", "name": name, "provider_type": "stripe", "environment": null, "priority": "P2",
                   "owner_id": "alice", "purpose": null, "provider_ref": null},
        "expiry_date": "2026-12-06T08:00:00Z", "expiry_local": "Sun 6 Dec 2026, 09:00 (Europe/Berlin)",
        "days_until_expiry": days, "lead_time_days": 14, "cycle": 3, "has_interval": true,
        "interval_text": "90 days", "acknowledged": null
    })
}

/// The same as another kind.
pub fn facts_of(kind: &str, name: &str, days: i64) -> Value {
    let mut facts = facts(name, days);
    facts["kind"] = json!(kind);
    facts
}

/// A test, as `rotator.test_notification` makes it.
pub fn test_facts() -> Value {
    let mut facts = facts_of("test", "sample-api-key", 14);
    facts["secret"]["id"] = json!(null);
    facts["secret"]["provider_type"] = json!("sample");
    facts["cycle"] = json!(null);
    facts["requested_by"] = json!("dana");
    facts
}

/// A summary of `total` secrets, the first `overdue` of them overdue; at most 20 listed, each with a token.
pub fn summary_facts(total: u64, overdue: u64) -> Value {
    let items: Vec<Value> = (0..total.min(20))
        .map(|i| {
            let days = if i < overdue { i as i64 - 400 } else { i as i64 - overdue as i64 + 1 };
            json!({
                "notification_id": format!("n{i}"), "has_interval": true, "expiry_date": "2026-12-06T08:00:00Z",
                "secret": {"id": format!("s{i}"), "name": format!("key-{i}"), "provider_type": "stripe",
                           "environment": "production", "priority": "P2", "owner_id": "alice"},
                "expiry_local": "Fri 17 Oct 2025, 09:00 (Europe/Berlin)", "days_until_expiry": days, "cycle": 1,
                "link_token": format!("token-{i}")
            })
        })
        .collect();
    json!({
        "kind": "summary", "notification_id": "0190",
        "tenant": {"slug": "acme", "name": "Acme", "time_zone": "Europe/Berlin"},
        "counts": {"total": total, "overdue": overdue, "expiring_soon": total - overdue},
        "items": items
    })
}

/// What came due together: the first `escalations` of them go to somebody else than the owner.
pub fn digest_facts(total: u64, overdue: u64, escalations: usize) -> Value {
    let mut facts = summary_facts(total, overdue);
    facts["rule"] = json!("digest");
    for (i, item) in facts["items"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .enumerate()
    {
        item["kind"] = json!(if i < escalations {
            "escalation"
        } else {
            "reminder"
        });
    }
    facts
}

/// A key rotation in that state, as `sql/api/key_alert.sql` puts it.
pub fn key_rotation_facts(state: &str) -> Value {
    json!({
        "kind": "key_rotation", "notification_id": "0190", "tenant_id": "0193",
        "tenant": {"slug": "acme", "name": "Acme", "time_zone": "Europe/Berlin"},
        "state": state,
        "rotation": {"id": 7, "from_version": 3, "to_version": 4, "total": 10_000, "done": 9_997, "failed": 3,
                     "started_at": "2026-11-22T19:10:00Z", "started_local": "Sun 22 Nov 2026, 20:10 (Europe/Berlin)"},
        "since_at": "2026-11-22T19:31:00Z", "since_local": "Sun 22 Nov 2026, 20:31 (Europe/Berlin)",
        "error": "public.customers.token, row 17: the ciphertext is not authentic; 2 more rows",
        "fix": "Mend these rows, then select rotator.retry_key_rotation(7)"
    })
}

pub fn contact_gone_facts() -> Value {
    json!({
        "kind": "contact_gone", "notification_id": "0190", "tenant_id": "0193",
        "tenant": {"slug": "acme", "name": "Acme", "time_zone": "Europe/Berlin"},
        "contact": {"id": "0194", "channel": "email", "hint": "…@acme.example", "owners": ["dana"]},
        "secrets": 3,
        "since_at": "2026-11-22T19:31:00Z", "since_local": "Sun 22 Nov 2026, 20:31 (Europe/Berlin)"
    })
}

/// Those facts in words, with the link `https://x.test/a/t?b=1&c` where there is one.
pub fn render(facts: &Value) -> Message {
    try_render(facts).unwrap()
}

pub fn try_render(facts: &Value) -> Result<Message, MessageError> {
    let link = Some("https://x.test/a/t?b=1&c".to_owned());
    Message::render(facts, link, &Pages::below("https://x.test/a/".to_owned()))
}

#[test]
fn says_what_when_what_to_do_and_who() {
    let message = render(&facts("stripe-prod", 14));
    assert_eq!(message.subject, "stripe-prod expires in 14 days");
    assert_eq!(message.what, "stripe-prod (stripe)");
    assert_eq!(
        message.when,
        "Expires Sun 6 Dec 2026, 09:00 (Europe/Berlin)"
    );
    assert_eq!(
        message.todo,
        "Rotate it before then, then confirm it with the link. Not yet? Acknowledge it there."
    );
    assert_eq!(message.who, "Owner alice · P2 · every 90 days · Acme");
    assert_eq!((message.urgent, message.overdue), (false, false));
    assert_eq!(message.thread, "0192.3");
    assert_eq!(
        (message.secret_id.as_deref(), message.cycle),
        (Some("0192"), Some(3))
    );
    assert_eq!(message.priority.as_deref(), Some("P2"));
}

#[test]
fn counts_days_as_people_do() {
    let expected = [
        (2, "expires in 2 days"),
        (1, "expires tomorrow"),
        (0, "expires today"),
        (-1, "expired yesterday"),
        (-9, "expired 9 days ago"),
    ];
    for (days, words) in expected {
        let message = render(&facts("k", days));
        assert_eq!(message.subject, format!("k {words}"));
        assert_eq!((message.urgent, message.overdue), (days <= 0, days < 0));
    }
    assert!(render(&facts("k", -2)).todo.starts_with("Rotate it now"));
    let mut this_morning = facts("k", 0);
    this_morning["overdue"] = json!(true);
    let message = render(&this_morning);
    assert_eq!(message.subject, "k expired today");
    assert!(
        message.overdue && message.when.starts_with("Expired ") && message.todo.contains("now")
    );
}

#[test]
fn acknowledged_and_no_interval_change_what_to_do() {
    let mut facts = facts("k", 3);
    facts["acknowledged"] = json!({"by": "bob", "at": "2026-11-22T10:00:00Z"});
    facts["has_interval"] = json!(false);
    assert_eq!(
        render(&facts).todo,
        "Acknowledged by bob, not rotated yet. Rotate it, then confirm it with the link and give the new expiry date."
    );
}

#[test]
fn a_test_is_the_production_message_that_says_what_it_is() {
    let message = render(&test_facts());
    assert_eq!(message.subject, "[Test] sample-api-key expires in 14 days");
    assert_eq!(message.what, "sample-api-key (sample)");
    assert_eq!(
        message.when,
        "Expires Sun 6 Dec 2026, 09:00 (Europe/Berlin)"
    );
    assert_eq!(
        message.todo,
        "This is a test that dana asked for: nothing needs rotating. Open the link once to see that it works."
    );
    assert_eq!(message.link.as_deref(), Some("https://x.test/a/test"));
    assert_eq!((message.secret_id, message.cycle), (None, None));
    assert_eq!(message.thread, "test.0190");
}

#[test]
fn the_end_of_an_incident_is_said_in_a_line() {
    let mut taken = facts_of("acknowledge", "k", 3);
    taken["acknowledged"] = json!({"by": "bob", "at": "x"});
    assert_eq!(render(&taken).subject, "k is acknowledged by bob");
    let rotated = render(&facts_of("resolve", "k", 90));
    assert_eq!(rotated.subject, "k was rotated");
    assert_eq!(rotated.todo, "Nothing is left to do.");
    assert!(rotated.when.starts_with("Expires next Sun 6 Dec 2026"));
    assert_eq!(rotated.thread, "0192.3");
}

#[test]
fn names_can_not_break_lines_or_turn_text_around() {
    for kind in ["reminder", "test", "acknowledge", "resolve"] {
        let message = render(&facts_of(kind, "a\r\nBcc: x\u{202e}\u{2028}b", 3));
        for text in [&message.subject, &message.what, &message.todo, &message.who] {
            assert!(
                !text.contains(['\r', '\n', '\u{202e}', '\u{2028}']),
                "{text}"
            );
        }
    }
    let mut many = summary_facts(3, 3);
    many["items"][0]["secret"]["name"] = json!("a\r\nb\u{202e}");
    many["items"][0]["secret"]["provider_type"] = json!("c\nd");
    assert_eq!(render(&many).items[0].what, "a  b (c d, production)");

    let long = render(&facts(&"n".repeat(256), 3));
    assert_eq!(
        long.subject.chars().count(),
        words::NAME_IN_SUBJECT + " expires in 3 days".len()
    );
    assert!(long.what.contains(&"n".repeat(256)));
}

#[test]
fn what_is_not_understood_is_an_error_and_not_a_guess() {
    for kind in ["haiku", "escalations"] {
        assert_eq!(
            try_render(&facts_of(kind, "k", 3)),
            Err(MessageError::Kind(kind.to_owned()))
        );
    }
    for value in [
        json!(null),
        json!({}),
        json!({"kind": "reminder"}),
        json!({"kind": "summary"}),
        json!({"kind": "test"}),
        json!({"kind": "key_rotation"}),
        key_rotation_facts("paused"),
        json!({"kind": 7}),
        json!([1]),
    ] {
        assert_eq!(try_render(&value), Err(MessageError::Shape), "{value}");
    }
    let mut empty = summary_facts(2, 2);
    empty["items"] = json!([]);
    assert_eq!(try_render(&empty), Err(MessageError::Shape));
    assert_eq!(
        try_render(&{
            let mut unread = facts("k", 3);
            unread["secret"]["name"] = json!(null);
            unread
        }),
        Err(MessageError::Undecipherable)
    );
}

#[test]
fn an_escalation_says_why_somebody_else_is_told() {
    let message = render(&facts_of("escalation", "k", 3));
    assert_eq!(
        message.subject,
        "k expires in 3 days, and nobody has taken it on"
    );
    assert_eq!(
        message.todo,
        "Nobody has taken it on. Rotate it before then, then confirm it with the link. Not yours to rotate? Make sure that somebody does."
    );
    let message = render(&facts_of("escalation", "k", -3));
    assert!(
        message
            .todo
            .starts_with("Nobody has taken it on. Rotate it now, ")
    );
}

#[test]
fn it_says_why_it_comes_now_and_to_whom() {
    let why = |facts: &Value| render(facts).why.unwrap_or_default();
    for (lead, reason) in [
        (14, "This is the reminder for 14 days before it expires."),
        (1, "This is the reminder for 1 day before it expires."),
        (0, "This is the reminder for the day it expires."),
        (-7, "This is the reminder for 7 days after it expires."),
    ] {
        let mut facts = facts("k", 3);
        facts["lead_time_days"] = json!(lead);
        facts["addressee"] = json!("alice");
        assert_eq!(why(&facts), reason);
    }
    // Of an import, or after an outage: it would else say that it still expires.
    for (lead, reason) in [
        (
            1,
            "This is the reminder for 1 day before it expired; it comes late.",
        ),
        (0, "This is the reminder for the day it expired."),
        (-7, "This is the reminder for 7 days after it expires."),
    ] {
        let mut facts = facts("k", -9);
        facts["lead_time_days"] = json!(lead);
        assert_eq!(why(&facts), reason);
    }
    let mut stood_in = facts("k", 3);
    stood_in["addressee"] = json!("sam");
    assert!(why(&stood_in).ends_with("expires. sam is told because alice has no contact."));
    stood_in["is_fallback"] = json!(true);
    assert!(why(&stood_in).ends_with(
        "expires. It comes this way because another message about it could not be delivered."
    ));

    let mut reopened = facts("k", 3);
    (reopened["rule"], reopened["lead_time_days"]) = (json!("reopened"), json!(null));
    assert_eq!(
        render(&reopened).subject,
        "k expires in 3 days and is still not rotated"
    );
    assert_eq!(why(&reopened), "Somebody had acknowledged it until now.");
    reopened["acknowledged_last"] = json!("sam");
    assert_eq!(why(&reopened), "sam had acknowledged it until now.");

    let mut step = facts_of("escalation", "k", 3);
    (step["rule"], step["addressee"]) = (json!("escalation:built-in:1"), json!("sam"));
    assert_eq!(why(&step), "sam is told: step 1 of the built-in ladder.");
    step["rule"] = json!("escalation:pay:ments:12");
    assert_eq!(why(&step), "sam is told: step 12 of the ladder pay:ments.");
    for kind in ["acknowledge", "resolve", "test"] {
        assert_eq!(render(&facts_of(kind, "k", 3)).why, None);
    }
}

#[test]
fn what_ended_and_what_is_snoozed_say_so() {
    for (ended, subject) in [
        (
            json!({"how": "rotated", "by": "sam\u{202e}", "at": "x"}),
            "k was rotated by sam",
        ),
        (json!({"how": "retired", "at": "x"}), "k is retired"),
        (json!({"how": "moved"}), "k is not due any more"),
        (json!(null), "k was rotated"),
    ] {
        let mut facts = facts_of("resolve", "k", 80);
        facts["ended"] = ended;
        assert_eq!(render(&facts).subject, subject);
    }
    let mut snoozed = facts("k", 9);
    snoozed["snoozed"] = json!({"until": "Tue 1 Dec 2026, 09:00 (UTC)", "by": "dana"});
    assert_eq!(
        render(&snoozed).todo,
        "Snoozed until Tue 1 Dec 2026, 09:00 (UTC) by dana. Rotate it, then confirm it with the link."
    );
}
