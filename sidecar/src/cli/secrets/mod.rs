//! `rotator secrets …`: a file a command, one for the answers to a reminder, and one for what is told about a secret.
//! Finding a secret by what people call it is `lookup.rs`.

mod add;
mod export;
mod import;
mod import_report;
mod list;
mod lookup;
mod reassign;
mod respond;
mod schedule;

pub use add::run as add;
pub use import::run as import;
pub use list::run as list;
pub use lookup::find;
pub use reassign::run as reassign;
pub use respond::{ack, rotated, snooze};
pub use schedule::{coverage, explain, preview};
