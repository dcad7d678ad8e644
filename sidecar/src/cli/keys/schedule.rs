//! `rotator keys schedule`: how often a tenant's key is replaced by itself (`rotator.set_key_schedule`), and when next
//! (`rotator.key_schedules`).

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::Schedule;
use crate::cli::output::{Column, print_one};
use crate::cli::session::Session;
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

const SCHEDULE: [Column; 5] = [
    Column::hidden("tenant_id"),
    Column::hidden("every"),
    Column::hidden("next_at"),
    Column::hidden("reason"),
    Column::hidden("last_error"),
];

const SET: &str = "select rotator.set_key_schedule(every => $1::interval)::text";

const SHOW: &str = "select to_jsonb(s) from rotator.key_schedules as s";

pub async fn run(place: &Place, args: Schedule) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    if args.off || args.every.is_some() {
        session.call(SET, &[args.every.as_deref()]).await?;
    }
    let row = session.items(SHOW, &[]).await?.pop().unwrap_or_default();
    print_one(args.output.format, &told(&row), &SCHEDULE, &row)?;
    Ok(Exit::Ok)
}

fn told(row: &Item) -> String {
    let text = |key: &str| row.get(key).and_then(Value::as_str).map(printable);
    let day = |at: String| at.get(..10).map_or(at.clone(), str::to_owned);
    let every = text("every").map_or_else(|| "never".to_owned(), |every| format!("every {every}"));
    let next = text("next_at").map_or_else(String::new, |at| format!(", next {}", day(at)));
    let why = text("reason").map_or_else(String::new, |reason| format!(" because of {reason}"));
    let error =
        text("last_error").map_or_else(String::new, |error| format!("\nnot begun: {error}"));
    format!("{every}{next}{why}{error}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_is_told_in_a_line() {
        let told = |value: Value| told(value.as_object().unwrap());
        assert_eq!(told(json!({"every": null, "next_at": null})), "never");
        assert_eq!(
            told(json!({"every": "90 days", "next_at": "2027-02-20T10:00:00+00:00"})),
            "every 90 days, next 2027-02-20"
        );
        assert_eq!(
            told(
                json!({"every": null, "next_at": "2027-02-20T10:00:00+00:00", "reason": "uses", "last_error": "no key"})
            ),
            "never, next 2027-02-20 because of uses\nnot begun: no key"
        );
    }
}
