//! `rotator window …`: the hours in which a tenant's people are told (`rotator.set_delivery_window`,
//! `rotator.delivery_windows`). Each command ends by showing what holds now.

use serde_json::{Value, json};

use super::Place;
use super::args::{Output, SetWindow, WindowCommand};
use super::output::{Column, print_one};
use super::session::{Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

const WINDOW: [Column; 4] = [
    Column::hidden("days"),
    Column::hidden("opens"),
    Column::hidden("closes"),
    Column::hidden("holidays"),
];

const SET: &str = "select rotator.set_delivery_window(hours => $1::jsonb)::text";

const SHOW: &str = "select to_jsonb(w) from rotator.delivery_windows as w";

const ZONE: &str = "select rotator.current_time_zone()";

/// Runs one of the commands.
///
/// # Errors
/// What the database refuses, with a hint.
pub async fn run(place: &Place, command: WindowCommand) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let output = match command {
        WindowCommand::Show(output) => output,
        WindowCommand::Set(args) => {
            session.call(SET, &[Some(&hours(&args))]).await?;
            args.output
        }
        WindowCommand::Clear(output) => {
            session.call(SET, &[None]).await?;
            output
        }
    };
    show(&mut session, output).await
}

fn hours(args: &SetWindow) -> String {
    let days: Vec<&str> = args
        .days
        .iter()
        .flat_map(|run| run.0.iter().copied())
        .collect();
    json!({"days": days, "from": args.from, "to": args.to, "holidays": args.holidays}).to_string()
}

async fn show(session: &mut Session, output: Output) -> Result<Exit, Failure> {
    let row = session.items(SHOW, &[]).await?.pop();
    let zone: String = only(&session.call(ZONE, &[]).await?, 0)?;
    let text = row.as_ref().map_or_else(
        || "people are told at any time".to_owned(),
        |row| told(row, &zone),
    );
    print_one(output.format, &text, &WINDOW, &row.unwrap_or_default())?;
    Ok(Exit::Ok)
}

fn told(row: &Item, zone: &str) -> String {
    let list = |key: &str| -> Vec<&str> {
        row.get(key)
            .and_then(Value::as_array)
            .map(|listed| listed.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    };
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
    let holidays = match list("holidays")[..] {
        [] => String::new(),
        ref days => format!(", not on {}", days.join(" ")),
    };
    let line = format!(
        "{} {} to {} {zone}{holidays}",
        list("days").join(" "),
        text("opens"),
        text("closes"),
    );
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_told_in_a_line() {
        let told = |value: Value| told(value.as_object().unwrap(), "Europe/Berlin");
        let mut window =
            json!({"days": ["mon", "fri"], "opens": "09:00", "closes": "24:00", "holidays": []});
        assert_eq!(told(window.clone()), "mon fri 09:00 to 24:00 Europe/Berlin");
        window["holidays"] = json!(["2026-12-25", "2027-01-01"]);
        assert_eq!(
            told(window),
            "mon fri 09:00 to 24:00 Europe/Berlin, not on 2026-12-25 2027-01-01"
        );
    }
}
