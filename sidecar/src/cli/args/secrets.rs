//! The arguments of `rotator secrets …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, date};
use crate::cli::help;
use crate::import::Encoding;

#[derive(Subcommand)]
pub enum SecretsCommand {
    /// List secrets, soonest expiry first
    #[command(after_help = help::LIST)]
    List(List),
    /// Register one secret's metadata; prints its id
    #[command(after_help = help::ADD)]
    Add(Box<Add>),
    /// Register or update many, from CSV, JSON or certificates
    #[command(after_help = help::IMPORT)]
    Import(Import),
    /// Record that a credential was rotated; prints the next expiry
    #[command(after_help = help::ROTATED)]
    Rotated(Rotated),
    /// Acknowledge the open alert of a secret: somebody is on it
    #[command(after_help = help::ACK)]
    Ack(Ack),
    /// Send nothing about a secret until a time, for a reason
    #[command(after_help = help::SNOOZE)]
    Snooze(Snooze),
    /// Show what will be sent about a secret if nobody acts
    #[command(after_help = help::PREVIEW)]
    Preview(Preview),
    /// Show what was sent about a secret, what wasn't, and why
    #[command(after_help = help::EXPLAIN)]
    Explain(Explain),
    /// Hand over all secrets of one person to another; prints how many
    #[command(after_help = help::REASSIGN)]
    Reassign(Reassign),
    /// List secrets about which nobody would be told, or only a stand-in
    #[command(after_help = help::COVERAGE)]
    Coverage(Output),
}

#[derive(Args)]
pub struct List {
    /// Only secrets of this owner
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    /// Only this provider type, like stripe or x509
    #[arg(long, value_name = "TYPE")]
    pub provider: Option<String>,
    /// Only what expires within this many days, or is overdue
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i32).range(0..=36_500))]
    pub expires_within_days: Option<i32>,
    /// Only secrets in this state
    #[arg(long, value_enum)]
    pub status: Option<Status>,
    /// Only names that contain this text
    #[arg(long, value_name = "TEXT")]
    pub query: Option<String>,
    /// At most this many [default: 100 in a table, all in csv and json]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Status {
    Healthy,
    #[value(alias = "expiring-soon")]
    ExpiringSoon,
    Overdue,
    Retired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Priority {
    P1,
    P2,
    P3,
    P4,
}

#[derive(Args)]
pub struct Add {
    /// What people call it; unique within the tenant. Never the secret value
    pub name: String,
    /// Kind of credential: stripe, aws_sm, vault, x509, … [default: manual]
    #[arg(long, value_name = "TYPE")]
    pub provider: Option<String>,
    /// When it expires; without it: now plus the interval
    #[arg(long, value_name = "DATE", value_parser = date, required_unless_present = "interval")]
    pub expires: Option<String>,
    /// How often it must be rotated, like '90 days' or '1 year'
    #[arg(long, value_name = "INTERVAL")]
    pub interval: Option<String>,
    /// Who rotates it [default: you]
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    /// Who is asked when the owner doesn't answer
    #[arg(long, value_name = "OWNER")]
    pub secondary_owner: Option<String>,
    /// Who is asked after that
    #[arg(long, value_name = "OWNER")]
    pub team_lead: Option<String>,
    /// What breaks when it expires
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<String>,
    /// Where the provider keeps it: an ARN, a path, a key id
    #[arg(long = "ref", value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Environment, like production
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// P1 is the most urgent [default: P3]
    #[arg(long, value_enum, ignore_case = true)]
    pub priority: Option<Priority>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Its id in your inventory, by which an import finds it again
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Import {
    /// CSV with a header row, a JSON array, or one JSON object a line; `-` reads standard input
    #[arg(value_name = "FILE", group = "source")]
    pub file: Option<PathBuf>,
    /// Certificates in PEM instead, each becoming a secret of provider x509; `-` reads standard input
    #[arg(long, value_name = "FILE", group = "source")]
    pub certs: Option<PathBuf>,
    /// Check every row and report, but store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Owner of rows that name none [default: you]
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    /// Environment of rows that name none
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// Priority of rows that name none [default: P3]
    #[arg(long, value_enum, ignore_case = true)]
    pub priority: Option<Priority>,
    /// Leave out columns and keys that are not fields of a secret
    #[arg(long)]
    pub ignore_unknown: bool,
    /// Encoding of a file without byte-order mark [default: utf-8]
    #[arg(long, value_enum)]
    pub encoding: Option<Encoding>,
    /// Also write what became of each row to this file, .csv or .json
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Rotated {
    /// The secret, by id or name
    #[arg(value_name = "ID|NAME")]
    pub secret: String,
    /// When it was rotated [default: now]
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub at: Option<String>,
    /// When it expires next [default: by its interval]
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub next_expiry: Option<String>,
    /// Where the proof is: a ticket, a change request
    #[arg(long, value_name = "URL")]
    pub evidence_url: Option<String>,
    /// A remark for the audit log
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Ack {
    /// The secret, by id or name
    #[arg(value_name = "ID|NAME")]
    pub secret: String,
    /// A remark for the audit log
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// How long the acknowledgement holds
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub until: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Snooze {
    /// The secret, by id or name
    #[arg(value_name = "ID|NAME")]
    pub secret: String,
    /// When messages go on; not past the expiry, but for an admin
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub until: String,
    /// Why it can wait, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Preview {
    /// The secret, by id or name
    #[arg(value_name = "ID|NAME")]
    pub secret: String,
    /// How far to look [default: to the end]
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub until: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Explain {
    /// The secret, by id or name
    #[arg(value_name = "ID|NAME")]
    pub secret: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Reassign {
    /// Who hands over: owner, secondary owner or team lead so far
    #[arg(value_name = "FROM")]
    pub from: String,
    /// Who takes over
    #[arg(value_name = "TO")]
    pub to: String,
    #[command(flatten)]
    pub output: Output,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write it like team=payments"),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;
    use crate::cli::args::{Cli, spelling};

    fn refused(line: &str) -> ErrorKind {
        Cli::try_parse_from(line.split(' ')).err().unwrap().kind()
    }

    #[test]
    fn mistakes_are_found_before_connecting() {
        assert_eq!(
            refused("rotator secrets add x"),
            ErrorKind::MissingRequiredArgument
        );
        assert_eq!(
            refused("rotator secrets add x --expires 31.12.2026"),
            ErrorKind::ValueValidation
        );
        assert_eq!(
            refused("rotator secrets add x --interval 1day --label team"),
            ErrorKind::ValueValidation
        );
        assert_eq!(
            refused("rotator secrets import"),
            ErrorKind::MissingRequiredArgument
        );
        assert_eq!(
            refused("rotator secrets import a.csv --certs b.pem"),
            ErrorKind::ArgumentConflict
        );
        assert_eq!(
            refused("rotator secrets list --status lost"),
            ErrorKind::InvalidValue
        );
        assert_eq!(
            refused("rotator secrets snooze x --until 2026-12-01"),
            ErrorKind::MissingRequiredArgument
        );
        assert_eq!(
            refused("rotator secrets snooze x --until tomorrow --reason y"),
            ErrorKind::ValueValidation
        );
        assert_eq!(
            refused("rotator secrets reassign dana"),
            ErrorKind::MissingRequiredArgument
        );
    }

    #[test]
    fn choices_are_spelled_as_the_database_spells_them() {
        assert_eq!(
            spelling(&Status::ExpiringSoon).as_deref(),
            Some("expiring_soon")
        );
        assert_eq!(spelling(&Priority::P1).as_deref(), Some("P1"));
    }
}
