//! Reads files of secrets' metadata into items for `rotator.import_secrets`: CSV, JSON, and bundles of certificates.
//!
//! Pure: bytes in, entries out, no database and no terminal. Rows come one by one, through a window of a mebibyte, so
//! that memory doesn't grow with the file. One bad row is an entry with an error and never stops the rest; only a file
//! that can't be read at all is a [`ReadError`]. No message made here repeats a cell's content. Sending the items and
//! reporting the outcome is `cli/secrets/import.rs`. Tests are beside each reader.

mod certs;
mod csv;
mod encoding;
mod fields;
pub mod formula;
mod json;
mod labels;
mod pem;
mod records;
pub mod text;
mod window;

use std::io::Read;

use serde_json::{Map, Value};

pub use encoding::Encoding;
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
    /// What the user says the file is encoded in.
    pub encoding: Option<Encoding>,
}

/// One row, object or certificate of the file.
#[derive(Debug)]
pub struct Entry {
    /// `line 14`, `item 3`, `certificate 5 (line 80)`.
    pub place: String,
    /// The item's name, only when it is fit to be shown (see [`text::presentable`]).
    pub name: Option<String>,
    /// An object for `rotator.import_secrets`, as JSON.
    pub item: Result<String, String>,
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
    #[error("it can't be read: {0}")]
    Input(String),
    #[error("the file is UTF-32")]
    Utf32,
    #[error("the text is full of NUL bytes, like UTF-16 without a byte-order mark")]
    Unmarked,
    #[error("the file begins with the mark of {marked}, but --encoding says {named}")]
    OtherMark {
        marked: &'static str,
        named: &'static str,
    },
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
    #[error("the file holds certificates")]
    Certificates,
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Self::Input(error.to_string())
    }
}

impl ReadError {
    /// The next thing to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty => "Give a file with a header row and one row a secret, or a JSON array.".into(),
            Self::Input(_) => "Check the path and its permissions.".into(),
            Self::Utf32 => "Convert it: iconv -f utf-32 -t utf-8 FILE.".into(),
            Self::Unmarked => "Add --encoding utf-16le (or utf-16be), or save it again as UTF-8.".into(),
            Self::OtherMark { .. } => "Leave --encoding out.".into(),
            Self::BadHeader(problem) if problem.contains("UTF-8") => {
                "Save it again as UTF-8 (in a spreadsheet: \"CSV UTF-8\"), convert it with iconv, or say what it is: \
                 --encoding windows-1252."
                    .into()
            }
            Self::BadHeader(_) | Self::NoNameColumn | Self::RepeatedColumn { .. } => {
                format!("The first row names the columns: {}.", fields::FIELDS.join(", "))
            }
            Self::UnknownColumn { .. } => format!(
                "Columns are {}, interval_days. Add --ignore-unknown to leave out what is not one of them.",
                fields::FIELDS.join(", ")
            ),
            Self::Json { .. } => "Correct the file there; with one object a line, a bad line spoils only itself.".into(),
            Self::JsonShape => "Write [{\"name\": …, \"expiry_date\": …}, …], or one such object a line.".into(),
            Self::Certificates => "Import them with: rotator secrets import --certs FILE".into(),
            Self::NoCertificate => "--certs takes PEM: lines from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.".into(),
        }
    }
}

/// Guesses what a file is from its first bytes, for input without a telling name.
fn sniff(data: &[u8]) -> Kind {
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

/// Largest bundle of certificates, which is read as a whole.
const LARGEST_BUNDLE: u64 = 64 * 1024 * 1024;

/// The rows of a file, read as they are asked for.
pub struct Rows<'a> {
    source: Source<'a>,
    notes: Vec<String>,
}

