//! The model's calendar: wall time in a tenant's zone, rotation intervals, and the hours in which its people are told. Written
//! from the documents, with a time zone library of its own.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp};

pub type Instant = Timestamp;

#[derive(Clone)]
pub struct Zone(TimeZone);

impl Zone {
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self(TimeZone::get(name)?))
    }

    /// A wall time that doesn't exist moves forward by the gap; one that exists twice is the later.
    fn instant(&self, wall: DateTime) -> Result<Instant> {
        let ambiguous = self.0.to_ambiguous_timestamp(wall);
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Fold { .. } => ambiguous.later()?,
            _ => ambiguous.compatible()?,
        })
    }

    /// By the calendar: month ends clamp.
    pub fn add(&self, at: Instant, span: Span) -> Result<Instant> {
        self.instant(self.0.to_datetime(at).checked_add(span)?)
    }

    fn date(&self, at: Instant) -> Date {
        self.0.to_datetime(at).date()
    }
}

/// How often a secret rotates.
#[derive(Clone, Copy, Debug)]
pub enum Interval {
    Days(i32),
    Months(i32),
}

impl Interval {
    pub fn span(self) -> Span {
        match self {
            Self::Days(days) => Span::new().days(days),
            Self::Months(months) => Span::new().months(months),
        }
    }

    pub fn text(self) -> String {
        match self {
            Self::Days(days) => format!("{days} days"),
            Self::Months(months) => format!("{months} months"),
        }
    }

    /// A month counts as thirty days when lengths are compared or divided.
    fn days(self) -> i32 {
        match self {
            Self::Days(days) => days,
            Self::Months(months) => 30 * months,
        }
    }

    /// A third of it, in days and hours, or in months where they divide.
    fn third(self) -> Span {
        match self {
            Self::Months(months) if months % 3 == 0 => Span::new().months(months / 3),
            _ => Span::new().days(self.days() / 3).hours(self.days() % 3 * 8),
        }
    }
}

/// When a lead time begins. One no shorter than the interval is capped to a third of it.
pub fn lead_instant(
    zone: &Zone,
    expiry: Instant,
    lead: i32,
    interval: Option<Interval>,
) -> Result<Instant> {
    match interval {
        Some(interval) if lead > 0 && lead >= interval.days() => {
            zone.add(expiry, interval.third().negate())
        }
        _ => zone.add(expiry, Span::new().days(-lead)),
    }
}

/// Hours of the tenant's working days.
#[derive(Clone, Debug)]
pub struct Window {
    pub days: Vec<Weekday>,
    /// Minutes of the day.
    pub from: i64,
    pub to: i64,
    pub holidays: BTreeSet<Date>,
}

impl Window {
    /// As `set_delivery_window` takes it.
    pub fn json(&self) -> serde_json::Value {
        let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let days: Vec<&str> = self.days.iter().map(|day| short(*day)).collect();
        let holidays: Vec<String> = self.holidays.iter().map(Date::to_string).collect();
        serde_json::json!({"days": days, "from": clock(self.from), "to": clock(self.to), "holidays": holidays})
    }

    fn hours_of(&self, zone: &Zone, date: Date) -> Result<Option<(Instant, Instant)>> {
        if !self.days.contains(&date.weekday()) || self.holidays.contains(&date) {
            return Ok(None);
        }
        let midnight = date.to_datetime(jiff::civil::Time::midnight());
        let at = |minutes: i64| zone.instant(midnight.checked_add(Span::new().minutes(minutes))?);
        Ok(Some((at(self.from)?, at(self.to)?)))
    }

    /// This instant if it is open, else the next opening.
    pub fn opening(&self, zone: &Zone, at: Instant) -> Result<Instant> {
        self.worked(zone, at, SignedDuration::ZERO)
    }

    /// When so much time inside the hours has passed since the start.
    pub fn worked(&self, zone: &Zone, start: Instant, wait: SignedDuration) -> Result<Instant> {
        let mut left = wait;
        let mut date = zone.date(start);
        for _ in 0..800 {
            if let Some((from, to)) = self.hours_of(zone, date)? {
                let begin = from.max(start);
                let room = to.duration_since(begin);
                // The end is not inside.
                if room > left || (room == left && !left.is_zero() && !room.is_zero()) {
                    return Ok(begin.checked_add(left)?);
                }
                if room.is_positive() {
                    left -= room;
                }
            }
            date = date.tomorrow()?;
        }
        None.context("a window that opens")
    }
}

fn short(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().expect("an instant")
    }

    #[test]
    fn a_day_is_a_day_of_the_wall() -> Result<()> {
        let berlin = Zone::named("Europe/Berlin")?;
        let expiry = at("2027-03-28T10:00:00Z");
        assert_eq!(
            lead_instant(&berlin, expiry, 1, None)?,
            at("2027-03-27T11:00:00Z")
        );
        assert_eq!(
            lead_instant(&berlin, expiry, 14, Some(Interval::Days(7)))?,
            at("2027-03-26T03:00:00Z"),
            "two days and eight hours of the wall"
        );
        Ok(())
    }

    #[test]
    fn time_outside_the_hours_does_not_count() -> Result<()> {
        let berlin = Zone::named("Europe/Berlin")?;
        let window = Window {
            days: vec![Weekday::Monday, Weekday::Friday],
            from: 9 * 60,
            to: 17 * 60,
            holidays: BTreeSet::new(),
        };
        // Friday 2027-01-08, 16:00 in Berlin; then Monday from 9:00.
        let start = at("2027-01-08T15:00:00Z");
        assert_eq!(window.opening(&berlin, start)?, start);
        assert_eq!(
            window.worked(&berlin, start, SignedDuration::from_hours(4))?,
            at("2027-01-11T11:00:00Z")
        );
        assert_eq!(
            window.opening(&berlin, at("2027-01-08T16:00:00Z"))?,
            at("2027-01-11T08:00:00Z"),
            "its end is outside"
        );
        Ok(())
    }
}
