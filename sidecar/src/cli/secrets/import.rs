//! `rotator secrets import`: reads a file (`import/`), sends it in batches to `rotator.import_secrets`, and reports every
//! row that failed by its place and name. Failures go to standard error as they happen, the summary to standard output.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::Place;
use crate::cli::args::{Format, Import, spelling};
use crate::cli::output::{Column, Show, print, print_one, print_rows};
use crate::cli::session::{Session, field};
use crate::failure::{Exit, Failure};
use crate::import::{self, Entry, Item, Kind, Options, Reading};

/// Items in one call, and so in one transaction.
const BATCH: usize = 500;
/// A million rows of metadata are smaller; what is larger is the wrong file.
const LARGEST_FILE: u64 = 512 * 1024 * 1024;

const SEND: &str = "select action, error from rotator.import_secrets(items => $1::jsonb, dry_run => $2::bool) order by item";

const NO_REASON: &str = "the database did not say what became of this row";

const FAILURES: [Column; 3] = [
    Column::new("place", "place", Show::Text),
    Column::new("name", "name", Show::Text),
    Column::new("error", "error", Show::Text),
];

const REPORT: [Column; 6] = [
    Column::hidden("dry_run"),
    Column::hidden("created"),
    Column::hidden("updated"),
    Column::hidden("unchanged"),
    Column::hidden("failed"),
    Column::hidden("failures"),
];

/// A row that didn't go in.
struct Refused {
    place: String,
    name: Option<String>,
    error: String,
}

/// What became of the rows.
#[derive(Default)]
struct Tally {
    created: usize,
    updated: usize,
    unchanged: usize,
    failed: Vec<Refused>,
}

pub async fn run(place: &Place, args: Import) -> Result<Exit, Failure> {
    let reading = load(&args)?;
    let mut session = Session::open_in_tenant(place).await?;
    for note in &reading.notes {
        eprintln!("note: {note}");
    }
    let bar = progress(reading.entries.len());
    let mut tally = Tally::default();
    for batch in reading.entries.chunks(BATCH) {
        if let Err(failure) = send(&mut session, batch, args.dry_run, &mut tally, &bar).await {
            bar.finish_and_clear();
            let (done, total) = (tally.done(), reading.entries.len());
            eprintln!(
                "note: {done} of {total} rows were done before this; the import can be repeated"
            );
            return Err(failure);
        }
    }
    bar.finish_and_clear();
    tally.report(args.output.format, args.dry_run)?;
    Ok(if tally.failed.is_empty() {
        Exit::Ok
    } else {
        Exit::Partial
    })
}

fn load(args: &Import) -> Result<Reading, Failure> {
    let (path, certs) = match (&args.file, &args.certs) {
        (_, Some(path)) => (path, true),
        (Some(path), None) => (path, false),
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
    let data = contents(path).map_err(|error| {
        Failure::new(Exit::Failed, format!("can't read {shown}: {error}"))
            .hint("Check the path and its permissions.")
    })?;
    let kind = if certs {
        Kind::Certs
    } else {
        kind(path, &data)
    };
    if kind == Kind::Certs && !certs {
        return Err(
            Failure::new(Exit::Failed, format!("{shown} holds certificates"))
                .hint("Import them with: rotator secrets import --certs FILE"),
        );
    }
    let options = Options {
        owner: args.owner.clone(),
        environment: args.environment.clone(),
        priority: args.priority.as_ref().and_then(spelling),
        ignore_unknown: args.ignore_unknown,
    };
    import::read(kind, &data, &options)
        .map_err(|error| Failure::new(Exit::Failed, format!("{shown}: {error}")).hint(error.hint()))
}

fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    let mut data = Vec::new();
    source
        .by_ref()
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut data)?;
    if data.len() as u64 > LARGEST_FILE {
        return Err(std::io::Error::other("it is larger than 512 MiB; split it"));
    }
    Ok(data)
}

fn kind(path: &Path, data: &[u8]) -> Kind {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("csv" | "tsv") => Kind::Csv,
        Some("json" | "ndjson" | "jsonl") => Kind::Json,
        _ => import::sniff(data),
    }
}

