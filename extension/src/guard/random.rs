//! The heuristic class: long tokens that look drawn by chance. No prefix tells them, so it may be wrong, and a tenant's
//! admin may let one of them through.
//!
//! A token is a run of letters, digits and `-_/+=`. Evidence for chance is added up along it, never below zero (a
//! cumulative sum), so a random part is found within a long name, and each byte is looked at a few times only. What
//! people legitimately write and looks as random is left out: see [`is_identifier`] and [`Context`].

use super::encoded::{decode, is_text};
use super::likeness::{Alphabet, Evidence, Kind, is_made_of_words};
use super::{named, starts_word, steps};

/// Shorter tokens are left alone.
const SHORTEST: usize = 20;
/// Sixteenths of a bit from which a token counts as random: with digits and both cases, and with less.
const ENOUGH: i32 = 12 * 16;
const ENOUGH_WITHOUT_DIGITS: i32 = 20 * 16;
/// The part of a token that looks random has at least so many letters and digits.
const SHORTEST_PART: usize = 14;

/// The tokens of `text` that look random, or follow a word like "password" and look like one; each once.
pub fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found: Vec<&str> = Vec::new();
    let mut add = |start: usize, end: usize| {
        if let Some(token) = text.get(start..end)
            && !found.contains(&token)
            && found.len() < 64
        {
            found.push(token);
        }
    };
    let mut context = Context::default();
    let mut position = 0;
    while position < bytes.len() {
        let length = run(&bytes[position..]);
        steps::count(length + 1);
        if length == 0 {
            context.pass(bytes, position);
            position += 1;
            continue;
        }
        let end = position + length;
        context.enter(&bytes[position..end]);
        if length >= SHORTEST
            && !context.explains(bytes, position, end)
            && looks_random(&bytes[position..end])
        {
            add(position, end);
        }
        position = end;
    }
    for (start, end) in named::find(bytes) {
        add(start, end);
    }
    found
}

/// Length of the token that this begins with; equals signs belong to it at its end, as base64 has them.
fn run(bytes: &[u8]) -> usize {
    let is_part = |byte: &u8| *byte != b'=' && Kind::of(*byte).is_some();
    let length = bytes.iter().take_while(|byte| is_part(byte)).count();
    let padding = bytes[length..]
        .iter()
        .take(3)
        .take_while(|byte| **byte == b'=')
        .count();
    match bytes.get(length + padding) {
        Some(next) if is_part(next) || *next == b'=' => length,
        _ if length == 0 => 0,
        _ => length + padding,
    }
}

/// Whether a part of this token looks drawn by chance.
pub fn looks_random(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let token = &token[..token.len() - padding];
    score(token).is_some_and(|(best, length, alphabet)| {
        let enough = if alphabet.digit {
            ENOUGH
        } else {
            ENOUGH_WITHOUT_DIGITS
        };
        best >= enough && length >= SHORTEST_PART && !is_encoded_prose(token)
    })
}

/// Whether this is base64 of a text in which nothing looks random.
fn is_encoded_prose(token: &[u8]) -> bool {
    let Some(decoded) = decode(token).filter(|decoded| is_text(decoded)) else {
        return false;
    };
    let looks_random = decoded
        .split(|byte| *byte == b'=' || Kind::of(*byte).is_none())
        .filter(|part| part.len() >= SHORTEST)
        .any(|part| score(part).is_some_and(|(bits, _, _)| bits >= ENOUGH));
    !looks_random
}

