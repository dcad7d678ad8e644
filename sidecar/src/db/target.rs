//! Where to connect: `ROTATOR_DATABASE_URL` turned into the driver's configuration plus what the driver doesn't know:
//! `sslmode=verify-ca|verify-full` and `sslrootcert`, with libpq's meaning.
//!
//! Elsewhere: the TLS itself (`tls.rs`), opening the connection (`mod.rs`).

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};

use super::DbError;
use super::tls::{MakeTls, Verify};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that vanished silently is noticed after 10 + 3 × 5 seconds even on an idle connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(25);

/// A server, a database and a login role, ready to be connected to again and again.
pub struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeTls,
    /// `host:port/database as user`, for messages.
    pub(super) shown: String,
}

impl Target {
    /// Reads a URL or a `key=value` connection string.
    ///
    /// # Errors
    /// [`DbError::Target`] when it can't be understood; the text never quotes it, since it holds a password.
    pub fn parse(text: &str) -> Result<Self, DbError> {
        let mut ssl = Ssl::default();
        let ours = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        if !ours && text.contains("://") && !text.contains('=') {
            return Err(malformed("it does not begin with postgres://".to_owned()));
        }
        let rest = if ours {
            ssl.take_from_url(text)?
        } else {
            ssl.take_from_pairs(text)?
        };
        let mut config: Config = rest.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            // The driver quotes an option that it doesn't know, and that may be half of a password with a blank in it;
            // the options whose values it can't read are its own.
            let cause = cause
                .filter(|cause| cause.starts_with("invalid value for option"))
                .unwrap_or_else(|| "it has no known form".to_owned());
            malformed(cause)
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(malformed("it names no host".to_owned()));
        }
        if config.get_user().is_none() {
            return Err(malformed("it names no user".to_owned()));
        }
        config.ssl_mode(ssl.mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("rotator");
        }
        config
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(USER_TIMEOUT);
        if config.get_hosts().len() > 1
            && config.get_target_session_attrs() == TargetSessionAttrs::Any
        {
            // Several hosts are a primary and its standbys; work is only done on the primary.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let tls = MakeTls::new(ssl.verify(), ssl.root.as_deref())?;
        let shown = shown(&config);
        Ok(Self { config, tls, shown })
    }
}

fn malformed(problem: String) -> DbError {
    DbError::Target {
        problem,
        hint: "write it like postgres://user:password@host:5432/database".to_owned(),
    }
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(position, host)| {
            let port = ports
                .get(position)
                .or(ports.first())
                .copied()
                .unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let user = config.get_user().unwrap_or("");
    format!(
        "{}/{} as {user}",
        hosts.join(","),
        config.get_dbname().unwrap_or(user)
    )
}

/// The TLS options, taken out of the connection string before the driver sees it.
struct Ssl {
    mode: SslMode,
    verify: Verify,
    root: Option<PathBuf>,
}

impl Default for Ssl {
    fn default() -> Self {
        Self {
            mode: SslMode::Prefer,
            verify: Verify::Nothing,
            root: None,
        }
    }
}

impl Ssl {
    fn verify(&self) -> Verify {
        // As in libpq: `require` with a root certificate verifies the chain.
        match self.verify {
            Verify::Nothing if self.root.is_some() && self.mode == SslMode::Require => {
                Verify::Chain
            }
            verify => verify,
        }
    }

    /// Whether the pair was one of ours.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, DbError> {
        match key {
            "sslmode" => {
                (self.mode, self.verify) = match value {
                    "disable" => (SslMode::Disable, Verify::Nothing),
                    "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
                    "require" => (SslMode::Require, Verify::Nothing),
                    "verify-ca" => (SslMode::Require, Verify::Chain),
                    "verify-full" => (SslMode::Require, Verify::ChainAndName),
                    _ => return Err(malformed(
                        "sslmode is not one of disable, prefer, require, verify-ca, verify-full"
                            .to_owned(),
                    )),
                };
                Ok(true)
            }
            "sslrootcert" => {
                self.root = (value != "system").then(|| PathBuf::from(value));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn take_from_url(&mut self, text: &str) -> Result<String, DbError> {
        let Some((head, query)) = text.split_once('?') else {
            return Ok(text.to_owned());
        };
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value: String = url::form_urlencoded::parse(format!("v={value}").as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default();
            if !self.set(key, &value)? {
                kept.push(pair);
            }
        }
        Ok(if kept.is_empty() {
            head.to_owned()
        } else {
            format!("{head}?{}", kept.join("&"))
        })
    }

    fn take_from_pairs(&mut self, text: &str) -> Result<String, DbError> {
        let mut kept = Vec::new();
        for token in split_pairs(text) {
            let ours = match token.split_once('=') {
                Some((key, value)) => self.set(key.trim(), value.trim().trim_matches('\''))?,
                None => false,
            };
            if !ours {
                kept.push(token);
            }
        }
        Ok(kept.join(" "))
    }
}

/// Splits `key=value key='a b'` at blanks outside quotes.
fn split_pairs(text: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for character in text.chars() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == '\'' {
            quoted = !quoted;
        } else if character.is_whitespace() && !quoted {
            tokens.push(String::new());
            continue;
        }
        if let Some(token) = tokens.last_mut() {
            token.push(character);
        }
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_pairs_give_the_same_target_without_the_password_in_sight() {
        for text in [
            "postgres://app:hunter2@db.test:5433/shop?sslmode=require&connect_timeout=3",
            "host=db.test port=5433 user=app password='hunter 2' dbname=shop sslmode=require connect_timeout=3",
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.shown, "db.test:5433/shop as app");
            assert_eq!(target.config.get_ssl_mode(), SslMode::Require);
            assert_eq!(
                target.config.get_connect_timeout(),
                Some(&Duration::from_secs(3))
            );
        }
        let socket = Target::parse("postgres://app@/shop?host=/run/pg&port=5440").unwrap();
        assert_eq!(socket.shown, "/run/pg:5440/shop as app");
    }

    #[test]
    fn nonsense_is_refused_without_being_quoted() {
        for text in [
            "http://app:hunter2@db/shop",
            "postgres://app:hunter2@db/shop?sslmode=verify-none",
            "postgres://app:hunter2@db:notaport/shop",
            "hunter2",
            "",
            "postgres:///shop",
        ] {
            let error = Target::parse(text).err().unwrap().to_string();
            assert!(
                error.starts_with("ROTATOR_DATABASE_URL can't be used")
                    && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_root_certificate_makes_require_verify_the_chain() {
        let mut ssl = Ssl::default();
        ssl.take_from_url("postgres://a@b/c?sslmode=require&sslrootcert=%2Fetc%2Fca.pem")
            .unwrap();
        assert_eq!(ssl.verify(), Verify::Chain);
        assert_eq!(ssl.root, Some(PathBuf::from("/etc/ca.pem")));
        ssl.set("sslmode", "verify-full").unwrap();
        assert_eq!(ssl.verify(), Verify::ChainAndName);
    }
}
