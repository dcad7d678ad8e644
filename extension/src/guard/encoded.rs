//! What is in base64, or in hexadecimal digits, is decoded and looked at once more: keys in binary containers, and any
//! other rule's value that was encoded, as in Kubernetes secrets.
//!
//! Three layers at most; each is at most three quarters of the one before, so it stays linear.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{plain, private_key, steps};

/// base64url as JWS has it (RFC 7515): without padding, and lenient about unused bits.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Shorter than any secret when it is decoded.
const SHORTEST: usize = 20;
const LAYERS: usize = 3;

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    layer(bytes, LAYERS)
}

fn layer(bytes: &[u8], layers: usize) -> Option<&'static str> {
    let mut rest = bytes;
    while let Some(start) = rest.iter().position(|byte| is_base64(*byte)) {
        let length = rest[start..]
            .iter()
            .take_while(|byte| is_base64(**byte))
            .count();
        steps::count(start + length);
        let run = &rest[start..start + length];
        if length >= SHORTEST {
            let found = in_run(run, layers);
            if found.is_some() {
                return found;
            }
        }
        rest = &rest[start + length..];
    }
    None
}

fn in_run(run: &[u8], layers: usize) -> Option<&'static str> {
    if run.len() >= 64 && run.iter().all(u8::is_ascii_hexdigit) {
        steps::count(run.len());
        let found = in_decoded(&from_hex(run), layers);
        if found.is_some() {
            return found;
        }
    }
    decode(run)
        .and_then(|decoded| in_decoded(&decoded, layers))
        .or_else(|| {
            // Behind a path, or a name with an underscore: what is between them on its own.
            run.split(|byte| matches!(byte, b'/' | b'_' | b'-'))
                .filter(|part| part.len() >= SHORTEST && part.len() < run.len())
                .find_map(|part| in_decoded(&decode(part)?, layers))
        })
}

fn in_decoded(decoded: &[u8], layers: usize) -> Option<&'static str> {
    if private_key::is_container(decoded) {
        return Some("private-key");
    }
    if !is_text(decoded) {
        return None;
    }
    plain(decoded).or_else(|| match layers {
        0 | 1 => None,
        _ => layer(decoded, layers - 1),
    })
}

/// Bytes of base64 or base64url, padded or not; a last character that can't belong is left out.
pub fn decode(run: &[u8]) -> Option<Vec<u8>> {
    steps::count(run.len());
    let length = match run.len() % 4 {
        1 => run.len() - 1,
        _ => run.len(),
    };
    let url_safe: Vec<u8> = run[..length]
        .iter()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    URL_SAFE.decode(url_safe).ok()
}

fn from_hex(run: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    run.chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Whether this was text before it was encoded.
pub fn is_text(decoded: &[u8]) -> bool {
    steps::count(decoded.len());
    let is_printable =
        |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..=0xff);
    decoded.len() >= 8
        && decoded.iter().all(is_printable)
        && (decoded.is_ascii() || std::str::from_utf8(decoded).is_ok())
}

pub fn is_base64(byte: u8) -> bool {
    is_base64url(byte) || matches!(byte, b'+' | b'/')
}

pub fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}
