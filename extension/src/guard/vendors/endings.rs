//! Keys that are known by how they end.

use crate::guard::shape::looks_random;
use crate::guard::{starts_word, steps};

/// The name of the rule whose key ends where `position` begins what tells it.
pub fn find(bytes: &[u8], position: usize) -> Option<&'static str> {
    let rest = &bytes[position..];
    if rest.starts_with(b"-us") {
        return mailchimp(bytes, position);
    }
    if rest.starts_with(b"_mmk") {
        return maxmind(bytes, position);
    }
    None
}

/// 32 hexadecimal digits before `-us` and the number of a data centre.
fn mailchimp(bytes: &[u8], position: usize) -> Option<&'static str> {
    steps::count(32);
    let start = position.checked_sub(32)?;
    let is_key = bytes[start..position]
        .iter()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let has_number = bytes.get(position + 3).is_some_and(u8::is_ascii_digit);
    (is_key && has_number && starts_word(bytes, start)).then_some("mailchimp-key")
}

/// Six letters or digits, an underscore, and 29 more before `_mmk`.
fn maxmind(bytes: &[u8], position: usize) -> Option<&'static str> {
    steps::count(36);
    let start = position.checked_sub(36)?;
    let (account, key) = (&bytes[start..start + 6], &bytes[start + 7..position]);
    let is_key = bytes[start + 6] == b'_'
        && account
            .iter()
            .chain(key)
            .all(|byte| byte.is_ascii_alphanumeric());
    (is_key && looks_random(key) && starts_word(bytes, start)).then_some("maxmind-key")
}
