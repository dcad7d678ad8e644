//! Refusing values that look like secrets: rotator holds metadata, and a name field is where people paste keys.
//!
//! [`find`] names the rule that a text breaks, if any. Most rules are rows of a table (`rules`): a vendor's prefix and
//! the shape of what follows it, so that `stripe-prod-key-2026` and `sk_live key for billing` are fine. What a prefix can't
//! tell (private keys in PEM, JSON web tokens) is in `structure`. One pass, no backtracking, no start-up cost worth
//! mentioning: a rule is tried only where its first byte occurs at the start of a word.

mod rules;
mod shape;
mod structure;

#[cfg(feature = "postgres")]
mod native;

use std::sync::LazyLock;

use rules::RULES;
use shape::Rule;

/// Rules by the first byte of their prefix.
static BY_FIRST_BYTE: LazyLock<Vec<Vec<&'static Rule>>> = LazyLock::new(|| {
    let mut table = vec![Vec::new(); 256];
    for rule in RULES {
        if let Some(first) = rule.prefix.first() {
            table[usize::from(*first)].push(rule);
        }
    }
    table
});

/// The name of the rule that `text` breaks.
pub fn find(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let table = &*BY_FIRST_BYTE;
    for (position, first) in bytes.iter().enumerate() {
        for rule in &table[usize::from(*first)] {
            if rule.matches(bytes, position) {
                return Some(rule.name);
            }
        }
    }
    structure::find(bytes)
}

/// Starts a word: the byte before is neither a letter nor a digit.
fn starts_word(bytes: &[u8], position: usize) -> bool {
    position == 0 || !bytes[position - 1].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests;
