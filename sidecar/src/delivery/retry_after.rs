//! `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3), held between a second and an hour whatever a vendor says.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait. `date` is the answer's own Date header: the difference of two of the vendor's times doesn't
/// depend on our clock. Nonsense gives none, so that the usual backoff counts.
pub fn parse(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        if seconds.is_nan() {
            return None;
        }
        // `as` saturates: minus infinity is 0, infinity is the largest number.
        return Some(Duration::from_secs(seconds.ceil() as u64).clamp(SHORTEST, LONGEST));
    }
    let until = instant(value)?;
    let now = date.and_then(instant).unwrap_or_else(Timestamp::now);
    let seconds = until.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).clamp(SHORTEST, LONGEST))
}

fn instant(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(text.trim())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_nonsense() {
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let cases = [
            ("30", Some(30)),
            (" 2 ", Some(2)),
            ("0", Some(1)),
            ("-5", Some(1)),
            ("1.2", Some(2)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("inf", Some(3600)),
            ("NaN", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("Sun, 06 Nov 2094 08:00:00 GMT", Some(3600)),
        ];
        for (value, seconds) in cases {
            assert_eq!(
                parse(value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
