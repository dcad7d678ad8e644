//! Labels: a JSON object whose text is passed on as it is, so that its numbers keep every digit; or `key=value` pairs.
//!
//! What the database would refuse together with every other row of the batch is refused here for its own row: a NUL
//! character, and a number beyond what PostgreSQL's numeric holds. A key that is given twice is refused too: the database
//! would keep the last one without a word.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Item;

/// Longest number, and largest exponent: more than a double holds, which the database writes out in full.
const LONGEST_NUMBER: usize = 1000;

/// Labels as the text of a JSON object.
///
/// # Errors
/// What is wrong with them, without a word of what they hold.
pub fn object_text(text: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.starts_with('{') {
        return pairs(text).map(|labels| Value::Object(labels).to_string());
    }
    serde_json::from_str::<Checked>(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("labels hold {}", reason(&error)),
        _ if error.to_string().starts_with("recursion") => {
            "labels are nested too deeply".to_owned()
        }
        _ if error.to_string().starts_with("number out of range") => NUMBER.to_owned(),
        _ => "labels are neither a JSON object nor pairs like team=payments;tier=1".to_owned(),
    })?;
    if numbers(text).all(is_storable) {
        Ok(text.to_owned())
    } else {
        Err(NUMBER.to_owned())
    }
}

const NUMBER: &str = "labels hold a number that is out of range";

/// What [`Checked`] said, without the position that is added to it.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn pairs(text: &str) -> Result<Item, String> {
    let mut labels = Item::new();
    for pair in text
        .split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty())
            .ok_or("labels are neither a JSON object nor pairs like team=payments;tier=1")?;
        if pair.contains('\0') {
            return Err("labels hold a NUL character".to_owned());
        }
        let value = Value::String(value.trim().into());
        if labels.insert(key.trim().into(), value).is_some() {
            return Err("labels hold a key twice".to_owned());
        }
    }
    Ok(labels)
}

/// The numbers in a JSON text.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let mut in_string = false;
    let mut escaped = false;
    json.split(move |c: char| {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            return true;
        }
        in_string = c == '"';
        !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')
    })
    .filter(|token| token.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
}

fn is_storable(number: &str) -> bool {
    let exponent = number
        .split_once(['e', 'E'])
        .map_or("0", |(_, exponent)| exponent);
    number.len() <= LONGEST_NUMBER
        && exponent
            .parse::<i32>()
            .is_ok_and(|exponent| exponent.unsigned_abs() <= LONGEST_NUMBER as u32)
}

/// JSON without repeated keys and NUL characters.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self, E> {
        if text.contains('\0') {
            Err(E::custom("a NUL character"))
        } else {
            Ok(self)
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Checked>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.contains('\0') {
                return Err(A::Error::custom("a NUL character"));
            }
            if !keys.insert(key) {
                return Err(A::Error::custom("a key twice"));
            }
            map.next_value::<Checked>()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_as_json_or_pairs() {
        assert_eq!(
            object_text("team=pay; tier=1;").unwrap(),
            r#"{"team":"pay","tier":"1"}"#
        );
        let exact = r#"{"a": 12345678901234567890.10, "b": {"c": [1e300, null, "1e999"]}}"#;
        assert_eq!(object_text(exact).unwrap(), exact);
        assert_eq!(object_text("").unwrap(), "{}");
    }

    #[test]
    fn what_can_not_be_stored_is_named() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        let long = format!(r#"{{"a":{}}}"#, "1".repeat(1001));
        for (text, problem) in [
            ("nonsense", "neither"),
            ("=x", "neither"),
            ("{broken", "neither"),
            ("a=1;a=2", "twice"),
            (r#"{"a":1,"a":2}"#, "twice"),
            (r#"{"x":[{"a":1,"\u0061":2}]}"#, "twice"),
            (r#"{"a":"x\u0000y"}"#, "NUL"),
            (r#"{"a\u0000":1}"#, "NUL"),
            (r#"{"a":1e400}"#, "out of range"),
            (r#"{"a":[1e-99999]}"#, "out of range"),
            (&long, "out of range"),
            (r#"{"a":"\ud800"}"#, "neither"),
            (&deep, "deeply"),
        ] {
            let told = object_text(text).unwrap_err();
            assert!(told.contains(problem), "{text}: {told}");
        }
    }
}
