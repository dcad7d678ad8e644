//! What CSV readers are given: spreadsheets' habits, broken rows, and headers that can't be meant.

use serde_json::json;

use super::*;
use crate::import::{Kind, read};

fn read_csv(text: &str) -> Vec<Entry> {
    read(Kind::Csv, text.as_bytes(), &Options::default())
        .unwrap()
        .entries
}

fn items(entries: &[Entry]) -> Vec<Value> {
    entries
        .iter()
        .filter_map(|entry| entry.item.as_ref().ok())
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

#[test]
fn byte_order_mark_semicolons_and_quotes() {
    let entries = read_csv(
        "\u{feff}Name;Provider;Expiry Date;labels\r\n\"Stripe; \"\"live\"\"\";stripe;2026-12-31;\"a=1;b=2\"\r\n\r\nplain;;;\r\n;;;\r\n",
    );
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.place.as_str())
            .collect::<Vec<_>>(),
        ["line 2", "line 4"]
    );
    assert_eq!(
        items(&entries),
        [
            json!({"name": "Stripe; \"live\"", "provider_type": "stripe", "expiry_date": "2026-12-31",
                   "labels": {"a": "1", "b": "2"}}),
            json!({"name": "plain"}),
        ]
    );
}

#[test]
fn tabs_and_the_sep_line() {
    assert_eq!(
        items(&read_csv("name\tpurpose\na\tb, c; d\n")),
        [json!({"name": "a", "purpose": "b, c; d"})]
    );
    assert_eq!(
        items(&read_csv("sep=;\nname;purpose\na;b\n")),
        [json!({"name": "a", "purpose": "b"})]
    );
}

#[test]
fn a_cell_may_hold_line_breaks() {
    let entries = read_csv("name,purpose\na,\"one\ntwo\"\nb,x\n");
    assert_eq!(
        items(&entries),
        [
            json!({"name": "a", "purpose": "one\ntwo"}),
            json!({"name": "b", "purpose": "x"})
        ]
    );
    assert_eq!(entries[1].place, "line 4");
}

#[test]
fn an_unclosed_quote_costs_one_row() {
    let entries = read_csv("name,purpose\na,x\nb,\"open\nc,y\nd,\"also open\ne,z\n");
    let bad: Vec<_> = entries
        .iter()
        .filter(|entry| entry.item.is_err())
        .map(|entry| entry.place.as_str())
        .collect();
    assert_eq!(bad, ["line 3", "line 5"]);
    assert_eq!(items(&entries).len(), 3);
}

#[test]
fn bad_rows_are_named_and_their_cells_are_not() {
    let entries = read_csv(
        "name,expiry_date,purpose\nsk_live_51H8xyzABCDEFGHIJK,31.12.2026,x\nshort,2026-01-01\ngood,2026-12-31,\n",
    );
    assert_eq!(entries[0].name, None);
    assert!(
        entries[0]
            .item
            .as_ref()
            .unwrap_err()
            .starts_with("expiry_date is not a date")
    );
    assert_eq!(
        entries[1].item.as_ref().unwrap_err(),
        "2 cells where the header has 3 columns"
    );
    assert!(entries[2].item.is_ok());
    assert!(
        entries
            .iter()
            .all(|entry| !format!("{entry:?}").contains("sk_live"))
    );
}

#[test]
fn invalid_utf8_is_an_error_of_its_row() {
    let reading = read(
        Kind::Csv,
        b"name,purpose\nb\xfcro,x\nok,y\n",
        &Options::default(),
    )
    .unwrap();
    assert!(
        reading.notes[0].contains("--encoding"),
        "{:?}",
        reading.notes
    );
    assert_eq!(
        reading.entries[0].item.as_ref().unwrap_err(),
        "cell 1 is not valid UTF-8"
    );
    assert!(reading.entries[1].item.is_ok());
}

#[test]
fn headers_that_can_not_be_meant() {
    let fails = |text: &str| read(Kind::Csv, text.as_bytes(), &Options::default()).unwrap_err();
    assert_eq!(
        fails("name,remarks\n"),
        ReadError::UnknownColumn {
            column: 2,
            label: " (\"remarks\")".into()
        }
    );
    assert_eq!(
        fails("name,AKIAIOSFODNN7EXAMPLE\n"),
        ReadError::UnknownColumn {
            column: 2,
            label: String::new()
        }
    );
    assert_eq!(fails("owner,expiry\n"), ReadError::NoNameColumn);
    assert_eq!(
        fails("name,owner,owner_id\n"),
        ReadError::RepeatedColumn {
            first: 2,
            second: 3,
            field: "owner_id"
        }
    );
    let ignoring = Options {
        ignore_unknown: true,
        ..Options::default()
    };
    assert_eq!(
        items(
            &read(Kind::Csv, b"name,remarks,\na,b,\n", &ignoring)
                .unwrap()
                .entries
        ),
        [json!({"name": "a"})]
    );
}
