//! Secrets known by their structure: private keys in text form, JSON web tokens, keys with a telling ending.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::starts_word;

/// base64url as JWS has it (RFC 7515): without padding, and lenient about unused bits.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Longest header of a token that is looked at.
const LONGEST_HEADER: usize = 1024;

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    for (position, first) in bytes.iter().enumerate() {
        let rest = &bytes[position..];
        let found = match first {
            b'B' => private_key(bytes, position),
            b'P' if rest.starts_with(b"PuTTY-User-Key-File-") => Some("private-key"),
            b'L' if rest.starts_with(b"LS0tLS1CRUdJTi") => encoded_private_key(rest),
            // "openssh-key-v1" and a NUL in base64
            b'b' if rest.starts_with(b"b3BlbnNzaC1rZXktdjEA") => Some("private-key"),
            b'e' if starts_word(bytes, position) => web_token(rest),
            b'-' if rest.starts_with(b"-us") => mailchimp_key(bytes, position),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// `-----BEGIN … PRIVATE KEY`, of every kind: PKCS #1 and #8, EC, OpenSSH, PGP, SSH2.
fn private_key(bytes: &[u8], position: usize) -> Option<&'static str> {
    let before = bytes[..position].trim_ascii_end();
    let line = &bytes[position..];
    let line = &line[..line.len().min(80)];
    let kind = line.strip_prefix(b"BEGIN ")?;
    let length = kind
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ')
        .count();
    let names_private_key = kind[..length]
        .windows(11)
        .any(|window| window == b"PRIVATE KEY");
    (before.ends_with(b"---") && names_private_key).then_some("private-key")
}

/// A PEM file in base64 once more, as in Kubernetes secrets.
fn encoded_private_key(rest: &[u8]) -> Option<&'static str> {
    let mut decoded = [0; 64];
    let encoded = rest.get(..72).map(|longest| {
        let end = longest
            .iter()
            .position(|byte| !is_base64(*byte))
            .unwrap_or(72);
        &longest[..end & !3]
    })?;
    let length = STANDARD.decode_slice(encoded, &mut decoded).ok()?;
    decoded[..length]
        .windows(11)
        .any(|window| window == b"PRIVATE KEY")
        .then_some("private-key")
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Three parts in base64url, the first an object with `alg` (RFC 7519). `e` is what `{` encodes to.
fn web_token(rest: &[u8]) -> Option<&'static str> {
    let part = |bytes: &[u8]| bytes.iter().take_while(|byte| is_base64url(**byte)).count();
    let header_length = part(&rest[..rest.len().min(LONGEST_HEADER + 1)]);
    if !(10..=LONGEST_HEADER).contains(&header_length) {
        return None;
    }
    let payload = rest[header_length..].strip_prefix(b".")?;
    let payload_length = part(payload);
    let signature = payload[payload_length..].strip_prefix(b".")?;
    if payload_length < 2 || part(signature) < 16 {
        return None;
    }
    let header = URL_SAFE.decode(&rest[..header_length]).ok()?;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&header).ok()?;
    header.contains_key("alg").then_some("json-web-token")
}

/// 32 hexadecimal digits before `-us` and a number.
fn mailchimp_key(bytes: &[u8], position: usize) -> Option<&'static str> {
    let start = position.checked_sub(32)?;
    let is_key = bytes[start..position]
        .iter()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let has_number = bytes.get(position + 3).is_some_and(u8::is_ascii_digit);
    (is_key && has_number && starts_word(bytes, start)).then_some("mailchimp-key")
}
