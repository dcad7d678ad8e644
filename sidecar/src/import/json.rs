//! JSON: an array of objects, or one object a line (NDJSON). With lines, a bad line spoils only itself.
//!
//! Keys are those of the CSV header, in the database's spelling or the HTTP interface's camelCase. Meaning and checks:
//! `fields.rs`.

use serde_json::Value;

use super::{Entry, Item, Options, ReadError, Reading, entry, fields};

pub fn read(data: &[u8], options: &Options) -> Result<Reading, ReadError> {
    match serde_json::from_slice::<Value>(data) {
        Ok(Value::Array(values)) => Ok(Reading {
            entries: values
                .into_iter()
                .enumerate()
                .map(|(index, value)| item(format!("item {}", index + 1), value, options))
                .collect(),
            notes: Vec::new(),
        }),
        Ok(value @ Value::Object(_)) => Ok(Reading {
            entries: vec![item("item 1".into(), value, options)],
            notes: Vec::new(),
        }),
        Ok(_) => Err(ReadError::JsonShape),
        Err(error) if data.trim_ascii_start().starts_with(b"{") => lines(data, options, &error),
        Err(error) => Err(position(&error)),
    }
}

/// One object a line. A file in which no line is one is taken for broken JSON, not for a hundred broken lines.
fn lines(data: &[u8], options: &Options, whole: &serde_json::Error) -> Result<Reading, ReadError> {
    let mut reading = Reading::default();
    for (index, line) in data.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("line {}", index + 1);
        reading.entries.push(match serde_json::from_slice(line) {
            Ok(value) => item(place, value, options),
            Err(error) => entry(
                place,
                None,
                Err(format!("not valid JSON at column {}", error.column())),
            ),
        });
    }
    if reading.entries.iter().any(|entry| entry.item.is_ok()) {
        Ok(reading)
    } else {
        Err(position(whole))
    }
}

fn position(error: &serde_json::Error) -> ReadError {
    ReadError::Json {
        line: error.line(),
        column: error.column(),
    }
}

fn item(place: String, value: Value, options: &Options) -> Entry {
    let Value::Object(object) = value else {
        return entry(place, None, Err("not an object".into()));
    };
    let mut item = Item::new();
    let mut problem = None;
    for (key, value) in object {
        match fields::canonical(&key) {
            Some(field) if item.contains_key(field) => {
                problem.get_or_insert_with(|| format!("{field} is given twice"));
            }
            Some(field) => {
                item.insert(field.into(), value);
            }
            None if options.ignore_unknown => {}
            None => {
                problem.get_or_insert_with(|| {
                    format!(
                        "a key{} is not a field of a secret",
                        fields::quoted_label(&key)
                    )
                });
            }
        }
    }
    let name = item.get("name").and_then(Value::as_str).map(str::to_owned);
    let item = problem.map_or_else(|| fields::finish(item, options), Err);
    entry(place, name.as_deref(), item)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_text(text: &str) -> Result<Reading, ReadError> {
        read(text.as_bytes(), &Options::default())
    }

    #[test]
    fn arrays_and_camel_case() {
        let reading = read_text(
            r#"[{"name": "a", "provider": "stripe", "expiryDate": "2026-12-31", "intervalDays": 30}, 7]"#,
        );
        let entries = reading.unwrap().entries;
        assert_eq!(
            Value::Object(entries[0].item.clone().unwrap()),
            json!({"name": "a", "provider_type": "stripe", "expiry_date": "2026-12-31", "rotation_interval": "30 days"})
        );
        assert_eq!(
            (
                entries[1].place.as_str(),
                entries[1].item.as_ref().unwrap_err().as_str()
            ),
            ("item 2", "not an object")
        );
    }

    #[test]
    fn one_object_a_line_survives_a_bad_line() {
        let entries = read_text("{\"name\": \"a\"}\n\n{\"name\": \n{\"name\": \"c\"}\n")
            .unwrap()
            .entries;
        assert_eq!(
            entries
                .iter()
                .map(|entry| entry.place.as_str())
                .collect::<Vec<_>>(),
            ["line 1", "line 3", "line 4"]
        );
        assert!(entries[1].item.is_err());
        assert_eq!(entries[2].name.as_deref(), Some("c"));
    }

    #[test]
    fn unknown_and_repeated_keys_are_errors_of_their_item() {
        let entries = read_text(
            r#"[{"name": "a", "remarks": "x"}, {"name": "b", "owner": "x", "owner_id": "y"}]"#,
        );
        let entries = entries.unwrap().entries;
        assert_eq!(
            entries[0].item.as_ref().unwrap_err(),
            "a key (\"remarks\") is not a field of a secret"
        );
        assert_eq!(
            entries[1].item.as_ref().unwrap_err(),
            "owner_id is given twice"
        );
    }

    #[test]
    fn broken_files_say_where() {
        assert_eq!(
            read_text("[{\"name\": \"a\"},\n {\"name\" 1}]").unwrap_err(),
            ReadError::Json {
                line: 2,
                column: 10
            }
        );
        assert_eq!(
            read_text("{\n \"name\": \"a\",\n}").unwrap_err(),
            ReadError::Json { line: 3, column: 1 }
        );
        assert_eq!(
            read_text("\"just text\"").unwrap_err(),
            ReadError::JsonShape
        );
    }
}
