//! Keys that their vendor marks with a prefix: one table a field of business, together the rules of the class "known".
//!
//! Shapes are from the vendors' documentation, compared with the public rules of secret scanners. To add one: a name
//! (shown to the user), the prefix, the shape; the tests make an example from the shape by themselves. Names stay
//! stable, people know them. A rule is tried only where its first byte stands, most of them only where a word starts.

mod chat;
mod clouds;
mod code;
mod data;
mod endings;
mod models;
mod money;
mod operations;
mod webhooks;

use std::sync::LazyLock;

use super::shape::{Class::Hex, Part::Run, Part::Text};
use super::shape::{Part, Rule, Start};
use super::{starts_word, steps};

/// A UUID, which some vendors put behind a prefix of their own.
const UUID: &[Part] = &[
    Run(Hex, 8, 8),
    Text(b"-"),
    Run(Hex, 4, 4),
    Text(b"-"),
    Run(Hex, 4, 4),
    Text(b"-"),
    Run(Hex, 4, 4),
    Text(b"-"),
    Run(Hex, 12, 12),
];

const TABLES: [&[Rule]; 8] = [
    clouds::RULES,
    code::RULES,
    chat::RULES,
    money::RULES,
    models::RULES,
    data::RULES,
    operations::RULES,
    webhooks::RULES,
];

/// Rules by the first byte of their prefix: of those at the start of a word, and of all others.
struct Index {
    at_words: Vec<Vec<&'static Rule>>,
    elsewhere: Vec<Vec<&'static Rule>>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index {
        at_words: vec![Vec::new(); 256],
        elsewhere: vec![Vec::new(); 256],
    };
    for rule in all() {
        if let Some(first) = rule.prefix.first() {
            let table = match rule.start {
                Start::Word => &mut index.at_words,
                Start::AfterDigit | Start::Anywhere => &mut index.elsewhere,
            };
            table[usize::from(*first)].push(rule);
        }
    }
    index
});

/// Every rule there is.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    TABLES.into_iter().flatten()
}

/// The name of the rule that a part of the text breaks.
pub fn find(bytes: &[u8]) -> Option<&'static str> {
    let index = &*INDEX;
    steps::count(bytes.len());
    for (position, first) in bytes.iter().enumerate() {
        let first = usize::from(*first);
        let at_words: &[&Rule] = if starts_word(bytes, position) {
            &index.at_words[first]
        } else {
            &[]
        };
        for rule in at_words.iter().chain(&index.elsewhere[first]) {
            if rule.matches(bytes, position) {
                return Some(rule.name);
            }
        }
        if matches!(bytes[position], b'-' | b'_')
            && let Some(name) = endings::find(bytes, position)
        {
            return Some(name);
        }
    }
    None
}
