//! What JSON readers are given: the three layouts, bad lines, repeated keys, numbers, and files that break off.

use std::io::Read;

use serde_json::json;

use super::*;
use crate::import::{Kind, read};

fn read_text(text: &str) -> Result<Vec<Entry>, ReadError> {
    read(Kind::Json, text.as_bytes(), &Options::default()).map(|reading| reading.entries)
}

fn item(entry: &Entry) -> Value {
    serde_json::from_str(entry.item.as_ref().unwrap()).unwrap()
}

fn problem(entry: &Entry) -> &str {
    entry.item.as_ref().unwrap_err()
}

#[test]
fn arrays_and_camel_case() {
    let entries = read_text(
        r#"[{"name": "a", "provider": "stripe", "expiryDate": "2026-12-31", "intervalDays": 30}, 7, [], "x", {}]"#,
    )
    .unwrap();
    assert_eq!(
        item(&entries[0]),
        json!({"name": "a", "provider_type": "stripe", "expiry_date": "2026-12-31", "rotation_interval": "30 days"})
    );
    for (index, entry) in entries[1..4].iter().enumerate() {
        assert_eq!(entry.place, format!("item {}", index + 2));
        assert_eq!(problem(entry), "not an object");
    }
    assert_eq!(item(&entries[4]), json!({}));
    assert!(read_text("[ ]").unwrap().is_empty());
}

#[test]
fn one_object_a_line_survives_a_bad_line() {
    let bad = "{\"name\": \"b\"\n";
    for text in [
        format!("{{\"name\": \"a\"}}\n\n{bad}{{\"name\": \"c\"}}\n"),
        format!(
            "{{\"name\": \"a\"}}\r\n\r\n{}{{\"name\": \"c\"}}",
            bad.replace('\n', "\r\n")
        ),
    ] {
        let entries = read_text(&text).unwrap();
        let places: Vec<_> = entries.iter().map(|entry| entry.place.as_str()).collect();
        assert_eq!(places, ["line 1", "line 3", "line 4"]);
        assert!(problem(&entries[1]).starts_with("not valid JSON"));
        assert_eq!(entries[2].name.as_deref(), Some("c"));
    }
    let entries = read_text(&format!("{bad}{{\"name\": \"c\"}}\n7\n")).unwrap();
    assert_eq!(entries.len(), 3, "the first line may be the bad one");
}

#[test]
fn objects_may_span_lines() {
    let entries =
        read_text("{\n \"name\": \"a\"\n}\n{\n \"name\": \"b\", \"labels\": {\"x\": \"}\"}\n}\n")
            .unwrap();
    assert_eq!(
        item(&entries[1]),
        json!({"name": "b", "labels": {"x": "}"}})
    );
    assert_eq!(entries[1].place, "item 2");
}

#[test]
fn unknown_and_repeated_keys_are_errors_of_their_item() {
    let entries = read_text(
        r#"[{"name": "a", "remarks": "x"}, {"name": "b", "owner": "x", "owner_id": "y"}, {"name": "c", "name": "d"}, {"name": "e"}]"#,
    )
    .unwrap();
    assert_eq!(
        problem(&entries[0]),
        "a key (\"remarks\") is not a field of a secret"
    );
    assert_eq!(problem(&entries[1]), "owner_id is given twice");
    assert_eq!(problem(&entries[2]), "name is given twice");
    assert!(entries[3].item.is_ok());
}

#[test]
fn wrong_types_and_huge_numbers_are_errors_of_their_item_or_kept_exactly() {
    let entries = read_text(
        r#"[{"name": ["a"]}, {"name": {"a": 1e999999}}, {"name": true}, {"name": "x", "labels": [1]},
            {"name": "x", "labels": {"a": 1e400}}, {"name": "x", "external_id": 12345678901234567890123},
            {"name": "x", "interval_days": 1e999999}, {"name": "\ud800"}, {"name": "x", "labels": {"a": 1.10}}]"#,
    )
    .unwrap();
    for (index, part) in [
        (0, "must be text"),
        (1, "JSON text"),
        (2, "must be text"),
        (3, "must be an object"),
        (4, "out of range"),
        (6, "whole number"),
        (7, "JSON text"),
    ] {
        assert!(
            problem(&entries[index]).contains(part),
            "{index}: {}",
            problem(&entries[index])
        );
    }
    assert_eq!(item(&entries[5])["external_id"], "12345678901234567890123");
    assert!(
        entries[8]
            .item
            .as_ref()
            .unwrap()
            .ends_with(r#""labels":{"a": 1.10}}"#)
    );
}

#[test]
fn broken_files_say_where() {
    for (text, line, column) in [
        ("[{\"name\": \"a\"},\n {\"name\" 1}]", 2, 10),
        ("{\n \"name\": \"a\",\n}", 3, 1),
        ("[{\"name\": \"a\"}", 1, 15),
        ("[{\"name\": \"a\"} {}]", 1, 16),
        ("[{\"name\": \"a\"},]", 1, 16),
        ("[{}] x", 1, 6),
        ("[,]", 1, 2),
    ] {
        assert_eq!(
            read_text(text).unwrap_err(),
            ReadError::Json { line, column },
            "{text}"
        );
    }
    assert!(matches!(
        read_text("[{\"name\": \"a").unwrap_err(),
        ReadError::Json { line: 1, .. }
    ));
    assert_eq!(
        read_text("\"just text\"").unwrap_err(),
        ReadError::JsonShape
    );
    assert_eq!(read_text(" \n").unwrap_err(), ReadError::Empty);
}

#[test]
fn what_is_too_long_is_passed_over() {
    let long = format!("{{\"name\": \"{}\"}}", "x,}]".repeat(LONGEST));
    for (text, after) in [
        (format!("[{long}, {{\"name\": \"b\"}}]"), "item 2"),
        (
            format!("{{\"name\": \"a\"}}\n{long}\n{{\"name\": \"b\"}}\n"),
            "line 3",
        ),
    ] {
        let entries = read_text(&text).unwrap();
        let last = entries.last().unwrap();
        assert_eq!(
            (last.place.as_str(), last.name.as_deref()),
            (after, Some("b"))
        );
        assert_eq!(
            problem(&entries[entries.len() - 2]),
            "it is longer than 1 MiB"
        );
    }
    let endless = b"[\"".chain(std::io::repeat(b'x').take(20 * LONGEST as u64));
    let options = Options::default();
    let mut rows = crate::import::rows(Some(Kind::Json), endless, &options).unwrap();
    assert!(matches!(
        rows.next(),
        Some(Err(ReadError::Json { line: 1, .. }))
    ));
}
