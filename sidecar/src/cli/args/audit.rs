//! The arguments of `rotator audit …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::help;

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Make a key that signs sealed blocks: the private line for the sidecar, the public one for who verifies
    #[command(after_help = help::AUDIT_NEW_KEY)]
    NewKey(NewAuditKey),
    /// Write the audit log as JSON Lines; the log says so
    #[command(after_help = help::AUDIT_EXPORT)]
    Export(ExportAudit),
    /// Find out whether the audit log is what was sealed and signed, from an export or in the database
    #[command(after_help = help::AUDIT_VERIFY)]
    Verify(VerifyAudit),
}

#[derive(Args)]
pub struct NewAuditKey {
    /// What the key is called in signatures: letters, digits and . _ / - [default: rotator/audit/DATE]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Write the private line to this new file, readable by its owner alone, and print the public one only
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct ExportAudit {
    /// Write to this file instead of standard output; it must not be there yet
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct VerifyAudit {
    /// What `rotator audit export` wrote; `-` reads standard input [default: the log in the database]
    #[arg(value_name = "EXPORT")]
    pub export: Option<PathBuf>,
    /// Public key that must have signed the blocks, as a line or a file with it; may be given several times
    #[arg(long = "key", value_name = "KEY|FILE")]
    pub keys: Vec<String>,
    /// Copies of the signed blocks: the file of ROTATOR_AUDIT_FILE, or a folder with the objects of S3; may be given
    /// several times
    #[arg(long = "copy", value_name = "FILE|FOLDER", requires = "keys")]
    pub copies: Vec<PathBuf>,
    /// Put up with blocks that have had no signature for more than a day
    #[arg(long)]
    pub allow_unsigned: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = VerdictFormat::Text)]
    pub format: VerdictFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictFormat {
    Text,
    Json,
}