enum Source<'a> {
    Csv(Box<csv::Rows<'a>>),
    Json(Box<json::Objects<'a>>),
    Certs(std::vec::IntoIter<Entry>),
}

/// Begins to read `source` as `kind`, or as what it looks like.
///
/// # Errors
/// [`ReadError`] when nothing of the file can be used; a bad row is an [`Entry`] instead.
pub fn rows<'a>(
    kind: Option<Kind>,
    source: impl Read + 'a,
    options: &'a Options,
) -> Result<Rows<'a>, ReadError> {
    if kind == Some(Kind::Certs) {
        let mut data = Vec::new();
        source.take(LARGEST_BUNDLE + 1).read_to_end(&mut data)?;
        if data.len() as u64 > LARGEST_BUNDLE {
            return Err(ReadError::Input(
                "it is larger than 64 MiB; split it".into(),
            ));
        }
        let reading = certs::read(&data, options)?;
        return Ok(Rows {
            source: Source::Certs(reading.entries.into_iter()),
            notes: reading.notes,
        });
    }
    let mut window = window::Window::new(encoding::decoded(source, options.encoding)?);
    window.widen()?;
    let source = match kind.unwrap_or_else(|| sniff(window.seen())) {
        Kind::Csv => Source::Csv(Box::new(csv::Rows::new(window, options)?)),
        Kind::Json => Source::Json(Box::new(json::Objects::new(window, options)?)),
        Kind::Certs => return Err(ReadError::Certificates),
    };
    Ok(Rows {
        source,
        notes: Vec::new(),
    })
}

impl Iterator for Rows<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Csv(rows) => rows.next_entry().transpose(),
            Source::Json(objects) => objects.next_entry().transpose(),
            Source::Certs(entries) => entries.next().map(Ok),
        }
    }
}

impl Rows<'_> {
    /// Remarks on what was read so far.
    pub fn notes(self) -> Vec<String> {
        let mut notes = self.notes;
        let (read_only, undecodable) = match self.source {
            Source::Csv(rows) => (rows.read_only, rows.undecodable),
            Source::Json(objects) => (objects.read_only, false),
            Source::Certs(_) => (Vec::new(), false),
        };
        if !read_only.is_empty() {
            notes.push(format!(
                "left out what an import can't set: {}",
                read_only.join(", ")
            ));
        }
        if undecodable {
            notes.push(
                "rows that are not valid UTF-8 were left out: if the file is of an older spreadsheet, add --encoding \
                 windows-1252 (or latin1), or convert it with iconv"
                    .into(),
            );
        }
        notes
    }
}

/// Reads everything, for tests of the readers.
#[cfg(test)]
fn read(kind: Kind, data: &[u8], options: &Options) -> Result<Reading, ReadError> {
    let mut rows = rows(Some(kind), data, options)?;
    let entries = rows.by_ref().collect::<Result<_, _>>()?;
    let notes = rows.notes();
    Ok(Reading { entries, notes })
}

/// An entry whose name is shown only when that is safe.
fn entry(place: String, name: Option<&str>, item: Result<String, String>) -> Entry {
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
        assert_eq!(sniff(b" \n[{}]"), Kind::Json);
        assert_eq!(sniff(b"{\"name\":1}"), Kind::Json);
        assert_eq!(sniff(b"# CA\n-----BEGIN CERTIFICATE-----\n"), Kind::Certs);
        assert_eq!(sniff(b"name,expiry_date\n"), Kind::Csv);
    }

    #[test]
    fn utf16_is_read_with_its_mark_and_recognised_without() {
        let text = "name,purpose\r\nä,b\r\n";
        let plain: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked: Vec<u8> = [0xff, 0xfe].into_iter().chain(plain.clone()).collect();
        let reading = read(Kind::Csv, &marked, &Options::default()).unwrap();
        assert_eq!(reading.entries[0].name.as_deref(), Some("ä"));
        let refused = read(Kind::Csv, &plain, &Options::default()).unwrap_err();
        assert!(
            refused.hint().contains("--encoding utf-16le"),
            "{refused:?}"
        );
        let options = Options {
            encoding: Some(Encoding::Utf16Le),
            ..Options::default()
        };
        assert!(read(Kind::Csv, &plain, &options).is_ok());
    }

    #[test]
    fn an_export_is_read_and_what_nobody_sets_is_named() {
        let csv = read(
            Kind::Csv,
            b"id,name,status,cycle\n,a,healthy,1\n",
            &Options::default(),
        );
        let json = read(
            Kind::Json,
            br#"[{"name": "a", "status": null, "cycle": 1}]"#,
            &Options::default(),
        );
        for reading in [csv.unwrap(), json.unwrap()] {
            assert_eq!(reading.entries[0].item.as_deref(), Ok(r#"{"name":"a"}"#));
            assert_eq!(
                reading.notes,
                ["left out what an import can't set: status, cycle"]
            );
        }
    }
}