/// The most evidence that any part has, how many letters and digits that part has, and of what kinds.
pub fn score(token: &[u8]) -> Option<(i32, usize, Alphabet)> {
    let alphabet = Alphabet::of(token);
    if alphabet.kinds() < 2 {
        return None;
    }
    let evidence = Evidence::new(alphabet);
    let (mut sum, mut start, mut best, mut best_part) = (0, 0, 0, (0, 0));
    let mut before = None;
    let mut position = 0;
    while position < token.len() {
        // A number, hash or identifier between joints says nothing, and ends what was before.
        if before.is_none_or(|byte: u8| !byte.is_ascii_alphanumeric()) {
            let length = token[position..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric())
                .count();
            steps::count(length);
            if length > 0 && is_identifier(&token[..position], &token[position..position + length])
            {
                position += length;
                (sum, start, before) = (0, position, None);
                continue;
            }
        }
        let byte = token[position];
        let Some(kind) = Kind::of(byte) else {
            break;
        };
        steps::count(1);
        sum += evidence.of(before, byte, kind);
        if sum <= 0 {
            (sum, start) = (0, position + 1);
        } else if sum > best {
            (best, best_part) = (sum, (start, position + 1));
        }
        before = Some(byte);
        position += 1;
    }
    let part = &token[best_part.0..best_part.1];
    let length = part
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .count();
    let alphabet = Alphabet::of(part);
    let is_random = alphabet.kinds() >= 2 && !is_made_of_words(whole_words(token, best_part));
    is_random.then_some((best, length, alphabet))
}

/// The part, up to where the words end that it cuts.
fn whole_words(token: &[u8], (start, end): (usize, usize)) -> &[u8] {
    let before = token[..start]
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    let behind = token[end..]
        .iter()
        .take_while(|byte| byte.is_ascii_lowercase())
        .count();
    &token[start - before..end + behind]
}

/// Object ids that Stripe and others put behind a prefix: references, not keys.
const OBJECTS: [&[u8]; 17] = [
    b"acct", b"cus", b"pi", b"ch", b"price", b"sub", b"in", b"evt", b"we", b"pm", b"seti", b"si",
    b"req", b"txn", b"py", b"po", b"tr",
];

/// Whether one piece of a token, between its joints, is a number, a hash in hexadecimal, or an id of a known kind.
fn is_identifier(before: &[u8], piece: &[u8]) -> bool {
    steps::count(piece.len());
    let all = |test: fn(u8) -> bool| piece.iter().all(|byte| test(*byte));
    let has_digit = piece.iter().any(u8::is_ascii_digit);
    let is_hex = has_digit
        && (all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            || all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)));
    let is_upper = all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    // ULID: Crockford's base32, a moment before chance.
    let is_ulid = piece.len() == 26
        && matches!(piece[0], b'0' | b'1')
        && all(|byte| byte.is_ascii_alphanumeric() && !b"ILOUilou".contains(&byte));
    let is_aws = is_upper
        && matches!(piece.len(), 20 | 21)
        && [
            &b"AIDA"[..],
            b"AROA",
            b"AGPA",
            b"AIPA",
            b"ANPA",
            b"ANVA",
            b"ASCA",
            b"APKA",
        ]
        .contains(&&piece[..4]);
    let is_zone = is_upper && matches!(piece.len(), 13..=32) && piece[0] == b'Z';
    // The first bytes of public keys: SSH's in base64, age's.
    let is_public = [
        &b"AAAAB3NzaC1"[..],
        b"AAAAC3NzaC1",
        b"AAAAE2VjZHNh",
        b"AAAAGnNrLX",
        b"age1",
    ]
    .iter()
    .any(|start| piece.starts_with(start));
    let is_object = piece.len() <= 24
        && before.strip_suffix(b"_").is_some_and(|before| {
            OBJECTS.iter().any(|object| {
                before.ends_with(object) && starts_word(before, before.len() - object.len())
            })
        });
    is_hex || is_ulid || is_aws || is_zone || is_public || is_object || before.ends_with(b"xn--")
}

