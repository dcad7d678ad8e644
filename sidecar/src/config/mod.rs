//! Settings: one typed struct, read once at start, with one clear message for whatever is unknown or invalid.
//!
//! Elsewhere: the list of names (`names.rs`), where values come from (`sources.rs`), values that must not be seen
//! (`secret.rs`), networks (`cidr.rs`). What is needed only by some commands (the database URL, say) is optional here
//! and asked for by whoever needs it. Tests: below, and the end-to-end tests start the binary with bad settings.

mod cidr;
mod names;
mod secret;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

pub use cidr::Cidr;
pub use names::{NAMES, Name, PREFIX};
pub use secret::Secret;
use sources::Sources;

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

/// Everything the sidecar can be told. Shared by reference; secrets inside can't be copied or printed.
pub struct Settings {
    database_url: Option<Secret>,
    /// Base of every link.
    pub public_url: Url,
    /// Nobody set the public URL; it is made of [`Settings::listen`].
    pub public_url_is_guessed: bool,
    pub listen: SocketAddr,
    /// Slug or id; commands only.
    pub tenant: Option<String>,
    pub slack_bot_token: Option<Secret>,
    /// Stands for `https://slack.com`; also for `https://hooks.slack.com`.
    pub slack_url: Option<Url>,
    pub smtp_url: Option<Secret>,
    pub email_from: Option<String>,
    pub console_outbox: Option<PathBuf>,
    pub egress_allow: Arc<[Cidr]>,
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
        let listen = parse(
            sources,
            "LISTEN",
            "write address and port, like 127.0.0.1:8080",
            |text| {
                text.parse::<SocketAddr>()
                    .map_err(|_| format!("\"{text}\" is not an address and port"))
            },
        )?;
        let listen = match listen {
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
        let mut unused = Vec::new();
        for name in NAMES.iter().filter(|name| !name.used) {
            if sources.get(name.key)?.is_some() {
                unused.push(name.key);
            }
        }
        Ok(Self {
            database_url: secret(sources, "DATABASE_URL")?,
            public_url,
            public_url_is_guessed,
            listen,
            tenant: text(sources, "TENANT")?,
            slack_bot_token: secret(sources, "SLACK_BOT_TOKEN")?,
            slack_url: base_url(sources, "SLACK_URL")?,
            smtp_url: secret(sources, "SMTP_URL")?,
            email_from: text(sources, "EMAIL_FROM")?,
            console_outbox: text(sources, "CONSOLE_OUTBOX")?.map(PathBuf::from),
            egress_allow: egress.unwrap_or_default().into(),
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
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(pairs: &[(&str, &str)], toml: &Path) -> Result<Settings, ConfigError> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Settings::from_sources(&Sources::assemble(pairs, Vec::new(), toml)?)
    }

    fn nowhere() -> &'static Path {
        Path::new("/nonexistent/rotator.toml")
    }

    fn message(result: Result<Settings, ConfigError>) -> String {
        match result {
            Ok(_) => "accepted".to_owned(),
            Err(error) => format!("{error} | {}", error.hint()),
        }
    }

    #[test]
    fn defaults_need_nothing_and_links_hang_below_the_public_url() {
        let plain = settings(&[], nowhere()).unwrap();
        assert_eq!(plain.link("t"), "http://127.0.0.1:8080/a/t");
        let public = settings(
            &[("ROTATOR_PUBLIC_URL", "https://x.test/rotator/")],
            nowhere(),
        )
        .unwrap();
        assert_eq!(public.link("t"), "https://x.test/rotator/a/t");
        assert!(
            plain
                .database_url()
                .err()
                .unwrap()
                .to_string()
                .contains("ROTATOR_DATABASE_URL")
        );
    }

    #[test]
    fn environment_wins_over_toml_and_files_are_read() {
        let folder = std::env::temp_dir().join(format!("rotator-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let token = folder.join("token");
        std::fs::write(&token, "xoxb-from-file\n").unwrap();
        let toml = folder.join("rotator.toml");
        std::fs::write(
            &toml,
            format!("listen = \"127.0.0.1:1\"\negress_allow = [\"10.0.0.0/8\"]\nslack_bot_token_file = {token:?}\n"),
        )
        .unwrap();
        let loaded = settings(&[("ROTATOR_LISTEN", "127.0.0.1:2")], &toml).unwrap();
        assert_eq!(loaded.listen.port(), 2);
        assert_eq!(loaded.egress_allow.len(), 1);
        assert_eq!(loaded.slack_bot_token.unwrap().expose(), "xoxb-from-file");

        std::fs::write(&toml, "lisen = \"127.0.0.1:1\"\n").unwrap();
        let text = message(settings(&[], &toml));
        assert!(
            text.contains("unknown setting lisen in") && text.contains("did you mean listen?"),
            "{text}"
        );
        std::fs::write(&toml, "smtp_url = smtp://user:hunter2@host\n").unwrap();
        let text = message(settings(&[], &toml));
        assert!(
            text.contains("not valid TOML near line 1") && !text.contains("hunter2"),
            "{text}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn mistakes_are_named_with_a_hint_and_secrets_are_not_quoted() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (
                &[("ROTATOR_LISTEN", "8080")],
                "ROTATOR_LISTEN: \"8080\" is not an address and port | write address",
            ),
            (
                &[("ROTATOR_PUBLIC_URL", "ftp://x")],
                "ROTATOR_PUBLIC_URL: it must begin with https://",
            ),
            (
                &[("ROTATOR_PUBLIC_URL", "https://u:p@x")],
                "must not hold a user or password",
            ),
            (
                &[("ROTATOR_EGRESS_ALLOW", "10.0.0.0/8, nonsense")],
                "\"nonsense\" is not a network",
            ),
            (
                &[("ROTATOR_SLACK_BOT_TOKN", "x")],
                "did you mean ROTATOR_SLACK_BOT_TOKEN?",
            ),
            (
                &[("ROTATOR_SMTP_URL", "a"), ("ROTATOR_SMTP_URL_FILE", "b")],
                "keep one of the two",
            ),
            (
                &[("ROTATOR_SMTP_URL_FILE", "/nonexistent")],
                "can't read /nonexistent",
            ),
            (
                &[("ROTATOR_CONFIG", "/nonexistent.toml")],
                "ROTATOR_CONFIG names it",
            ),
            (
                &[("ROTATOR_SLACK_BOT_TOKEN", "xoxb\n1")],
                "ROTATOR_SLACK_BOT_TOKEN: it holds a control character",
            ),
        ];
        for (pairs, expected) in cases {
            let text = message(settings(pairs, nowhere()));
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn what_kubernetes_injects_is_ignored_and_reserved_names_are_reported() {
        let loaded = settings(
            &[
                ("ROTATOR_SERVICE_HOST", "10.0.0.1"),
                ("ROTATOR_OIDC_ISSUER", "https://x"),
            ],
            nowhere(),
        )
        .unwrap();
        assert_eq!(loaded.ignored, ["ROTATOR_SERVICE_HOST"]);
        assert_eq!(loaded.unused, ["OIDC_ISSUER"]);
    }
}
