//! `rotator audit …`: keys that sign, the log as a file, and whether it is what was sealed. The work is done by
//! `crate::audit`; here is what is asked of the database (`walk`), and what is printed.

mod export;
mod new_key;
mod verify;
mod walk;

use super::Place;
use super::args::AuditCommand;
use crate::failure::{Exit, Failure};

/// Runs one of the commands.
///
/// # Errors
/// What the database refuses, what can't be read or written, and a log that is not what was sealed.
pub async fn run(place: &Place, command: AuditCommand) -> Result<Exit, Failure> {
    match command {
        AuditCommand::NewKey(args) => new_key::run(args),
        AuditCommand::Export(args) => export::run(place, args).await,
        AuditCommand::Verify(args) => verify::run(place, args).await,
    }
}
