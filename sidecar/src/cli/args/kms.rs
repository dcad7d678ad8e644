//! The arguments of `rotator kms …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::help;
use crate::kms::KeyName;

/// Below the ten seconds that the database server gives its master key command.
const TIMEOUT: u64 = 8;

#[derive(Subcommand)]
pub enum KmsCommand {
    /// Wrap master keys by a KMS key; prints lines that are no secret
    #[command(after_help = help::KMS_WRAP)]
    Wrap(WrapKey),
    /// Open wrapped master keys: for rotator.master_key_command
    #[command(after_help = help::KMS_UNWRAP)]
    Unwrap(UnwrapKey),
}

#[derive(Args)]
pub struct WrapKey {
    /// The KMS key: ARN of a key or an alias, alias/NAME, or a key id
    #[arg(long, value_name = "ARN|alias/NAME|ID")]
    pub key_id: KeyName,
    /// AWS region, where the name of the key doesn't say it [default: AWS_REGION, AWS_DEFAULT_REGION]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// File with master keys, lines id:base64 [default: standard input]
    #[arg(long = "in", value_name = "FILE", conflicts_with = "new")]
    pub input: Option<PathBuf>,
    /// Make a fresh master key, which is nowhere in the clear
    #[arg(long)]
    pub new: bool,
    /// Seconds within which it has to be done
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
}

#[derive(Args)]
pub struct UnwrapKey {
    /// File with what `rotator kms wrap` printed [default: standard input]
    #[arg(long = "in", value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Print master keys on a terminal, too
    #[arg(long)]
    pub force: bool,
    /// Seconds within which it has to be done; the database server waits for ten
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
}
