//! The one place that turns the `message` of a claim into words: what, when, what to do, in that order, so that it is
//! read in two seconds on a phone. Channels only lay these texts out.
//!
//! Elsewhere: the facts themselves, local dates included (`sql/api`); layout and escaping (each channel's file).

use serde::Deserialize;
use serde_json::Value;

/// Longest name that goes into a subject line; the full name follows below it.
const NAME_IN_SUBJECT: usize = 80;
const PURPOSE_LIMIT: usize = 300;

/// One notification in words, each text a single line without control characters, not yet escaped for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `stripe-prod expires in 14 days`
    pub subject: String,
    /// `stripe-prod (stripe, production): card payments`
    pub what: String,
    /// `Sun 6 Dec 2026, 09:00 (Europe/Berlin)`
    pub when: String,
    /// `Rotate it, then …`
    pub todo: String,
    /// `Owner alice · P2 · Acme`
    pub who: String,
    /// Where to act, if this attempt has a link.
    pub link: Option<String>,
    /// Past its date, or on it.
    pub urgent: bool,
    /// The same for all messages about one cycle of one secret; made of ids only.
    pub thread: String,
}

/// Why a message can't be put into words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    #[error("notifications of kind {0} are not supported by this sidecar version")]
    Kind(String),
    #[error("the notification's message is not of the agreed form")]
    Shape,
    /// Its key is gone, or the row was tampered with. The operator may still put it right.
    #[error("the secret's name can't be decrypted")]
    Undecipherable,
}

#[derive(Deserialize)]
struct Facts {
    kind: String,
    tenant: Tenant,
    secret: Secret,
    expiry_local: String,
    days_until_expiry: i64,
    #[serde(default)]
    cycle: i64,
    #[serde(default)]
    has_interval: bool,
    #[serde(default)]
    interval_text: Option<String>,
    #[serde(default)]
    acknowledged: Option<Acknowledged>,
}

#[derive(Deserialize)]
struct Tenant {
    name: String,
}

#[derive(Deserialize)]
struct Secret {
    id: String,
    name: Option<String>,
    #[serde(default)]
    provider_type: Option<String>,
    #[serde(default)]
    environment: Option<String>,
    #[serde(default)]
    priority: Option<String>,
    #[serde(default)]
    owner_id: Option<String>,
    #[serde(default)]
    purpose: Option<String>,
    #[serde(default)]
    provider_ref: Option<String>,
}

#[derive(Deserialize)]
struct Acknowledged {
    by: Option<String>,
}

impl Message {
    /// Puts the facts of a claim into words. `link` is the page of this attempt's token.
    ///
    /// # Errors
    /// A kind this version doesn't know, or facts that are not of the agreed form.
    pub fn render(facts: &Value, link: Option<String>) -> Result<Self, MessageError> {
        if let Some(kind) = facts
            .get("kind")
            .and_then(Value::as_str)
            .filter(|kind| *kind != "reminder")
        {
            return Err(MessageError::Kind(shorten(&one_line(kind), 40)));
        }
        let facts = Facts::deserialize(facts).map_err(|_| MessageError::Shape)?;
        debug_assert_eq!(facts.kind, "reminder");
        let days = facts.days_until_expiry;
        let name = one_line(
            facts
                .secret
                .name
                .as_deref()
                .ok_or(MessageError::Undecipherable)?,
        );
        Ok(Self {
            subject: format!("{} {}", shorten(&name, NAME_IN_SUBJECT), countdown(days)),
            what: what(&name, &facts.secret),
            when: format!(
                "{} {}",
                if days < 0 { "Expired" } else { "Expires" },
                one_line(&facts.expiry_local)
            ),
            todo: todo(&facts),
            who: who(&facts),
            link,
            urgent: days <= 0,
            thread: format!("{}.{}", one_line(&facts.secret.id), facts.cycle),
        })
    }
}

fn countdown(days: i64) -> String {
    match days {
        2.. => format!("expires in {days} days"),
        1 => "expires tomorrow".to_owned(),
        0 => "expires today".to_owned(),
        -1 => "expired yesterday".to_owned(),
        _ => format!("expired {} days ago", days.unsigned_abs()),
    }
}

