//! Settings: one typed struct, read once at start, with one clear message for whatever is unknown or invalid.
//!
//! Elsewhere: the list of names (`names.rs`), where values come from (`sources.rs`), values that must not be seen
//! (`secret.rs`), networks (`cidr.rs`). What is needed only by some commands (the database URL, say) is optional here
//! and asked for by whoever needs it. Tests: `tests.rs`, and the end-to-end tests start the binary
//! with bad settings.

mod cidr;
mod names;
mod secret;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;
use zeroize::Zeroizing;

pub use cidr::Cidr;
pub use names::{NAMES, Name, PREFIX};
pub use secret::Secret;
use sources::Sources;

use crate::audit::S3Url;
use crate::logging::Format;

/// Where the sidecar serves unless told otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// What is wrong with the settings. Never quotes the value of a secret one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown setting {name}")]
    Unknown {
        name: String,
        nearest: Option<String>,
    },
    #[error("{name}: {problem}")]
    Invalid {
        name: String,
        problem: String,
        hint: String,
    },
    #[error("{PREFIX}{key} is not set")]
    Missing {
        key: &'static str,
        about: &'static str,
    },
}

impl ConfigError {
    pub(crate) fn invalid(name: &str, problem: &str, hint: &str) -> Self {
        Self::Invalid {
            name: name.to_owned(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown {
                nearest: Some(nearest),
                ..
            } => format!("did you mean {nearest}?"),
            Self::Unknown { nearest: None, .. } => {
                let known: Vec<String> = NAMES
                    .iter()
                    .map(|name| format!("{PREFIX}{}", name.key))
                    .collect();
                format!("known settings: {}", known.join(", "))
            }
            Self::Invalid { hint, .. } => hint.clone(),
            Self::Missing { key, about } => {
                format!(
                    "set it in the environment, in .env, or as {} in rotator.toml: {about}",
                    key.to_lowercase()
                )
            }
        }
    }
}

/// Where signed blocks of the audit log are locked away.
#[derive(Clone, Debug)]
pub struct AuditS3 {
    pub url: S3Url,
    pub retention_days: u32,
}

/// Everything the sidecar can be told. Shared by reference; secrets inside can't be copied or printed.
pub struct Settings {
    database_url: Option<Secret>,
    /// Base of every link.
    pub public_url: Url,
    /// Nobody set the public URL; it is made of [`Settings::listen`].
    pub public_url_is_guessed: bool,
    pub listen: SocketAddr,
    /// Where figures and probes are served apart from the pages.
    pub metrics_listen: Option<SocketAddr>,
    pub log_format: Option<Format>,
    /// Slug or id; commands only.
    pub tenant: Option<String>,
    pub slack_bot_token: Option<Secret>,
    /// Checks callbacks; without it messages have no buttons that call back.
    pub slack_signing_secret: Option<Secret>,
    /// Stands for `https://slack.com`; also for `https://hooks.slack.com`.
    pub slack_url: Option<Url>,
    pub smtp_url: Option<Secret>,
    pub email_from: Option<String>,
    pub sendgrid_api_key: Option<Secret>,
    /// Stands for `https://api.sendgrid.com`.
    pub sendgrid_url: Option<Url>,
    /// Stands for `https://events.pagerduty.com`.
    pub pagerduty_url: Option<Url>,
    /// One, or several with commas between.
    pub pagerduty_webhook_secret: Option<Secret>,
    /// Stands for the endpoints of AWS.
    pub aws_endpoint_url: Option<Url>,
    pub webhook_signing_secret: Option<Secret>,
    pub console_outbox: Option<PathBuf>,
    /// The line of a key that signs sealed blocks of the audit log.
    pub audit_key: Option<Secret>,
    pub audit_file: Option<PathBuf>,
    pub audit_s3: Option<AuditS3>,
    pub egress_allow: Arc<[Cidr]>,
    /// Names of what somebody set; for a log line.
    pub set: Vec<&'static str>,
    /// Set although this version does not use them; for a log line.
    pub unused: Vec<&'static str>,
    /// Variables of the environment that begin like ours and mean nothing to us; for a log line.
    pub ignored: Vec<String>,
}

impl Settings {
    /// Reads the environment, `./.env` and the TOML file.
    ///
    /// # Errors
    /// Whatever is unknown, unreadable or not of its form, named as the user wrote it.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_sources(&Sources::read()?)
    }

