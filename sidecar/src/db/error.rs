//! What can go wrong between us and the server, as one type. Statement errors carry SQLSTATE, message and hint as the
//! extension wrote them; connection errors say in our words what is wrong with which part of the URL.
//! Elsewhere: which exit code each means (`failure.rs`), which HTTP status (`http/`).

use std::error::Error as _;
use std::io;

/// A failure of the database or of the way to it. Never carries a statement, a parameter or a password.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// `ROTATOR_DATABASE_URL` can't be understood.
    #[error("ROTATOR_DATABASE_URL can't be used: {problem}")]
    Target { problem: String, hint: String },
    /// The server answered, and will answer the same until someone changes something.
    #[error("the database refuses the connection to {target}: {message}")]
    Refused {
        target: String,
        message: String,
        hint: String,
    },
    /// Nobody answers, or the server isn't ready yet.
    #[error("can't reach the database at {target}: {message}")]
    Unreachable {
        target: String,
        message: String,
        hint: String,
    },
    /// The server refused one statement.
    #[error("{message}")]
    Statement {
        sqlstate: String,
        message: String,
        hint: Option<String>,
    },
    /// The connection broke while a statement ran; whether it took effect is unknown.
    #[error("the connection to the database was lost: {message}")]
    Lost { message: String },
    /// No answer in time; the connection is given up.
    #[error("the database did not answer within {seconds} s")]
    Timeout { seconds: u64 },
    /// A function answered with something else than agreed: sidecar and extension don't fit.
    #[error("unexpected answer from {function}: {problem}")]
    Shape {
        function: &'static str,
        problem: String,
    },
}

impl DbError {
    /// What to do next, if anything is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Target { hint, .. }
            | Self::Refused { hint, .. }
            | Self::Unreachable { hint, .. } => Some(hint),
            Self::Statement { hint, .. } => hint.as_deref(),
            Self::Lost { .. } | Self::Timeout { .. } => Some("look at the server's log"),
            Self::Shape { .. } => {
                Some("compare `rotator --version` with select extversion from pg_extension")
            }
        }
    }

    /// The five characters of a refused statement.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Statement { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// Whether the same call may work later without anybody changing a setting or a row.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Timeout { .. } => true,
            // 40 serialization and deadlock, 53 out of resources, 55P03 lock, 57 shutdown and cancel, 08 connection,
            // 25006 a standby that is about to be promoted.
            Self::Statement { sqlstate, .. } => {
                ["40", "53", "57", "08"]
                    .iter()
                    .any(|class| sqlstate.starts_with(class))
                    || sqlstate == "55P03"
                    || sqlstate == "25006"
            }
            Self::Target { .. } | Self::Refused { .. } | Self::Shape { .. } => false,
        }
    }

    /// Whether the connection can't be used any more.
    pub fn breaks_connection(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Timeout { .. } => true,
            // 25006: this server is, or has become, one that takes no writes; another may be the primary by now.
            Self::Statement { sqlstate, .. } => {
                sqlstate.starts_with("57P") || sqlstate.starts_with("08") || sqlstate == "25006"
            }
            _ => false,
        }
    }

    /// Sorts an error that came while connecting to `target` (host, port, database; no password).
    pub(super) fn connecting(error: &tokio_postgres::Error, target: &str) -> Self {
        let target = target.to_owned();
        if let Some(server) = error.as_db_error() {
            let message = server.message().to_owned();
            let hint = match server.code().code() {
                "28P01" => "check user and password in ROTATOR_DATABASE_URL",
                "28000" => "check the user in ROTATOR_DATABASE_URL, and the server's pg_hba.conf",
                "3D000" => "create that database, or correct its name in ROTATOR_DATABASE_URL",
                "42501" => "grant connect on that database to the user in ROTATOR_DATABASE_URL",
                "53300" => "raise max_connections, or close other sessions",
                "57P03" | "57P01" | "57P02" => "the server is starting or stopping; wait for it",
                "08P01" => {
                    "check user, password and database in ROTATOR_DATABASE_URL; a pooler's log tells more"
                }
                _ => "look at the server's log",
            };
            let hint = hint.to_owned();
            return if passes(server.code().code(), &message) {
                Self::Unreachable {
                    target,
                    message,
                    hint,
                }
            } else {
                Self::Refused {
                    target,
                    message,
                    hint,
                }
            };
        }
        let text = error.to_string();
        let cause = deepest_cause(error);
        if text.starts_with("error performing TLS handshake") && !hung_up(error) {
            let hint = "check sslmode and sslrootcert in ROTATOR_DATABASE_URL, and the server's certificate".to_owned();
            return Self::Refused {
                target,
                message: format!("TLS: {cause}"),
                hint,
            };
        }
        if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
            let hint = "check user and password in ROTATOR_DATABASE_URL".to_owned();
            return Self::Refused {
                target,
                message: cause,
                hint,
            };
        }
        if cause == "database does not allow writes" {
            return Self::Unreachable {
                target,
                message: "it is read-only".to_owned(),
                hint: "a standby, or default_transaction_read_only: waiting for a server that takes writes; name all \
                       hosts of the cluster in ROTATOR_DATABASE_URL"
                    .to_owned(),
            };
        }
        let hint = match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => {
                "is PostgreSQL running there? check host and port"
            }
            Some(io::ErrorKind::NotFound) => {
                "no server listens on that socket; check the folder and port"
            }
            Some(io::ErrorKind::PermissionDenied) => "this user may not open that socket",
            _ if hung_up(error) => "look at the server's log",
            _ if cause.contains("lookup") => "check the host name in ROTATOR_DATABASE_URL",
            _ => "check host and port in ROTATOR_DATABASE_URL, and the network between",
        };
        Self::Unreachable {
            target,
            message: cause,
            hint: hint.to_owned(),
        }
    }
}

