//! Rows as a table for people, JSON for programs, CSV for spreadsheets.
//!
//! Rows arrive as JSON objects with the database's column names; a command says once which columns there are, in which
//! order, and which of them fit a terminal. JSON and CSV always carry all columns. What is printed here came from
//! people: control characters are made visible in tables, and CSV cells can't start a formula.

use std::io::{IsTerminal, Write, stdout};

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::args::Format;
use crate::failure::{Exit, Failure};
use crate::import::{Item, formula::disarm, text::printable};

/// Width of a table that isn't printed on a terminal.
const PIPED_WIDTH: u16 = 100;

/// How a table shows a value.
#[derive(Clone, Copy)]
pub enum Show {
    /// In JSON and CSV only.
    Never,
    Text,
    Number,
    /// The day of a timestamp.
    Day,
    /// Day, hour and minute of a timestamp.
    Time,
    /// In lines of its own below the row, as many as it takes: a text, or an array of them.
    Below,
    /// An interval, in whole seconds.
    Span,
    /// A state, in its colour on a terminal.
    State,
}

/// One column: its name in JSON and CSV, and its heading in the table.
pub struct Column {
    pub key: &'static str,
    pub heading: &'static str,
    pub show: Show,
}

impl Column {
    pub const fn new(key: &'static str, heading: &'static str, show: Show) -> Self {
        Self { key, heading, show }
    }

    /// A column that only programs see.
    pub const fn hidden(key: &'static str) -> Self {
        Self {
            key,
            heading: "",
            show: Show::Never,
        }
    }
}

/// Prints rows; `empty` is said instead of a table without rows.
///
/// # Errors
/// Standard output can't be written. A reader that has gone away (`| head`) is no error.
pub fn print_rows(
    format: Format,
    columns: &[Column],
    rows: &[Item],
    empty: &str,
) -> Result<(), Failure> {
    let text = match format {
        Format::Table if rows.is_empty() => format!("{empty}\n"),
        Format::Table => table(columns, rows),
        Format::Json => json(columns, rows)?,
        Format::Csv => csv(columns, rows)?,
    };
    print(&text)
}

/// Prints one result: `text` for people, else the row in the format asked for (JSON: the object itself).
///
/// # Errors
/// As [`print_rows`].
pub fn print_one(
    format: Format,
    text: &str,
    columns: &[Column],
    row: &Item,
) -> Result<(), Failure> {
    match format {
        Format::Table => print(&format!("{text}\n")),
        Format::Json => {
            let json =
                serde_json::to_string_pretty(&Ordered { columns, row }).map_err(unprintable)?;
            print(&format!("{json}\n"))
        }
        Format::Csv => print_rows(format, columns, std::slice::from_ref(row), ""),
    }
}

/// Writes to standard output.
///
/// # Errors
/// As [`print_rows`].
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(unprintable(error)),
        _ => Ok(()),
    }
}

fn unprintable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("can't write the result: {error}"))
        .hint("Check where standard output goes, and whether there is room.")
}

