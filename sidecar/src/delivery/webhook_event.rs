//! The body of a webhook: facts for a program, in a shape that only grows. Version 1 is described in `docs/sidecar.md`;
//! a field that is there stays, with its name, type and meaning, or [`VERSION`] goes up.
//! Sending and signing: `webhook.rs`. Where the facts come from: `sql/api/message.sql`.

use serde_json::{Map, Value, json};

use super::message::shorten;
use super::{Delivery, Kind};

const VERSION: u32 = 1;
/// Of each text. Standard Webhooks asks for small bodies, of 20 KB or so.
const TEXT_LIMIT: usize = 2000;

/// What is known of a secret, in the database's words.
const SECRET: &[&str] = &[
    "id",
    "name",
    "provider_type",
    "provider_ref",
    "environment",
    "priority",
    "owner_id",
    "purpose",
];

/// What is known of a key rotation.
const ROTATION: &[&str] = &[
    "id",
    "from_version",
    "to_version",
    "total",
    "done",
    "failed",
    "started_at",
];

/// What is known of a contact that is gone.
const CONTACT: &[&str] = &["id", "channel", "hint", "owners"];

/// The whole body.
pub fn body(delivery: &Delivery<'_>) -> Value {
    let message = delivery.message;
    let facts = delivery.facts.tree();
    let mut data = Map::new();
    data.insert("summary".to_owned(), json!(message.subject));
    data.insert(
        "tenant".to_owned(),
        pick(&facts["tenant"], &["slug", "name"]),
    );
    match message.kind {
        Kind::Summary => {
            let counts = pick(&facts["counts"], &["total", "overdue", "expiring_soon"]);
            data.insert("counts".to_owned(), counts);
            data.insert("items".to_owned(), items(delivery));
        }
        Kind::KeyRotation => data.extend(key_rotation(facts)),
        Kind::ContactGone => {
            data.insert("since".to_owned(), text(&facts["since_at"]));
            data.insert("contact".to_owned(), pick(&facts["contact"], CONTACT));
            data.insert("secrets".to_owned(), facts["secrets"].clone());
        }
        _ => {
            data.extend(standing(facts, message.overdue));
            data.insert(
                "acknowledged_by".to_owned(),
                text(&facts["acknowledged"]["by"]),
            );
            data.insert("link".to_owned(), json!(message.link));
        }
    }
    if message.kind == Kind::Test {
        data.insert("requested_by".to_owned(), text(&facts["requested_by"]));
    }
    json!({
        "type": format!("rotator.{}", message.kind.name()),
        "version": VERSION,
        "id": delivery.notification_id,
        "timestamp": delivery.queued_at().map(|at| at.to_string()),
        "data": data,
    })
}

/// How one secret stands.
fn standing(facts: &Value, overdue: bool) -> Map<String, Value> {
    let mut standing = Map::new();
    standing.insert("secret".to_owned(), pick(&facts["secret"], SECRET));
    standing.insert("cycle".to_owned(), facts["cycle"].clone());
    standing.insert("expiry_date".to_owned(), text(&facts["expiry_date"]));
    let days = facts["days_until_expiry"].clone();
    standing.insert("days_until_expiry".to_owned(), days);
    standing.insert("overdue".to_owned(), json!(overdue));
    standing
}

/// What became of a key rotation, and what to do.
fn key_rotation(facts: &Value) -> Map<String, Value> {
    let rotation = match &facts["rotation"] {
        Value::Object(_) => pick(&facts["rotation"], ROTATION),
        _ => Value::Null,
    };
    let mut data = Map::new();
    data.insert("state".to_owned(), text(&facts["state"]));
    data.insert("since".to_owned(), text(&facts["since_at"]));
    data.insert("rotation".to_owned(), rotation);
    for field in ["error", "fix"] {
        data.insert(field.to_owned(), text(&facts[field]));
    }
    data
}

fn items(delivery: &Delivery<'_>) -> Value {
    let facts = delivery.facts.tree()["items"]
        .as_array()
        .into_iter()
        .flatten();
    let items = facts.zip(&delivery.message.items).map(|(facts, item)| {
        let mut standing = standing(facts, item.overdue);
        standing.insert("link".to_owned(), json!(item.link));
        Value::Object(standing)
    });
    items.collect()
}

/// These fields, null where there is nothing.
fn pick(from: &Value, names: &[&str]) -> Value {
    let fields = names
        .iter()
        .map(|name| ((*name).to_owned(), text(&from[*name])));
    Value::Object(fields.collect())
}