impl From<tokio_postgres::Error> for DbError {
    /// Sorts an error of a statement on an established connection.
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(server) => Self::Statement {
                sqlstate: server.code().code().to_owned(),
                message: server.message().to_owned(),
                hint: server.hint().map(str::to_owned),
            },
            None => Self::Lost {
                message: deepest_cause(&error),
            },
        }
    }
}

fn deepest_cause(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}

fn io_kind(error: &tokio_postgres::Error) -> Option<io::ErrorKind> {
    error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind)
}

/// Whether a login that was refused like that may be accepted later, though nobody changes anything.
fn passes(sqlstate: &str, message: &str) -> bool {
    match sqlstate.get(..2) {
        // Out of resources, or starting or stopping.
        Some("53") => true,
        Some("57") => sqlstate.starts_with("57P"),
        // PgBouncer says everything by 08P01: that its server is away, and that it knows no such user.
        Some("08") => {
            !(message.starts_with("no such ") || message.contains("authentication failed"))
        }
        _ => false,
    }
}

/// Whether the other end was there, and went away in the middle.
fn hung_up(error: &tokio_postgres::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        io_kind(error),
        Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sqlstate: &str) -> DbError {
        DbError::Statement {
            sqlstate: sqlstate.to_owned(),
            message: String::new(),
            hint: None,
        }
    }

    #[test]
    fn what_a_pooler_refuses_for_good_is_told_from_what_passes() {
        for (sqlstate, message) in [
            (
                "08P01",
                "server login has been failing, try again later (server_login_retry)",
            ),
            ("08P01", "no more connections allowed (max_client_conn)"),
            ("57P03", "the database system is starting up"),
            ("53300", "sorry, too many clients already"),
        ] {
            assert!(passes(sqlstate, message), "{message}");
        }
        for (sqlstate, message) in [
            ("08P01", "no such database: app"),
            ("08P01", "password authentication failed"),
            ("08P01", "SASL authentication failed"),
            (
                "28P01",
                "password authentication failed for user \"sidecar\"",
            ),
        ] {
            assert!(!passes(sqlstate, message), "{message}");
        }
    }

    #[test]
    fn what_may_work_later_is_told_from_what_will_not() {
        for state in [
            "40001", "40P01", "53300", "55P03", "57P01", "57014", "25006",
        ] {
            assert!(statement(state).is_transient(), "{state}");
        }
        for state in ["42501", "42883", "22023", "PT404", "RT010"] {
            assert!(!statement(state).is_transient(), "{state}");
        }
        assert!(statement("57P01").breaks_connection());
        assert!(statement("25006").breaks_connection());
        assert!(!statement("57014").breaks_connection());
    }
}
