//! `rotator secrets import`: what is malformed is named, the rest goes in, and a repeat changes nothing.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cli, Role, scalar};
use serde_json::Value;

use crate::seed::Acme;

async fn editor() -> Result<(Acme, Role)> {
    let acme = Acme::new().await?;
    let editor = acme.db.member("acme", "editor").await?;
    Ok((acme, editor))
}

async fn registered(acme: &Acme) -> Result<i64> {
    scalar(&acme.operator, "select count(*) from rotator.secrets", &[]).await
}

#[tokio::test]
async fn malformed_rows_are_named_and_the_rest_is_imported() -> Result<()> {
    let (acme, editor) = editor().await?;
    let value = format!("ghp_{}", &"a1B2c3D4e5".repeat(4)[..36]);
    let mut csv = String::from("name,expiry_date,rotation_interval,owner_id,external_id\n");
    csv.push_str("first,2031-01-31,90 days,dana,x-1\n"); // line 2
    csv.push_str("short,2031-01-31\n");
    csv.push_str("never,,,dana,x-3\n");
    csv.push_str("zero,2031-01-31,0 days,dana,x-4\n");
    csv.push_str("wrong date,31.01.2031,90 days,dana,x-5\n");
    csv.push_str(&format!("{value},2031-01-31,,dana,x-6\n"));
    csv.push_str("FIRST,2031-01-31,,dana,x-7\n"); // the same name
    csv.push_str("\"last, but \"\"not\"\" least\",2031-01-31,,dana,x-8\n"); // line 9
    let mut bytes = csv.into_bytes();
    bytes.extend(b"bad \xff\xfe,2031-01-31,,dana,x-9\n"); // line 10
    bytes.extend(b"very last,,1 year,dana,x-10\n");

    let cli = Cli::new(&acme.db, &editor, &["secrets", "import", "calendar.csv"])?
        .file("calendar.csv", &bytes)?;
    let printed = cli.run().await?;
    ensure!(printed.code == 7, "{printed:?}");
    ensure!(
        printed.stdout == "created 3, updated 0, unchanged 0, failed 7\n",
        "{printed:?}"
    );
    for (line, name) in [
        (3, ""),
        (4, "never"),
        (5, "zero"),
        (6, "wrong date"),
        (7, ""),
        (8, "FIRST"),
        (10, ""),
    ] {
        let start = format!("line {line}");
        let found = printed
            .stderr
            .lines()
            .find(|text| text.starts_with(&start))
            .with_context(|| format!("{start}: {printed:?}"))?;
        ensure!(found.contains(name) && found.contains(": "), "{found}");
    }
    ensure!(
        !printed.stderr.contains(&value),
        "a secret value is not repeated: {printed:?}"
    );
    ensure!(registered(&acme).await? == 3);

    let cli = Cli::new(
        &acme.db,
        &editor,
        &["secrets", "import", "calendar.csv", "--format", "json"],
    )?;
    let printed = cli.file("calendar.csv", &bytes)?.run().await?;
    let report: Value = serde_json::from_str(&printed.stdout)?;
    ensure!(
        report["unchanged"] == 3 && report["created"] == 0 && report["failed"] == 7,
        "{report}"
    );
    ensure!(
        report["failures"][1]["place"] == "line 4" && report["failures"][1]["name"] == "never",
        "{report}"
    );
    Ok(())
}

