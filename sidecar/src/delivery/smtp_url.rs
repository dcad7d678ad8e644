//! `ROTATOR_SMTP_URL`: `smtp://user:password@host:587?tls=required` or `smtps://…` (TLS from the first byte, port 465).
//!
//! `tls=required|opportunistic|none` is about STARTTLS. Without it: required when the URL holds a password and the
//! host is not this machine, else opportunistic. Who connects: `smtp.rs`.

use url::{Host, Url};

use crate::config::{ConfigError, Secret};

const SMTPS_PORT: u16 = 465;
const SUBMISSION_PORT: u16 = 587;
const RELAY_PORT: u16 = 25;

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With the first byte.
    Wrapped,
    Required,
    Opportunistic,
    Plain,
}

/// What the URL says.
pub struct Server {
    pub host: String,
    pub port: u16,
    pub mode: Mode,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl Server {
    /// # Errors
    /// The URL is not of its form. The text does not quote it: it may hold a password.
    pub fn parse(url: &Secret) -> Result<Self, ConfigError> {
        parse(url.expose()).map_err(|problem| invalid(&problem))
    }
}

/// `ROTATOR_SMTP_URL` can't be used, for this reason.
pub fn invalid(problem: &str) -> ConfigError {
    let hint = "write it like smtp://user:password@mail.example.com:587?tls=required, with special characters as %40";
    ConfigError::invalid("ROTATOR_SMTP_URL", problem, hint)
}

fn parse(text: &str) -> Result<Server, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    let wrapped = match url.scheme() {
        "smtps" => true,
        "smtp" => false,
        _ => return Err("it must begin with smtp:// or smtps://".to_owned()),
    };
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or("it names no host")?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err("it must not have a path or fragment".to_owned());
    }
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        (user, Some(password)) if !user.is_empty() => Some((decode(user)?, decode(password)?)),
        _ => return Err("it needs both a user and a password, or neither".to_owned()),
    };
    let mut asked = None;
    for (key, value) in url.query_pairs() {
        asked = match (key.as_ref(), value.as_ref()) {
            ("tls", "required") => Some(Mode::Required),
            ("tls", "opportunistic") => Some(Mode::Opportunistic),
            ("tls", "none") => Some(Mode::Plain),
            ("tls", _) => return Err("tls is not one of required, opportunistic, none".to_owned()),
            _ => return Err("its only option is tls".to_owned()),
        };
    }
    let mode = match (wrapped, asked) {
        (true, Some(Mode::Plain | Mode::Opportunistic)) => {
            return Err(
                "smtps:// is always encrypted; use smtp:// for tls=none or opportunistic"
                    .to_owned(),
            );
        }
        (true, _) => Mode::Wrapped,
        (false, Some(mode)) => mode,
        (false, None) if login.is_some() && !is_this_machine(&host) => Mode::Required,
        (false, None) => Mode::Opportunistic,
    };
    let port = url.port().unwrap_or(match (wrapped, login.is_some()) {
        (true, _) => SMTPS_PORT,
        (false, true) => SUBMISSION_PORT,
        (false, false) => RELAY_PORT,
    });
    Ok(Server {
        host,
        port,
        mode,
        login,
    })
}

fn is_this_machine(host: &str) -> bool {
    // The host of a URL with a scheme that is not special is not parsed as an address yet.
    match Host::parse(host) {
        Ok(Host::Domain(name)) => name == "localhost",
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => host
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback()),
    }
}

/// Percent-decoding (RFC 3986, 2.1) of a user or password.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || {
        "user or password hold a % that is not followed by two hex digits, or no UTF-8".to_owned()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [
            rest.next().ok_or_else(wrong)?,
            rest.next().ok_or_else(wrong)?,
        ];
        let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_how_to_encrypt() {
        let cases = [
            ("smtps://u:p@mail.test", 465, Mode::Wrapped),
            ("smtp://u:p@mail.test", 587, Mode::Required),
            ("smtp://mail.test", 25, Mode::Opportunistic),
            ("smtp://u:p@127.0.0.1:2525", 2525, Mode::Opportunistic),
            ("smtp://u:p@[::1]:2525", 2525, Mode::Opportunistic),
            ("smtp://mail.test?tls=required", 25, Mode::Required),
            ("smtp://mail.test:2525/?tls=none", 2525, Mode::Plain),
        ];
        for (url, port, mode) in cases {
            let server = parse(url).unwrap();
            assert_eq!((server.port, server.mode), (port, mode), "{url}");
        }
    }

    #[test]
    fn logins_are_decoded() {
        let login = parse("smtps://apikey%40acme:p%2F%C3%BC%25+@mail.test")
            .unwrap()
            .login
            .unwrap();
        assert_eq!(login, ("apikey@acme".to_owned(), "p/ü%+".to_owned()));
    }

    #[test]
    fn nonsense_is_refused_without_being_quoted() {
        for url in [
            "mail.test:25",
            "https://mail.test",
            "smtp://",
            "smtp://hunter2@mail.test",
            "smtp://mail.test?ssl=hunter2",
            "smtps://u:hunter2@mail.test?tls=none",
            "smtp://u:hunter2%4@mail.test",
            "smtp://mail.test/hunter2",
        ] {
            let error = Server::parse(&Secret::new(url.to_owned())).err().unwrap();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.to_string().starts_with("ROTATOR_SMTP_URL: "));
        }
    }
}
