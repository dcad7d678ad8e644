//! Seeds of one-time passwords: `otpauth://` URIs, as in the QR codes of authenticators, and seeds that are named as such.

use super::{starts_word, steps};

/// Words that announce a seed, in lower case.
const NAMES: [&[u8]; 9] = [
    b"totp",
    b"hotp",
    b"2fa",
    b"mfa",
    b"otp",
    b"authenticator",
    b"one-time",
    b"two-factor",
    b"2-step",
];

/// So far behind such a word a seed may begin.
const REACH: usize = 48;

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    steps::count(bytes.len());
    for (position, byte) in bytes.iter().enumerate() {
        if !starts_word(bytes, position) {
            continue;
        }
        let rest = &bytes[position..];
        let found = match byte {
            b'o' | b'O' if starts(rest, b"otpauth") => has_seed(rest),
            _ => NAMES.iter().any(|name| {
                let first = name[0] == byte.to_ascii_lowercase();
                first && starts(rest, name) && is_followed(&rest[name.len()..])
            }),
        };
        if found {
            return Some("one-time-password-seed");
        }
    }
    None
}

fn starts(rest: &[u8], name: &[u8]) -> bool {
    rest.get(..name.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
}

/// `otpauth://…?secret=…`, or what an authenticator exports.
fn has_seed(rest: &[u8]) -> bool {
    let rest = &rest[..rest.len().min(512)];
    let end = rest
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(rest.len());
    steps::count(end);
    rest[..end]
        .windows(7)
        .any(|window| window.eq_ignore_ascii_case(b"secret=") || window.starts_with(b"data="))
}

/// Whether a seed in base32 begins within reach.
fn is_followed(rest: &[u8]) -> bool {
    let rest = &rest[..rest.len().min(REACH + 80)];
    steps::count(REACH);
    (0..rest.len().min(REACH)).any(|place| starts_word(rest, place) && is_seed(&rest[place..]))
}

/// At least 16 characters of base32 in one piece, or in groups of four; capital letters, or with a digit among them.
fn is_seed(rest: &[u8]) -> bool {
    let (mut total, mut groups, mut digits, mut capitals) = (0, 0, 0, 0);
    let mut rest = rest;
    loop {
        let length = rest
            .iter()
            .take(80)
            .take_while(|byte| byte.is_ascii_alphabetic() || (b'2'..=b'7').contains(byte))
            .count();
        steps::count(length + 1);
        let group = &rest[..length];
        let ends = rest.get(length).is_none_or(|next| !next.is_ascii_digit());
        if length < 4 || !ends || (groups > 0 && length > 8) {
            break;
        }
        // Groups are of four; a longer piece stands alone.
        if groups > 0 && length != 4 && length != 8 {
            break;
        }
        let is_upper = !group.iter().any(u8::is_ascii_lowercase);
        // Words after the seed aren't part of it.
        if groups > 0 && is_upper != (capitals + digits == total) {
            break;
        }
        groups += 1;
        total += length;
        digits += group.iter().filter(|byte| byte.is_ascii_digit()).count();
        capitals += group
            .iter()
            .filter(|byte| byte.is_ascii_uppercase())
            .count();
        rest = &rest[length..];
        match rest.first() {
            Some(b' ' | b'-') if length == 4 => rest = &rest[1..],
            _ => break,
        }
    }
    let letters = total - digits;
    let is_one_case = capitals == 0 || capitals == letters;
    total >= 16 && is_one_case && (digits > 0 || capitals == total)
}
