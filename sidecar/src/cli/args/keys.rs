//! The arguments of `rotator keys …`.

use clap::{Args, Subcommand};

use super::Output;
use crate::cli::help;

#[derive(Subcommand)]
pub enum KeysCommand {
    /// Print a fresh line for the master key file; needs no database
    #[command(after_help = help::NEW_MASTER)]
    NewMaster,
    /// List data keys with what uses them, and how far rotations have come; never key bytes
    #[command(after_help = help::KEYS_STATUS)]
    Status(KeysStatus),
    /// Make a new data key version the active one; prints the id of the rotation
    #[command(after_help = help::KEYS_ROTATE)]
    Rotate(RotateKey),
    /// Re-encrypt what is still under older versions
    #[command(after_help = help::KEYS_REENCRYPT)]
    Reencrypt(Reencrypt),
    /// See or set how often a tenant's key is replaced by itself
    #[command(after_help = help::KEYS_SCHEDULE)]
    Schedule(Schedule),
    /// Go back to the version before a rotation
    #[command(after_help = help::KEYS_ROLLBACK)]
    Rollback(Rollback),
    /// Put a version out of use that no row is under any more
    #[command(after_help = help::KEYS_RETIRE)]
    Retire(Retire),
    /// Destroy a retired version for ever
    #[command(after_help = help::KEYS_DESTROY)]
    Destroy(Destroy),
    /// Wrap every data key by the newest master key
    #[command(after_help = help::KEYS_REWRAP)]
    Rewrap(Output),
}

#[derive(Args)]
pub struct KeysStatus {
    /// List rotations instead, newest first
    #[arg(long)]
    pub rotations: bool,
    /// Leave out how many rows are under each version, which takes a while where there are millions
    #[arg(long, conflicts_with = "rotations")]
    pub no_rows: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct RotateKey {
    /// Why, for the audit log [default: manual]
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The keys of all tenants; prints how many
    #[arg(long)]
    pub all: bool,
    /// Go on until everything is re-encrypted, as `rotator keys reencrypt` does
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Reencrypt {
    /// Run this rotation again, which failed, after its rows were mended
    #[arg(long, value_name = "ROTATION", value_parser = clap::value_parser!(i64).range(1..))]
    pub retry: Option<i64>,
    #[command(flatten)]
    pub pace: Pace,
    #[command(flatten)]
    pub output: Output,
}

/// How hard to work, and how long to wait for others.
#[derive(Args, Clone, Copy)]
pub struct Pace {
    /// Rows in one transaction
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub batch: i32,
    /// Share of the time to work; it rests for the remainder
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub pace: u32,
    /// How long to wait for transactions of others, older than the rotation or with rows locked
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub wait_for: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch: 1000,
            pace: 50,
            wait_for: 60,
        }
    }
}

#[derive(Args)]
pub struct Schedule {
    /// How often, like '90 days' or '6 months'
    #[arg(long, value_name = "INTERVAL")]
    pub every: Option<String>,
    /// Never by itself
    #[arg(long, conflicts_with = "every")]
    pub off: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Rollback {
    /// The rotation, as `rotator keys status` lists it
    #[arg(value_name = "ROTATION", value_parser = clap::value_parser!(i64).range(1..))]
    pub rotation: i64,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Retire {
    /// The version of the tenant's data key
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(i32).range(1..))]
    pub version: i32,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Destroy {
    /// The version of the tenant's data key
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(i32).range(1..))]
    pub version: i32,
    /// The tenant's slug and the version, which are asked for on a terminal
    #[arg(long, value_name = "SLUG/VERSION")]
    pub confirm: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;
    use crate::cli::args::Cli;

    fn refused(line: &str) -> ErrorKind {
        Cli::try_parse_from(line.split(' ')).err().unwrap().kind()
    }

    #[test]
    fn mistakes_are_found_before_connecting() {
        for line in [
            "rotator keys reencrypt --batch 0",
            "rotator keys reencrypt --pace 101",
            "rotator keys reencrypt --retry x",
            "rotator keys retire 0",
            "rotator keys rollback -1x",
        ] {
            let kind = refused(line);
            assert!(
                matches!(
                    kind,
                    ErrorKind::ValueValidation | ErrorKind::UnknownArgument
                ),
                "{line}: {kind:?}"
            );
        }
        assert_eq!(
            refused("rotator keys schedule --every 1 --off"),
            ErrorKind::ArgumentConflict
        );
        assert_eq!(
            refused("rotator keys destroy"),
            ErrorKind::MissingRequiredArgument
        );
    }

    #[test]
    fn waiting_for_a_rotation_works_as_reencrypting_without_options() {
        use crate::cli::args::Command;
        let cli = Cli::try_parse_from(["rotator", "keys", "reencrypt"]).unwrap();
        let Command::Keys(KeysCommand::Reencrypt(args)) = cli.command else {
            panic!("something else was understood");
        };
        let (typed, waiting) = (args.pace, Pace::default());
        assert_eq!(
            (typed.batch, typed.pace, typed.wait_for),
            (waiting.batch, waiting.pace, waiting.wait_for)
        );
    }
}