    fn from_sources(sources: &Sources) -> Result<Self, ConfigError> {
        let listen = match address(sources, "LISTEN")? {
            Some(listen) => listen,
            None => DEFAULT_LISTEN.parse().map_err(|_| {
                ConfigError::invalid("ROTATOR_LISTEN", "no usable default", "set it")
            })?,
        };
        let public_url = base_url(sources, "PUBLIC_URL")?;
        let public_url_is_guessed = public_url.is_none();
        let public_url = match public_url {
            Some(url) => url,
            None => Url::parse(&format!("http://{listen}")).map_err(|error| {
                ConfigError::invalid(
                    "ROTATOR_LISTEN",
                    &error.to_string(),
                    "set ROTATOR_PUBLIC_URL as well",
                )
            })?,
        };
        let egress = parse(
            sources,
            "EGRESS_ALLOW",
            "write networks like 10.1.0.0/16,fd00::/8",
            |text| {
                let items = text.split([',', ' ']).filter(|item| !item.is_empty());
                items.map(str::parse::<Cidr>).collect::<Result<Vec<_>, _>>()
            },
        )?;
        let (mut set, mut unused) = (Vec::new(), Vec::new());
        for name in NAMES {
            if sources.get(name.key)?.is_some() {
                if name.used { &mut set } else { &mut unused }.push(name.key);
            }
        }
        Ok(Self {
            database_url: secret(sources, "DATABASE_URL")?,
            public_url,
            public_url_is_guessed,
            listen,
            metrics_listen: address(sources, "METRICS_LISTEN")?,
            log_format: parse(sources, "LOG_FORMAT", "write text or json", str::parse)?,
            tenant: text(sources, "TENANT")?,
            slack_bot_token: secret(sources, "SLACK_BOT_TOKEN")?,
            slack_signing_secret: signing_secret(sources, "SLACK_SIGNING_SECRET")?,
            slack_url: base_url(sources, "SLACK_URL")?,
            smtp_url: secret(sources, "SMTP_URL")?,
            email_from: text(sources, "EMAIL_FROM")?,
            sendgrid_api_key: secret(sources, "SENDGRID_API_KEY")?,
            sendgrid_url: base_url(sources, "SENDGRID_URL")?,
            pagerduty_url: base_url(sources, "PAGERDUTY_URL")?,
            pagerduty_webhook_secret: signing_secret(sources, "PAGERDUTY_WEBHOOK_SECRET")?,
            aws_endpoint_url: base_url(sources, "AWS_ENDPOINT_URL")?,
            webhook_signing_secret: secret(sources, "WEBHOOK_SIGNING_SECRET")?,
            console_outbox: text(sources, "CONSOLE_OUTBOX")?.map(PathBuf::from),
            audit_key: audit_key(sources)?,
            audit_file: text(sources, "AUDIT_FILE")?.map(PathBuf::from),
            audit_s3: audit_s3(sources)?,
            egress_allow: egress.unwrap_or_default().into(),
            set,
            unused,
            ignored: sources.ignored.clone(),
        })
    }

    /// The database to work with.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when nobody set it.
    pub fn database_url(&self) -> Result<&Secret, ConfigError> {
        self.database_url
            .as_ref()
            .ok_or_else(|| missing("DATABASE_URL"))
    }

    /// The link that belongs to a token: what a notification's button opens.
    pub fn link(&self, token: &str) -> String {
        format!(
            "{}/a/{token}",
            self.public_url.as_str().trim_end_matches('/')
        )
    }
}

