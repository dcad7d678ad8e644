//! Where to connect: `ROTATOR_DATABASE_URL` turned into the driver's configuration.
//!
//! Elsewhere: options of TLS (`ssl.rs`), the TLS itself (`tls.rs`), one host after the other (`hosts.rs`).

use std::time::Duration;

use tokio_postgres::config::{Config, TargetSessionAttrs};

use super::DbError;
use super::hosts::{self, Place};
use super::ssl::Ssl;
use super::tls::MakeTls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that vanished silently is noticed after 10 + 3 × 5 seconds even on an idle connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(25);

/// A server, a database and a login role, ready to be connected to again and again.
pub struct Target {
    config: Config,
    /// In the order they are tried.
    pub(super) places: Vec<Place>,
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
        let tls = MakeTls::new(ssl.verify(), &ssl.files)?;
        let shown = shown(&config);
        let places = hosts::places(&config)?;
        Ok(Self {
            config,
            places,
            tls,
            shown,
        })
    }

    /// The same, but only where it can be written: for `serve`, whose every call writes.
    ///
    /// # Errors
    /// [`DbError::Target`] when the URL asks for the opposite.
    pub fn writable(mut self) -> Result<Self, DbError> {
        if self.config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            return Err(malformed(
                "target_session_attrs=read-only finds no server to work on".to_owned(),
            ));
        }
        self.config
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        self.places = hosts::places(&self.config)?;
        Ok(self)
    }

    /// The login role.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }
}

pub(super) fn malformed(problem: String) -> DbError {
    DbError::Target {
        problem,
        hint: "write it like postgres://user:password@host:5432/database".to_owned(),
    }
}

fn shown(config: &Config) -> String {
    let user = config.get_user().unwrap_or("");
    format!(
        "{}/{} as {user}",
        hosts::names(config).join(","),
        config.get_dbname().unwrap_or(user)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::SslMode;

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
}
