//! What an import tells: failures on standard error as they happen, the sum on standard output, and row by row what became
//! of each, on standard output with `--format csv` or `json`, in a file with `--report`, for people in a dry run.
//!
//! Rows are written as they come, so a report of a million rows takes no memory; one that breaks off is a readable file.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::args::Format;
use crate::cli::output::print;
use crate::failure::{Exit, Failure};
use crate::import::formula::disarm;

const COLUMNS: [&str; 5] = ["place", "name", "action", "id", "error"];

/// What became of a row.
pub struct Outcome {
    pub place: String,
    pub name: Option<String>,
    pub action: &'static str,
    pub id: Option<String>,
    pub error: Option<String>,
}

impl Outcome {
    pub fn failed(place: String, name: Option<String>, error: String) -> Self {
        // The database's detector knows more kinds of values than ours: then the name isn't shown either.
        let name = name.filter(|_| !error.contains("looks like a secret"));
        Self {
            place,
            name,
            action: "failed",
            id: None,
            error: Some(error),
        }
    }

    fn json(&self) -> Value {
        json!({"place": self.place, "name": self.name, "action": self.action, "id": self.id, "error": self.error})
    }
}

/// One line for people.
impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, ": {}", self.error.as_deref().unwrap_or(self.action))
    }
}

pub struct Report {
    pub dry_run: bool,
    format: Format,
    printed: Option<Listing>,
    written: Option<Listing>,
    created: usize,
    updated: usize,
    unchanged: usize,
    failed: usize,
    /// For the end of a JSON document.
    failures: Vec<Value>,
}

impl Report {
    /// # Errors
    /// The file that `--report` names is neither .csv nor .json, is the input, or can't be written.
    pub fn new(
        format: Format,
        dry_run: bool,
        file: Option<&Path>,
        input: &Path,
    ) -> Result<Self, Failure> {
        let printed = match format {
            Format::Table => None,
            _ => Some(
                Listing::begin(format, dry_run, Box::new(UntilClosed(stdout())))
                    .map_err(unwritable)?,
            ),
        };
        Ok(Self {
            dry_run,
            format,
            printed,
            written: file
                .map(|file| report_file(file, input, dry_run))
                .transpose()?,
            created: 0,
            updated: 0,
            unchanged: 0,
            failed: 0,
            failures: Vec::new(),
        })
    }

    pub fn done(&self) -> usize {
        self.created + self.updated + self.unchanged + self.failed
    }

    /// # Errors
    /// It can't be written.
    pub fn add(&mut self, outcome: Outcome) -> Result<(), Failure> {
        match outcome.action {
            "created" => self.created += 1,
            "updated" => self.updated += 1,
            "unchanged" => self.unchanged += 1,
            _ => {
                self.failed += 1;
                eprintln!("{outcome}");
                if matches!(self.format, Format::Json) {
                    self.failures.push(outcome.json());
                }
            }
        }
        if self.dry_run
            && matches!(self.format, Format::Table)
            && matches!(outcome.action, "created" | "updated")
        {
            print(&format!("{outcome}\n"))?;
        }
        for listing in [&mut self.printed, &mut self.written].into_iter().flatten() {
            listing.add(&outcome).map_err(unwritable)?;
        }
        Ok(())
    }

    /// The sum, and the exit code; `complete` says whether every row was looked at.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(mut self, complete: bool) -> Result<Exit, Failure> {
        let (created, updated, unchanged, failed) =
            (self.created, self.updated, self.unchanged, self.failed);
        let dry = if self.dry_run {
            "dry run, nothing stored: "
        } else {
            ""
        };
        let summary = format!(
            "{dry}created {created}, updated {updated}, unchanged {unchanged}, failed {failed}\n"
        );
        if self.format == Format::Table {
            print(&summary)?;
        } else {
            eprint!("{summary}");
        }
        let sum = json!({
            "complete": complete, "created": created, "updated": updated, "unchanged": unchanged, "failed": failed,
        });
        let failures = Value::Array(std::mem::take(&mut self.failures));
        if let Some(listing) = self.printed {
            listing.end(&sum, Some(&failures)).map_err(unwritable)?;
        }
        if let Some(listing) = self.written {
            listing.end(&sum, None).map_err(unwritable)?;
        }
        Ok(if failed == 0 { Exit::Ok } else { Exit::Partial })
    }
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("can't write the report: {error}"))
        .hint("Check where it goes, and whether there is room; the import can be repeated.")
}

