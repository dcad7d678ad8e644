//! How a command ends: one message that says what happened, one hint that says what to do next, one exit code.
//!
//! Every part has its own error type (`ConfigError`, `DbError`, `ServeError`, …); each says here which exit code it
//! means. Printing happens in one place, [`Failure::print`], so that no error is reported twice.
//! Tests: `tests/` runs the binary and checks codes and texts.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::db::DbError;
use crate::logging;

/// The exit codes of the `rotator` binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The command was refused or failed: the server said no, a file can't be read.
    Failed = 1,
    /// The command line can't be understood.
    Usage = 2,
    /// The extension is missing in that database, or its version does not fit this binary.
    Extension = 3,
    /// A setting is missing, unknown or invalid; or the database refuses this login or has no such name.
    Config = 4,
    /// The address to serve on can't be bound: port in use, or not ours.
    Listen = 5,
    /// The database, or AWS KMS, can't be reached (commands; `serve` waits instead).
    Unreachable = 6,
    /// An import left out some rows; all others went in.
    Partial = 7,
    /// Stopped by a signal before it was done: a command between two batches, `serve` by a second one while it drained.
    /// 128 + SIGINT, as a shell reports it.
    Aborted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, ready to be shown. Carries no secret and no plaintext of an encrypted field.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure without a hint yet; see [`Failure::hint`].
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The code the process ends with.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Writes `error: …` and `hint: …` to standard error; one JSON object, where `ROTATOR_LOG_FORMAT=json` was asked for.
    pub fn print(&self) {
        let exit_code = Some(self.exit as u8);
        say("error", &self.message, self.hint.as_deref(), exit_code);
    }
}

/// Writes `warning: …` and `hint: …` to standard error, as a failure would: something to know of what was done.
pub fn warn(message: &str, hint: Option<&str>) {
    say("warning", message, hint, None);
}

fn say(what: &str, message: &str, hint: Option<&str>, exit_code: Option<u8>) {
    let mut stderr = std::io::stderr().lock();
    if logging::asked_for_json() {
        let mut line = serde_json::json!({
            "timestamp": jiff::Timestamp::now().to_string(),
            "level": if exit_code.is_some() { "ERROR" } else { "WARN" },
            "message": message,
            "hint": hint,
        });
        if let Some(code) = exit_code {
            line["exit_code"] = code.into();
        }
        let _ = writeln!(stderr, "{line}");
        return;
    }
    let _ = writeln!(stderr, "{what}: {message}");
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error.to_string()).hint(error.hint())
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        let exit = match &error {
            DbError::Refused { .. } | DbError::Target { .. } => Exit::Config,
            DbError::Unreachable { .. } => Exit::Unreachable,
            DbError::Statement { .. }
            | DbError::Lost { .. }
            | DbError::Timeout { .. }
            | DbError::Shape { .. } => Exit::Failed,
        };
        let failure = Self::new(exit, error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
