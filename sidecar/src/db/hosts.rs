//! Several hosts in one URL: each is a place of its own, tried in the order written. The driver could do that as well,
//! but would tell only what the last one answered, and would wait forever for one that takes the connection and then
//! says nothing; here each has its time, and an error names every host with its answer.
//!
//! Elsewhere: the URL (`target.rs`), what an error means (`error.rs`).

use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::{Config, Host, SslMode};
use tokio_postgres::{Client, Connection, Socket};

use super::target::malformed;
use super::{DbError, Target, tls};

/// One host with everything else the URL says.
pub(super) struct Place {
    config: Config,
    /// `host:port`.
    name: String,
}

/// Of each host, `host:port`.
pub(super) fn names(config: &Config) -> Vec<String> {
    (0..count(config))
        .map(|position| name(config, position))
        .collect()
}

fn count(config: &Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

fn port(config: &Config, position: usize) -> u16 {
    let ports = config.get_ports();
    ports
        .get(position)
        .or(ports.first())
        .copied()
        .unwrap_or(5432)
}

fn name(config: &Config, position: usize) -> String {
    let port = port(config, position);
    match (
        config.get_hosts().get(position),
        config.get_hostaddrs().get(position),
    ) {
        (Some(Host::Tcp(name)), _) => format!("{name}:{port}"),
        (Some(Host::Unix(path)), _) => format!("{}:{port}", path.display()),
        (None, Some(address)) => format!("{address}:{port}"),
        (None, None) => String::new(),
    }
}

/// # Errors
/// [`DbError::Target`] when hosts, addresses and ports don't pair.
pub(super) fn places(config: &Config) -> Result<Vec<Place>, DbError> {
    let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err(malformed("host and hostaddr differ in number".to_owned()));
    }
    if config.get_ports().len() > 1 && config.get_ports().len() != count(config) {
        return Err(malformed("hosts and ports differ in number".to_owned()));
    }
    let place = |position| Place {
        config: single(config, position),
        name: name(config, position),
    };
    Ok((0..count(config)).map(place).collect())
}

/// The configuration with one of its hosts. The driver can't take a host out, so everything else is copied.
fn single(from: &Config, position: usize) -> Config {
    let mut config = Config::new();
    config
        .port(port(from, position))
        .ssl_mode(from.get_ssl_mode())
        .ssl_negotiation(from.get_ssl_negotiation())
        .channel_binding(from.get_channel_binding())
        .target_session_attrs(from.get_target_session_attrs())
        .load_balance_hosts(from.get_load_balance_hosts())
        .keepalives(from.get_keepalives())
        .keepalives_idle(from.get_keepalives_idle());
    match from.get_hosts().get(position) {
        Some(Host::Tcp(name)) => {
            config.host(name);
        }
        Some(Host::Unix(path)) => {
            // As libpq: a socket is never encrypted, whatever sslmode says.
            config.host_path(path).ssl_mode(SslMode::Disable);
        }
        None => {}
    }
    if let Some(address) = from.get_hostaddrs().get(position) {
        config.hostaddr(*address);
    }
    if let Some(user) = from.get_user() {
        config.user(user);
    }
    if let Some(password) = from.get_password() {
        config.password(password);
    }
    if let Some(name) = from.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = from.get_options() {
        config.options(options);
    }
    if let Some(name) = from.get_application_name() {
        config.application_name(name);
    }
    if let Some(limit) = from.get_connect_timeout() {
        config.connect_timeout(*limit);
    }
    if let Some(limit) = from.get_tcp_user_timeout() {
        config.tcp_user_timeout(*limit);
    }
    if let Some(interval) = from.get_keepalives_interval() {
        config.keepalives_interval(interval);
    }
    if let Some(retries) = from.get_keepalives_retries() {
        config.keepalives_retries(retries);
    }
    config
}

/// An open connection; its second half has to be driven.
pub(super) type Opened = (Client, Connection<Socket, tls::Stream<Socket>>);

impl Target {
    /// Opens one connection, to the first host that takes us.
    pub(super) async fn open(&self) -> Result<Opened, DbError> {
        let mut errors = Vec::new();
        for place in &self.places {
            match self.open_at(place).await {
                Ok(opened) => return Ok(opened),
                Err(error) => errors.push((place.name.as_str(), error)),
            }
        }
        Err(together(errors, &self.shown))
    }

