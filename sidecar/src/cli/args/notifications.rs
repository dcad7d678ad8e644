//! The arguments of `rotator notifications`.

use clap::{Args, Subcommand, ValueEnum};

use super::Output;
use crate::cli::help;

#[derive(Subcommand)]
pub enum NotificationsCommand {
    /// Send a test to one recipient: the message a reminder would be
    #[command(after_help = help::TEST_NOTIFICATION)]
    Test(TestNotification),
    /// List what nobody could be told, by any contact
    #[command(after_help = help::UNDELIVERABLE)]
    Undeliverable(Output),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Channel {
    Slack,
    Email,
    Pagerduty,
    Webhook,
    Console,
}

#[derive(Args)]
pub struct TestNotification {
    /// How it travels
    #[arg(long, value_enum, ignore_case = true)]
    pub channel: Channel,
    /// Whom it goes to, as for rotator.set_contact; `-` reads it from standard input
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: String,
    /// Wait until it is sent, at most this long, and say what became of it
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "30",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub wait: Option<u64>,
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::args::{Cli, Command};

    use super::*;

    fn wait(line: &str) -> Option<Option<u64>> {
        match Cli::try_parse_from(line.split(' ')).ok()?.command {
            Command::Notifications(NotificationsCommand::Test(args)) => Some(args.wait),
            _ => None,
        }
    }

    #[test]
    fn waiting_takes_its_own_time_if_none_is_said() {
        let test = "rotator notifications test --channel email --recipient a@b.example";
        assert_eq!(wait(test), Some(None));
        assert_eq!(wait(&format!("{test} --wait")), Some(Some(30)));
        assert_eq!(wait(&format!("{test} --wait 5")), Some(Some(5)));
        assert_eq!(wait(&format!("{test} --wait 0")), None);
        assert_eq!(wait(&test.replace("email", "fax")), None);
    }
}
