//! The options of a connection string that the driver does not know, taken out before it sees the string: TLS with
//! libpq's meaning, and names of libpq's that would otherwise only be "unknown".
//!
//! Elsewhere: the TLS itself (`tls.rs`), all other options (`target.rs`).

use std::path::PathBuf;

use tokio_postgres::config::SslMode;

use super::DbError;
use super::target::malformed;
use super::tls::{Files, Verify};

/// Of libpq's options: what has no counterpart here and changes who is trusted, so that leaving it out would be a lie.
const UNSUPPORTED: [&str; 14] = [
    "sslcrl",
    "sslcrldir",
    "sslpassword",
    "sslcertmode",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "requirepeer",
    "require_auth",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "passfile",
    "service",
    "servicefile",
];
/// What may be left out without anybody missing it.
const WITHOUT_EFFECT: [&str; 3] = ["sslcompression", "sslsni", "fallback_application_name"];

/// What was asked for.
pub(super) struct Ssl {
    pub mode: SslMode,
    verify: Verify,
    pub files: Files,
}

impl Default for Ssl {
    fn default() -> Self {
        Self {
            mode: SslMode::Prefer,
            verify: Verify::Nothing,
            files: Files::default(),
        }
    }
}

impl Ssl {
    pub fn verify(&self) -> Verify {
        // As in libpq: `require` with a root certificate verifies the chain.
        match self.verify {
            Verify::Nothing if self.files.root.is_some() && self.mode == SslMode::Require => {
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
                self.files.root = (value != "system").then(|| PathBuf::from(value));
                Ok(true)
            }
            "sslcert" => {
                self.files.certificate = Some(PathBuf::from(value));
                Ok(true)
            }
            "sslkey" => {
                self.files.key = Some(PathBuf::from(value));
                Ok(true)
            }
            "gssencmode" if value != "require" => Ok(true),
            "gssencmode" => Err(malformed("gssencmode=require is not supported".to_owned())),
            known if WITHOUT_EFFECT.contains(&known) => Ok(true),
            known if UNSUPPORTED.contains(&known) => {
                Err(malformed(format!("{known} is not supported")))
            }
            _ => Ok(false),
        }
    }

    pub fn take_from_url(&mut self, text: &str) -> Result<String, DbError> {
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

    pub fn take_from_pairs(&mut self, text: &str) -> Result<String, DbError> {
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
    fn a_root_certificate_makes_require_verify_the_chain() {
        let mut ssl = Ssl::default();
        ssl.take_from_url("postgres://a@b/c?sslmode=require&sslrootcert=%2Fetc%2Fca.pem")
            .unwrap();
        assert_eq!(ssl.verify(), Verify::Chain);
        assert_eq!(ssl.files.root, Some(PathBuf::from("/etc/ca.pem")));
        ssl.set("sslmode", "verify-full").unwrap();
        assert_eq!(ssl.verify(), Verify::ChainAndName);
    }
}
