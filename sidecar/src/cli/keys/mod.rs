//! `rotator keys …`: one file a stage in the life of a data key. Data keys are made, wrapped and used inside the
//! database; key bytes never come here. Only a master key is made here (`new_master.rs`), since it must not pass through
//! SQL.
//!
//! - `status`: versions, what uses them, and rotations
//! - `rotate`: a new version, and the way back
//! - `reencrypt`: working off what is under older versions; how far it is: `standing`
//! - `schedule`: when that happens by itself
//! - `end`: retiring and destroying a version; `rewrap`: after a change of master key

mod end;
mod new_master;
mod reencrypt;
mod rewrap;
mod rotate;
mod schedule;
mod standing;
mod status;

use super::Place;
use super::args::KeysCommand;
use crate::failure::{Exit, Failure};

pub use new_master::fresh_line as new_master_line;

/// Runs one of the commands.
///
/// # Errors
/// What the database refuses, with a hint.
pub async fn run(place: &Place, command: KeysCommand) -> Result<Exit, Failure> {
    match command {
        KeysCommand::NewMaster => new_master::run(),
        KeysCommand::Status(args) => status::run(place, args).await,
        KeysCommand::Rotate(args) => rotate::rotate(place, args).await,
        KeysCommand::Reencrypt(args) => reencrypt::run(place, args).await,
        KeysCommand::Schedule(args) => schedule::run(place, args).await,
        KeysCommand::Rollback(args) => rotate::roll_back(place, args).await,
        KeysCommand::Retire(args) => end::retire(place, args).await,
        KeysCommand::Destroy(args) => end::destroy(place, args).await,
        KeysCommand::Rewrap(output) => rewrap::run(place, output).await,
    }
}
