//! The arguments of what a tenant sets about its alerts: `rotator escalation`, `rotator window`, `rotator identities`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, Priority};
use crate::cli::help;
use crate::import::is_date;

#[derive(Subcommand)]
pub enum EscalationCommand {
    /// List the ladders that alerts begin with
    #[command(after_help = help::ESCALATION_LIST)]
    List(Output),
    /// Make a ladder, or its next revision, of steps in JSON
    #[command(after_help = help::ESCALATION_SET)]
    Set(SetEscalation),
    /// Choose the ladder of one secret
    #[command(after_help = help::ESCALATION_USE)]
    Use(UseEscalation),
    /// Remove a ladder; alerts that are open keep it
    #[command(after_help = help::ESCALATION_REMOVE)]
    Remove(RemoveEscalation),
}

#[derive(Args)]
pub struct SetEscalation {
    /// What people call it, like payments
    pub name: String,
    /// A JSON array of 1 to 50 steps; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub steps: PathBuf,
    /// Priorities that it is for from now on, like p1,p2 [default: only for secrets that use it]
    #[arg(
        long,
        value_name = "PRIORITIES",
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub priority: Vec<Priority>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
#[command(
    group = clap::ArgGroup::new("choice").required(true),
    override_usage = "rotator escalation use [OPTIONS] <ID|NAME> <LADDER|--default>"
)]
pub struct UseEscalation {
    /// The secret, by id or name
    #[arg(value_name = "ID|NAME")]
    pub secret: String,
    /// The ladder
    #[arg(value_name = "LADDER", group = "choice")]
    pub ladder: Option<String>,
    /// That of its priority again
    #[arg(long, group = "choice")]
    pub default: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct RemoveEscalation {
    /// The ladder
    pub name: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Subcommand)]
pub enum WindowCommand {
    /// Show the hours in which people are told
    #[command(after_help = help::WINDOW_SHOW)]
    Show(Output),
    /// Set weekdays, hours and holidays, in the tenant's time zone
    #[command(after_help = help::WINDOW_SET)]
    Set(SetWindow),
    /// Tell people at any time
    #[command(after_help = help::WINDOW_CLEAR)]
    Clear(Output),
}

#[derive(Args)]
pub struct SetWindow {
    /// Weekdays, like mon-fri or mon,wed,sat
    #[arg(long, value_name = "DAYS", required = true, value_delimiter = ',', value_parser = days)]
    pub days: Vec<Days>,
    /// When it opens, like 09:00
    #[arg(long, value_name = "HH:MM")]
    pub from: String,
    /// When it closes; 24:00 is the end of the day
    #[arg(long, value_name = "HH:MM")]
    pub to: String,
    /// Days on which it stays closed; may be given several times
    #[arg(long = "holiday", value_name = "DATE", value_delimiter = ',', value_parser = day)]
    pub holidays: Vec<String>,
    #[command(flatten)]
    pub output: Output,
}

/// One weekday, or a run of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Days(pub Vec<&'static str>);

#[derive(Subcommand)]
pub enum IdentitiesCommand {
    /// List who is who
    #[command(after_help = help::IDENTITIES_LIST)]
    List(Output),
    /// Say that somebody there is you, or somebody else
    #[command(after_help = help::IDENTITIES_LINK)]
    Link(LinkIdentity),
    /// Take that back
    #[command(after_help = help::IDENTITIES_UNLINK)]
    Unlink(UnlinkIdentity),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentityKind {
    Slack,
    Email,
    Pagerduty,
}

#[derive(Args)]
pub struct LinkIdentity {
    /// Where
    #[arg(value_enum, ignore_case = true)]
    pub kind: IdentityKind,
    /// Who there: T024BE7LD/U012AB3CD in Slack, an address, or the id of a PagerDuty user
    #[arg(value_name = "WHO")]
    pub external_id: String,
    /// Who that is in the tenant [default: you]
    #[arg(long, value_name = "MEMBER")]
    pub subject: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct UnlinkIdentity {
    /// Where
    #[arg(value_enum, ignore_case = true)]
    pub kind: IdentityKind,
    /// Who there, as it was linked
    #[arg(value_name = "WHO")]
    pub external_id: String,
    #[command(flatten)]
    pub output: Output,
}

fn days(text: &str) -> Result<Days, &'static str> {
    const WEEK: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let place = |day: &str| {
        let day = day.trim().to_ascii_lowercase();
        WEEK.iter().position(|known| *known == day)
    };
    let run = match text.split_once('-') {
        Some((first, last)) => place(first).zip(place(last)),
        None => place(text).map(|day| (day, day)),
    };
    match run {
        // Over the end of the week, too: sat-mon.
        Some((first, last)) => {
            let length = (last + 7 - first) % 7;
            Ok(Days(
                (0..=length)
                    .map(|ahead| WEEK[(first + ahead) % 7])
                    .collect(),
            ))
        }
        None => Err("write weekdays like mon-fri, or mon,wed,sat"),
    }
}

fn day(text: &str) -> Result<String, &'static str> {
    if text.len() == 10 && is_date(text) {
        Ok(text.to_owned())
    } else {
        Err("write it like 2026-12-25")
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn refused(line: &str) -> Option<ErrorKind> {
        Cli::try_parse_from(line.split(' '))
            .err()
            .map(|error| error.kind())
    }

    #[test]
    fn weekdays_are_single_ones_and_runs() {
        assert_eq!(days("Mon-wed"), Ok(Days(vec!["mon", "tue", "wed"])));
        assert_eq!(days("sat-mon"), Ok(Days(vec!["sat", "sun", "mon"])));
        assert_eq!(days(" fri"), Ok(Days(vec!["fri"])));
        for wrong in ["", "-", "monday", "mon-", "mon-fri-sun", "1-5"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_found_before_connecting() {
        let window = "rotator window set --from 09:00 --to 17:00";
        for (line, kind) in [
            (window, ErrorKind::MissingRequiredArgument),
            (
                format!("{window} --days mon-fri,weekend").as_str(),
                ErrorKind::ValueValidation,
            ),
            (
                format!("{window} --days mon --holiday 25.12.2026").as_str(),
                ErrorKind::ValueValidation,
            ),
            (
                format!("{window} --days mon --holiday 2026-12-25T10:00:00Z").as_str(),
                ErrorKind::ValueValidation,
            ),
            (
                "rotator escalation set payments",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "rotator escalation set payments - --priority p1,p9",
                ErrorKind::InvalidValue,
            ),
            (
                "rotator escalation use x",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "rotator escalation use x payments --default",
                ErrorKind::ArgumentConflict,
            ),
            ("rotator identities link teams U1", ErrorKind::InvalidValue),
        ] {
            assert_eq!(refused(line), Some(kind), "{line}");
        }
        assert_eq!(refused("rotator escalation use x --default"), None);
    }

    #[test]
    fn lists_are_separated_by_commas_or_given_one_by_one() {
        let line = "rotator window set --days mon-tue,sat --from 9:00 --to 24:00 --holiday 2026-12-25,2026-12-26 --holiday 2027-01-01";
        let Command::Window(WindowCommand::Set(window)) =
            Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            unreachable!()
        };
        assert_eq!(window.days.iter().flat_map(|run| &run.0).count(), 3);
        assert_eq!(window.holidays.len(), 3);
        let line = "rotator escalation set payments - --priority p1,P2";
        let Command::Escalation(EscalationCommand::Set(set)) =
            Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            unreachable!()
        };
        assert_eq!(set.priority, [Priority::P1, Priority::P2]);
    }
}
