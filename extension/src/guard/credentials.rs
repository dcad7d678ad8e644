//! Credentials as programs keep them: connection strings, `.pgpass`, `.netrc`, password hashes, and the secret half of
//! AWS's key pair by its name. As programs send them: `logins`.

use super::encoded::is_base64;
use super::logins::{authorization, curl, docker_login};
use super::shape::looks_random;
use super::{starts_word, steps};

/// What stands in examples where the password belongs.
const PLACEHOLDERS: [&[u8]; 26] = [
    b"password",
    b"passwd",
    b"secret",
    b"pass",
    b"pwd",
    b"changeme",
    b"redacted",
    b"hidden",
    b"none",
    b"null",
    b"empty",
    b"example",
    b"placeholder",
    b"removed",
    b"omitted",
    b"masked",
    b"unset",
    b"true",
    b"false",
    b"yes",
    b"vault",
    b"see",
    b"from",
    b"token",
    b"the",
    b"masked_password",
];

/// Whether this stands for a value instead of being one: `${PASSWORD}`, `<password>`, `****`, `your-password`.
pub fn is_placeholder(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let Some(first) = value.first() else {
        return true;
    };
    matches!(
        first,
        b'<' | b'$' | b'{' | b'%' | b'[' | b'*' | b'(' | 0x80..=0xff
    ) || value.iter().all(|byte| byte == first)
        || PLACEHOLDERS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(value))
        || [&b"your"[..], b"vault:", b"env:", b"ref:", b"op:", b"file:"]
            .iter()
            .any(|start| {
                value
                    .get(..start.len())
                    .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
            })
}

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    steps::count(bytes.len());
    let mut line = Line::default();
    let mut at_start = true;
    for (position, byte) in bytes.iter().enumerate() {
        let starts = starts_word(bytes, position);
        let rest = &bytes[position..];
        let at_value = at_start.then(|| pgpass(rest)).flatten();
        let found = at_value.or_else(|| match byte {
            b'p' | b'P' if starts => in_connection_string(bytes, position, &mut line),
            b'm' | b'd' if starts => netrc(rest),
            b'$' => password_hash(rest),
            b'{' => ldap_hash(rest),
            b'S' if starts && rest.starts_with(b"SCRAM-SHA-256$") => Some("password-hash"),
            b'b' | b'B' if starts => authorization(rest),
            b'"' if rest.starts_with(b"\"auth") => docker_login(rest),
            b'-' if !starts || position > 0 => curl(bytes, position),
            b's' | b'S' => aws_secret(rest),
            _ => None,
        });
        if found.is_some() {
            return found;
        }
        at_start = byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'=' | b'(');
    }
    None
}

/// The line that was looked at last, and whether it has a companion of a password in it.
#[derive(Default)]
struct Line {
    end: usize,
    is_connection: bool,
}

/// Keys that stand beside a password in a connection string of ODBC, ADO, JDBC, libpq or a cache.
const COMPANIONS: [&[u8]; 17] = [
    b"server",
    b"data source",
    b"datasource",
    b"host",
    b"hostname",
    b"addr",
    b"address",
    b"uid",
    b"user id",
    b"user",
    b"username",
    b"database",
    b"dbname",
    b"initial catalog",
    b"driver",
    b"ssl",
    b"abortconnect",
];

/// `password=…` or `pwd=…` in a line with another part of a connection string.
fn in_connection_string(bytes: &[u8], position: usize, line: &mut Line) -> Option<&'static str> {
    let rest = &bytes[position..];
    let name = [&b"password"[..], b"pwd", b"passwd", b"pass"]
        .into_iter()
        .find(|name| {
            rest.get(..name.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        })?;
    let value = blanks(&rest[name.len()..]).strip_prefix(b"=")?;
    let value = unquoted(blanks(value));
    let length = value
        .iter()
        .take(128)
        .take_while(|byte| {
            !byte.is_ascii_whitespace() && !matches!(byte, b';' | b',' | b'"' | b'\'' | b'&')
        })
        .count();
    steps::count(length);
    if length < 3 || is_placeholder(&value[..length]) {
        return None;
    }
    if position >= line.end {
        let start = bytes[..position]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1)
            .max(line.end);
        line.end = bytes[position..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |length| position + length + 1);
        steps::count(line.end - start);
        line.is_connection = has_companion(&bytes[start..line.end]);
    }
    line.is_connection.then_some("connection-string")
}

/// Whether a key that belongs to connections stands before an equals sign.
fn has_companion(line: &[u8]) -> bool {
    line.iter().enumerate().any(|(position, byte)| {
        if *byte != b'=' {
            return false;
        }
        let before = &line[position.saturating_sub(20)..position];
        let before = before.trim_ascii_end();
        COMPANIONS.iter().any(|key| {
            steps::count(1);
            before.len() >= key.len()
                && before[before.len() - key.len()..].eq_ignore_ascii_case(key)
                && before
                    .get(..before.len() - key.len())
                    .and_then(<[u8]>::last)
                    .is_none_or(|byte| !byte.is_ascii_alphanumeric())
        })
    })
}