fn report_file(path: &Path, input: &Path, dry_run: bool) -> Result<Listing, Failure> {
    let extension = path
        .extension()
        .map(|name| name.to_string_lossy().to_ascii_lowercase());
    let format = match extension.as_deref() {
        Some("csv") => Format::Csv,
        Some("json") => Format::Json,
        _ => {
            return Err(
                Failure::new(Exit::Usage, "--report takes a file called .csv or .json")
                    .hint("For example: --report outcome.csv"),
            );
        }
    };
    if let (Ok(path), Ok(input)) = (path.canonicalize(), input.canonicalize())
        && path == input
    {
        return Err(
            Failure::new(Exit::Usage, "--report names the file that is imported")
                .hint("The report would replace it; choose another name."),
        );
    }
    let file = created(path).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("can't write {}: {error}", path.display()),
        )
        .hint("Check the path and its permissions; nothing was imported.")
    })?;
    Listing::begin(format, dry_run, Box::new(file)).map_err(unwritable)
}

/// For its owner alone: names are stored encrypted, and a report holds them.
fn created(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Rows as CSV, or in a JSON document.
enum Listing {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Json {
        out: BufWriter<Box<dyn Write>>,
        first: bool,
    },
}

impl Listing {
    fn begin(format: Format, dry_run: bool, out: Box<dyn Write>) -> std::io::Result<Self> {
        if format == Format::Csv {
            let mut writer = csv::Writer::from_writer(out);
            writer.write_record(COLUMNS)?;
            return Ok(Self::Csv(Box::new(writer)));
        }
        let mut out = BufWriter::new(out);
        write!(out, "{{\"dry_run\":{dry_run},\"rows\":[")?;
        Ok(Self::Json { out, first: true })
    }

    fn add(&mut self, outcome: &Outcome) -> std::io::Result<()> {
        match self {
            Self::Csv(writer) => {
                let text = |value: &Option<String>| disarm(value.clone().unwrap_or_default());
                let cells = [
                    outcome.place.clone(),
                    text(&outcome.name),
                    outcome.action.to_owned(),
                    text(&outcome.id),
                    text(&outcome.error),
                ];
                Ok(writer.write_record(cells)?)
            }
            Self::Json { out, first } => {
                let comma = if std::mem::take(first) { "" } else { "," };
                write!(out, "{comma}\n{}", outcome.json())
            }
        }
    }

    fn end(self, sum: &Value, failures: Option<&Value>) -> std::io::Result<()> {
        match self {
            Self::Csv(mut writer) => writer.flush(),
            Self::Json { mut out, .. } => {
                let sum = sum.to_string();
                write!(out, "\n],{}", &sum[1..sum.len() - 1])?;
                if let Some(failures) = failures {
                    write!(out, ",\"failures\":{failures}")?;
                }
                writeln!(out, "}}")?;
                out.flush()
            }
        }
    }
}

/// Standard output whose reader may go away (`| head`), which is no error.
struct UntilClosed<W>(W);

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        match self.0.write(data) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(data.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line() {
        let failed = Outcome::failed("line 3".into(), Some("a \"b\"".into()), "bad".into());
        assert_eq!(failed.to_string(), "line 3 \"a \\\"b\\\"\": bad");
        let value = Outcome::failed(
            "line 3".into(),
            Some("a".into()),
            "name looks like a secret".into(),
        );
        assert_eq!(value.to_string(), "line 3: name looks like a secret");
    }
}
