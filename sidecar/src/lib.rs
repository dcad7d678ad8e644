//! rotator's sidecar: the hands of the extension. State and decisions live in PostgreSQL; this crate holds whatever
//! needs a socket. It names no table, computes no due date, and opens no transaction while it talks to the network.
//!
//! The map, in the order a notification travels:
//!
//! - [`config`]: settings from the environment, `.env` and a TOML file; secrets in a type that can't be printed
//! - [`db`]: the one home for connecting; errors of the server as a type with SQLSTATE, message and hint
//! - [`serve`]: `rotator serve`: wait for the database, LISTEN, claim, deliver, complete, tick, drain
//! - [`delivery`]: one file per channel behind one small trait; message wording; vendor limits; egress filter
//! - [`http`]: the pages behind a notification's link, and the health probes
//! - [`cli`]: every other command
//! - [`audit`]: the audit log outside of the database: signatures, copies, export, offline verification
//! - [`import`]: CSV, JSON and certificates into items for `rotator.import_secrets`
//! - [`kms`]: master keys that only AWS KMS can open
//! - [`failure`]: how a command ends: one message, one hint, one exit code
//! - [`logging`]: text on a terminal, JSON elsewhere
//!
//! Tests: unit tests beside the pure parts; behaviour against a real server in the `tests` crate.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod audit;
pub mod cli;
pub mod config;
pub mod db;
pub mod delivery;
pub mod failure;
pub mod http;
pub mod import;
pub mod kms;
pub mod logging;
pub mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::failure::{Exit, Failure};

/// Runs one command line (with the program's name first) and says how the process should end.
///
/// Mistakes in the arguments are printed by clap and give [`Exit::Usage`]; every other failure is printed here, once,
/// as `error: …` and `hint: …` on standard error.
pub fn run<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Also the way of `--help` and `--version`, which are no mistakes and end with 0.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Ok.into()
            };
        }
    };
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print();
            failure.exit().into()
        }
    }
}

fn start(cli: cli::Cli) -> Result<Exit, Failure> {
    let settings = config::Settings::load()?;
    logging::init(settings.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("can't start the runtime: {error}")))?;
    let result = runtime.block_on(cli::run(cli, settings));
    // A name lookup that hangs lives in a blocking thread; don't wait for it.
    runtime.shutdown_background();
    result
}