/// `host:port:database:user:password`, each but the last possibly a star.
fn pgpass(rest: &[u8]) -> Option<&'static str> {
    let host = rest
        .iter()
        .take(255)
        .take_while(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*')
        })
        .count();
    steps::count(host + 1);
    let rest = rest[host..].strip_prefix(b":")?;
    let port = rest
        .iter()
        .take(6)
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'*')
        .count();
    if host == 0 || !(matches!(port, 3..=5) || rest[..port] == *b"*") {
        return None;
    }
    let rest = rest[port..].strip_prefix(b":")?;
    let rest = &rest[..rest.len().min(512)];
    let end = rest
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\''))
        .unwrap_or(rest.len());
    steps::count(end);
    let mut fields = rest[..end].split(|byte| *byte == b':');
    let (database, user, password) = (fields.next()?, fields.next()?, fields.next()?);
    let is_one = !database.is_empty() && !user.is_empty() && fields.next().is_none();
    (is_one && password.len() >= 3 && !is_placeholder(password)).then_some("pgpass")
}

/// `machine … login … password …`, on one line or several.
fn netrc(rest: &[u8]) -> Option<&'static str> {
    if !(rest.starts_with(b"machine ") || rest.starts_with(b"default ")) {
        return None;
    }
    let rest = &rest[..rest.len().min(512)];
    steps::count(rest.len());
    let mut words = rest
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    if words.next()? == b"machine" {
        let host = words.next()?;
        let is_host = host.contains(&b'.') || host == b"localhost" || looks_random(host);
        if !is_host {
            return None;
        }
    }
    for _ in 0..3 {
        match words.next()? {
            b"login" | b"account" => words.next()?,
            b"password" => {
                let password = words.next()?;
                return (password.len() >= 3 && !is_placeholder(password)).then_some("netrc");
            }
            _ => return None,
        };
    }
    None
}

/// What crypt(3) and its like make: `$2b$12$…`, `$6$…`, `$argon2id$…`, `$apr1$…` as in `.htpasswd`.
fn password_hash(rest: &[u8]) -> Option<&'static str> {
    const KINDS: [&[u8]; 15] = [
        b"$1$",
        b"$2a$",
        b"$2b$",
        b"$2x$",
        b"$2y$",
        b"$5$",
        b"$6$",
        b"$7$",
        b"$y$",
        b"$gy$",
        b"$apr1$",
        b"$argon2",
        b"$pbkdf2",
        b"$scrypt$",
        b"$sha512-crypt$",
    ];
    let kind = KINDS.iter().find(|kind| rest.starts_with(kind))?;
    let length = rest[kind.len()..]
        .iter()
        .take(64)
        .take_while(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'.' | b'/' | b'$' | b'=' | b',' | b'+' | b'-')
        })
        .count();
    steps::count(length);
    (length >= 24).then_some("password-hash")
}

/// `{SSHA}…` and the like, as LDAP and `.htpasswd` have it.
fn ldap_hash(rest: &[u8]) -> Option<&'static str> {
    const KINDS: [&[u8]; 6] = [
        b"{SHA}",
        b"{SSHA}",
        b"{SSHA256}",
        b"{SSHA512}",
        b"{SMD5}",
        b"{MD5}",
    ];
    let kind = KINDS.iter().find(|kind| rest.starts_with(kind))?;
    let length = rest[kind.len()..]
        .iter()
        .take(128)
        .take_while(|byte| is_base64(**byte))
        .count();
    steps::count(length);
    (length >= 22).then_some("password-hash")
}

/// `secret_access_key`, in any spelling, and 40 characters of base64.
fn aws_secret(rest: &[u8]) -> Option<&'static str> {
    let name = rest.get(..6)?;
    if !name.eq_ignore_ascii_case(b"secret") {
        return None;
    }
    let rest = &rest[6..rest.len().min(96)];
    // The rest of the name, and what separates it from the value.
    let skipped = rest
        .iter()
        .take(32)
        .take_while(|byte| {
            matches!(
                byte,
                b'_' | b'-' | b' ' | b':' | b'=' | b'"' | b'\'' | b'>' | b'\\'
            ) || byte.is_ascii_whitespace()
        })
        .count();
    let mut value = &rest[skipped..];
    for word in [&b"access"[..], b"key"] {
        if let Some(begin) = value.get(..word.len())
            && begin.eq_ignore_ascii_case(word)
        {
            value = &value[word.len()..];
        }
        let skipped = value
            .iter()
            .take_while(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'/' | b'+'))
            .count();
        value = &value[skipped..];
    }
    let length = value
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+'))
        .count();
    steps::count(96);
    let value = &value[..length];
    let is_mixed = [
        u8::is_ascii_digit,
        u8::is_ascii_lowercase,
        u8::is_ascii_uppercase,
    ]
    .iter()
    .all(|test| value.iter().any(test));
    (length == 40 && is_mixed).then_some("aws-secret-key")
}

/// Without the quote in front, if there is one.
pub fn unquoted(rest: &[u8]) -> &[u8] {
    match rest {
        [b'"' | b'\'', rest @ ..] => rest,
        rest => rest,
    }
}

/// Without the blanks in front, of which at most 16 are looked at.
pub fn blanks(rest: &[u8]) -> &[u8] {
    let length = rest
        .iter()
        .take(16)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    &rest[length..]
}
