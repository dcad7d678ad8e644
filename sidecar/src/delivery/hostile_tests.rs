//! Every text of others in every message, hostile: in words, in Slack, as mail, on a terminal, for PagerDuty and for
//! programs it is text, in the place where a harmless one would be, and no more of it than fits.

use lettre::message::Mailbox;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::console::{block, line};
use super::mail::Mail;
use super::message::tests::{
    contact_gone_facts, digest_facts, facts, facts_of, key_rotation_facts, render, summary_facts,
    test_facts,
};
use super::slack_buttons::Choices;
use super::{Delivery, Message, pagerduty_event, slack_layout, webhook_event};

/// What is not text of others: what the database makes itself.
const OURS: &[&str] = &[
    "kind",
    "state",
    "how",
    "rule",
    "id",
    "notification_id",
    "alert_id",
    "tenant_id",
    "slug",
    "link_token",
    "expiry_date",
    "expiry_local",
    "started_at",
    "started_local",
    "since_at",
    "since_local",
    "until",
    "interval_text",
    "priority",
];

fn hostile() -> Vec<String> {
    let long = [
        "x",
        "&",
        "<",
        "\u{1f511}",
        "e\u{301}",
        "\u{202e}",
        "\"",
        "*",
        "\n",
    ];
    let short = [
        "<!channel> <!here> <@U1> <#C1> <!subteam^S1> <https://evil.example|here>",
        "*b* _i_ ~s~ `c` ```d``` > q\n> q",
        "&lt;!channel&gt; &#60;b&#62; &amp;",
        "</p></div><script>alert(1)</script><img src=x onerror=alert(1)>",
        "\" onmouseover=\"alert(1)\" x='",
        "javascript:alert(1)",
        "{{ message.who }} {% raw %} ${x} %s %n",
        "a\r\nBcc: eve@evil.example\r\n\r\nbody",
        "a\nb\rc\u{b}d\u{c}e\u{85}f\u{2028}g\u{2029}h\0i",
        "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{8}\u{8}",
        "\u{202e}gnp.exe\u{202c} \u{2066}x\u{2069} \u{200f}\u{61c}",
        "z\u{200b}e\u{2060}r\u{feff}o\u{ad}\u{e0041}",
        "👩\u{200d}👩\u{200d}👧 🏴 ☎\u{fe0f} 🔑",
        "\u{338}\u{301} \u{36f}",
        "=?utf-8?q?Bcc=3A_eve=40evil.example?=",
        ".\r\n.\r\nRCPT TO:<eve@evil.example>",
        "$(reboot) `reboot` ; drop table x; --",
    ];
    let short = short.into_iter().map(str::to_owned);
    short.chain(long.map(|text| text.repeat(10_000))).collect()
}

fn kinds() -> Vec<Value> {
    let mut reopened = facts("k", 3);
    reopened["rule"] = json!("reopened");
    reopened["acknowledged_last"] = json!("sam");
    let mut told = facts("k", -3);
    told["is_fallback"] = json!(true);
    told["addressee"] = json!("sam");
    told["snoozed"] = json!({"until": "then", "by": "sam"});
    let mut step = facts_of("escalation", "k", 3);
    step["rule"] = json!("escalation:ladder:2");
    step["addressee"] = json!("sam");
    let mut taken = facts_of("acknowledge", "k", 3);
    taken["acknowledged"] = json!({"by": "sam", "at": "then"});
    let mut ended = facts_of("resolve", "k", 3);
    ended["ended"] = json!({"how": "rotated", "by": "sam", "at": "then"});
    let mut all = vec![reopened, told, step, taken, ended];
    for facts in &mut all {
        for field in ["environment", "purpose", "provider_ref"] {
            facts["secret"][field] = json!("x");
        }
    }
    all.extend([
        test_facts(),
        summary_facts(30, 3),
        digest_facts(20, 3, 4),
        key_rotation_facts("failed"),
        key_rotation_facts("overdue"),
        contact_gone_facts(),
    ]);
    all
}

/// The same facts, each text of others in them replaced.
fn with(facts: &Value, text: &str) -> Value {
    match facts {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| {
                let is_ours = OURS.contains(&name.as_str());
                let field = if is_ours {
                    field.clone()
                } else {
                    with(field, text)
                };
                (name.clone(), field)
            })
            .collect(),
        Value::Array(values) => values.iter().map(|value| with(value, text)).collect(),
        Value::String(_) => json!(text),
        other => other.clone(),
    }
}

/// A channel's view of one set of facts.
struct Laid {
    message: Message,
    slack: Vec<Value>,
    mail: Mail,
    block: String,
    line: String,
    event: Value,
    hook: Value,
}

