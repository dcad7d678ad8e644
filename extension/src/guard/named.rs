//! The heuristic class, continued: what follows a word like "password" or "token" and looks like one, shorter than a
//! token that has to speak for itself. `password: changeme-owner-platform` and `token=rotate-quarterly-2026` are notes.

use super::credentials::is_placeholder;
use super::likeness::{Alphabet, Evidence, Kind};
use super::{random, starts_word, steps};

/// Words before a value, in lower case, and whether they announce what a person chose.
const NAMES: [(&[u8], bool); 14] = [
    (b"password", true),
    (b"passwd", true),
    (b"passphrase", true),
    (b"pwd", true),
    (b"pw", true),
    (b"api_key", false),
    (b"apikey", false),
    (b"api-key", false),
    (b"api key", false),
    (b"secret", false),
    (b"token", false),
    (b"access_key", false),
    (b"client_secret", false),
    (b"private_key", false),
];

/// Sixteenths of a bit a chosen password must have.
const ENOUGH: i32 = 5 * 16;

/// From where to where such values stand.
pub fn find(bytes: &[u8]) -> Vec<(usize, usize)> {
    steps::count(bytes.len());
    let mut found = Vec::new();
    for position in 0..bytes.len() {
        if !matches!(
            bytes[position].to_ascii_lowercase(),
            b'p' | b'a' | b's' | b't' | b'c'
        ) {
            continue;
        }
        let rest = &bytes[position..];
        // `db_password` and `DB-TOKEN` count, `compass` doesn't.
        let Some((name, is_chosen)) = NAMES.iter().find(|(name, _)| {
            rest.get(..name.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        }) else {
            continue;
        };
        if !starts_word(bytes, position) {
            continue;
        }
        let Some((start, end)) = value(bytes, position + name.len()) else {
            continue;
        };
        let value = &bytes[start..end];
        let is_secret = !is_placeholder(value)
            && if *is_chosen {
                is_password(value)
            } else {
                is_key(value)
            };
        if is_secret && found.len() < 64 {
            found.push((start, end));
        }
    }
    found
}

/// The value behind a name: after an equals sign or a colon, or the word "is", and perhaps a quote.
fn value(bytes: &[u8], end_of_name: usize) -> Option<(usize, usize)> {
    let rest = &bytes[end_of_name..];
    let rest = &rest[..rest.len().min(16)];
    let mut separators = 0;
    let mut skipped = 0;
    for byte in rest {
        match byte {
            b' ' | b'\t' | b'"' | b'\'' | b'`' | b'\\' => {}
            b'=' | b':' => separators += 1,
            b'i' | b'I'
                if separators == 0
                    && skipped > 0
                    && rest[skipped..].len() > 3
                    && rest[skipped..skipped + 3].eq_ignore_ascii_case(b"is ") =>
            {
                separators += 1
            }
            b's' | b'S' if separators == 1 && rest[skipped - 1].eq_ignore_ascii_case(&b'i') => {}
            _ => break,
        }
        skipped += 1;
    }
    let start = end_of_name + skipped;
    let length = bytes[start..]
        .iter()
        .take(128)
        .take_while(|byte| {
            !byte.is_ascii_whitespace()
                && !matches!(byte, b'"' | b'\'' | b'`' | b',' | b';' | b')' | b'\\')
        })
        .count();
    steps::count(skipped + length);
    // A sentence's end isn't part of it.
    let value = &bytes[start..start + length];
    let length = length - value.iter().rev().take_while(|byte| **byte == b'.').count();
    (separators > 0 && length >= 8).then_some((start, start + length))
}

/// What a person may have chosen, or a program made: characters of three kinds, and not a name with a year behind it.
fn is_password(value: &[u8]) -> bool {
    let alphabet = Alphabet::of(value);
    let signs = value
        .iter()
        .filter(|byte| {
            matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'^' | b'&' | b'*' | b'?' | b'@' | b'~' | b'+'
            )
        })
        .count();
    if alphabet.kinds() + usize::from(signs > 0) < 3 || value.contains(&b'/') {
        return false;
    }
    let evidence = Evidence::new(alphabet);
    let mut before = None;
    let mut sum = signs.min(3) as i32 * 24;
    for byte in value {
        if let Some(kind) = Kind::of(*byte) {
            sum += evidence.of(before, *byte, kind);
        }
        before = Some(*byte);
    }
    steps::count(value.len());
    sum >= ENOUGH
}

/// A key that a program made: hexadecimal digits, or letters and digits without a word among them.
fn is_key(value: &[u8]) -> bool {
    steps::count(value.len());
    let is_hex = value.len() >= 32
        && value.iter().all(u8::is_ascii_hexdigit)
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic);
    let is_plain = value.iter().all(u8::is_ascii_alphanumeric);
    is_hex
        || (is_plain
            && value.len() >= 16
            && random::score(value).is_some_and(|(bits, length, _)| bits >= 9 * 16 && length >= 12))
}