fn what(name: &str, secret: &Secret) -> String {
    let kind: Vec<String> = [&secret.provider_type, &secret.environment]
        .into_iter()
        .flatten()
        .map(|text| one_line(text))
        .collect();
    let mut text = name.to_owned();
    if !kind.is_empty() {
        text.push_str(&format!(" ({})", kind.join(", ")));
    }
    if let Some(purpose) = secret
        .purpose
        .as_deref()
        .filter(|purpose| !purpose.trim().is_empty())
    {
        text.push_str(&format!(": {}", shorten(&one_line(purpose), PURPOSE_LIMIT)));
    }
    if let Some(reference) = secret
        .provider_ref
        .as_deref()
        .filter(|reference| !reference.trim().is_empty())
    {
        text.push_str(&format!(
            " · {}",
            shorten(&one_line(reference), PURPOSE_LIMIT)
        ));
    }
    text
}

fn todo(facts: &Facts) -> String {
    let then = if facts.has_interval {
        "then confirm it with the link."
    } else {
        "then confirm it with the link and give the new expiry date."
    };
    match (&facts.acknowledged, facts.days_until_expiry < 0) {
        (Some(Acknowledged { by }), _) => {
            let by = by
                .as_deref()
                .map(|by| format!(" by {}", one_line(by)))
                .unwrap_or_default();
            format!("Acknowledged{by}, not rotated yet. Rotate it, {then}")
        }
        (None, true) => format!("Rotate it now, {then}"),
        (None, false) => format!("Rotate it before then, {then} Not yet? Acknowledge it there."),
    }
}

fn who(facts: &Facts) -> String {
    let mut parts = Vec::new();
    if let Some(owner) = &facts.secret.owner_id {
        parts.push(format!("Owner {}", one_line(owner)));
    }
    parts.extend(facts.secret.priority.as_deref().map(one_line));
    if let Some(interval) = &facts.interval_text {
        parts.push(format!("every {}", one_line(interval)));
    }
    parts.push(one_line(&facts.tenant.name));
    parts.join(" · ")
}

/// Control characters, line and paragraph separators, and marks that change the direction of text become blanks.
pub fn one_line(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if unseen(c) { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// At most `limit` characters, the last of them an ellipsis if something was cut.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

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

    #[test]
    fn says_what_when_what_to_do_and_who() {
        let message =
            Message::render(&facts("stripe-prod", 14), Some("https://x/a/t".to_owned())).unwrap();
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
        assert_eq!((message.thread.as_str(), message.urgent), ("0192.3", false));
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
            let message = Message::render(&facts("k", days), None).unwrap();
            assert_eq!(message.subject, format!("k {words}"));
            assert_eq!(message.urgent, days <= 0);
        }
        assert!(
            Message::render(&facts("k", -2), None)
                .unwrap()
                .todo
                .starts_with("Rotate it now")
        );
    }

    #[test]
    fn acknowledged_and_no_interval_change_what_to_do() {
        let mut facts = facts("k", 3);
        facts["acknowledged"] = json!({"by": "bob", "at": "2026-11-22T10:00:00Z"});
        facts["has_interval"] = json!(false);
        let todo = Message::render(&facts, None).unwrap().todo;
        assert_eq!(
            todo,
            "Acknowledged by bob, not rotated yet. Rotate it, then confirm it with the link and give the new expiry date."
        );
    }

    #[test]
    fn names_can_not_break_lines_or_turn_text_around() {
        let message = Message::render(&facts("a\r\nBcc: x\u{202e}\u{2028}b", 3), None).unwrap();
        assert!(
            !message.what.contains(['\r', '\n', '\u{202e}', '\u{2028}']),
            "{}",
            message.what
        );
        let long = Message::render(&facts(&"n".repeat(256), 3), None).unwrap();
        assert_eq!(
            long.subject.chars().count(),
            NAME_IN_SUBJECT + " expires in 3 days".len()
        );
        assert!(long.what.contains(&"n".repeat(256)));
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_not_a_guess() {
        let mut other = facts("k", 3);
        other["kind"] = json!("haiku");
        assert_eq!(
            Message::render(&other, None),
            Err(MessageError::Kind("haiku".to_owned()))
        );
        for value in [
            json!(null),
            json!({}),
            json!({"kind": "reminder"}),
            json!([1]),
        ] {
            assert_eq!(Message::render(&value, None), Err(MessageError::Shape));
        }
    }
}
