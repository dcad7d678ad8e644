//! What an event changed: a JSON document, encoded as the tree it stands for.
//!
//! A type byte, then: nothing for null, false and true; for a number its text, as PostgreSQL prints it (no number passes
//! through a float); for a string its characters after unescaping; for an array the count and the elements; for an object
//! the count and its members, sorted by the bytes of their keys. Texts carry their length. White space, the order of keys
//! and the way characters are escaped don't matter.
//!
//! [`DEEPEST`] levels down a value is encoded as the text it is (PostgreSQL writes a `jsonb` in one way only), so that a
//! document of any depth has an encoding and needs no deep stack.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::field::push_length;

/// Levels of arrays and objects that are encoded as a tree.
pub const DEEPEST: usize = 64;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const STRING: u8 = 4;
const ARRAY: u8 = 5;
const OBJECT: u8 = 6;
const TEXT: u8 = 7;

/// What PostgreSQL would not give for a `jsonb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChanges {
    #[error("what changed is no JSON document")]
    NotJson,
    #[error("what changed names a key twice")]
    DuplicateKey,
}

/// Appends the encoding of a JSON text.
pub fn push(out: &mut Vec<u8>, json: &str) -> Result<(), BadChanges> {
    // Checked as a whole once; what is taken out of it afterwards is well formed.
    let raw: &RawValue = serde_json::from_str(json).map_err(|_| BadChanges::NotJson)?;
    push_value(out, raw.get(), 0)
}

fn push_value(out: &mut Vec<u8>, json: &str, depth: usize) -> Result<(), BadChanges> {
    match json.as_bytes().first() {
        Some(b'n') => out.push(NULL),
        Some(b'f') => out.push(FALSE),
        Some(b't') => out.push(TRUE),
        Some(b'"') => {
            let text: Text<'_> = parse(json)?;
            push_text(out, STRING, &text.0);
        }
        Some(b'[' | b'{') if depth == DEEPEST => push_text(out, TEXT, json),
        Some(b'[') => {
            let elements: Vec<&RawValue> = parse(json)?;
            out.push(ARRAY);
            push_length(out, elements.len());
            for element in elements {
                push_value(out, element.get(), depth + 1)?;
            }
        }
        Some(b'{') => {
            let Members(mut members) = parse(json)?;
            members.sort_unstable_by(|a, b| a.0.0.as_bytes().cmp(b.0.0.as_bytes()));
            if members.windows(2).any(|pair| pair[0].0.0 == pair[1].0.0) {
                return Err(BadChanges::DuplicateKey);
            }
            out.push(OBJECT);
            push_length(out, members.len());
            for (key, value) in members {
                push_text(out, STRING, &key.0);
                push_value(out, value.get(), depth + 1)?;
            }
        }
        Some(b'-' | b'0'..=b'9') => push_text(out, NUMBER, json),
        _ => return Err(BadChanges::NotJson),
    }
    Ok(())
}

fn push_text(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    push_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, BadChanges> {
    serde_json::from_str(json).map_err(|_| BadChanges::NotJson)
}

/// A string, borrowed where nothing in it is escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// The members of an object, each of them, as they come.
struct Members<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(json: &str) -> Result<Vec<u8>, BadChanges> {
        let mut out = Vec::new();
        push(&mut out, json).map(|()| out)
    }

    #[test]
    fn the_way_it_is_written_does_not_matter() {
        let one = encoded(r#"{"a": {"old": null, "new": "é"}, "b": [1, 2]}"#);
        let other = encoded("\n{\"b\":[1,2],\"\\u0061\":{\"new\":\"\\u00e9\",\"old\":null}}\t");
        assert!(one.is_ok());
        assert_eq!(one, other);
    }

    #[test]
    fn whatever_differs_differs() {
        let documents = [
            "null",
            "false",
            "true",
            "0",
            "-0",
            "1",
            "1.0",
            "1e0",
            "\"\"",
            "\"1\"",
            "\"null\"",
            "[]",
            "[[]]",
            "[null]",
            "[1,2]",
            "[2,1]",
            "[12]",
            "[[1],2]",
            "[1,[2]]",
            "{}",
            "[{}]",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"":{"a":1}}"#,
            r#"{"a":{"":1}}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"ab":1}"#,
            r#"["a","b"]"#,
            r#"["ab"]"#,
            r#"["a","b",""]"#,
            "12345678901234567890123",
            "12345678901234567890124",
            "0.1",
            "0.10",
            "\"\\\\\"",
            "\"\\\"\"",
        ];
        for (at, one) in documents.iter().enumerate() {
            for other in &documents[at + 1..] {
                assert_ne!(encoded(one), encoded(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for json in [
            "",
            " ",
            "{",
            "[1,]",
            "nul",
            "+1",
            "01",
            "\"\u{1}\"",
            "{} {}",
            "'a'",
            "{a:1}",
            "\"\\ud800\"",
        ] {
            assert_eq!(encoded(json), Err(BadChanges::NotJson), "{json:?}");
        }
        assert_eq!(
            encoded(r#"{"a":1,"\u0061":1}"#),
            Err(BadChanges::DuplicateKey)
        );
    }

    #[test]
    fn a_deep_document_has_an_encoding_too() {
        let deep = |levels: usize, core: &str| {
            format!("{}{core}{}", "[".repeat(levels), "]".repeat(levels))
        };
        for levels in [DEEPEST - 1, DEEPEST, DEEPEST + 1, 100_000] {
            let one = encoded(&deep(levels, "1"));
            assert!(one.is_ok(), "{levels}");
            assert_ne!(one, encoded(&deep(levels, "2")), "{levels}");
        }
    }
}
