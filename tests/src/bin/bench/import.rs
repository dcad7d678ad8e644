//! Importing 100,000 rows with the command line, beside `copy` of the same rows into a plain table with the same columns:
//! what checking, encrypting, planning and auditing every row cost.

use std::time::Instant;

use anyhow::{Result, ensure};
use rotator_tests::bench::{Bar, Record, median, wall_seconds};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cli, TestDb};

const ROWS: usize = 100_000;
const ROUNDS: usize = 5;
const NAMES: [&str; 2] = ["import_vs_copy", "import_rows_per_second"];
const COLUMNS: &str = "name,provider_type,expiry_date,rotation_interval,owner_id,purpose,provider_ref,environment,priority,labels,external_id";

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let folder = Scratch::new("import")?;
    let file = folder.join("calendar.csv");
    let rows: String = (0..ROWS)
        .map(|n| {
            format!(
                "credential {n},stripe,2031-01-31T10:00:00Z,90 days,owner-{},Card payments of service {n},\
                 arn:aws:secretsmanager:eu-central-1:123456789012:secret:{n},production,P2,\"{{\"\"team\"\": \"\"payments\"\"}}\",x-{n}\n",
                n % 50
            )
        })
        .collect();
    std::fs::write(&file, format!("{COLUMNS}\n{rows}"))?;
    let (mut imports, mut copies) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // A fresh database each time: an import into a table of its own size.
        let db = TestDb::new().await?;
        db.tenant("acme").await?;
        let editor = db.member("acme", "editor").await?;
        db.admin
            .batch_execute(
                "create table plain (
                    id uuid primary key default gen_random_uuid(), name text, provider_type text, expiry_date timestamptz,
                    rotation_interval interval, owner_id text, purpose text, provider_ref text, environment text,
                    priority text, labels jsonb, external_id text)",
            )
            .await?;
        let started = Instant::now();
        let printed = Cli::new(
            &db,
            &editor,
            &["secrets", "import", &file.display().to_string()],
        )?
        .ok()
        .await?;
        imports.push(started.elapsed().as_secs_f64());
        ensure!(
            printed.starts_with(&format!("created {ROWS},")),
            "round {round}: {printed}"
        );
        let copy = format!(
            "copy plain ({COLUMNS}) from '{}' csv header",
            file.display()
        );
        copies.push(wall_seconds(&db.admin, &copy).await?);
    }
    let (import, copy) = (median(&mut imports), median(&mut copies));
    let rows = ROWS as f64;
    let detail = format!(
        "{ROWS} rows of 11 columns: import {:.0} rows/s, copy into a plain table {:.0} rows/s; medians of {ROUNDS}",
        rows / import,
        rows / copy
    );
    record.add(NAMES[0], import / copy, "times", Bar::AtMost(45.0), &detail)?;
    record.add(
        NAMES[1],
        rows / import,
        "rows/s",
        Bar::AtLeast(1000.0),
        &detail,
    )
}
