//! Rows of `secrets list` for programs and spreadsheets, written as they come, and such that `secrets import` reads back
//! exactly what they say.
//!
//! Labels are passed on as the text they are stored as, so that their numbers keep every digit. In CSV what a spreadsheet
//! would run as a formula gets an apostrophe (`import/formula.rs`), and what begins or ends with white space gets quotes.

use std::io::{BufWriter, ErrorKind, Stdout, Write, stdout};

use serde_json::Value;

use crate::cli::args::Format;
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::formula::disarm;

pub struct Export<'a> {
    out: BufWriter<Stdout>,
    format: Format,
    columns: &'a [&'static str],
    first: bool,
    /// The reader has gone away (`| head`), which is no error.
    closed: bool,
}

impl<'a> Export<'a> {
    /// # Errors
    /// Standard output can't be written.
    pub fn begin(format: Format, columns: &'a [&'static str]) -> Result<Self, Failure> {
        let mut export = Self {
            out: BufWriter::new(stdout()),
            format,
            columns,
            first: true,
            closed: false,
        };
        let start = match format {
            Format::Csv => columns.join(",") + "\n",
            _ => "[".to_owned(),
        };
        export.write(&start)?;
        Ok(export)
    }

    /// Writes one row; `labels` is the text of a JSON object.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn row(&mut self, row: &Item, labels: &str) -> Result<(), Failure> {
        let text = match self.format {
            Format::Csv => csv_line(self.columns, row, labels),
            _ => {
                let comma = if std::mem::take(&mut self.first) {
                    ""
                } else {
                    ","
                };
                format!("{comma}\n{}", json_object(self.columns, row, labels))
            }
        };
        self.write(&text)
    }

    /// # Errors
    /// Standard output can't be written.
    pub fn end(mut self) -> Result<(), Failure> {
        if self.format != Format::Csv {
            let end = if self.first { "]\n" } else { "\n]\n" };
            self.write(end)?;
        }
        match self.out.flush() {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritable(&error)),
            _ => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        match self.out.write_all(text.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(unwritable(&error)),
            Ok(()) => Ok(()),
        }
    }
}

fn unwritable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("can't write the result: {error}"))
        .hint("Check where standard output goes, and whether there is room.")
}

fn json_object(columns: &[&str], row: &Item, labels: &str) -> String {
    let members: Vec<String> = columns
        .iter()
        .map(|column| match row.get(*column) {
            _ if *column == "labels" => format!("    \"labels\": {labels}"),
            Some(value) => format!("    \"{column}\": {value}"),
            None => format!("    \"{column}\": null"),
        })
        .collect();
    format!("  {{\n{}\n  }}", members.join(",\n"))
}

fn csv_line(columns: &[&str], row: &Item, labels: &str) -> String {
    let cells: Vec<String> = columns
        .iter()
        .map(|column| match row.get(*column) {
            _ if *column == "labels" => cell(labels.to_owned()),
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => cell(disarm(text.clone())),
            // Numbers run nothing and stay numbers.
            Some(other) => cell(other.to_string()),
        })
        .collect();
    cells.join(",") + "\n"
}

/// In quotes if it needs them.
fn cell(text: String) -> String {
    let needs_quotes =
        text.contains(['"', ',', ';', '\t', '\r', '\n']) || text.trim().len() < text.len();
    if needs_quotes {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [&str; 4] = ["name", "purpose", "days", "labels"];

    fn row(value: Value) -> Item {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn cells_are_disarmed_and_quoted_and_numbers_stay() {
        let line = csv_line(
            &COLUMNS,
            &row(json!({"name": "=1", "purpose": "a\n", "days": -3})),
            "{\"a\": 1.10}",
        );
        assert_eq!(line, "'=1,\"a\n\",-3,\"{\"\"a\"\": 1.10}\"\n");
        let line = csv_line(&COLUMNS, &row(json!({"name": "a", "purpose": null})), "{}");
        assert_eq!(line, "a,,,{}\n");
    }

    #[test]
    fn json_has_all_columns_and_labels_as_they_are() {
        assert_eq!(
            json_object(
                &COLUMNS,
                &row(json!({"name": "a\n", "days": 1})),
                "{\"a\": 1.10}"
            ),
            "  {\n    \"name\": \"a\\n\",\n    \"purpose\": null,\n    \"days\": 1,\n    \"labels\": {\"a\": 1.10}\n  }"
        );
    }
}