fn laid(facts: &Value) -> Laid {
    let message = render(facts);
    let delivery = Delivery {
        notification_id: Uuid::nil(),
        recipient: "dana@acme.example",
        message: &message,
        facts: &facts.into(),
        attempt: 1,
    };
    let from: Mailbox = "rotator <rotator@acme.example>".parse().unwrap();
    Laid {
        slack: [None, Some(facts)]
            .map(|facts| facts.map(|facts| Choices::deserialize(facts).unwrap()))
            .map(|choices| json!(slack_layout::body(&message, choices.as_ref())))
            .to_vec(),
        mail: Mail::compose(&from, &delivery).unwrap(),
        block: block(&delivery),
        line: line(&delivery),
        event: pagerduty_event::event(&delivery, "https://x.test/"),
        hook: webhook_event::body(&delivery),
        message,
    }
}

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::String(text) => found.push(text.clone()),
        _ => {}
    }
}

/// On one line, and nothing in it that isn't seen or turns text around.
fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    })
}

fn count(text: &str, part: char) -> usize {
    text.matches(part).count()
}

#[test]
fn hostile_text_is_text_wherever_it_stands_and_fits() {
    for kind in kinds() {
        let harmless = laid(&with(&kind, "x"));
        for text in hostile() {
            let about = format!(
                "{} with {:?}",
                kind["kind"],
                text.chars().take(60).collect::<String>()
            );
            let laid = laid(&with(&kind, &text));

            let m = &laid.message;
            let why = m.why.clone().unwrap_or_default();
            let rest = m.rest.clone().unwrap_or_default();
            for (words, limit) in [
                (&m.subject, 250),
                (&m.what, 1200),
                (&m.when, 300),
                (&m.todo, 1200),
                (&m.who, 400),
                (&why, 400),
                (&rest, 400),
            ] {
                assert!(is_plain(words), "{about}: {words:?}");
                assert!(
                    words.chars().count() <= limit,
                    "{about}: {}",
                    words.chars().count()
                );
            }

            for body in &laid.slack {
                let mut found = Vec::new();
                texts(body, &mut found);
                for shown in &found {
                    assert!(shown.lines().all(is_plain), "{about}: {shown:?}");
                    for injected in ["<!", "<@", "<#", "<https://evil", "<script"] {
                        assert!(!shown.contains(injected), "{about}: {shown}");
                    }
                }
                let blocks = body["blocks"].as_array().unwrap();
                assert!(blocks.len() <= 50, "{about}");
                for block in blocks {
                    let section = block["text"]["text"].as_str().unwrap_or_default();
                    assert!(section.encode_utf16().count() <= 3000, "{about}");
                    assert!(
                        !section.lines().any(|line| line.starts_with("&gt;")),
                        "{about}"
                    );
                    assert!(matches!(count(section, '*'), 0 | 2), "{about}: {section}");
                }
            }

            let mail = &laid.mail;
            assert!(
                is_plain(&mail.subject) && !mail.subject.contains("=?"),
                "{about}"
            );
            assert_eq!(
                mail.text.lines().count(),
                harmless.mail.text.lines().count(),
                "{about}: {}",
                mail.text
            );
            for mark in ['<', '>', '"'] {
                assert_eq!(
                    count(&mail.html, mark),
                    count(&harmless.mail.html, mark),
                    "{about}: {mark} in {}",
                    mail.html
                );
            }
            assert!(!mail.html.contains("href=\"javascript"), "{about}");
            assert!(
                mail.html.lines().all(is_plain) && mail.text.lines().all(is_plain),
                "{about}"
            );

            assert_eq!(
                laid.block.lines().count(),
                harmless.block.lines().count(),
                "{about}: {}",
                laid.block
            );
            assert!(
                laid.block.lines().all(is_plain),
                "{about}: {:?}",
                laid.block
            );
            assert_eq!(laid.line.lines().count(), 1, "{about}");
            assert!(laid.line.lines().all(is_plain), "{about}: {:?}", laid.line);
            assert!(serde_json::from_str::<Value>(&laid.line).is_ok());

            assert!(laid.event.to_string().len() < 512 * 1024 - 64, "{about}");
            let mut found = Vec::new();
            texts(&laid.event, &mut found);
            for shown in &found {
                assert!(
                    is_plain(shown) && shown.chars().count() <= 1024,
                    "{about}: {shown:?}"
                );
            }
            let dedup = |laid: &Laid| laid.event["dedup_key"].clone();
            assert_eq!(dedup(&laid), dedup(&harmless), "{about}");

            let mut found = Vec::new();
            texts(&laid.hook, &mut found);
            assert!(
                found.iter().all(|text| text.chars().count() <= 2000),
                "{about}"
            );
        }
    }
}
