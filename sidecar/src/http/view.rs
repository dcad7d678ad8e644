//! What the page behind a link is about, as the database says it: who owns what, until when, what became of it, and the
//! days until which it may wait. How it looks: `page.rs` and its template.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;
use serde_json::Value;

use crate::db::DbError;
use crate::delivery::{one_line, shorten};

/// Longest text of others on a page; a purpose may have 10,000 characters, and the page is for a phone.
const TEXT_LIMIT: usize = 1000;
/// By when people work, on the day that a snooze ends.
const SNOOZE_HOUR: i8 = 8;
/// For how long, unless somebody chooses.
const SNOOZE_DAYS: i64 = 3;

/// What `redeem_link(…, 'show')` answers.
#[derive(Debug, Deserialize)]
pub struct View {
    state: String,
    pub tenant: Tenant,
    pub secret: Secret,
    #[serde(default)]
    expiry_date: Option<String>,
    #[serde(default)]
    expiry_local: Option<String>,
    #[serde(default)]
    pub days_until_expiry: i64,
    #[serde(default)]
    pub overdue: bool,
    #[serde(default)]
    pub needs_next_expiry_date: bool,
    #[serde(default)]
    pub acknowledged: Option<Deed>,
    #[serde(default)]
    pub snoozed: Option<Snoozed>,
}

/// Nobody is told for a while.
#[derive(Debug, Deserialize)]
pub struct Snoozed {
    pub until: String,
    #[serde(default)]
    pub by: Option<String>,
}

/// The days on which a snooze may end: all of them before the one of the expiry.
#[derive(Debug, PartialEq, Eq)]
pub struct SnoozeDays {
    pub first: Date,
    pub last: Date,
    pub preset: Date,
}

#[derive(Debug, Deserialize)]
pub struct Tenant {
    pub name: String,
    pub time_zone: String,
}

#[derive(Debug, Deserialize)]
pub struct Secret {
    pub name: String,
    #[serde(default)]
    pub provider_type: Option<String>,
    #[serde(default)]
    pub environment: Option<String>,
    #[serde(default)]
    pub priority: Option<String>,
    #[serde(default)]
    pub owner_id: Option<String>,
    #[serde(default)]
    pub purpose: Option<String>,
}

/// Who did something, and when.
#[derive(Debug, Deserialize)]
pub struct Deed {
    #[serde(default)]
    pub by: Option<String>,
    #[serde(default)]
    pub at: Option<String>,
}

impl View {
    /// What `redeem_link` answered, its texts one line each and without what can't be seen.
    ///
    /// # Errors
    /// It is not of the agreed form.
    pub fn read(shown: Value) -> Result<Self, serde_json::Error> {
        let mut view = Self::deserialize(shown)?;
        let secret = &mut view.secret;
        clean(&mut secret.name);
        clean(&mut view.tenant.name);
        let optional = [
            &mut secret.provider_type,
            &mut secret.environment,
            &mut secret.priority,
            &mut secret.owner_id,
            &mut secret.purpose,
        ];
        optional.into_iter().flatten().for_each(clean);
        Ok(view)
    }

    /// When a snooze ends that was asked for until this day, or until the usual one; none for what is no day.
    pub fn snooze_end(&self, typed: Option<&str>) -> Option<String> {
        let (zone, today, _) = self.days()?;
        let day = match typed {
            Some(typed) => typed.parse().ok()?,
            None => {
                let days = (self.days_until_expiry - 1).clamp(1, SNOOZE_DAYS);
                today.checked_add(days.days()).ok()?
            }
        };
        let end = day.at(SNOOZE_HOUR, 0, 0, 0).to_zoned(zone).ok()?;
        Some(end.timestamp().to_string())
    }

    /// Offered while it is open, and where there is a day before the one of the expiry.
    pub fn snooze_days(&self) -> Option<SnoozeDays> {
        let (_, today, expiry) = self
            .days()
            .filter(|_| self.state == "open" && !self.overdue)?;
        let first = today.tomorrow().ok()?;
        let last = expiry.yesterday().ok()?;
        let preset = today.checked_add(SNOOZE_DAYS.days()).ok()?.min(last);
        (first <= last).then_some(SnoozeDays {
            first,
            last,
            preset,
        })
    }

    /// The tenant's zone, today, and the day it expires; by the clock of the database.
    fn days(&self) -> Option<(TimeZone, Date, Date)> {
        let (zone, _) = zone_named(&self.tenant.time_zone);
        let expiry = self.expiry_date.as_deref()?.parse::<Timestamp>().ok()?;
        let expiry = expiry.to_zoned(zone.clone()).date();
        let left = self.days_until_expiry.clamp(-100_000, 100_000);
        let today = expiry.checked_sub(left.days()).ok()?;
        Some((zone, today, expiry))
    }