/// A text that isn't longer than it may be, and a list of such; anything else as it is.
fn text(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(shorten(text, TEXT_LIMIT)),
        Value::Array(values) => values.iter().map(text).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::message::tests::{
        contact_gone_facts, facts, key_rotation_facts, render, summary_facts, test_facts,
    };
    use uuid::Uuid;

    const ID: &str = "01a202b2-c500-7000-8000-000000000000";

    fn body_of(facts: &Value) -> Value {
        let message = render(facts);
        body(&Delivery {
            notification_id: ID.parse::<Uuid>().unwrap(),
            recipient: "",
            message: &message,
            facts: &facts.into(),
            attempt: 1,
        })
    }

    #[test]
    fn version_one_of_a_reminder() {
        assert_eq!(
            body_of(&facts("stripe-prod", 14)),
            json!({
                "type": "rotator.reminder",
                "version": 1,
                "id": ID,
                "timestamp": "2026-11-22T10:00:00Z",
                "data": {
                    "summary": "stripe-prod expires in 14 days",
                    "tenant": {"slug": "acme", "name": "Acme"},
                    "secret": {"id": "0192", "name": "stripe-prod", "provider_type": "stripe", "provider_ref": null,
                               "environment": null, "priority": "P2", "owner_id": "alice", "purpose": null},
                    "cycle": 3,
                    "expiry_date": "2026-12-06T08:00:00Z",
                    "days_until_expiry": 14,
                    "overdue": false,
                    "acknowledged_by": null,
                    "link": "https://x.test/a/t?b=1&c",
                },
            })
        );
    }

    #[test]
    fn version_one_of_a_summary() {
        let body = body_of(&summary_facts(37, 12));
        assert_eq!(body["type"], "rotator.summary");
        let data = &body["data"];
        assert_eq!(
            data["counts"],
            json!({"total": 37, "overdue": 12, "expiring_soon": 25})
        );
        assert_eq!(data["items"].as_array().unwrap().len(), 20);
        let first = &data["items"][0];
        assert_eq!(first["secret"]["name"], "key-0");
        assert_eq!(
            (&first["overdue"], &first["cycle"]),
            (&json!(true), &json!(1))
        );
        assert_eq!(first["link"], "https://x.test/a/token-0");
        assert!(
            data.get("link").is_none() && data.get("secret").is_none(),
            "{data}"
        );
    }

    #[test]
    fn version_one_of_a_key_rotation() {
        let mut facts = key_rotation_facts("failed");
        let body = body_of(&facts);
        assert_eq!(body["type"], "rotator.key_rotation");
        assert_eq!(
            body["data"],
            json!({
                "summary": "Key rotation of Acme failed: 3 of 10,000 rows could not be re-encrypted",
                "tenant": {"slug": "acme", "name": "Acme"},
                "state": "failed",
                "since": "2026-11-22T19:31:00Z",
                "rotation": {"id": 7, "from_version": 3, "to_version": 4, "total": 10_000, "done": 9_997, "failed": 3,
                             "started_at": "2026-11-22T19:10:00Z"},
                "error": "public.customers.token, row 17: the ciphertext is not authentic; 2 more rows",
                "fix": "Mend these rows, then select rotator.retry_key_rotation(7)",
            })
        );
        facts["rotation"] = Value::Null;
        facts["state"] = json!("overdue");
        let data = body_of(&facts)["data"].clone();
        assert_eq!(
            (&data["state"], &data["rotation"]),
            (&json!("overdue"), &Value::Null)
        );
    }

    #[test]
    fn version_one_of_a_contact_that_is_gone() {
        let body = body_of(&contact_gone_facts());
        assert_eq!(body["type"], "rotator.contact_gone");
        assert_eq!(
            body["data"],
            json!({
                "summary": "The email contact of dana is gone",
                "tenant": {"slug": "acme", "name": "Acme"},
                "since": "2026-11-22T19:31:00Z",
                "contact": {"id": "0194", "channel": "email", "hint": "…@acme.example", "owners": ["dana"]},
                "secrets": 3,
            })
        );
    }

    #[test]
    fn a_test_says_who_asked_for_it() {
        let body = body_of(&test_facts());
        assert_eq!(body["type"], "rotator.test");
        assert_eq!(body["data"]["requested_by"], "dana");
        assert_eq!(body["data"]["secret"]["id"], Value::Null);
        assert_eq!(body["data"]["link"], "https://x.test/a/test");
    }

    #[test]
    fn what_is_acknowledged_says_by_whom_and_long_texts_are_cut() {
        let mut facts = facts("k", -2);
        facts["acknowledged"] = json!({"by": "bob", "at": "today"});
        facts["secret"]["purpose"] = json!("\u{1F511}".repeat(10_000));
        let data = body_of(&facts)["data"].clone();
        assert_eq!(data["acknowledged_by"], "bob");
        assert_eq!(data["overdue"], true);
        let purpose = data["secret"]["purpose"].as_str().unwrap();
        assert_eq!(purpose.chars().count(), TEXT_LIMIT);
    }
}
