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
//! A test is info. A key rotation that failed is an error; one that is stalled or can't start, a
//! warning, and so is a contact that is gone. Sending: `pagerduty.rs`.

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

/// The alert that a message is about: one a secret and cycle, or a key rotation.
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
        Kind::Reminder
        | Kind::Escalation
        | Kind::Summary
        | Kind::Test
        | Kind::KeyRotation
        | Kind::ContactGone => "trigger",
    };
    let mut event = json!({"event_action": action, "dedup_key": dedup_key(message)});
    if action != "trigger" {
        return event;
    }
    let fact = |pointer: &str| text(delivery.facts.tree().pointer(pointer));
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
    text(delivery.facts.tree().pointer("/secret/name"))
        .or(tenant)
        .unwrap_or_else(|| "rotator".to_owned())
}

fn severity(message: &Message) -> &'static str {
    match message.kind {
        Kind::Test => return "info",
        Kind::KeyRotation if message.urgent => return "error",
        Kind::KeyRotation | Kind::ContactGone => return "warning",
        _ => {}
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
        (Kind::KeyRotation, _) => "key rotation",
        (Kind::ContactGone, _) => "contact gone",
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
    put("why now", message.why.clone());
    put("and more", message.rest.clone());
    for (name, pointer) in [
        ("tenant", "/tenant/slug"),
        ("owner", "/secret/owner_id"),
        ("priority", "/secret/priority"),
        ("reference", "/secret/provider_ref"),
        ("expiry date", "/expiry_date"),
    ] {
        put(name, text(delivery.facts.tree().pointer(pointer)));
    }
    let rotation = delivery.facts.tree().pointer("/rotation/id");
    put(
        "rotation",
        rotation.and_then(Value::as_i64).map(|id| id.to_string()),
    );
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
mod tests;
