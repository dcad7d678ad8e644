//! The fields of an item: names and aliases, and the checks that are better made before the database sees a row.
//!
//! Those are few: dates in one order only (the database would read 01/02/2026 by a session setting), `interval_days`,
//! labels (`labels.rs`), and NUL, which no PostgreSQL text can hold and which would refuse the whole batch. All other
//! rules belong to `rotator.import_secrets`. Messages name the field and never its content.

use jiff::civil::Date;
use serde_json::Value;

use super::{Item, Options, labels};

/// Arguments of `rotator.register_secret`.
pub const FIELDS: [&str; 13] = [
    "name",
    "provider_type",
    "expiry_date",
    "rotation_interval",
    "owner_id",
    "purpose",
    "provider_ref",
    "environment",
    "priority",
    "secondary_owner_id",
    "team_lead_id",
    "labels",
    "external_id",
];

/// Days as a number, turned into `rotation_interval`.
const INTERVAL_DAYS: &str = "interval_days";

/// By which the database finds the secret that a row of an export is about.
const ID: &str = "id";

/// Columns of an export that say how a secret stands. Nobody sets them, so they are left out.
const READ_ONLY: [&str; 11] = [
    "status",
    "last_rotated_at",
    "cycle",
    "days_until_expiry",
    "acknowledged_at",
    "acknowledged_by",
    "snoozed_until",
    "verified_at",
    "verified_expiry_date",
    "created_at",
    "updated_at",
];

/// Whether the field of an export is none that an import sets.
pub fn is_read_only(field: &str) -> bool {
    READ_ONLY.contains(&field)
}

/// Other names by which files call the fields; `owner`, `Owner ID` and `ownerId` need no entry of their own.
const ALIASES: [(&str, &str); 25] = [
    ("secret_name", "name"),
    ("provider", "provider_type"),
    ("type", "provider_type"),
    ("expires", "expiry_date"),
    ("expires_at", "expiry_date"),
    ("expires_on", "expiry_date"),
    ("expiry", "expiry_date"),
    ("expiration", "expiry_date"),
    ("expiration_date", "expiry_date"),
    ("not_after", "expiry_date"),
    ("interval", "rotation_interval"),
    ("rotate_every", "rotation_interval"),
    ("days", INTERVAL_DAYS),
    ("rotation_days", INTERVAL_DAYS),
    ("rotation_interval_days", INTERVAL_DAYS),
    ("owner", "owner_id"),
    ("secondary_owner", "secondary_owner_id"),
    ("backup_owner", "secondary_owner_id"),
    ("team_lead", "team_lead_id"),
    ("description", "purpose"),
    ("ref", "provider_ref"),
    ("reference", "provider_ref"),
    ("env", "environment"),
    ("prio", "priority"),
    ("tags", "labels"),
];

/// The field that a column or key means: case, spaces, hyphens and camelCase don't matter.
pub fn canonical(label: &str) -> Option<&'static str> {
    let mut name = String::with_capacity(label.len() + 4);
    let mut after_small = false;
    for c in label.trim().chars() {
        match c {
            ' ' | '-' | '_' | '.' => name.push('_'),
            _ if c.is_uppercase() && after_small => {
                name.push('_');
                name.extend(c.to_lowercase());
            }
            _ => name.extend(c.to_lowercase()),
        }
        after_small = c.is_lowercase();
    }
    let own = FIELDS
        .into_iter()
        .chain([INTERVAL_DAYS, ID])
        .chain(READ_ONLY)
        .find(|field| *field == name);
    own.or_else(|| {
        ALIASES
            .into_iter()
            .find(|(alias, _)| *alias == name)
            .map(|(_, field)| field)
    })
}

/// A column's or key's label as ` ("remarks")` when it is a plain word, and nothing when it could be a value that stands
/// where a label belongs (a file without a header row).
pub fn quoted_label(label: &str) -> String {
    let label = label.trim();
    let plain = (1..=30).contains(&label.len())
        && label
            .chars()
            .all(|c| c.is_ascii_alphabetic() || matches!(c, ' ' | '-' | '_'));
    if plain {
        format!(" (\"{label}\")")
    } else {
        String::new()
    }
}

