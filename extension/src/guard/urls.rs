//! Credentials in URLs: a password before the host, a token or a signature in the query.

use super::credentials::is_placeholder;
use super::shape::looks_random;
use super::steps;

/// Longest part of a URL before its path that is looked at.
const LONGEST_AUTHORITY: usize = 512;

/// Names of a query whose value is a secret when it is long enough, with how long that is.
const NAMES: [(&[u8], usize, &str); 26] = [
    (b"token", 16, "token-in-url"),
    (b"access_token", 16, "token-in-url"),
    (b"accesstoken", 16, "token-in-url"),
    (b"auth_token", 16, "token-in-url"),
    (b"private_token", 16, "token-in-url"),
    (b"job_token", 16, "token-in-url"),
    (b"refresh_token", 16, "token-in-url"),
    (b"id_token", 16, "token-in-url"),
    (b"api_key", 16, "token-in-url"),
    (b"apikey", 16, "token-in-url"),
    (b"api-key", 16, "token-in-url"),
    (b"subscription-key", 16, "token-in-url"),
    (b"key", 20, "token-in-url"),
    (b"code", 40, "token-in-url"),
    (b"auth", 16, "token-in-url"),
    (b"secret", 16, "token-in-url"),
    (b"client_secret", 16, "token-in-url"),
    (b"sig", 20, "sas-signature"),
    (b"signature", 20, "signed-url"),
    (b"x-amz-signature", 32, "signed-url"),
    (b"x-amz-security-token", 32, "signed-url"),
    (b"x-goog-signature", 32, "signed-url"),
    (b"password", 3, "password-in-url"),
    (b"passwd", 3, "password-in-url"),
    (b"pwd", 3, "password-in-url"),
    (b"pass", 3, "password-in-url"),
];

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    steps::count(bytes.len());
    for (position, byte) in bytes.iter().enumerate() {
        let found = match byte {
            b':' if bytes[position..].starts_with(b"://") => {
                has_password(scheme(&bytes[..position]), &bytes[position + 3..])
                    .then_some("password-in-url")
            }
            b'@' => is_data_source(bytes, position).then_some("password-in-url"),
            b'?' | b'&' | b';' | b'#' => in_query(&bytes[position + 1..]),
            b's' | b'S' => in_signature(bytes, position),
            b'j' => oracle(&bytes[position..]),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The letters right before `://`.
fn scheme(before: &[u8]) -> &[u8] {
    let length = before
        .iter()
        .rev()
        .take(16)
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .count();
    &before[before.len() - length..]
}

/// `user:password@host`, of which the user may be missing. In a path or a query it would be something else.
fn has_password(scheme: &[u8], rest: &[u8]) -> bool {
    let is_web = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let length = rest
        .iter()
        .take(LONGEST_AUTHORITY)
        .take_while(|byte| match byte {
            b'/' | b'"' | b'\'' | b'`' | b'<' | b'>' => false,
            b'?' | b'#' => !is_web,
            byte => !byte.is_ascii_whitespace(),
        })
        .count();
    steps::count(length);
    let Some(at) = rest[..length].iter().rposition(|byte| *byte == b'@') else {
        return false;
    };
    let user_info = &rest[..at];
    user_info
        .iter()
        .position(|byte| *byte == b':')
        .is_some_and(|colon| is_password(&user_info[colon + 1..]))
}

/// Three bytes or more, and none of the words that stand for a password.
fn is_password(value: &[u8]) -> bool {
    value.len() >= 3 && !is_placeholder(value)
}

/// `user:password@tcp(host:3306)/name`, as drivers for Go want it.
fn is_data_source(bytes: &[u8], position: usize) -> bool {
    let rest = &bytes[position + 1..];
    if !(rest.starts_with(b"tcp(") || rest.starts_with(b"unix(")) {
        return false;
    }
    let before = &bytes[position.saturating_sub(128)..position];
    let length = before
        .iter()
        .rev()
        .take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | b'='))
        .count();
    steps::count(length);
    let user_info = &before[before.len() - length..];
    user_info
        .iter()
        .position(|byte| *byte == b':')
        .is_some_and(|colon| is_password(&user_info[colon + 1..]))
}

/// `jdbc:oracle:thin:user/password@…`
fn oracle(rest: &[u8]) -> Option<&'static str> {
    let rest = rest.strip_prefix(b"jdbc:oracle:")?;
    let rest = &rest[..rest.len().min(256)];
    steps::count(rest.len());
    let kind = rest.iter().position(|byte| *byte == b':')?;
    let rest = &rest[kind + 1..];
    let at = rest.iter().position(|byte| *byte == b'@')?;
    let slash = rest[..at].iter().position(|byte| *byte == b'/')?;
    is_password(&rest[slash + 1..at]).then_some("password-in-url")
}

/// `name=value` behind a question mark or an ampersand.
fn in_query(rest: &[u8]) -> Option<&'static str> {
    let rest = rest.strip_prefix(b"amp;").unwrap_or(rest);
    let length = rest
        .iter()
        .take(24)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        .count();
    steps::count(length);
    let (name, rest) = rest.split_at(length);
    let rest = rest.strip_prefix(b"=")?;
    let (_, shortest, rule) = NAMES
        .iter()
        .find(|(known, _, _)| known.eq_ignore_ascii_case(name))?;
    let value = value_of(rest);
    let is_secret = match *rule {
        "password-in-url" => is_password(value),
        _ => looks_random(value) && !is_placeholder(value),
    };
    (value.len() >= *shortest && is_secret).then_some(rule)
}

/// `sig=` of a shared access signature also where its URL was cut off before it.
fn in_signature(bytes: &[u8], position: usize) -> Option<&'static str> {
    let rest = &bytes[position..];
    let rest = match rest.get(..4) {
        Some(name) if name.eq_ignore_ascii_case(b"sig=") => &rest[4..],
        _ => return None,
    };
    if position > 0 && bytes[position - 1].is_ascii_alphanumeric() {
        return None;
    }
    let value = value_of(rest);
    (value.len() >= 43 && looks_random(value)).then_some("sas-signature")
}

/// A value of a query, percent encoding and all; at most 256 bytes of it.
fn value_of(rest: &[u8]) -> &[u8] {
    let length = rest
        .iter()
        .take(256)
        .take_while(|byte| {
            !byte.is_ascii_whitespace()
                && !matches!(byte, b'&' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'`' | b';')
        })
        .count();
    steps::count(length);
    &rest[..length]
}
