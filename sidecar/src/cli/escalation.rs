//! `rotator escalation …`: the ladders of a tenant (`rotator.escalation_policies`), set from steps in JSON, chosen for
//! single secrets, removed. What a step may say is checked in the database, which names the step; here only whether the
//! file is JSON at all.

use std::path::Path;

use serde_json::Value;

use super::Place;
use super::args::{
    EscalationCommand, Format, Output, RemoveEscalation, SetEscalation, UseEscalation, spelling,
};
use super::output::{Column, Show, print_one, print_rows};
use super::secrets::find;
use super::session::{Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

/// No ladder is as large.
const MOST_BYTES: u64 = 1024 * 1024;

const LADDERS: [Column; 7] = [
    Column::hidden("id"),
    Column::hidden("name"),
    Column::hidden("revision"),
    Column::hidden("priorities"),
    Column::hidden("steps"),
    Column::hidden("secrets"),
    Column::hidden("created_at"),
];

/// For people; the steps are in words.
const TABLE: [Column; 5] = [
    Column::new("name", "name", Show::Text),
    Column::new("for", "priorities", Show::Text),
    Column::new("revision", "revision", Show::Number),
    Column::new("secrets", "secrets", Show::Number),
    Column::new("told", "", Show::Below),
];

const CHOSEN: [Column; 2] = [Column::hidden("id"), Column::hidden("ladder")];
const REMOVED: [Column; 2] = [Column::hidden("name"), Column::hidden("removed")];

const LIST: &str = "select to_jsonb(p) from rotator.escalation_policies as p order by p.name";

const SET: &str = "select rotator.set_escalation_policy(
    name => $1, steps => $2::jsonb, priorities => string_to_array($3, ','))::text";

const LOOK: &str = "select to_jsonb(p) from rotator.escalation_policies as p where p.id = $1::uuid";

const USE: &str = "select rotator.use_escalation_policy(secret_id => $1::uuid, name => $2)::text";

const REMOVE: &str = "select rotator.remove_escalation_policy(name => $1)::text";

const BUILT_IN: &str =
    "no ladder is set: 4 hours after the last reminder the secondary owner is told, 8 hours after
it the team lead, and of a P1 a day after its expiry the manager, and PagerDuty";

/// Runs one of the commands.
///
/// # Errors
/// What the database refuses, with a hint.
pub async fn run(place: &Place, command: EscalationCommand) -> Result<Exit, Failure> {
    match command {
        EscalationCommand::List(output) => list(place, output).await,
        EscalationCommand::Set(args) => set(place, args).await,
        EscalationCommand::Use(args) => choose(place, args).await,
        EscalationCommand::Remove(args) => remove(place, args).await,
    }
}

async fn list(place: &Place, output: Output) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let mut rows = session.items(LIST, &[]).await?;
    if output.format == Format::Table {
        rows.iter_mut().for_each(in_words);
        print_rows(output.format, &TABLE, &rows, BUILT_IN)?;
    } else {
        print_rows(output.format, &LADDERS, &rows, "")?;
    }
    Ok(Exit::Ok)
}

async fn set(place: &Place, args: SetEscalation) -> Result<Exit, Failure> {
    let steps = read_steps(&args.steps)?;
    let priorities: Vec<String> = args.priority.iter().filter_map(spelling).collect();
    let priorities = (!priorities.is_empty()).then(|| priorities.join(","));
    let mut session = Session::open_in_tenant(place).await?;
    let parameters = [
        Some(args.name.as_str()),
        Some(steps.as_str()),
        priorities.as_deref(),
    ];
    let made = session.call(SET, &parameters).await?;
    let id: String = only(&made, 0)?;
    // Nothing, if somebody has set it again meanwhile.
    let rows = session.items(LOOK, &[Some(&id)]).await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let revision = row
        .get("revision")
        .map_or_else(String::new, |revision| format!(", revision {revision}"));
    let whose = match priorities {
        Some(priorities) => format!("for {priorities}"),
        None => "for secrets that use it".to_owned(),
    };
    let text = format!("set: {}{revision}, {whose}", printable(&args.name));
    print_one(args.output.format, &text, &LADDERS, &row)?;
    Ok(Exit::Ok)
}

