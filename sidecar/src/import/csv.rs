//! CSV with a header row, as spreadsheets write it: comma, semicolon or tab, quotes, any line ending.
//!
//! Which column is which field, and which cells make an item. Where a record ends: `records.rs`. What a field may hold:
//! `fields.rs`.

use serde_json::Value;

use super::records::{Cell, Cells, Lines};
use super::window::Window;
use super::{Entry, Item, Options, ReadError, entry, fields, formula};

/// A column of the file.
enum Column {
    Field(&'static str),
    /// Known to mean nothing here, and to be left out.
    Ignored,
    /// Without a label; allowed as long as its cells are empty.
    Unnamed,
}

/// Reads row by row.
pub struct Rows<'a> {
    lines: Lines<'a>,
    delimiter: u8,
    columns: Vec<Column>,
    options: &'a Options,
    /// Columns of an export that nobody sets.
    pub read_only: Vec<&'static str>,
    /// Whether a cell was met that is no UTF-8.
    pub undecodable: bool,
}

impl<'a> Rows<'a> {
    /// Reads the header row.
    ///
    /// # Errors
    /// There is none, or it can't be meant.
    pub fn new(window: Window<'a>, options: &'a Options) -> Result<Self, ReadError> {
        let mut lines = Lines::new(window);
        let delimiter = lines.delimiter()?;
        let header = loop {
            match lines.next_record(delimiter)? {
                None => return Err(ReadError::Empty),
                Some((_, Err(problem))) => return Err(ReadError::BadHeader(problem)),
                Some((_, Ok(cells))) if cells.iter().all(is_blank) => {}
                Some((_, Ok(cells))) => break cells,
            }
        };
        let (columns, read_only) = columns(&header, options)?;
        Ok(Self {
            lines,
            delimiter,
            columns,
            options,
            read_only,
            undecodable: false,
        })
    }

    /// The next row that isn't blank.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        while let Some((line, record)) = self.lines.next_record(self.delimiter)? {
            let place = format!("line {line}");
            match record {
                Err(problem) => return Ok(Some(entry(place, None, Err(problem.into())))),
                Ok(cells) if cells.iter().all(is_blank) => {}
                Ok(cells) => return Ok(Some(self.row(place, &cells))),
            }
        }
        Ok(None)
    }

    fn row(&mut self, place: String, cells: &Cells) -> Entry {
        let mut item = Item::new();
        let mut problem = None;
        let columns = &self.columns;
        let extra_filled = cells.iter().skip(columns.len()).any(|cell| !is_blank(cell));
        if cells.len() < columns.len() || extra_filled {
            problem = Some(format!(
                "{} cells where the header has {} columns",
                cells.len(),
                columns.len()
            ));
        }
        for (index, (cell, column)) in cells.iter().zip(columns).enumerate() {
            let Ok(text) = str::from_utf8(&cell.bytes) else {
                self.undecodable = true;
                problem.get_or_insert_with(|| format!("cell {} is not valid UTF-8", index + 1));
                continue;
            };
            match column {
                Column::Field(field) => {
                    let text = formula::restore(trimmed(field, text, cell.quoted));
                    if !text.trim().is_empty() {
                        item.insert((*field).into(), Value::String(text.into()));
                    }
                }
                Column::Unnamed if !text.trim().is_empty() => {
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
        entry(place, name.as_deref(), fields::finish(item, self.options))
    }
}

fn is_blank(cell: &Cell) -> bool {
    cell.bytes.iter().all(u8::is_ascii_whitespace)
}

/// Without the white space that isn't meant. What stands in quotes is meant, but at the ends of a line of text nobody
/// means a tab or a line break; only a purpose may have them, and an export of one must come back as it was.
fn trimmed<'t>(field: &str, text: &'t str, quoted: bool) -> &'t str {
    match (quoted, field) {
        (true, "purpose") => text,
        (true, _) => text.trim_matches([' ', '\t', '\r', '\n']),
        (false, _) => text.trim(),
    }
}

fn columns(
    header: &Cells,
    options: &Options,
) -> Result<(Vec<Column>, Vec<&'static str>), ReadError> {
    let mut columns = Vec::with_capacity(header.len());
    let mut seen: Vec<(&'static str, usize)> = Vec::new();
    for (index, cell) in header.iter().enumerate() {
        let label = str::from_utf8(&cell.bytes)
            .map_err(|_| ReadError::BadHeader("it is not valid UTF-8"))?;
        if label.contains('\0') {
            return Err(ReadError::Unmarked);
        }
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
    if !seen.iter().any(|(field, _)| *field == "name") {
        return Err(ReadError::NoNameColumn);
    }
    let read_only = seen.iter().map(|(field, _)| *field);
    Ok((
        columns,
        read_only
            .filter(|field| fields::is_read_only(field))
            .collect(),
    ))
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
