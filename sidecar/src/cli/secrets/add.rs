//! `rotator secrets add`: `rotator.register_secret` with the arguments that were given; the others keep the defaults
//! they have in the database.

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::{Add, spelling};
use crate::cli::output::{Column, print_one};
use crate::cli::session::{Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;

const COLUMNS: [Column; 1] = [Column::hidden("id")];

pub async fn run(place: &Place, args: Add) -> Result<Exit, Failure> {
    let format = args.output.format;
    let (sql, values) = statement(args)?;
    let mut session = Session::open_in_tenant(place).await?;
    let parameters: Vec<Option<&str>> = values.iter().map(|value| Some(value.as_str())).collect();
    let rows = session.call(&sql, &parameters).await?;
    let id: String = only(&rows, 0)?;
    let row = Item::from_iter([("id".to_owned(), Value::String(id.clone()))]);
    print_one(format, &id, &COLUMNS, &row)?;
    Ok(Exit::Ok)
}

/// The call with named arguments, all bound.
fn statement(args: Add) -> Result<(String, Vec<String>), Failure> {
    let labels = (!args.labels.is_empty())
        .then(|| labels(args.labels))
        .transpose()?;
    let arguments = [
        ("name", "text", Some(args.name)),
        ("provider_type", "text", args.provider),
        ("expiry_date", "timestamptz", args.expires),
        ("rotation_interval", "interval", args.interval),
        ("owner_id", "text", args.owner),
        ("purpose", "text", args.purpose),
        ("provider_ref", "text", args.reference),
        ("environment", "text", args.environment),
        (
            "priority",
            "text",
            args.priority.as_ref().and_then(spelling),
        ),
        ("secondary_owner_id", "text", args.secondary_owner),
        ("team_lead_id", "text", args.team_lead),
        ("labels", "jsonb", labels),
        ("external_id", "text", args.external_id),
    ];
    let mut named = Vec::new();
    let mut values = Vec::new();
    for (name, kind, value) in arguments {
        if let Some(value) = value {
            values.push(value);
            named.push(format!("{name} => ${}::{kind}", values.len()));
        }
    }
    Ok((
        format!("select rotator.register_secret({})::text", named.join(", ")),
        values,
    ))
}

fn labels(pairs: Vec<(String, String)>) -> Result<String, Failure> {
    let mut labels = Item::new();
    for (key, value) in pairs {
        if labels.insert(key, Value::String(value)).is_some() {
            return Err(Failure::new(Exit::Usage, "a label is given twice")
                .hint("Give each --label key once."));
        }
    }
    Ok(Value::Object(labels).to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command, SecretsCommand};

    fn add(line: &[&str]) -> Result<(String, Vec<String>), Failure> {
        let words = ["rotator", "secrets", "add"].iter().chain(line);
        let Command::Secrets(SecretsCommand::Add(args)) =
            Cli::try_parse_from(words).unwrap().command
        else {
            unreachable!()
        };
        statement(*args)
    }

    #[test]
    fn only_what_was_given_is_passed_and_all_of_it_is_bound() {
        let (sql, values) = add(&[
            "O'Hara'); drop --",
            "--interval",
            "90 days",
            "--label",
            "a=1",
            "--priority",
            "p1",
        ])
        .unwrap();
        assert_eq!(
            sql,
            "select rotator.register_secret(name => $1::text, rotation_interval => $2::interval, \
             priority => $3::text, labels => $4::jsonb)::text"
        );
        assert_eq!(
            values,
            ["O'Hara'); drop --", "90 days", "P1", "{\"a\":\"1\"}"]
        );
    }

    #[test]
    fn a_label_has_one_value() {
        assert_eq!(
            add(&[
                "x",
                "--interval",
                "1 day",
                "--label",
                "a=1",
                "--label",
                "a=2"
            ])
            .unwrap_err()
            .exit(),
            Exit::Usage
        );
    }
}
