//! Logins as programs send them: HTTP's basic and bearer schemes, a Docker configuration, the command line of curl.

use super::credentials::{blanks, is_placeholder, unquoted};
use super::encoded::{decode, is_base64, is_text};
use super::shape::looks_random;
use super::steps;

/// HTTP's `Basic` with a name and a password in base64, and `Bearer` with what is no word.
pub fn authorization(rest: &[u8]) -> Option<&'static str> {
    let scheme = rest.get(..6)?;
    let length = |value: &[u8]| {
        let length = value
            .iter()
            .take(512)
            .take_while(|byte| is_base64(**byte) || matches!(byte, b'=' | b'.' | b'~'))
            .count();
        steps::count(length);
        length
    };
    if scheme.eq_ignore_ascii_case(b"basic ") {
        let value = blanks(&rest[6..]);
        return is_login(&value[..length(value)]).then_some("basic-authorization");
    }
    if scheme.eq_ignore_ascii_case(b"bearer") && rest.get(6) == Some(&b' ') {
        let value = blanks(&rest[7..]);
        let value = &value[..length(value)];
        let has_digits = value.iter().filter(|byte| byte.is_ascii_digit()).count() >= 3;
        return (value.len() >= 20 && has_digits && looks_random(value)).then_some("bearer-token");
    }
    None
}

/// `"auth": "…"` of a Docker configuration.
pub fn docker_login(rest: &[u8]) -> Option<&'static str> {
    let rest = &rest[5..];
    let rest = rest
        .strip_prefix(b"\\")
        .unwrap_or(rest)
        .strip_prefix(b"\"")?;
    let value = blanks(blanks(rest).strip_prefix(b":")?);
    let value = value
        .strip_prefix(b"\\")
        .unwrap_or(value)
        .strip_prefix(b"\"")?;
    let length = value
        .iter()
        .take(512)
        .take_while(|byte| is_base64(**byte) || **byte == b'=')
        .count();
    steps::count(length);
    is_login(&value[..length]).then_some("basic-authorization")
}

/// Base64 of `name:password`.
fn is_login(value: &[u8]) -> bool {
    let end = value
        .iter()
        .position(|byte| *byte == b'=')
        .unwrap_or(value.len());
    if end < 8 {
        return false;
    }
    decode(&value[..end]).is_some_and(|login| {
        is_text(&login)
            && login
                .iter()
                .position(|byte| *byte == b':')
                .is_some_and(|colon| login.len() - colon > 3)
    })
}

/// `curl … -u name:password`
pub fn curl(bytes: &[u8], position: usize) -> Option<&'static str> {
    let rest = &bytes[position..];
    let value = rest
        .strip_prefix(b"-u ")
        .or(rest.strip_prefix(b"--user "))?;
    let value = unquoted(blanks(value));
    let length = value
        .iter()
        .take(128)
        .take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\''))
        .count();
    let before = &bytes[position.saturating_sub(160)..position];
    steps::count(length + before.len());
    if !before.windows(4).any(|window| window == b"curl") {
        return None;
    }
    let colon = value[..length].iter().position(|byte| *byte == b':')?;
    let password = &value[colon + 1..length];
    (password.len() >= 3 && !is_placeholder(password)).then_some("curl-password")
}