async fn choose(place: &Place, args: UseEscalation) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let secret = find(&mut session, &args.secret).await?;
    let parameters = [Some(secret.id.as_str()), args.ladder.as_deref()];
    session.call(USE, &parameters).await?;
    let ladder = match &args.ladder {
        Some(ladder) => printable(ladder),
        None => "the ladder of its priority".to_owned(),
    };
    let text = format!("{} uses {ladder}", printable(&secret.name));
    let row = Item::from_iter([
        ("id".to_owned(), Value::String(secret.id)),
        ("ladder".to_owned(), Value::from(args.ladder)),
    ]);
    print_one(args.output.format, &text, &CHOSEN, &row)?;
    Ok(Exit::Ok)
}

async fn remove(place: &Place, args: RemoveEscalation) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    session.call(REMOVE, &[Some(&args.name)]).await?;
    let text = format!("removed: {}", printable(&args.name));
    let row = Item::from_iter([
        ("name".to_owned(), Value::String(args.name)),
        ("removed".to_owned(), Value::Bool(true)),
    ]);
    print_one(args.output.format, &text, &REMOVED, &row)?;
    Ok(Exit::Ok)
}

/// The file's text, which is JSON.
fn read_steps(path: &Path) -> Result<String, Failure> {
    use std::io::Read;

    let shown = match path.as_os_str().to_str() {
        Some("-") => "standard input".to_owned(),
        _ => path.display().to_string(),
    };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(MOST_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| {
        Failure::new(Exit::Failed, format!("can't read {shown}: {error}"))
            .hint("Name a file with a JSON array of steps, or - for standard input.")
    })?;
    serde_json::from_str::<Value>(&text).map_err(|error| {
        Failure::new(Exit::Failed, format!("{shown} is no JSON: {error}")).hint(
            "Steps are written like [{\"after\": \"4 hours\", \"target\": \"secondary_owner\"}]; see --help.",
        )
    })?;
    Ok(text)
}

/// Adds to a row of the view what a table says of it.
fn in_words(row: &mut Item) {
    let priorities: Vec<&str> = row
        .get("priorities")
        .and_then(Value::as_array)
        .map(|listed| listed.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let priorities = Value::from(priorities.join(" "));
    let steps = row.get("steps").and_then(Value::as_array);
    let told: Vec<Value> = steps
        .map(|steps| {
            steps
                .iter()
                .map(|step| Value::from(step_in_words(step)))
                .collect()
        })
        .unwrap_or_default();
    row.insert("for".to_owned(), priorities);
    row.insert("told".to_owned(), Value::from(told));
}

fn step_in_words(step: &Value) -> String {
    let text = |key: &str| step.get(key).and_then(Value::as_str);
    let anchor = match text("from") {
        Some("expiry") => "after the expiry",
        _ => "after the last reminder",
    };
    let who = text("target")
        .or_else(|| text("recipient_hint"))
        .map_or_else(String::new, |who| who.replace('_', " "));
    let channel = text("channel").map_or_else(String::new, |channel| format!(" by {channel}"));
    let again = match (text("repeat_every"), step.get("repeats")) {
        (Some(every), Some(times)) => format!(", again every {}, {times} times", span(every)),
        _ => String::new(),
    };
    let after = span(text("after").unwrap_or_default());
    format!("{after} {anchor}: {who}{channel}{again}")
}

/// An interval as people say it: `1 day 02:00:00` is `1 day 2 hours`.
fn span(interval: &str) -> String {
    let mut said = Vec::new();
    for word in interval.split(' ') {
        let clock: Vec<u64> = word
            .split(':')
            .filter_map(|part| part.parse().ok())
            .collect();
        let [hours, minutes, seconds] = clock[..] else {
            said.push(word.to_owned());
            continue;
        };
        for (count, unit) in [(hours, "hour"), (minutes, "minute"), (seconds, "second")] {
            match count {
                0 => {}
                1 => said.push(format!("1 {unit}")),
                _ => said.push(format!("{count} {unit}s")),
            }
        }
    }
    if said.is_empty() {
        "at once".to_owned()
    } else {
        said.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_told_in_words() {
        for (step, told) in [
            (
                json!({"after": "02:00:00", "from": "reminder", "target": "secondary_owner"}),
                "2 hours after the last reminder: secondary owner",
            ),
            (
                json!({"after": "1 day 01:30:00", "from": "expiry", "channel": "email", "recipient_hint": "…@acme.com",
                       "repeat_every": "00:10:00", "repeats": 3}),
                "1 day 1 hour 30 minutes after the expiry: …@acme.com by email, again every 10 minutes, 3 times",
            ),
            (
                json!({"after": "00:00:00", "from": "reminder", "target": "owner"}),
                "at once after the last reminder: owner",
            ),
        ] {
            assert_eq!(step_in_words(&step), told);
        }
    }
}