fn progress(rows: usize) -> ProgressBar {
    // Draws nothing unless standard error is a terminal.
    let bar = ProgressBar::with_draw_target(Some(rows as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} {human_pos}/{human_len} rows, {elapsed} so far, {eta} left",
    ) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Sends what can be sent of a batch, and counts all of it in the order of the file.
async fn send(
    session: &mut Session,
    batch: &[Entry],
    dry_run: bool,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let items: Vec<&Item> = batch
        .iter()
        .filter_map(|entry| entry.item.as_ref().ok())
        .collect();
    let expected = items.len();
    let mut answers = Vec::new();
    if expected > 0 {
        let items = serde_json::to_string(&items).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("can't write the rows as JSON: {error}"),
            )
            .hint("Split the file.")
        })?;
        answers = session
            .call(
                SEND,
                &[Some(&items), Some(if dry_run { "true" } else { "false" })],
            )
            .await?;
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
    for entry in batch {
        let error = match (
            &entry.item,
            &entry.item.as_ref().ok().and_then(|_| answers.next()),
        ) {
            (Err(error), _) => Some(error.clone()),
            (Ok(_), Some(answer)) => tally.count(field(answer, 0)?, field(answer, 1)?),
            (Ok(_), None) => Some(NO_REASON.to_owned()),
        };
        if let Some(error) = error {
            // The database's detector knows more kinds of values than ours: then the name isn't shown either.
            let name = entry
                .name
                .clone()
                .filter(|_| !error.contains("looks like a secret"));
            let refused = Refused {
                place: entry.place.clone(),
                name,
                error,
            };
            bar.suspend(|| eprintln!("{refused}"));
            tally.failed.push(refused);
        }
    }
    bar.inc(batch.len() as u64);
    Ok(())
}

impl Tally {
    fn done(&self) -> usize {
        self.created + self.updated + self.unchanged + self.failed.len()
    }

    /// Counts what the database did with one row; gives the error if it did nothing.
    fn count(&mut self, action: Option<String>, error: Option<String>) -> Option<String> {
        match (action.as_deref(), error) {
            (Some("created"), None) => self.created += 1,
            (Some("updated"), None) => self.updated += 1,
            (Some("unchanged"), None) => self.unchanged += 1,
            (_, error) => return Some(error.unwrap_or_else(|| NO_REASON.to_owned())),
        }
        None
    }

    fn report(&self, format: Format, dry_run: bool) -> Result<(), Failure> {
        let (created, updated, unchanged, failed) = (
            self.created,
            self.updated,
            self.unchanged,
            self.failed.len(),
        );
        let dry = if dry_run {
            "dry run, nothing stored: "
        } else {
            ""
        };
        let summary = format!(
            "{dry}created {created}, updated {updated}, unchanged {unchanged}, failed {failed}\n"
        );
        let failures = || self.failed.iter().map(Refused::row);
        match format {
            Format::Table => print(&summary),
            Format::Json => {
                let row = json!({
                    "dry_run": dry_run, "created": created, "updated": updated, "unchanged": unchanged,
                    "failed": failed, "failures": failures().map(Value::Object).collect::<Vec<_>>(),
                });
                print_one(format, "", &REPORT, row.as_object().unwrap_or(&Item::new()))
            }
            Format::Csv => {
                eprint!("{summary}");
                print_rows(format, &FAILURES, &failures().collect::<Vec<_>>(), "")
            }
        }
    }
}

impl Refused {
    fn row(&self) -> Item {
        let mut row = Item::new();
        row.insert("place".into(), self.place.clone().into());
        row.insert(
            "name".into(),
            self.name.clone().map_or(Value::Null, Value::String),
        );
        row.insert("error".into(), self.error.clone().into());
        row
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name:?}: {}", self.place, self.error),
            None => write!(f, "{}: {}", self.place, self.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_only_when_the_database_says_what_it_did() {
        let mut tally = Tally::default();
        assert_eq!(tally.count(Some("created".into()), None), None);
        assert_eq!(tally.count(Some("unchanged".into()), None), None);
        assert_eq!(
            tally
                .count(Some("failed".into()), Some("bad".into()))
                .as_deref(),
            Some("bad")
        );
        assert_eq!(
            tally
                .count(Some("created".into()), Some("bad".into()))
                .as_deref(),
            Some("bad")
        );
        assert_eq!(tally.count(None, None).as_deref(), Some(NO_REASON));
        assert_eq!((tally.created, tally.updated, tally.unchanged), (1, 0, 1));
    }

    #[test]
    fn files_are_known_by_name_then_by_content() {
        assert_eq!(kind(Path::new("a.CSV"), b"[]"), Kind::Csv);
        assert_eq!(kind(Path::new("a.jsonl"), b""), Kind::Json);
        assert_eq!(kind(Path::new("-"), b" [{}]"), Kind::Json);
        assert_eq!(
            kind(Path::new("ca.crt"), b"-----BEGIN CERTIFICATE-----"),
            Kind::Certs
        );
    }

    #[test]
    fn a_failed_row_is_one_line() {
        let refused = Refused {
            place: "line 3".into(),
            name: Some("a \"b\"".into()),
            error: "bad".into(),
        };
        assert_eq!(refused.to_string(), "line 3 \"a \\\"b\\\"\": bad");
    }
}
