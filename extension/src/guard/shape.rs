//! The shape of a vendor's keys: where a prefix may stand, and what must follow for it to be a key and not a mention.
//! The tables of them are in `vendors`.

use super::{starts_word, steps};

/// Bytes that may stand in one place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `0-9a-f`
    Hex,
    /// `0-9A-Fa-f`
    AnyHex,
    /// `0-9a-z`
    Lower,
    /// `0-9A-Z`
    Upper,
    /// `A-Z2-7`, of which a key of sixteen may well be letters alone
    Base32,
    /// `0-9A-Za-z`
    Alnum,
    /// `0-9A-Za-z_-`: base64url
    Word,
    /// base64 and base64url with padding and dots
    Base64,
    /// `0-9`
    Digit,
}

impl Class {
    fn holds(self, byte: u8) -> bool {
        match self {
            Class::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Class::AnyHex => byte.is_ascii_hexdigit(),
            Class::Lower => byte.is_ascii_digit() || byte.is_ascii_lowercase(),
            Class::Upper => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
            Class::Base32 => byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte),
            Class::Alnum => byte.is_ascii_alphanumeric(),
            Class::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Class::Base64 => {
                byte.is_ascii_alphanumeric()
                    || matches!(byte, b'_' | b'-' | b'+' | b'/' | b'=' | b'.' | b'~')
            }
            Class::Digit => byte.is_ascii_digit(),
        }
    }
}

/// As upper limit of a run: any length. So much of it is looked at.
pub const ANY: usize = 256;

/// One piece of what follows a prefix.
pub enum Part {
    /// So many bytes of a class: at least the first number, at most the second.
    Run(Class, usize, usize),
    /// These bytes.
    Text(&'static [u8]),
}

/// Where a prefix may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Word,
    AfterDigit,
    Anywhere,
}

pub struct Rule {
    pub name: &'static str,
    pub prefix: &'static [u8],
    pub start: Start,
    pub shape: &'static [Part],
}

/// A prefix at the start of a word.
pub const fn rule(name: &'static str, prefix: &'static str, shape: &'static [Part]) -> Rule {
    rule_at(Start::Word, name, prefix, shape)
}

pub const fn rule_at(
    start: Start,
    name: &'static str,
    prefix: &'static str,
    shape: &'static [Part],
) -> Rule {
    Rule {
        name,
        prefix: prefix.as_bytes(),
        start,
        shape,
    }
}

impl Rule {
    /// Whether a secret of this kind starts at `position`.
    pub fn matches(&self, bytes: &[u8], position: usize) -> bool {
        steps::count(1);
        let Some(mut rest) = bytes[position..].strip_prefix(self.prefix) else {
            return false;
        };
        let starts = match self.start {
            Start::Word => starts_word(bytes, position),
            Start::AfterDigit => position > 0 && bytes[position - 1].is_ascii_digit(),
            Start::Anywhere => true,
        };
        if !starts {
            return false;
        }
        let body = rest;
        let mut last = None;
        for part in self.shape {
            rest = match part {
                Part::Text(text) => match rest.strip_prefix(*text) {
                    Some(rest) => rest,
                    None => return false,
                },
                Part::Run(class, least, most) => {
                    let length = rest
                        .iter()
                        .take(*most)
                        .take_while(|byte| class.holds(**byte))
                        .count();
                    steps::count(length);
                    if length < *least {
                        return false;
                    }
                    last = (*most != ANY).then_some(*class);
                    &rest[length..]
                }
            };
        }
        // A limited run that goes on is a longer word, not this key.
        let ends = match (last, rest.first()) {
            (Some(Class::Base32), Some(next)) => !next.is_ascii_alphanumeric(),
            (Some(class), Some(next)) => !class.holds(*next) || matches!(next, b'.' | b'='),
            _ => true,
        };
        let letters_alone = matches!(last, Some(Class::Base32));
        ends && (letters_alone || looks_random(&body[..body.len() - rest.len()]))
    }
}

/// Words are letters of one case; keys of this length mix digits and letters, or cases.
pub fn looks_random(body: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| body.iter().any(test);
    let kinds = [
        has(u8::is_ascii_digit),
        has(u8::is_ascii_lowercase),
        has(u8::is_ascii_uppercase),
    ];
    kinds.iter().filter(|kind| **kind).count() >= 2 || body.iter().all(u8::is_ascii_digit)
}
