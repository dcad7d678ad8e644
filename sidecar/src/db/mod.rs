//! The one home for connecting to PostgreSQL. Commands take a plain [`Client`] from [`connect`]; `serve` keeps
//! [`Session`]s that heal themselves and a [`Listener`].
//!
//! Elsewhere: what the URL means (`target.rs`, `hosts.rs`, `ssl.rs`, `tls.rs`), errors (`error.rs`), the functions of the extension that
//! `serve` and the pages call (`calls.rs`; callbacks in `press.rs`, the audit log in `audit.rs`). No table is named anywhere in this crate. Tests: `tests/` restarts the
//! server, cuts connections and gives wrong URLs.

mod audit;
mod calls;
mod error;
mod hosts;
mod listener;
mod press;
mod raw_message;
mod session;
mod ssl;
mod target;
mod tls;

pub use audit::{Micros, UnsignedBlock};
pub use calls::{
    Claim, Completion, EngineStatus, Postponed, Redemption, ReencryptReport, TickReport,
};
pub use error::DbError;
pub use listener::Listener;
pub use press::{Pressed, Terms};
pub use raw_message::RawMessage;
pub use session::Session;
pub use target::Target;
pub use tokio_postgres::{Client, Row};

use std::future::poll_fn;

use tokio_postgres::AsyncMessage;
use tokio_postgres::error::Severity;

use crate::config::{ConfigError, Settings};

impl Target {
    /// The database that the settings name.
    ///
    /// # Errors
    /// [`DbError::Target`] when `ROTATOR_DATABASE_URL` is missing or can't be understood.
    pub fn from_settings(settings: &Settings) -> Result<Self, DbError> {
        let url = settings
            .database_url()
            .map_err(|error: ConfigError| DbError::Target {
                problem: "it is not set".to_owned(),
                hint: error.hint(),
            })?;
        Self::parse(url.expose())
    }

    /// `host:port/database as user`, for messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// Connects as the login role that the target names. The connection closes when the client is dropped. What the server
/// warns of while a statement runs goes to `warned`, with its hint, before the statement's answer.
///
/// # Errors
/// [`DbError::Refused`] for a wrong password, role or database,
/// [`DbError::Unreachable`] when nobody answers.
pub async fn connect(target: &Target, warned: fn(&str, Option<&str>)) -> Result<Client, DbError> {
    let (client, mut connection) = target.open().await?;
    tokio::spawn(async move {
        // How it ended is told by the statement that was under way.
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.parsed_severity() == Some(Severity::Warning)
            {
                warned(notice.message(), notice.hint());
            }
        }
    });
    Ok(client)
}
