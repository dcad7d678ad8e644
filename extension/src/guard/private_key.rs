//! Private keys: by their marks in text, and by the first bytes of the containers that they are kept in.
//!
//! What holds base64 or hexadecimal digits is decoded by `encoded`, which asks [`is_container`].

use super::steps;

/// What begins a line of text that holds a private key, whatever follows.
const MARKS: [&[u8]; 5] = [
    b"PuTTY-User-Key-File-",
    b"SSH PRIVATE KEY FILE FORMAT",
    b"untrusted comment: minisign encrypted secret key",
    b"untrusted comment: signify secret key",
    b"b3BlbnNzaC1rZXktdjEA",
];

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    steps::count(bytes.len());
    let mut in_xml = false;
    for (position, first) in bytes.iter().enumerate() {
        let rest = &bytes[position..];
        let found = match first {
            b'B' => pem(bytes, position),
            b'P' | b'S' | b'u' | b'b' if MARKS.iter().any(|mark| rest.starts_with(mark)) => true,
            b'P' | b'p' => wireguard(rest),
            // .NET's way of writing an RSA key; its public half has no D.
            b'<' if rest.starts_with(b"<RSAKeyValue>") => {
                in_xml = true;
                false
            }
            b'<' => in_xml && rest.starts_with(b"<D>"),
            _ => false,
        };
        if found {
            return Some("private-key");
        }
    }
    None
}

/// `-----BEGIN … PRIVATE KEY`, of every kind: PKCS #1 and #8, EC, OpenSSH, PGP, SSH2.
fn pem(bytes: &[u8], position: usize) -> bool {
    let line = &bytes[position..];
    let line = &line[..line.len().min(80)];
    let Some(kind) = line.strip_prefix(b"BEGIN ") else {
        return false;
    };
    // At most one blank: a long run of them isn't looked back over.
    let before = &bytes[..position];
    let before = before.strip_suffix(b" ").unwrap_or(before);
    let length = kind
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ')
        .count();
    steps::count(length);
    before.ends_with(b"---")
        && kind[..length]
            .windows(11)
            .any(|window| window == b"PRIVATE KEY")
}

/// `PrivateKey = ` and 32 bytes in base64.
fn wireguard(rest: &[u8]) -> bool {
    let Some(rest) = rest
        .get(..10)
        .filter(|name| name.eq_ignore_ascii_case(b"PrivateKey"))
        .map(|_| &rest[10..])
    else {
        return false;
    };
    let rest = &rest[..rest.len().min(64)];
    let value = rest.trim_ascii_start();
    let Some(value) = value.strip_prefix(b"=") else {
        return false;
    };
    let value = value.trim_ascii_start();
    let length = value
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        .count();
    steps::count(length);
    length == 43 && value.get(43) == Some(&b'=')
}

/// Whether these bytes begin a file that holds a private key.
pub fn is_container(bytes: &[u8]) -> bool {
    steps::count(64);
    bytes.starts_with(b"openssh-key-v1\0")
        || bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0]) // JKS
        || bytes.starts_with(&[0xce, 0xce, 0xce, 0xce, 0, 0, 0]) // JCEKS
        || bytes.starts_with(b"EdSK") // minisign
        || is_der(bytes).unwrap_or(false)
        || is_pgp(bytes).unwrap_or(false)
}

/// PKCS #8 (RFC 5958), in the clear or encrypted, PKCS #1 (RFC 8017), SEC 1 (RFC 5915), PKCS #12 (RFC 7292).
fn is_der(bytes: &[u8]) -> Option<bool> {
    let outer = content(bytes, 0x30)?;
    if let Some(inner) = content(outer, 0x30) {
        // Encrypted: an algorithm of PKCS #5, or the password-based ones of PKCS #12.
        let algorithm = content(inner, 0x06)?;
        return Some(
            algorithm.starts_with(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05])
                || algorithm.starts_with(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01]),
        );
    }
    let version = content(outer, 0x02)?;
    let (number, rest) = version.split_first()?;
    if outer.get(1) != Some(&1) {
        return Some(false);
    }
    Some(match (number, rest.first()?) {
        // Version, then an algorithm or a modulus.
        (0, 0x30) => content(content(rest, 0x30)?, 0x06).is_some(),
        (0, 0x02) => true,
        (1, 0x04) => true,
        (1, 0x30) => content(content(rest, 0x30)?, 0x06).is_some(),
        (3, 0x30) => content(content(rest, 0x30)?, 0x06)?
            .starts_with(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07]),
        _ => false,
    })
}

/// What follows the header of a DER element with this tag; it may be cut off.
fn content(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    match length {
        0..=0x80 => Some(rest),
        0x81..=0x84 => rest.get(usize::from(length - 0x80)..),
        _ => None,
    }
}

/// A secret key packet of version 4 or 6 (RFC 9580), which an armour would say as well.
fn is_pgp(bytes: &[u8]) -> Option<bool> {
    let body = match bytes.first()? {
        0x94 | 0x9c => bytes.get(2..)?,
        0x95 | 0x9d => bytes.get(3..)?,
        // A new header: one byte of length up to 191, two up to 8,383.
        0xc5 | 0xc7 if *bytes.get(1)? < 192 => bytes.get(2..)?,
        0xc5 | 0xc7 if *bytes.get(1)? < 224 => bytes.get(3..)?,
        _ => return Some(false),
    };
    let algorithm = *body.get(5)?;
    let is_known = matches!(algorithm, 1 | 2 | 3 | 16 | 17 | 18 | 19 | 22 | 25 | 27);
    // The moment it was made: since 1995.
    let is_dated = (0x30..0xa0).contains(body.get(1)?);
    Some(matches!(body.first()?, 4 | 6) && is_dated && is_known && bytes.len() >= 48)
}