    pub fn headline(&self) -> String {
        let (verb, distance) = match self.days_until_expiry {
            2.. => ("Expires", format!("in {} days", self.days_until_expiry)),
            1 => ("Expires", "tomorrow".to_owned()),
            0 if self.overdue => ("Expired", "today".to_owned()),
            0 => ("Expires", "today".to_owned()),
            -1 => ("Expired", "yesterday".to_owned()),
            days => ("Expired", format!("{} days ago", days.unsigned_abs())),
        };
        match &self.expiry_local {
            Some(local) => format!("{verb} {distance}: {local}"),
            None => format!("{verb} {distance}"),
        }
    }

    pub fn is_acknowledged(&self) -> bool {
        self.state == "acknowledged"
    }
}

impl SnoozeDays {
    /// What was typed before, if it may be; a browser sends no form with a day that may not.
    pub fn kept(&self, typed: &Option<&str>) -> Date {
        typed
            .and_then(|typed| typed.parse().ok())
            .filter(|day| (self.first..=self.last).contains(day))
            .unwrap_or(self.preset)
    }
}

impl Snoozed {
    pub fn sentence(&self) -> String {
        match &self.by {
            Some(by) => format!("until {}, by {}", self.until, cleaned(by)),
            None => format!("until {}", self.until),
        }
    }
}

fn clean(text: &mut String) {
    *text = cleaned(text);
}

fn cleaned(text: &str) -> String {
    shorten(&one_line(text), TEXT_LIMIT)
}

impl Deed {
    /// `by alice, Sun 22 Nov 2026, 11:00 (Europe/Berlin)`
    pub fn sentence(&self, time_zone: &str) -> String {
        let by = self.by.as_deref().map(|by| format!("by {}", cleaned(by)));
        let at = self.at.as_deref().map(|at| local(at, time_zone));
        [by, at]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// What the database says, for who doesn't know what its parameters are called.
pub fn for_people(error: &DbError) -> String {
    error
        .to_string()
        .replace("next_expiry_date", "the new expiry date")
        .replace("rotated_at", "the rotation")
}

/// An instant as people of that zone write it; as it came if it can't be read.
pub fn local(instant: &str, time_zone: &str) -> String {
    let Ok(instant_read) = instant.parse::<Timestamp>() else {
        return instant.to_owned();
    };
    let (zone, name) = zone_named(time_zone);
    format!(
        "{} ({name})",
        instant_read.to_zoned(zone).strftime("%a %-d %b %Y, %H:%M")
    )
}

fn zone_named(name: &str) -> (TimeZone, &str) {
    TimeZone::get(name).map_or((TimeZone::UTC, "UTC"), |zone| (zone, name))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub fn show(state: &str) -> Value {
        json!({
            "state": state,
            "tenant": {"slug": "acme", "name": "Acme", "time_zone": "Europe/Berlin"},
            "secret": {"name": "<b>key</b>", "provider_type": "stripe", "environment": null, "priority": "P2",
                       "owner_id": "alice", "purpose": null},
            "expiry_date": "2026-12-06T08:00:00Z", "expiry_local": "Sun 6 Dec 2026, 09:00 (Europe/Berlin)",
            "days_until_expiry": 14, "cycle": 1, "needs_next_expiry_date": true,
            "acknowledged": null
        })
    }

    #[test]
    fn snoozing_is_offered_while_there_is_a_day_before_it_expires() {
        let of = |days: i64, overdue: bool, state: &str| {
            let mut value = show(state);
            value["days_until_expiry"] = json!(days);
            value["overdue"] = json!(overdue);
            View::read(value).unwrap()
        };
        let view = of(14, false, "open");
        let days = view.snooze_days().unwrap();
        let text = [days.first, days.last, days.preset].map(|day| day.to_string());
        assert_eq!(text, ["2026-11-23", "2026-12-05", "2026-11-25"]);
        // At eight in the morning, where the tenant is.
        assert_eq!(
            view.snooze_end(None).as_deref(),
            Some("2026-11-25T07:00:00Z")
        );
        assert_eq!(
            view.snooze_end(Some("2026-12-01")).as_deref(),
            Some("2026-12-01T07:00:00Z")
        );
        assert_eq!(view.snooze_end(Some("soon")), None);
        let near = of(2, false, "open");
        assert_eq!(near.snooze_days().unwrap().preset.to_string(), "2026-12-05");
        assert_eq!(
            near.snooze_end(None).as_deref(),
            Some("2026-12-05T07:00:00Z")
        );
        let days = near.snooze_days().unwrap();
        for (typed, kept) in [
            (Some("2026-12-05"), "2026-12-05"),
            (Some("2031-01-01"), "2026-12-05"),
            (Some("x"), "2026-12-05"),
        ] {
            assert_eq!(days.kept(&typed).to_string(), kept);
        }
        for view in [
            of(1, false, "open"),
            of(0, false, "open"),
            of(-9, true, "open"),
            of(14, false, "acknowledged"),
        ] {
            assert_eq!(view.snooze_days(), None);
            assert!(
                view.snooze_end(None).is_some(),
                "what the database says to it is for the database"
            );
        }
    }
}
