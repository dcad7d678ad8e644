//! The arguments of every command, those of groups of commands in `args/`. Long texts and examples: `help.rs`. What the
//! commands do: one file each beside this.

mod alerts;
mod audit;
mod keys;
mod kms;
mod notifications;
mod secrets;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use alerts::{
    EscalationCommand, IdentitiesCommand, LinkIdentity, RemoveEscalation, SetEscalation, SetWindow,
    UnlinkIdentity, UseEscalation, WindowCommand,
};
pub use audit::{AuditCommand, ExportAudit, NewAuditKey, VerdictFormat, VerifyAudit};
pub use keys::{
    Destroy, KeysCommand, KeysStatus, Pace, Reencrypt, Retire, Rollback, RotateKey, Schedule,
};
pub use kms::{KmsCommand, UnwrapKey, WrapKey};
pub use notifications::{NotificationsCommand, TestNotification};
pub use secrets::{
    Ack, Add, Explain, Import, List, Preview, Priority, Reassign, Rotated, SecretsCommand, Snooze,
};

use super::help;
use crate::import::is_date;

/// Registry, calendar and alarm clock for credentials. It holds metadata only, never a secret value.
#[derive(Parser)]
#[command(name = "rotator", version, after_help = help::ROTATOR, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    pub command: Command,
}

/// Where a command works.
#[derive(Args)]
pub struct Target {
    /// Tenant to work in, by slug or id [setting: ROTATOR_TENANT]
    #[arg(long, global = true, value_name = "SLUG|ID", help_heading = "Target")]
    pub tenant: Option<String>,
    /// Database, like postgres://user@host/name [setting: ROTATOR_DATABASE_URL]
    #[arg(long, global = true, value_name = "URL", help_heading = "Target")]
    pub database_url: Option<String>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Deliver notifications and answer their links, until stopped
    #[command(after_help = help::SERVE)]
    Serve,
    /// List, register, import, hand over and rotate credentials; see who is told
    #[command(subcommand, after_help = help::SECRETS)]
    Secrets(SecretsCommand),
    /// See whether a channel works, and what nobody could be told
    #[command(subcommand, after_help = help::NOTIFICATIONS)]
    Notifications(NotificationsCommand),
    /// See and set who is told when nobody acknowledges
    #[command(subcommand, after_help = help::ESCALATION)]
    Escalation(EscalationCommand),
    /// See and set the hours in which people are told
    #[command(subcommand, after_help = help::WINDOW)]
    Window(WindowCommand),
    /// Say who somebody is in Slack, by mail and in PagerDuty, so that their buttons count
    #[command(subcommand, after_help = help::IDENTITIES)]
    Identities(IdentitiesCommand),
    /// Make master keys; see, rotate, re-encrypt and destroy data keys
    #[command(subcommand, after_help = help::KEYS)]
    Keys(KeysCommand),
    /// Keep master keys where only AWS KMS can open them
    #[command(subcommand, after_help = help::KMS)]
    Kms(KmsCommand),
    /// Sign, export and verify the audit log
    #[command(subcommand, after_help = help::AUDIT)]
    Audit(AuditCommand),
    /// Check the connection, the versions and the installation, and say what to do
    #[command(after_help = help::DOCTOR)]
    Doctor(Doctor),
    /// Ask the sidecar that serves on this machine whether it is ready
    #[command(after_help = help::HEALTHCHECK)]
    Healthcheck,
}

#[derive(Args, Clone, Copy)]
pub struct Doctor {
    /// Look for secrets among the stored texts of all tenants too, by the rules of this version
    #[arg(long)]
    pub scan: bool,
    #[command(flatten)]
    pub output: Output,
}

/// How rows are printed.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
}

fn date(text: &str) -> Result<String, &'static str> {
    if is_date(text) {
        Ok(text.to_owned())
    } else {
        Err("write it like 2026-12-31 or 2026-12-31T08:00:00Z")
    }
}

/// The spelling of a choice that the database knows.
pub fn spelling(choice: &impl ValueEnum) -> Option<String> {
    choice
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            let help = command.get_after_help().unwrap().to_string();
            assert!(help.contains("rotator "), "{}", command.get_name());
            command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
                .for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn globals_may_stand_anywhere() {
        let cli = Cli::try_parse_from(["rotator", "secrets", "list", "--tenant", "acme"]).unwrap();
        assert_eq!(cli.target.tenant.as_deref(), Some("acme"));
        assert!(Cli::try_parse_from(["rotator", "--tenant", "acme", "doctor"]).is_ok());
    }
}
