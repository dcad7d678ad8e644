//! `rotator doctor`: what can be seen from outside (connection, versions), then the checks of `rotator.doctor()`.
//!
//! A check that can't be made is a failed check with the way to make it possible, not an error: doctor always prints a
//! list, as far as it got.

use std::io::{IsTerminal, stdout};

use serde_json::Value;

use super::Place;
use super::args::{Doctor, Format};
use super::output::{Column, Show, print, print_rows};
use super::scan::{Scanned, scan};
use super::session::{Refusal, Session, field, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

/// First minor releases without known holes in row security and extensions (May 2026), by major version.
const SERVER_MINORS: [(u32, u32); 4] = [(15, 18), (16, 14), (17, 10), (18, 4)];

const COLUMNS: [Column; 4] = [
    Column::new("check_name", "check", Show::Text),
    Column::new("ok", "ok", Show::Text),
    Column::new("detail", "detail", Show::Text),
    Column::new("fix", "fix", Show::Text),
];

struct Check {
    name: String,
    ok: bool,
    detail: String,
    fix: Option<String>,
}

pub async fn run(place: &Place, args: Doctor) -> Result<Exit, Failure> {
    let mut checks = Vec::new();
    let session = examine(place, &mut checks).await;
    if let (true, Some(session)) = (args.scan, session) {
        match scan(session).await {
            Ok(scanned) => checks.extend(stored_texts(scanned)),
            Err(refusal) => checks.push(Check::failed(STORED_TEXTS, refusal)),
        }
    }
    match args.output.format {
        Format::Table => print(&list(&checks))?,
        format => print_rows(
            format,
            &COLUMNS,
            &checks.iter().map(Check::row).collect::<Vec<_>>(),
            "",
        )?,
    }
    Ok(if checks.iter().all(|check| check.ok) {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// Makes one check after the other until one of them makes the rest impossible; else the connection is still good.
async fn examine(place: &Place, checks: &mut Vec<Check>) -> Option<Session> {
    let mut session = match Session::connect(place).await {
        Ok(session) => session,
        Err(refusal) => {
            checks.push(Check::failed("connection", refusal));
            return None;
        }
    };
    let shown = place
        .database()
        .map_or_else(|_| String::new(), |target| target.shown().to_owned());
    checks.push(Check::passed("connection", shown));
    match server_version(&mut session).await {
        Ok(check) => checks.push(check),
        Err(refusal) => checks.push(Check::failed("server version", refusal)),
    }
    match session.extension_version().await {
        Ok(version) => checks.push(Check::passed(
            "extension version",
            format!("extension {version}, program {}", env!("CARGO_PKG_VERSION")),
        )),
        Err(refusal) => {
            checks.push(Check::failed("extension version", refusal));
            return None;
        }
    }
    match inside(&mut session).await {
        Ok(found) => {
            // What the database checks itself, it explains better.
            checks.retain(|check| found.iter().all(|other| other.name != check.name));
            checks.extend(found);
        }
        Err(refusal) => checks.push(Check::failed("rotator.doctor()", refusal)),
    }
    Some(session)
}

const STORED_TEXTS: &str = "stored texts";

/// One check that passed, or one that failed for each finding.
fn stored_texts(scanned: Scanned) -> Vec<Check> {
    if scanned.findings.is_empty() {
        let detail = format!("no secrets among {} records", scanned.records);
        return vec![Check::passed(STORED_TEXTS, detail)];
    }
    scanned
        .findings
        .into_iter()
        .map(|finding| Check {
            name: STORED_TEXTS.to_owned(),
            ok: false,
            detail: format!("{}: rule {}", finding.place, finding.rule),
            fix: Some(
                "Rotate it where it is used, then write a reference in its place; docs/no-secrets.md.".to_owned(),
            ),
        })
        .collect()
}

async fn server_version(session: &mut Session) -> Result<Check, Refusal> {
    let sql =
        "select current_setting('server_version_num')::int4, current_setting('server_version')";
    let rows = session.plain(sql, &[]).await?;
    let (number, text): (i32, String) = (only(&rows, 0)?, only(&rows, 1)?);
    let number = u32::try_from(number).unwrap_or_default();
    Ok(match minor_needed(number) {
        None => Check::passed("server version", format!("PostgreSQL {text}")),
        Some(needed) => Check {
            name: "server version".to_owned(),
            ok: false,
            detail: format!("PostgreSQL {text}"),
            fix: Some(format!(
                "Update the server to {needed} or later; earlier ones have holes in row security."
            )),
        },
    })
}

/// The release to update to, unless the server is new enough. Newer majors are.
fn minor_needed(number: u32) -> Option<String> {
    let (major, minor) = (number / 10_000, number % 10_000);
    match SERVER_MINORS.iter().find(|(known, _)| *known == major) {
        Some((_, needed)) if minor >= *needed => None,
        Some((_, needed)) => Some(format!("{major}.{needed}")),
        None if major > SERVER_MINORS[0].0 => None,
        None => Some(format!("{}.{}", SERVER_MINORS[0].0, SERVER_MINORS[0].1)),
    }
}

async fn inside(session: &mut Session) -> Result<Vec<Check>, Refusal> {
    let rows = session
        .plain(
            "select check_name, ok, detail, fix from rotator.doctor()",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let detail: Option<String> = field(row, 2)?;
            // An unknown outcome is not a good one.
            let ok: Option<bool> = field(row, 1)?;
            Ok(Check {
                name: field(row, 0)?,
                ok: ok.unwrap_or(false),
                detail: detail.unwrap_or_default(),
                fix: field(row, 3)?,
            })
        })
        .collect()
}

fn list(checks: &[Check]) -> String {
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let width = checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let mark = match (check.ok, colours) {
            (true, true) => "\u{1b}[32m✓\u{1b}[0m",
            (false, true) => "\u{1b}[31m✗\u{1b}[0m",
            (true, false) => "✓",
            (false, false) => "✗",
        };
        let line = format!(
            "{mark} {:width$}  {}",
            printable(&check.name),
            printable(&check.detail)
        );
        text.push_str(line.trim_end());
        text.push('\n');
        if let (false, Some(fix)) = (check.ok, &check.fix) {
            text.push_str(&format!("  {:width$}  → {}\n", "", printable(fix)));
        }
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    text.push_str(&match failed {
        0 => format!("all {} checks passed\n", checks.len()),
        _ => format!("{failed} of {} checks failed\n", checks.len()),
    });
    text
}

impl Check {
    fn passed(name: &str, detail: String) -> Self {
        Self {
            name: name.to_owned(),
            ok: true,
            detail,
            fix: None,
        }
    }

    fn failed(name: &str, refusal: Refusal) -> Self {
        Self {
            name: name.to_owned(),
            ok: false,
            detail: refusal.message,
            fix: refusal.hint,
        }
    }

    fn row(&self) -> Item {
        let mut row = Item::new();
        row.insert("check_name".into(), self.name.clone().into());
        row.insert("ok".into(), self.ok.into());
        row.insert("detail".into(), self.detail.clone().into());
        row.insert(
            "fix".into(),
            self.fix.clone().map_or(Value::Null, Value::String),
        );
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_with_known_holes_are_named() {
        assert_eq!(minor_needed(150_018), None);
        assert_eq!(minor_needed(150_017).as_deref(), Some("15.18"));
        assert_eq!(minor_needed(180_003).as_deref(), Some("18.4"));
        assert_eq!(minor_needed(140_022).as_deref(), Some("15.18"));
        assert_eq!(minor_needed(190_000), None);
    }

    #[test]
    fn the_list_says_what_failed_and_what_to_do() {
        let bad = Check {
            ok: false,
            fix: Some("create it".into()),
            ..Check::passed("extension", "no extension".into())
        };
        let text = list(&[Check::passed("connection", "here".into()), bad]);
        assert_eq!(
            text,
            "✓ connection  here\n✗ extension   no extension\n              → create it\n1 of 2 checks failed\n"
        );
    }
}