    /// At the first of the host's addresses that takes us.
    async fn open_at(&self, place: &Place) -> Result<Opened, DbError> {
        // Zero means without limit, as in libpq.
        let limit = place.config.get_connect_timeout().copied();
        let limit = limit
            .filter(|limit| !limit.is_zero())
            .unwrap_or(Duration::MAX);
        let (Some(Host::Tcp(name)), []) = (
            place.config.get_hosts().first(),
            place.config.get_hostaddrs(),
        ) else {
            return self.open_with(&place.config, limit).await;
        };
        let unresolved = |message: String| DbError::Unreachable {
            target: self.shown.clone(),
            message,
            hint: "check the host name in ROTATOR_DATABASE_URL".to_owned(),
        };
        let addresses = timeout(limit, lookup_host((name.as_str(), 0)))
            .await
            .map_err(|_| unresolved("the look-up of the host name takes too long".to_owned()))?
            .map_err(|error| unresolved(error.to_string()))?;
        let mut last = unresolved("the host name has no address".to_owned());
        for address in addresses {
            let mut config = place.config.clone();
            config.hostaddr(address.ip());
            match self.open_with(&config, limit).await {
                Ok(opened) => return Ok(opened),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The driver's own limit ends with the TCP handshake; this one is for the server's greeting as well.
    async fn open_with(&self, config: &Config, limit: Duration) -> Result<Opened, DbError> {
        let grace = Duration::from_millis(500);
        match timeout(
            limit.saturating_add(grace),
            config.connect(self.tls.clone()),
        )
        .await
        {
            Ok(result) => result.map_err(|error| DbError::connecting(&error, &self.shown)),
            Err(_) => Err(DbError::Unreachable {
                target: self.shown.clone(),
                message: format!(
                    "it takes connections but does not answer within {} s",
                    limit.as_secs()
                ),
                hint: "the server hangs, or something that is no PostgreSQL listens there"
                    .to_owned(),
            }),
        }
    }
}

/// One error of all. Worth waiting for if one of them is: the host that refuses us may not be the one we want.
fn together(mut errors: Vec<(&str, DbError)>, shown: &str) -> DbError {
    if errors.len() == 1
        && let Some((_, error)) = errors.pop()
    {
        return error;
    }
    let waits = errors.iter().any(|(_, error)| error.is_transient());
    let hint = errors
        .iter()
        .find(|(_, error)| !error.is_transient())
        .or(errors.last())
        .and_then(|(_, error)| error.hint())
        .unwrap_or("check the hosts in ROTATOR_DATABASE_URL")
        .to_owned();
    let told: Vec<String> = errors
        .iter()
        .map(|(name, error)| match error {
            DbError::Unreachable { message, .. } | DbError::Refused { message, .. } => {
                format!("{name}: {message}")
            }
            other => format!("{name}: {other}"),
        })
        .collect();
    let (target, message) = (shown.to_owned(), told.join("; "));
    if waits {
        DbError::Unreachable {
            target,
            message,
            hint,
        }
    } else {
        DbError::Refused {
            target,
            message,
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(transient: bool, message: &str) -> DbError {
        let (target, message, hint) =
            (String::new(), message.to_owned(), format!("mend {message}"));
        if transient {
            DbError::Unreachable {
                target,
                message,
                hint,
            }
        } else {
            DbError::Refused {
                target,
                message,
                hint,
            }
        }
    }

    #[test]
    fn hosts_keep_their_order_and_share_everything_else() {
        let target = Target::parse(
            "postgres://app:pw@a:1,b:2/shop?application_name=x&channel_binding=require&connect_timeout=3&options=-cwork_mem%3D8MB",
        )
        .unwrap();
        let names: Vec<&str> = target
            .places
            .iter()
            .map(|place| place.name.as_str())
            .collect();
        assert_eq!(names, ["a:1", "b:2"]);
        for place in &target.places {
            let config = &place.config;
            assert_eq!(config.get_hosts().len(), 1);
            assert_eq!(config.get_password(), Some(b"pw".as_slice()));
            assert_eq!(config.get_dbname(), Some("shop"));
            assert_eq!(config.get_options(), Some("-cwork_mem=8MB"));
            assert_eq!(config.get_application_name(), Some("x"));
            assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
            assert_eq!(
                config.get_channel_binding(),
                tokio_postgres::config::ChannelBinding::Require
            );
            assert_eq!(
                config.get_keepalives_interval(),
                Some(Duration::from_secs(5))
            );
            let attributes = config.get_target_session_attrs();
            assert_eq!(
                attributes,
                tokio_postgres::config::TargetSessionAttrs::ReadWrite
            );
        }
    }

    #[test]
    fn a_socket_is_never_encrypted() {
        let target =
            Target::parse("host=/run/pg,db.test user=app dbname=shop sslmode=require").unwrap();
        let modes: Vec<SslMode> = target
            .places
            .iter()
            .map(|place| place.config.get_ssl_mode())
            .collect();
        assert_eq!(modes, [SslMode::Disable, SslMode::Require]);
    }

    #[test]
    fn one_host_that_may_come_back_is_waited_for_and_all_are_named() {
        let mixed = together(
            vec![
                ("a:1", error(false, "wrong password")),
                ("b:2", error(true, "down")),
            ],
            "db",
        );
        assert!(mixed.is_transient());
        assert!(mixed.to_string().contains("a:1: wrong password; b:2: down"));
        assert_eq!(mixed.hint(), Some("mend wrong password"));
        let refused = together(
            vec![("a:1", error(false, "x")), ("b:2", error(false, "y"))],
            "db",
        );
        assert!(!refused.is_transient());
        let alone = together(vec![("a:1", error(true, "down"))], "db");
        assert!(alone.to_string().ends_with(": down"));
    }
}
