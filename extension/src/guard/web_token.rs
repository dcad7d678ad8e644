//! Tokens and keys in JSON's clothes: JSON web tokens (RFC 7515, 7516), PASETO, and JSON web keys with private parts.

use super::encoded::{decode, is_base64url};
use super::steps;

/// Longest header of a token that is looked at.
const LONGEST_HEADER: usize = 1024;

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    json_web_token(bytes).or_else(|| json_web_key(bytes))
}

/// Three parts in base64url, the first an object with `alg`. Each run of base64url is looked at as any of the three.
fn json_web_token(bytes: &[u8]) -> Option<&'static str> {
    let mut start = 0;
    while start < bytes.len() {
        let end = start + run(&bytes[start..]);
        if end == start {
            start += 1;
            continue;
        }
        if let Some((payload, signature)) = followers(&bytes[end..]) {
            let first = &bytes[start..end];
            if payload >= 2 && signature >= 16 && is_header(first) {
                return Some("json-web-token");
            }
            let is_paseto = payload >= 5
                && signature >= 32
                && [&b"v1"[..], b"v2", b"v3", b"v4"].contains(&first)
                && [&b"local"[..], b"public"].contains(&&bytes[end + 1..end + 1 + payload]);
            if is_paseto {
                return Some("paseto-token");
            }
        }
        start = end;
    }
    None
}

/// Length of the run of base64url that this begins with.
fn run(bytes: &[u8]) -> usize {
    let length = bytes.iter().take_while(|byte| is_base64url(**byte)).count();
    steps::count(length + 1);
    length
}

/// Lengths of the second and third part, when they are there.
fn followers(rest: &[u8]) -> Option<(usize, usize)> {
    let rest = rest.strip_prefix(b".")?;
    let payload = run(rest);
    let signature = rest[payload..].strip_prefix(b".")?;
    Some((payload, run(signature)))
}

/// Whether the first part, or its end behind a name and an underscore or hyphen, is the header of a token.
fn is_header(first: &[u8]) -> bool {
    let behind_names = first
        .windows(3)
        .enumerate()
        .filter(|(_, window)| matches!(window[0], b'_' | b'-') && window[1] == b'e')
        .map(|(place, _)| place + 1);
    steps::count(first.len());
    std::iter::once(0)
        .chain(behind_names.take(3))
        .any(|place| has_algorithm(&first[place..]))
}

fn has_algorithm(header: &[u8]) -> bool {
    if !(10..=LONGEST_HEADER).contains(&header.len()) || !matches!(header[0], b'e') {
        return false;
    }
    let Some(header) = decode(header) else {
        return false;
    };
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&header)
        .is_ok_and(|header| header.contains_key("alg"))
}

/// An object with `kty`, and `d`, or `k` where it is symmetric (RFC 7518). It may be quoted itself, with backslashes.
fn json_web_key(bytes: &[u8]) -> Option<&'static str> {
    let (mut has_type, mut is_symmetric, mut has_d, mut has_k) = (false, false, false, false);
    steps::count(bytes.len());
    for (position, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'"' | b'\'') {
            continue;
        }
        let rest = &bytes[position + 1..];
        let (name, rest) = match rest {
            [b'k', b't', b'y', rest @ ..] => (b't', rest),
            [b'd', rest @ ..] => (b'd', rest),
            [b'k', rest @ ..] => (b'k', rest),
            _ => continue,
        };
        let Some(value) = value_of(rest) else {
            continue;
        };
        match name {
            b't' => {
                has_type = true;
                is_symmetric |= value == b"oct";
            }
            b'd' => has_d |= value.len() >= 20,
            _ => has_k |= value.len() >= 16,
        }
        if has_type && (has_d || (has_k && is_symmetric)) {
            return Some("json-web-key");
        }
    }
    None
}

/// What stands between the quotes after a name's closing quote and a colon; at most 32 bytes of it.
fn value_of(rest: &[u8]) -> Option<&[u8]> {
    let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
    let rest = match rest.split_first()? {
        (b'"' | b'\'', rest) => rest,
        _ => return None,
    };
    let rest = blanks(rest).strip_prefix(b":")?;
    let rest = blanks(rest);
    let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
    let rest = match rest.split_first()? {
        (b'"' | b'\'', rest) => rest,
        _ => return None,
    };
    let length = rest
        .iter()
        .take(32)
        .take_while(|byte| is_base64url(**byte))
        .count();
    steps::count(length);
    Some(&rest[..length])
}

/// Without the blanks in front, of which at most 16 are looked at.
fn blanks(rest: &[u8]) -> &[u8] {
    let length = rest
        .iter()
        .take(16)
        .take_while(|byte| byte.is_ascii_whitespace())
        .count();
    steps::count(length);
    &rest[length..]
}
