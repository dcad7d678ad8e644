//! The fields of an item: names and aliases, and the checks that are better made before the database sees a row.
//!
//! Those are few: dates in one order only (the database would read 01/02/2026 by a session setting), `interval_days`,
//! labels as text, and NUL, which no PostgreSQL text can hold and which would refuse the whole batch. All other rules
//! belong to `rotator.import_secrets`. Messages name the field and never its content.

use jiff::civil::Date;
use serde_json::{Number, Value};

use super::{Item, Options};

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
        .chain([INTERVAL_DAYS])
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
                hours.len() == 2 && minutes.len() == 2 && digits(hours) && digits(minutes)
            }
            None => matches!(offset.len(), 2 | 4) && digits(offset),
        },
    }
}

/// Makes an item of canonical fields ready to be sent, or says what is wrong with it.
pub fn finish(mut item: Item, options: &Options) -> Result<Item, String> {
    item.retain(|_, value| !value.is_null());
    if let Some((field, _)) = item.iter().find(|(_, value)| holds_nul(value)) {
        return Err(format!("{field} contains a NUL character"));
    }
    if let Some(days) = item.remove(INTERVAL_DAYS) {
        if item.contains_key("rotation_interval") {
            return Err("rotation_interval and interval_days are both given; keep one".into());
        }
        let days =
            whole_days(&days).ok_or("interval_days is not a whole number of days above zero")?;
        item.insert(
            "rotation_interval".into(),
            Value::String(format!("{days} days")),
        );
    }
    match item.get("expiry_date") {
        None => {}
        Some(Value::String(text)) if is_date(text) => {}
        Some(_) => {
            return Err("expiry_date is not a date like 2026-12-31 or 2026-12-31T08:00:00Z".into());
        }
    }
    if let Some(Value::String(text)) = item.get("labels") {
        let labels = labels(text)
            .ok_or("labels are neither a JSON object nor pairs like team=payments;tier=1")?;
        item.insert("labels".into(), Value::Object(labels));
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
    Ok(item)
}

fn whole_days(value: &Value) -> Option<u32> {
    let days = match value {
        Value::Number(number) => whole(number)?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (days > 0).then_some(days)
}

/// `90` and `90.0`, which spreadsheets and some JSON writers make of it.
fn whole(number: &Number) -> Option<u32> {
    if let Some(days) = number.as_u64() {
        return u32::try_from(days).ok();
    }
    let text = number.to_string();
    text.strip_suffix(".0")?.parse().ok()
}

/// Labels as a JSON object, or as `key=value` pairs separated by semicolons.
pub fn labels(text: &str) -> Option<Item> {
    let text = text.trim();
    if text.starts_with('{') {
        return serde_json::from_str(text).ok();
    }
    let mut labels = Item::new();
    for pair in text
        .split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair.split_once('=')?;
        let key = key.trim();
        if key.is_empty()
            || labels
                .insert(key.into(), Value::String(value.trim().into()))
                .is_some()
        {
            return None;
        }
    }
    Some(labels)
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
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
        assert_eq!(canonical("status"), None);
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

    #[test]
    fn interval_days_becomes_an_interval() {
        for days in [json!(90), json!("90"), json!(90.0)] {
            let item = finish(
                object(json!({"name": "a", "interval_days": days})),
                &Options::default(),
            )
            .unwrap();
            assert_eq!(item["rotation_interval"], "90 days");
            assert!(!item.contains_key("interval_days"));
        }
        for days in [json!(0), json!(-3), json!("ninety"), json!(1.5), json!([1])] {
            assert!(finish(object(json!({"interval_days": days})), &Options::default()).is_err());
        }
        let both = object(json!({"interval_days": 1, "rotation_interval": "1 day"}));
        assert!(
            finish(both, &Options::default())
                .unwrap_err()
                .contains("keep one")
        );
    }

    #[test]
    fn labels_come_as_json_or_pairs() {
        assert_eq!(
            Value::Object(labels("team=pay; tier=1;").unwrap()),
            json!({"team": "pay", "tier": "1"})
        );
        assert_eq!(
            Value::Object(labels("{\"a\": 1}").unwrap()),
            json!({"a": 1})
        );
        assert!(labels("nonsense").is_none());
        assert!(labels("a=1;a=2").is_none());
        assert!(labels("{broken").is_none());
    }

    #[test]
    fn nul_is_refused_without_repeating_it() {
        let item = object(json!({"name": "a", "labels": {"k": ["x\u{0}y"]}}));
        assert_eq!(
            finish(item, &Options::default()).unwrap_err(),
            "labels contains a NUL character"
        );
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let options = Options {
            owner: Some("dana".into()),
            priority: Some("P1".into()),
            ..Options::default()
        };
        let item = finish(
            object(json!({"name": "a", "priority": "P4", "purpose": null})),
            &options,
        )
        .unwrap();
        assert_eq!(
            Value::Object(item),
            json!({"name": "a", "priority": "P4", "owner_id": "dana"})
        );
    }
}
