//! `rotator secrets import`: reads a file (`import/`), hands its rows in batches to `rotator.import_secrets`, and reports
//! what became of each (`import_report`).
//!
//! A file is read twice: first as a whole, so that one that breaks off is refused before anything is sent, and so that
//! the rows are counted for the progress bar; then row by row. Standard input is read once. Either way there is never more
//! than a batch in memory. Each batch is a transaction: what was sent before a failure stays, and the import can be
//! repeated.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::import_report::{Outcome, Report};
use crate::cli::Place;
use crate::cli::args::{Import, spelling};
use crate::cli::progress::Progress;
use crate::cli::session::{Refusal, Session, field};
use crate::failure::{Exit, Failure};
use crate::import::{self, Entry, Kind, Options, ReadError, Rows};

/// Items in one call, and so in one transaction.
const BATCH: usize = 1000;
/// Bytes of JSON in one call, beyond which it ends early.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often a batch is tried that another session got in the way of.
const TRIES: usize = 5;

const SEND: &str = "select action, error, id::text from rotator.import_secrets(items => $1::jsonb, dry_run => $2::bool) order by item";

const NO_REASON: &str = "the database did not say what became of this row";

pub async fn run(place: &Place, args: Import) -> Result<Exit, Failure> {
    let input = Input::new(&args)?;
    let options = Options {
        owner: args.owner.clone(),
        environment: args.environment.clone(),
        priority: args.priority.as_ref().and_then(spelling),
        ignore_unknown: args.ignore_unknown,
        encoding: args.encoding,
    };
    let total = input.count(&options)?;
    let mut session = Session::open_in_tenant(place).await?;
    let mut report = Report::new(
        args.output.format,
        args.dry_run,
        args.report.as_deref(),
        &input.path,
    )?;
    let progress = Progress::new(total.map(|rows| rows as u64));
    let mut rows = input.rows(&options)?;
    let sent = send_all(&mut session, &mut rows, &input, &mut report, &progress).await;
    progress.clear();
    for note in rows.notes() {
        eprintln!("note: {note}");
    }
    if let Err(failure) = sent {
        eprintln!(
            "note: {} rows were done before this; the import can be repeated",
            report.done()
        );
        report.finish(false)?;
        return Err(failure);
    }
    if report.done() == 0 {
        eprintln!("note: the file holds no rows");
    }
    report.finish(true)
}

/// Where the rows come from.
struct Input {
    path: PathBuf,
    shown: String,
    kind: Option<Kind>,
}

impl Input {
    fn new(args: &Import) -> Result<Self, Failure> {
        let (path, kind) = match (&args.file, &args.certs) {
            (_, Some(path)) => (path, Some(Kind::Certs)),
            (Some(path), None) => (path, kind(path)),
            (None, None) => {
                return Err(Failure::new(Exit::Usage, "no file is given")
                    .hint("See rotator secrets import --help."));
            }
        };
        let shown = if path.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        Ok(Self {
            path: path.clone(),
            shown,
            kind,
        })
    }

    fn open(&self) -> std::io::Result<Box<dyn Read>> {
        Ok(if self.path.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(&self.path)?)
        })
    }

    fn rows<'a>(&self, options: &'a Options) -> Result<Rows<'a>, Failure> {
        let source = self.open().map_err(|error| self.failure(&error.into()))?;
        import::rows(self.kind, source, options).map_err(|error| self.failure(&error))
    }

    /// Reads it to its end and counts the rows; nothing for what can be read only once, like a pipe.
    fn count(&self, options: &Options) -> Result<Option<usize>, Failure> {
        let is_file = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_file());
        if self.path.as_os_str() == "-" || !is_file && self.path.exists() {
            return Ok(None);
        }
        let mut count = 0;
        for row in self.rows(options)? {
            row.map_err(|error| self.failure(&error))?;
            count += 1;
        }
        Ok(Some(count))
    }

    fn failure(&self, error: &ReadError) -> Failure {
        Failure::new(Exit::Failed, format!("{}: {error}", self.shown)).hint(error.hint())
    }
}

/// What a file's name says it holds.
fn kind(path: &Path) -> Option<Kind> {
    let extension = path.extension()?.to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "csv" | "tsv" => Some(Kind::Csv),
        "json" | "ndjson" | "jsonl" => Some(Kind::Json),
        _ => None,
    }
}