#[tokio::test]
async fn a_dry_run_reports_and_stores_nothing() -> Result<()> {
    let (acme, editor) = editor().await?;
    let before = acme.fingerprint().await?;
    let json = r#"[{"name": "a", "expiryDate": "2031-01-31"}, {"name": ""}, {"name": "b", "intervalDays": 30}]"#;
    let printed = Cli::new(&acme.db, &editor, &["secrets", "import", "-", "--dry-run"])?
        .input(json)
        .run()
        .await?;
    ensure!(
        printed.code == 7
            && printed
                .stdout
                .contains("dry run, nothing stored: created 2"),
        "{printed:?}"
    );
    ensure!(printed.stderr.contains("item 2"), "{printed:?}");
    ensure!(acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn a_changed_row_updates_its_secret() -> Result<()> {
    let (acme, editor) = editor().await?;
    for (date, expected) in [
        ("2031-01-31", "created 1, updated 0"),
        ("2032-01-31", "created 0, updated 1"),
    ] {
        let csv = format!("name;expires;external_id\nkey;{date};x-1\n");
        let printed = Cli::new(&acme.db, &editor, &["secrets", "import", "-"])?
            .input(&csv)
            .ok()
            .await?;
        ensure!(printed.starts_with(expected), "{printed}");
    }
    let moved: bool = scalar(
        &acme.operator,
        "select expiry_date = '2032-01-31 00:00+00' from rotator.secrets",
        &[],
    )
    .await?;
    ensure!(moved);
    Ok(())
}

#[tokio::test]
async fn files_that_can_not_be_read_end_with_one_message() -> Result<()> {
    let (acme, editor) = editor().await?;
    for (content, message) in [
        (&b""[..], "empty"),
        (b"remarks,colour\nx,blue\n", "column"),
        (b"expiry_date\n2031-01-31\n", "name"),
        (b"[{\"name\": ", "JSON"),
        (b"\xff\xfe\0\0n\0\0\0", "UTF-32"),
        (b"n\0a\0m\0e\0\n\0", "NUL"),
    ] {
        let cli =
            Cli::new(&acme.db, &editor, &["secrets", "import", "file"])?.file("file", content)?;
        crate::cli_secrets::refused(&cli.run().await?, 1, message, "")?;
    }
    let missing = Cli::new(&acme.db, &editor, &["secrets", "import", "nosuch.csv"])?
        .run()
        .await?;
    crate::cli_secrets::refused(&missing, 1, "nosuch.csv", "path")?;
    ensure!(registered(&acme).await? == 0);
    Ok(())
}

/// A self-signed certificate, made by openssl, and the end of its validity as openssl says it.
fn certificate(folder: &Scratch, name: &str, days: &str) -> Result<(String, String)> {
    let (key, file) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-subj", &format!("/O=Acme/CN={name}"), "-days", days])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&file)
        .output()
        .context("running openssl")?;
    ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let asked = Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-in"])
        .arg(&file)
        .output()?;
    let end = String::from_utf8(asked.stdout)?;
    let end = end
        .trim()
        .strip_prefix("notAfter=")
        .context("an end of validity")?;
    Ok((std::fs::read_to_string(file)?, end.to_owned()))
}

#[tokio::test]
async fn a_broken_certificate_is_named_and_the_rest_is_imported() -> Result<()> {
    let (acme, editor) = editor().await?;
    let folder = Scratch::new("certificates")?;
    let (first, end) = certificate(&folder, "edge.acme.example", "40")?;
    let (second, _) = certificate(&folder, "api.acme.example", "4000")?;
    let key = std::fs::read_to_string(folder.join("key.pem"))?;
    let broken =
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQUJD\n-----END CERTIFICATE-----\n";
    let bundle = format!("some words before\n{first}{broken}{key}{second}{first}");
    let arguments = [
        "secrets",
        "import",
        "--certs",
        "bundle.pem",
        "--owner",
        "platform",
    ];
    let cli = Cli::new(&acme.db, &editor, &arguments)?.file("bundle.pem", bundle.as_bytes())?;
    let printed = cli.run().await?;
    ensure!(printed.code == 7, "{printed:?}");
    ensure!(
        printed.stdout == "created 2, updated 0, unchanged 0, failed 1\n",
        "{printed:?}"
    );
    let line = 2 + first.lines().count();
    ensure!(
        printed
            .stderr
            .contains(&format!("certificate 2 (line {line})")),
        "{printed:?}"
    );
    ensure!(
        printed.stderr.contains("private key was passed over")
            && printed.stderr.contains("repeats"),
        "{printed:?}"
    );
    let secret: String = key.lines().nth(1).unwrap_or_default().to_owned();
    ensure!(!printed.stderr.contains(&secret));

    let row = acme
        .operator
        .query_one(
            "select provider_type, owner_id, expiry_date = $1::text::timestamptz, rotation_interval is null
             from rotator.secrets where name = 'edge.acme.example'",
            &[&end],
        )
        .await?;
    let (provider, owner): (String, String) = (row.get(0), row.get(1));
    ensure!(provider == "x509" && owner == "platform");
    ensure!(
        row.get(2) && row.get(3),
        "it expires when the certificate does: {end}"
    );
    Ok(())
}

#[tokio::test]
async fn the_systems_bundle_goes_in_whole_and_once() -> Result<()> {
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let Ok(text) = std::fs::read_to_string(bundle) else {
        return Ok(()); // a system without one
    };
    let count = text.matches("-----BEGIN CERTIFICATE-----").count();
    let (acme, editor) = editor().await?;
    for expected in [
        format!("created {count}, updated 0, unchanged 0, failed 0\n"),
        { format!("created 0, updated 0, unchanged {count}, failed 0\n") },
    ] {
        let printed = Cli::new(&acme.db, &editor, &["secrets", "import", "--certs", bundle])?
            .run()
            .await?;
        ensure!(
            printed.code == 0 && printed.stdout == expected,
            "{printed:?}"
        );
    }
    ensure!(registered(&acme).await? == i64::try_from(count)?);
    Ok(())
}
