//! What an import tells row by row: in a dry run, as CSV or JSON on standard output, and in a file of its own.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use rotator_tests::Cli;
use rotator_tests::scratch::Scratch;
use serde_json::Value;

use crate::cli_secrets::refused;
use crate::seed::Acme;

const CSV: &[u8] = b"name,expires,external_id\nold,2031-01-31,x-1\nnew,2031-01-31,x-2\n=bad,never,x-3\nkept,2031-01-31,x-4\nnew,2031-01-31,x-5\n";

#[tokio::test]
async fn a_dry_run_says_what_each_row_would_do_and_stores_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    let editor = acme.db.member("acme", "editor").await?;
    acme.operator
        .batch_execute(
            "select rotator.register_secret('older', expiry_date => '2030-01-31', external_id => 'x-1');
             select rotator.register_secret('kept', expiry_date => '2031-01-31', external_id => 'x-4')",
        )
        .await?;
    let before = acme.fingerprint().await?;
    let run = async |more: &[&str]| {
        let arguments: Vec<&str> = ["secrets", "import", "a.csv"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        Cli::new(&acme.db, &editor, &arguments)?
            .file("a.csv", CSV)?
            .run()
            .await
    };
    let printed = run(&["--dry-run"]).await?;
    ensure!(
        printed.stdout
            == "line 2 \"old\": updated\nline 3 \"new\": created\n\
                dry run, nothing stored: created 1, updated 1, unchanged 1, failed 2\n",
        "{printed:?}"
    );
    ensure!(
        printed
            .stderr
            .contains("line 6 \"new\": a secret with this name"),
        "{printed:?}"
    );
    let report: Value =
        serde_json::from_str(&run(&["--dry-run", "--format", "json"]).await?.stdout)?;
    let actions: Vec<&str> = report["rows"]
        .as_array()
        .map(|rows| {
            rows.iter()
                .filter_map(|row| row["action"].as_str())
                .collect()
        })
        .unwrap_or_default();
    ensure!(
        actions == ["updated", "created", "failed", "unchanged", "failed"],
        "{report}"
    );
    ensure!(
        report["rows"][1]["id"].is_null() && report["rows"][0]["id"].is_string(),
        "{report}"
    );
    ensure!(
        report["dry_run"] == true && report["complete"] == true && report["failed"] == 2,
        "{report}"
    );
    ensure!(acme.fingerprint().await? == before);

    let folder = Scratch::new("report")?;
    let (csv, json) = (folder.join("outcome.csv"), folder.join("outcome.json"));
    let printed = run(&["--report", &csv.display().to_string()]).await?;
    ensure!(
        printed.code == 7 && printed.stdout.starts_with("created 1,"),
        "{printed:?}"
    );
    let text = std::fs::read_to_string(&csv)?;
    ensure!(
        text.lines().count() == 6 && text.starts_with("place,name,action,id,error\n"),
        "{text}"
    );
    ensure!(
        text.contains("\nline 4,'=bad,failed,,expiry_date"),
        "{text}"
    );
    ensure!(
        std::fs::metadata(&csv)?.permissions().mode() & 0o77 == 0,
        "names are for their owner"
    );
    run(&["--report", &json.display().to_string()]).await?;
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json)?)?;
    ensure!(
        report["unchanged"] == 3 && report["rows"][4]["place"] == "line 6",
        "{report}"
    );

    refused(
        &run(&["--report", "a.csv"]).await?,
        2,
        "the file that is imported",
        "replace",
    )?;
    refused(&run(&["--report", "a.txt"]).await?, 2, ".csv or .json", "")?;
    refused(
        &run(&["--report", "/nosuch/a.csv"]).await?,
        1,
        "/nosuch/a.csv",
        "nothing was imported",
    )?;
    Ok(())
}