fn missing(key: &'static str) -> ConfigError {
    ConfigError::Missing {
        key,
        about: names::find(key).map_or("", |name| name.about),
    }
}

fn text(sources: &Sources, key: &str) -> Result<Option<String>, ConfigError> {
    let Some((value, origin)) = sources.get(key)? else {
        return Ok(None);
    };
    if value.chars().any(char::is_control) {
        let hint = "it must be one line of text";
        return Err(ConfigError::invalid(
            &origin.spell(key),
            "it holds a control character",
            hint,
        ));
    }
    Ok(Some(value))
}

fn secret(sources: &Sources, key: &str) -> Result<Option<Secret>, ConfigError> {
    Ok(text(sources, key)?.map(|value| Secret::new(value.trim().to_owned())))
}

/// With an empty or short one anybody could sign.
fn signing_secret(sources: &Sources, key: &str) -> Result<Option<Secret>, ConfigError> {
    const SHORTEST: usize = 16;
    parse(
        sources,
        key,
        "copy it from the page where the vendor shows it",
        |text| {
            let long_enough = text.split(',').all(|secret| {
                let secret = secret.trim();
                secret.len() >= SHORTEST && secret.bytes().all(|byte| byte.is_ascii_graphic())
            });
            if long_enough {
                Ok(Secret::new(text.to_owned()))
            } else {
                Err(
                    "it is too short for a signing secret, or holds a blank or a special character"
                        .to_owned(),
                )
            }
        },
    )
}

fn address(sources: &Sources, key: &str) -> Result<Option<SocketAddr>, ConfigError> {
    let hint = "write address and port, like 127.0.0.1:8080";
    parse(sources, key, hint, |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("\"{text}\" is not an address and port"))
    })
}

fn parse<T>(
    sources: &Sources,
    key: &str,
    hint: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    let Some((value, origin)) = sources.get(key)? else {
        return Ok(None);
    };
    let value = value.trim();
    read(value)
        .map(Some)
        .map_err(|problem| ConfigError::invalid(&origin.spell(key), &problem, hint))
}

/// Also from a file that has the public line as well.
fn audit_key(sources: &Sources) -> Result<Option<Secret>, ConfigError> {
    let Some((value, _)) = sources.get("AUDIT_KEY")? else {
        return Ok(None);
    };
    let value = Zeroizing::new(value);
    let line = value
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("PRIVATE+KEY+"));
    Ok(Some(Secret::new(line.unwrap_or_default().to_owned())))
}

fn audit_s3(sources: &Sources) -> Result<Option<AuditS3>, ConfigError> {
    let days = "AUDIT_S3_RETENTION_DAYS";
    let hint = "write s3://bucket or s3://bucket/prefix";
    let url = parse(sources, "AUDIT_S3_URL", hint, |text| {
        text.parse::<S3Url>().map_err(str::to_owned)
    })?;
    let hint = "write a number of days, from 1 to 36500; in COMPLIANCE mode it can't be shortened";
    let retention = parse(sources, days, hint, |text| {
        let days = text.parse::<u32>().ok();
        days.filter(|days| (1..=36_500).contains(days))
            .ok_or_else(|| format!("\"{text}\" is no such number"))
    })?;
    match (url, retention) {
        (Some(url), Some(retention_days)) => Ok(Some(AuditS3 {
            url,
            retention_days,
        })),
        (Some(_), None) => Err(missing(days)),
        (None, _) => Ok(None),
    }
}

/// An http(s) URL to which paths are appended: no query, no fragment, no credentials.
fn base_url(sources: &Sources, key: &str) -> Result<Option<Url>, ConfigError> {
    parse(
        sources,
        key,
        "write it like https://rotator.example.com",
        |text| {
            let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                return Err("it must begin with https:// or http:// and name a host".to_owned());
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err("it must not hold a user or password".to_owned());
            }
            if url.query().is_some() || url.fragment().is_some() {
                return Err("it must not have a query or fragment".to_owned());
            }
            Ok(url)
        },
    )
}

#[cfg(test)]
mod tests;