/// Words after which an identifier is what one expects.
const IDENTIFIERS: [&[u8]; 40] = [
    b"id",
    b"ids",
    b"uid",
    b"uuid",
    b"guid",
    b"serial",
    b"number",
    b"no",
    b"fingerprint",
    b"thumbprint",
    b"commit",
    b"sha",
    b"digest",
    b"checksum",
    b"hash",
    b"etag",
    b"revision",
    b"version",
    b"build",
    b"arn",
    b"zone",
    b"account",
    b"request",
    b"trace",
    b"cluster",
    b"public",
    b"publickey",
    b"pubkey",
    b"clientid",
    b"ref",
    b"object",
    b"distribution",
    b"run",
    b"job",
    b"issue",
    b"ticket",
    b"incident",
    b"kid",
    b"session id",
    b"subject",
];

/// Hosts whose paths name documents.
const DOCUMENTS: [&[u8]; 12] = [
    b"docs.google.com",
    b"drive.google.com",
    b"figma.com",
    b"notion.so",
    b"notion.site",
    b"miro.com",
    b"loom.com",
    b"lucid.app",
    b"sharepoint.com",
    b"linear.app",
    b"airtable.com",
    b"app.asana.com",
];

/// What was passed on the way to a token and may explain it.
#[derive(Default)]
struct Context {
    /// In a URL of a host of documents, until the next blank.
    in_document: bool,
    /// In an Oracle Cloud id, whose last part is of sixty letters and digits.
    in_ocid: bool,
    /// In a block that isn't a private key: those were refused before.
    in_armour: bool,
}

impl Context {
    /// Notes what a byte between tokens changes.
    fn pass(&mut self, bytes: &[u8], position: usize) {
        match bytes[position] {
            b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'\'' => {
                self.in_document = false;
                self.in_ocid = false;
            }
            b':' if bytes[position..].starts_with(b"://") => {
                let host = &bytes[position + 3..];
                let host = &host[..host.len().min(64)];
                let length = host
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
                    .count();
                steps::count(length);
                self.in_document = DOCUMENTS
                    .iter()
                    .any(|known| host[..length].ends_with(known));
            }
            b'.' if bytes[..position].ends_with(b"ocid1") => self.in_ocid = true,
            _ => {}
        }
    }

    /// Notes what a token says about what comes after it.
    fn enter(&mut self, token: &[u8]) {
        if token.starts_with(b"-----BEGIN") {
            self.in_armour = true;
        } else if token.starts_with(b"-----END") {
            self.in_armour = false;
        }
    }

    /// Whether a token is what belongs there.
    fn explains(&self, bytes: &[u8], start: usize, end: usize) -> bool {
        let (before, token, after) = (&bytes[..start], &bytes[start..end], &bytes[end..]);
        let in_fingerprint = [&b"SHA256:"[..], b"sha256:", b"sha512:", b"MD5:"]
            .iter()
            .any(|mark| before.ends_with(mark))
            || [&b"sha256-"[..], b"sha384-", b"sha512-"]
                .iter()
                .any(|mark| token.starts_with(mark));
        self.in_document
            || self.in_ocid
            || self.in_armour
            || in_fingerprint
            || after.starts_with(b".apps.googleusercontent.com")
            || follows_identifier(before)
    }
}

/// Whether the word before the token announces an identifier: `client_id=…`, `commit …`, `serial: …`.
fn follows_identifier(before: &[u8]) -> bool {
    let separators = before
        .iter()
        .rev()
        .take(6)
        .take_while(|byte| {
            matches!(
                byte,
                b' ' | b'\t' | b':' | b'=' | b'"' | b'\'' | b'`' | b'(' | b'#' | b'\\'
            )
        })
        .count();
    steps::count(32);
    separators > 0 && ends_as_identifier(&before[..before.len() - separators])
}

/// Whether the last word is one of [`IDENTIFIERS`].
fn ends_as_identifier(before: &[u8]) -> bool {
    let length = before
        .iter()
        .rev()
        .take(16)
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    let word = &before[before.len() - length..];
    IDENTIFIERS.iter().any(|known| known.eq_ignore_ascii_case(word))
        // clientId, keyID
        || word.ends_with(b"Id")
        || word.ends_with(b"ID")
}