/// One line a row: long cells are cut, since what was cut is in JSON and CSV. What is shown below follows it.
fn table(columns: &[Column], rows: &[Item]) -> String {
    let below: Vec<&Column> = columns
        .iter()
        .filter(|column| matches!(column.show, Show::Below))
        .collect();
    let columns: Vec<&Column> = columns
        .iter()
        .filter(|column| !matches!(column.show, Show::Never | Show::Below))
        .collect();
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_truncation_indicator("…");
    // Cells break anywhere, not at spaces: the first line then holds as much as fits.
    table.set_delimiter('\u{1f}');
    let width = table.width().unwrap_or(PIPED_WIDTH);
    table.set_width(width);
    if std::env::var_os("NO_COLOR").is_some() || !stdout().is_terminal() {
        table.force_no_tty();
    }
    table.set_header(
        columns
            .iter()
            .map(|column| Cell::new(column.heading.to_uppercase())),
    );
    for item in rows {
        let mut row = Row::from(
            columns
                .iter()
                .map(|column| cell(column, item.get(column.key)))
                .collect::<Vec<_>>(),
        );
        row.max_height(1);
        table.add_row(row);
    }
    for (index, column) in columns.iter().enumerate() {
        let Some(out) = table.column_mut(index) else {
            continue;
        };
        out.set_padding((0, if index + 1 == columns.len() { 0 } else { 2 }));
        if matches!(column.show, Show::Number) {
            out.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    if below.is_empty() {
        return text;
    }
    // The heading first, then a line a row.
    let mut lines = text.lines();
    let mut text = lines.next().unwrap_or_default().to_owned() + "\n";
    for (line, row) in lines.zip(rows) {
        text += line;
        text.push('\n');
        for said in below.iter().filter_map(|column| row.get(column.key)) {
            match said {
                Value::Array(texts) => texts.iter().for_each(|said| indent(said, width, &mut text)),
                said => indent(said, width, &mut text),
            }
        }
    }
    text
}

/// Adds what is said below a row, broken between words where it is wider than the table.
fn indent(said: &Value, width: u16, text: &mut String) {
    const MARGIN: &str = "    ";
    let room = usize::from(width).saturating_sub(MARGIN.len()).max(20);
    let mut line = String::new();
    for word in printable(&plain(Some(said))).split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            *text += &format!("{MARGIN}{}\n", std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if !line.is_empty() {
        *text += &format!("{MARGIN}{line}\n");
    }
}

fn cell(column: &Column, value: Option<&Value>) -> Cell {
    let text = printable(&plain(value));
    match column.show {
        Show::Day => Cell::new(text.get(..10).unwrap_or(&text)),
        Show::Time => Cell::new(minute(&text)),
        Show::Span => Cell::new(text.split('.').next().unwrap_or_default()),
        Show::State => match text.as_str() {
            "overdue" | "destroyed" | "failed" | "dead" => Cell::new(text).fg(Color::Red),
            "expiring_soon" | "pending" | "running" | "deferred" | "retry" => {
                Cell::new(text).fg(Color::Yellow)
            }
            "healthy" | "active" | "completed" | "sent" => Cell::new(text).fg(Color::Green),
            _ => Cell::new(text),
        },
        Show::Never | Show::Below | Show::Text | Show::Number => Cell::new(text),
    }
}

/// A timestamp as the database writes it in JSON, to the minute; its offset is the tenant's, so that it can go.
pub fn minute(timestamp: &str) -> String {
    timestamp
        .get(..16)
        .map_or_else(|| timestamp.to_owned(), |text| text.replace('T', " "))
}

/// A value as text: nothing for null, JSON for what has structure.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A row whose keys come in the order of the columns.
struct Ordered<'a> {
    columns: &'a [Column],
    row: &'a Item,
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for column in self.columns {
            map.serialize_entry(column.key, self.row.get(column.key).unwrap_or(&Value::Null))?;
        }
        map.end()
    }
}

fn json(columns: &[Column], rows: &[Item]) -> Result<String, Failure> {
    let rows: Vec<_> = rows.iter().map(|row| Ordered { columns, row }).collect();
    Ok(serde_json::to_string_pretty(&rows).map_err(unprintable)? + "\n")
}

fn csv(columns: &[Column], rows: &[Item]) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(columns.iter().map(|column| column.key))
        .map_err(unprintable)?;
    for row in rows {
        let cells = columns.iter().map(|column| match row.get(column.key) {
            Some(number @ Value::Number(_)) => number.to_string(),
            other => disarm(plain(other)),
        });
        writer.write_record(cells).map_err(unprintable)?;
    }
    let bytes = writer.into_inner().map_err(unprintable)?;
    String::from_utf8(bytes).map_err(unprintable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::hidden("id"),
        Column::new("name", "name", Show::Text),
        Column::new("expiry_date", "expires", Show::Day),
        Column::new("days", "days", Show::Number),
    ];

    fn row(value: Value) -> Item {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn formulas_are_disarmed_and_numbers_left_alone() {
        let text = csv(&COLUMNS, &[row(json!({"name": "-3", "days": -3}))]).unwrap();
        assert_eq!(text, "id,name,expiry_date,days\n,'-3,,-3\n");
    }

    #[test]
    fn json_keeps_all_columns_in_order() {
        let text = json(
            &COLUMNS,
            &[row(json!({"days": 3, "name": "a", "other": 1}))],
        )
        .unwrap();
        let order: Vec<_> = [
            "\"id\": null",
            "\"name\": \"a\"",
            "\"expiry_date\": null",
            "\"days\": 3",
        ]
        .iter()
        .map(|part| text.find(part).unwrap())
        .collect();
        assert!(order.is_sorted(), "{text}");
        assert!(!text.contains("other"));
    }

    #[test]
    fn a_table_has_one_line_a_row_within_its_width() {
        let rows = [
            row(
                json!({"name": "x".repeat(256), "expiry_date": "2026-12-31T08:00:00+00:00", "days": 39}),
            ),
            row(json!({"name": "two words\u{1b}[31m and\nmore", "expiry_date": null, "days": -1})),
        ];
        let text = table(&COLUMNS, &rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines.iter().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        assert!(
            lines[0].starts_with("NAME")
                && lines[1].contains('…')
                && lines[1].ends_with("2026-12-31    39"),
            "{text}"
        );
        assert!(
            lines[2].contains("two words\u{fffd}[31m and more"),
            "{text}"
        );
    }

    #[test]
    fn what_stands_below_a_row_is_whole_and_within_the_width() {
        const COLUMNS: [Column; 3] = [
            Column::new("at", "at", Show::Time),
            Column::new("name", "name", Show::Text),
            Column::new("why", "", Show::Below),
        ];
        let rows = [
            row(json!({"at": "2026-12-31T08:15:30+01:00", "name": "a", "why": "word ".repeat(40)})),
            row(json!({"at": "infinity", "name": "b", "why": null})),
            row(json!({"at": null, "name": "c", "why": ["one\u{1b}", "two"]})),
        ];
        let text = table(&COLUMNS, &rows);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("AT") && lines[0].ends_with("NAME"),
            "{text}"
        );
        assert_eq!(lines[1], "2026-12-31 08:15  a");
        assert_eq!(lines[2].len(), 98, "{text}");
        assert_eq!(text.matches("word").count(), 40);
        assert!(
            lines[5].starts_with("infinity") && lines[6].ends_with('c'),
            "{text}"
        );
        assert_eq!(lines[7..], ["    one\u{fffd}", "    two"]);
    }
}
