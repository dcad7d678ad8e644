//! The command line: what each command asks the database, and how it prints the answer.
//!
//! - `args`, `help`: what can be typed, and what `--help` says
//! - `session`: one connection, its tenant, the version check, errors with the hint that helps at a terminal
//! - `output`: tables, JSON, CSV; `progress`: how far long work has come
//! - `secrets/`, `keys/`, `audit/`, `escalation`, `window`, `identities`, `kms`, `notifications`, `doctor` (with `scan`),
//!   `healthcheck`: a file a command or a few; `import/` beside this module reads files
//!
//! Every command calls functions and views of the schema `rotator` as the login role of `ROTATOR_DATABASE_URL`: what a
//! role may do is decided there. Tests: beside the pure parts; whole commands in the `tests` crate.

mod args;
mod audit;
mod doctor;
mod escalation;
mod healthcheck;
mod help;
mod identities;
mod keys;
mod kms;
mod notifications;
mod output;
mod progress;
mod scan;
mod secrets;
mod session;
mod window;

pub use args::Cli;

use args::{Command, NotificationsCommand, SecretsCommand, Target};

use crate::config::Settings;
use crate::failure::{Exit, Failure};

/// Runs one parsed command.
///
/// # Errors
/// Whatever stopped it, with a hint; see [`Exit`] for the codes.
pub async fn run(cli: Cli, settings: Settings) -> Result<Exit, Failure> {
    let place = Place {
        target: cli.target,
        settings,
    };
    match cli.command {
        Command::Serve => {
            if place.target.database_url.is_some() || place.target.tenant.is_some() {
                return Err(Failure::new(Exit::Usage, "serve takes no --database-url and no --tenant").hint(
                    "It works for all tenants; set ROTATOR_DATABASE_URL, which keeps the password out of `ps`.",
                ));
            }
            crate::serve::run(place.settings, crate::serve::shutdown_on_signals()?).await
        }
        Command::Secrets(SecretsCommand::List(args)) => secrets::list(&place, args).await,
        Command::Secrets(SecretsCommand::Add(args)) => secrets::add(&place, *args).await,
        Command::Secrets(SecretsCommand::Import(args)) => secrets::import(&place, args).await,
        Command::Secrets(SecretsCommand::Rotated(args)) => secrets::rotated(&place, args).await,
        Command::Secrets(SecretsCommand::Ack(args)) => secrets::ack(&place, args).await,
        Command::Secrets(SecretsCommand::Snooze(args)) => secrets::snooze(&place, args).await,
        Command::Secrets(SecretsCommand::Preview(args)) => secrets::preview(&place, args).await,
        Command::Secrets(SecretsCommand::Explain(args)) => secrets::explain(&place, args).await,
        Command::Secrets(SecretsCommand::Reassign(args)) => secrets::reassign(&place, args).await,
        Command::Secrets(SecretsCommand::Coverage(output)) => {
            secrets::coverage(&place, output).await
        }
        Command::Notifications(NotificationsCommand::Test(args)) => {
            notifications::test(&place, args).await
        }
        Command::Notifications(NotificationsCommand::Undeliverable(output)) => {
            notifications::undeliverable(&place, output).await
        }
        Command::Escalation(command) => escalation::run(&place, command).await,
        Command::Window(command) => window::run(&place, command).await,
        Command::Identities(command) => identities::run(&place, command).await,
        Command::Keys(command) => keys::run(&place, command).await,
        Command::Kms(command) => kms::run(&place, command).await,
        Command::Audit(command) => audit::run(&place, command).await,
        Command::Doctor(args) => doctor::run(&place, args).await,
        Command::Healthcheck => healthcheck::run(&place).await,
    }
}

/// Where a command works: what was typed, and what the settings say.
struct Place {
    target: Target,
    settings: Settings,
}

impl Place {
    /// The tenant that was asked for.
    fn tenant(&self) -> Option<&str> {
        self.target
            .tenant
            .as_deref()
            .or(self.settings.tenant.as_deref())
            .filter(|tenant| !tenant.is_empty())
    }

    /// The server, database and login role.
    fn database(&self) -> Result<crate::db::Target, crate::db::DbError> {
        match &self.target.database_url {
            Some(url) => crate::db::Target::parse(url),
            None => crate::db::Target::from_settings(&self.settings),
        }
    }
}
