//! Reads files of secrets' metadata into items for `rotator.import_secrets`: CSV, JSON, and bundles of certificates.
//!
//! Pure: bytes in, entries out, no database and no terminal. One bad row is an entry with an error and never stops the
//! rest; only a file that can't be read at all is a [`ReadError`]. No message made here repeats a cell's content.
//! Sending the items and reporting the outcome is `cli/secrets/import.rs`. Tests are beside each reader.

mod certs;
mod csv;
mod fields;
mod json;
mod pem;
mod records;
pub mod text;

use serde_json::{Map, Value};

pub use fields::is_date;

/// Arguments of `rotator.register_secret` by name.
pub type Item = Map<String, Value>;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Csv,
    Json,
    Certs,
}

/// Values for rows that don't name their own, and what to do with columns that mean nothing here.
#[derive(Debug, Default)]
pub struct Options {
    pub owner: Option<String>,
    pub environment: Option<String>,
    pub priority: Option<String>,
    pub ignore_unknown: bool,
}

/// One row, object or certificate of the file.
#[derive(Debug)]
pub struct Entry {
    /// `line 14`, `item 3`, `certificate 5 (line 80)`.
    pub place: String,
    /// The item's name, only when it is fit to be shown (see [`text::presentable`]).
    pub name: Option<String>,
    pub item: Result<Item, String>,
}

/// Everything a file gave.
#[derive(Debug, Default)]
pub struct Reading {
    pub entries: Vec<Entry>,
    /// Remarks worth a line that are not failures: a repeated certificate, a private key that was passed over.
    pub notes: Vec<String>,
}

/// The file as a whole can't be read. [`ReadError::hint`] says what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("the file is empty")]
    Empty,
    #[error("the file is UTF-16, not UTF-8")]
    Utf16,
    #[error("the header row can't be read: {0}")]
    BadHeader(&'static str),
    #[error("the header row has no column \"name\"")]
    NoNameColumn,
    #[error("column {column}{label} is not a field of a secret")]
    UnknownColumn { column: usize, label: String },
    #[error("columns {first} and {second} both mean {field}")]
    RepeatedColumn {
        first: usize,
        second: usize,
        field: &'static str,
    },
    #[error("not valid JSON at line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("the JSON is neither an array of objects nor one object a line")]
    JsonShape,
    #[error("the file holds no certificate")]
    NoCertificate,
}

impl ReadError {
    /// The next thing to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty => "Give a file with a header row and one row a secret, or a JSON array.".into(),
            Self::Utf16 => "Save it again as UTF-8 (in a spreadsheet: \"CSV UTF-8\").".into(),
            Self::BadHeader(_) | Self::NoNameColumn | Self::RepeatedColumn { .. } => {
                format!("The first row names the columns: {}.", fields::FIELDS.join(", "))
            }
            Self::UnknownColumn { .. } => format!(
                "Columns are {}, interval_days. Add --ignore-unknown to leave out what is not one of them.",
                fields::FIELDS.join(", ")
            ),
            Self::Json { .. } => "Correct the file there; with one object a line, a bad line spoils only itself.".into(),
            Self::JsonShape => "Write [{\"name\": …, \"expiry_date\": …}, …], or one such object a line.".into(),
            Self::NoCertificate => "--certs takes PEM: lines from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.".into(),
        }
    }
}

/// Guesses what a file is from its first bytes, for input without a telling name.
pub fn sniff(data: &[u8]) -> Kind {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    match data.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[' | b'{') => Kind::Json,
        _ if data
            .windows(27)
            .any(|part| part == b"-----BEGIN CERTIFICATE-----") =>
        {
            Kind::Certs
        }
        _ => Kind::Csv,
    }
}

/// Reads `data` as `kind`.
///
/// # Errors
/// [`ReadError`] when nothing of the file can be used; a bad row is an [`Entry`] instead.
pub fn read(kind: Kind, data: &[u8], options: &Options) -> Result<Reading, ReadError> {
    if data.starts_with(b"\xff\xfe") || data.starts_with(b"\xfe\xff") {
        return Err(ReadError::Utf16);
    }
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    if data.iter().all(u8::is_ascii_whitespace) {
        return Err(ReadError::Empty);
    }
    match kind {
        Kind::Csv => csv::read(data, options),
        Kind::Json => json::read(data, options),
        Kind::Certs => certs::read(data, options),
    }
}

/// An entry whose name is shown only when that is safe.
fn entry(place: String, name: Option<&str>, item: Result<Item, String>) -> Entry {
    Entry {
        place,
        name: name.and_then(text::presentable),
        item,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sniffs_by_the_first_bytes() {
        assert_eq!(sniff(b"\xef\xbb\xbf \n[{}]"), Kind::Json);
        assert_eq!(sniff(b"{\"name\":1}"), Kind::Json);
        assert_eq!(sniff(b"# CA\n-----BEGIN CERTIFICATE-----\n"), Kind::Certs);
        assert_eq!(sniff(b"name,expiry_date\n"), Kind::Csv);
    }

    #[test]
    fn refuses_utf16_and_nothing() {
        assert_eq!(
            read(Kind::Csv, b"\xff\xfen\0a\0", &Options::default()).unwrap_err(),
            ReadError::Utf16
        );
        assert_eq!(
            read(Kind::Json, b" \n\t", &Options::default()).unwrap_err(),
            ReadError::Empty
        );
    }
}
