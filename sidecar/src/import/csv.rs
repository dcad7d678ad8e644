//! CSV with a header row, as spreadsheets write it: comma, semicolon or tab, quotes, any line ending.
//!
//! Which column is which field, and which cells make an item. Where a record ends: `records.rs`. What a field may hold:
//! `fields.rs`.

use serde_json::Value;

use super::records::{Cells, Lines};
use super::{Entry, Item, Options, ReadError, Reading, entry, fields};

/// A column of the file.
enum Column {
    Field(&'static str),
    /// Known to mean nothing here, and to be left out.
    Ignored,
    /// Without a label; allowed as long as its cells are empty.
    Unnamed,
}

pub fn read(data: &[u8], options: &Options) -> Result<Reading, ReadError> {
    let mut lines = Lines::new(data);
    let delimiter = lines.delimiter();
    let header = loop {
        match lines.next_record(delimiter) {
            None => return Err(ReadError::Empty),
            Some((_, Err(problem))) => return Err(ReadError::BadHeader(problem)),
            Some((_, Ok(cells))) if cells.iter().all(|cell| cell.is_empty()) => {}
            Some((_, Ok(cells))) => break cells,
        }
    };
    let columns = columns(&header, options)?;
    let mut reading = Reading::default();
    while let Some((line, record)) = lines.next_record(delimiter) {
        let place = format!("line {line}");
        match record {
            Err(problem) => reading
                .entries
                .push(entry(place, None, Err(problem.into()))),
            Ok(cells)
                if cells
                    .iter()
                    .all(|cell| cell.iter().all(u8::is_ascii_whitespace)) => {}
            Ok(cells) => reading.entries.push(row(place, &cells, &columns, options)),
        }
    }
    Ok(reading)
}

fn columns(header: &Cells, options: &Options) -> Result<Vec<Column>, ReadError> {
    let mut columns = Vec::with_capacity(header.len());
    let mut seen: Vec<(&'static str, usize)> = Vec::new();
    for (index, cell) in header.iter().enumerate() {
        let label =
            str::from_utf8(cell).map_err(|_| ReadError::BadHeader("it is not valid UTF-8"))?;
        let column = index + 1;
        columns.push(match fields::canonical(label) {
            Some(field) => {
                if let Some((_, first)) = seen.iter().find(|(earlier, _)| *earlier == field) {
                    return Err(ReadError::RepeatedColumn {
                        first: *first,
                        second: column,
                        field,
                    });
                }
                seen.push((field, column));
                Column::Field(field)
            }
            None if label.trim().is_empty() => Column::Unnamed,
            None if options.ignore_unknown => Column::Ignored,
            None => {
                return Err(ReadError::UnknownColumn {
                    column,
                    label: fields::quoted_label(label),
                });
            }
        });
    }
    if seen.iter().any(|(field, _)| *field == "name") {
        Ok(columns)
    } else {
        Err(ReadError::NoNameColumn)
    }
}

fn row(place: String, cells: &Cells, columns: &[Column], options: &Options) -> Entry {
    let mut item = Item::new();
    let mut problem = None;
    let extra_filled = cells
        .iter()
        .skip(columns.len())
        .any(|cell| !cell.is_empty());
    if cells.len() < columns.len() || extra_filled {
        problem = Some(format!(
            "{} cells where the header has {} columns",
            cells.len(),
            columns.len()
        ));
    }
    for (index, (cell, column)) in cells.iter().zip(columns).enumerate() {
        let text = match str::from_utf8(cell) {
            Ok(text) => text.trim(),
            Err(_) => {
                problem.get_or_insert_with(|| format!("cell {} is not valid UTF-8", index + 1));
                continue;
            }
        };
        match column {
            Column::Field(field) if !text.is_empty() => {
                item.insert((*field).into(), Value::String(text.into()));
            }
            Column::Unnamed if !text.is_empty() => {
                problem.get_or_insert_with(|| {
                    format!("cell {} belongs to a column without a name", index + 1)
                });
            }
            _ => {}
        }
    }
    // Cells of a malformed row may sit in the wrong column: then what is under "name" is not shown.
    if let Some(problem) = problem {
        return entry(place, None, Err(problem));
    }
    let name = item.get("name").and_then(Value::as_str).map(str::to_owned);
    entry(place, name.as_deref(), fields::finish(item, options))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::import::Kind;

    fn read_csv(text: &str) -> Vec<Entry> {
        crate::import::read(Kind::Csv, text.as_bytes(), &Options::default())
            .unwrap()
            .entries
    }

    fn items(entries: &[Entry]) -> Vec<Value> {
        entries
            .iter()
            .filter_map(|entry| entry.item.clone().ok())
            .map(Value::Object)
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
        let reading = read(b"name,purpose\nb\xfcro,x\nok,y\n", &Options::default()).unwrap();
        assert_eq!(
            reading.entries[0].item.as_ref().unwrap_err(),
            "cell 1 is not valid UTF-8"
        );
        assert!(reading.entries[1].item.is_ok());
    }

    #[test]
    fn headers_that_can_not_be_meant() {
        let fails = |text: &str| read(text.as_bytes(), &Options::default()).unwrap_err();
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
            items(&read(b"name,remarks,\na,b,\n", &ignoring).unwrap().entries),
            [json!({"name": "a"})]
        );
    }
}
