//! `rotator secrets …`: one file a command. Finding a secret by what people call it is `lookup.rs`.

mod ack;
mod add;
mod import;
mod list;
mod lookup;
mod rotated;

pub use ack::run as ack;
pub use add::run as add;
pub use import::run as import;
pub use list::run as list;
pub use rotated::run as rotated;