async fn send_all(
    session: &mut Session,
    rows: &mut Rows<'_>,
    input: &Input,
    report: &mut Report,
    progress: &Progress,
) -> Result<(), Failure> {
    loop {
        let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
        let mut bytes = 0;
        let mut unreadable = None;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            match rows.next() {
                None => break,
                Some(Ok(entry)) => {
                    bytes += entry.item.as_ref().map_or(0, String::len);
                    batch.push(entry);
                }
                Some(Err(error)) => {
                    unreadable = Some(input.failure(&error));
                    break;
                }
            }
        }
        let last = batch.is_empty();
        send(session, batch, report, progress).await?;
        progress.show(report.done() as u64);
        if let Some(failure) = unreadable {
            return Err(failure);
        }
        if last {
            return Ok(());
        }
    }
}

/// Sends what can be sent of a batch, and reports all of it in the order of the file.
async fn send(
    session: &mut Session,
    batch: Vec<Entry>,
    report: &mut Report,
    progress: &Progress,
) -> Result<(), Failure> {
    let items: Vec<&str> = batch
        .iter()
        .filter_map(|entry| entry.item.as_deref().ok())
        .collect();
    let expected = items.len();
    let mut answers = Vec::new();
    if expected > 0 {
        let items = format!("[{}]", items.join(","));
        let dry_run = if report.dry_run { "true" } else { "false" };
        let mut tries = 1;
        answers = loop {
            match session.call(SEND, &[Some(&items), Some(dry_run)]).await {
                Ok(answers) => break answers,
                Err(refusal) if is_in_the_way(&refusal) && tries < TRIES => tries += 1,
                Err(refusal) => return Err(refusal.into()),
            }
        };
    }
    if answers.len() != expected {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "the database answered for {} of {expected} rows",
                answers.len()
            ),
        )
        .hint("Run `rotator doctor`; program and extension should have the same version."));
    }
    let mut answers = answers.iter();
    for Entry { place, name, item } in batch {
        let outcome = match item {
            Err(error) => Outcome::failed(place, name, error),
            Ok(_) => match answers.next() {
                Some(answer) => outcome(
                    place,
                    name,
                    field(answer, 0)?,
                    field(answer, 1)?,
                    field(answer, 2)?,
                ),
                None => Outcome::failed(place, name, NO_REASON.to_owned()),
            },
        };
        progress.suspend(|| report.add(outcome))?;
    }
    Ok(())
}

/// A deadlock with another session, or a row that both changed: the database undid the batch, so it can be sent again.
fn is_in_the_way(refusal: &Refusal) -> bool {
    matches!(refusal.sqlstate.as_deref(), Some("40P01" | "40001"))
}

/// What the database did with one row; anything that doesn't fit is a failure.
fn outcome(
    place: String,
    name: Option<String>,
    action: Option<String>,
    error: Option<String>,
    id: Option<String>,
) -> Outcome {
    let action = match (action.as_deref(), &error) {
        (Some("created"), None) => "created",
        (Some("updated"), None) => "updated",
        (Some("unchanged"), None) => "unchanged",
        _ => return Outcome::failed(place, name, error.unwrap_or_else(|| NO_REASON.to_owned())),
    };
    Outcome {
        place,
        name,
        action,
        id,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_only_when_the_database_says_what_it_did() {
        let told = |action: Option<&str>, error: Option<&str>| {
            let (action, error) = (action.map(str::to_owned), error.map(str::to_owned));
            let outcome = outcome("line 2".into(), None, action, error, None);
            (outcome.action, outcome.error)
        };
        assert_eq!(told(Some("created"), None), ("created", None));
        assert_eq!(told(Some("unchanged"), None), ("unchanged", None));
        for (action, error) in [
            (Some("failed"), Some("bad")),
            (Some("created"), Some("bad")),
        ] {
            assert_eq!(told(action, error), ("failed", Some("bad".to_owned())));
        }
        assert_eq!(told(None, None), ("failed", Some(NO_REASON.to_owned())));
    }

    #[test]
    fn files_are_known_by_name() {
        assert_eq!(kind(Path::new("a.CSV")), Some(Kind::Csv));
        assert_eq!(kind(Path::new("a.jsonl")), Some(Kind::Json));
        assert_eq!(kind(Path::new("-")), None);
        assert_eq!(kind(Path::new("ca.crt")), None);
    }
}
