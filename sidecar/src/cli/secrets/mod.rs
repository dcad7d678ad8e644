//! `rotator secrets …`: a file a command, and one for the two answers to a reminder. Finding a secret by what people
//! call it is `lookup.rs`.

mod add;
mod export;
mod import;
mod import_report;
mod list;
mod lookup;
mod respond;

pub use add::run as add;
pub use import::run as import;
pub use list::run as list;
pub use respond::{ack, rotated};