/// Whether the text is `YYYY-MM-DD`, alone or with a time: RFC 3339, seconds and zone optional (then UTC).
pub fn is_date(text: &str) -> bool {
    let (Some(day), Some(rest)) = (text.get(..10), text.get(10..)) else {
        return false;
    };
    if day.parse::<Date>().is_err()
        || !day
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        return false;
    }
    let Some(time) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest.is_empty();
    };
    let zone_at = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    is_clock(clock.trim_end_matches(' ')) && is_zone(zone)
}

fn is_clock(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<&str> = whole.split(':').collect();
    let two_digits =
        |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    (2..=3).contains(&parts.len())
        && parts.iter().all(two_digits)
        && (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_zone(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix(['+', '-']) {
        None => matches!(text, "" | "Z" | "z"),
        Some(offset) => match offset.split_once(':') {
            Some((hours, minutes)) => {
                // Some places had seconds until the 1970s, and PostgreSQL writes them.
                let (minutes, seconds) = minutes.split_once(':').unwrap_or((minutes, "00"));
                [hours, minutes, seconds]
                    .iter()
                    .all(|part| part.len() == 2 && digits(part))
            }
            None => matches!(offset.len(), 2 | 4) && digits(offset),
        },
    }
}

/// Makes an item of canonical fields ready to be sent, as JSON, or says what is wrong with it.
pub fn finish(mut item: Item, options: &Options) -> Result<String, String> {
    item.retain(|_, value| !value.is_null());
    if item.get("status").is_some_and(|status| status == "retired") {
        return Err(
            "it is retired; empty its status to register it anew, or take the row out".into(),
        );
    }
    item.retain(|field, _| !is_read_only(field));
    if let Some((field, _)) = item.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!("{field} must be text"));
    }
    if let Some((field, _)) = item.iter().find(|(_, value)| holds_nul(value)) {
        return Err(format!("{field} contains a NUL character"));
    }
    if let Some(days) = item.remove(INTERVAL_DAYS) {
        let days =
            whole_days(&days).ok_or("interval_days is not a whole number of days above zero")?;
        let interval = Value::String(if days == 1 {
            "1 day".into()
        } else {
            format!("{days} days")
        });
        if item
            .get("rotation_interval")
            .is_some_and(|given| *given != interval)
        {
            return Err(
                "rotation_interval and interval_days contradict each other; keep one".into(),
            );
        }
        item.insert("rotation_interval".into(), interval);
    }
    match item.get("expiry_date") {
        None => {}
        Some(Value::String(text)) if is_date(text) => {}
        Some(_) => {
            return Err("expiry_date is not a date like 2026-12-31 or 2026-12-31T08:00:00Z".into());
        }
    }
    for (field, default) in [
        ("owner_id", &options.owner),
        ("environment", &options.environment),
        ("priority", &options.priority),
    ] {
        if let (Some(value), false) = (default, item.contains_key(field)) {
            item.insert(field.into(), Value::String(value.clone()));
        }
    }
    let labels = match item.remove("labels") {
        Some(Value::String(text)) => Some(labels::object_text(&text)?),
        _ => None,
    };
    let mut text = Value::Object(item).to_string();
    if let Some(labels) = labels {
        let comma = if text == "{}" { "" } else { "," };
        text.truncate(text.len() - 1);
        text.push_str(&format!("{comma}\"labels\":{labels}}}"));
    }
    Ok(text)
}

/// `90`, `90.0`, which spreadsheets and some JSON writers make of it.
fn whole_days(value: &Value) -> Option<u32> {
    let text = value.as_str()?.trim();
    let days = text.strip_suffix(".0").unwrap_or(text).parse().ok()?;
    (days > 0).then_some(days)
}

fn holds_nul(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Item {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn labels_of_columns_are_read_generously() {
        for label in ["Owner ID", "owner", " OWNER_ID ", "ownerId", "owner-id"] {
            assert_eq!(canonical(label), Some("owner_id"), "{label}");
        }
        assert_eq!(canonical("expiryDate"), Some("expiry_date"));
        assert_eq!(canonical("Not After"), Some("expiry_date"));
        assert_eq!(canonical("intervalDays"), Some("interval_days"));
        assert_eq!(canonical("Days until expiry"), Some("days_until_expiry"));
        assert_eq!(canonical("remarks"), None);
    }

    #[test]
    fn only_plain_words_are_repeated() {
        assert_eq!(quoted_label("remarks"), " (\"remarks\")");
        assert_eq!(quoted_label("AKIAIOSFODNN7EXAMPLE"), "");
        assert_eq!(quoted_label(""), "");
    }

    #[test]
    fn dates_have_one_order_only() {
        for good in [
            "2026-12-31",
            "2026-12-31T08:00:00Z",
            "2026-12-31 08:00",
            "2026-12-31T08:00:00.5+05:30",
            "2024-02-29",
            "1971-12-31T08:00:00.000001-00:44:30",
        ] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "31.12.2026",
            "01/02/2026",
            "2026-02-30",
            "99999-01-01",
            "tomorrow",
            "2026-12-31T8",
            "2026-12-31x",
            "",
            "infinity",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
    }

    fn finished(value: Value) -> Result<Value, String> {
        let text = finish(object(value), &Options::default())?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn interval_days_becomes_an_interval() {
        for days in ["90", " 90 ", "90.0"] {
            assert_eq!(
                finished(json!({"name": "a", "interval_days": days})).unwrap(),
                json!({"name": "a", "rotation_interval": "90 days"})
            );
        }
        for days in ["0", "-3", "ninety", "1.5", ""] {
            assert!(finished(json!({"interval_days": days})).is_err());
        }
    }

    #[test]
    fn an_export_has_both_intervals_and_they_may_not_differ() {
        for (days, interval) in [("1", "1 day"), ("90", "90 days")] {
            let both = json!({"interval_days": days, "rotation_interval": interval});
            assert_eq!(
                finished(both).unwrap(),
                json!({"rotation_interval": interval})
            );
        }
        let both = json!({"interval_days": "30", "rotation_interval": "90 days"});
        assert!(finished(both).unwrap_err().contains("keep one"));
    }

    #[test]
    fn columns_that_nobody_sets_are_left_out() {
        let exported =
            json!({"id": "x", "name": "a", "status": "overdue", "cycle": "3", "updated_at": "x"});
        assert_eq!(finished(exported).unwrap(), json!({"id": "x", "name": "a"}));
        let retired = finished(json!({"name": "a", "status": "retired"})).unwrap_err();
        assert!(retired.starts_with("it is retired"), "{retired}");
    }

    #[test]
    fn labels_keep_every_digit() {
        let text = finish(
            object(json!({"labels": "{\"n\": 12345678901234567890.10}"})),
            &Options::default(),
        );
        assert_eq!(
            text.unwrap(),
            r#"{"labels":{"n": 12345678901234567890.10}}"#
        );
        assert!(finished(json!({"labels": "nonsense"})).is_err());
    }

    #[test]
    fn only_text_is_sent_and_nul_is_refused_without_repeating_it() {
        for value in [json!(true), json!(["a"]), json!({})] {
            assert_eq!(
                finished(json!({"name": value})).unwrap_err(),
                "name must be text"
            );
        }
        assert_eq!(
            finished(json!({"name": "a", "purpose": "x\u{0}y"})).unwrap_err(),
            "purpose contains a NUL character"
        );
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let options = Options {
            owner: Some("dana".into()),
            priority: Some("P1".into()),
            ..Options::default()
        };
        let item = object(json!({"name": "a", "priority": "P4", "purpose": null}));
        let item: Value = serde_json::from_str(&finish(item, &options).unwrap()).unwrap();
        assert_eq!(
            item,
            json!({"name": "a", "priority": "P4", "owner_id": "dana"})
        );
    }
}
