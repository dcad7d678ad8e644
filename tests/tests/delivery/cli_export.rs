//! `rotator secrets list --format csv|json` gives everything, and `rotator secrets import` reads back exactly that.

use anyhow::{Result, ensure};
use rotator_tests::{Cli, Role, scalar};
use serde_json::{Value, json};

use crate::seed::Acme;

const FORMATS: [&str; 2] = ["csv", "json"];

/// Acme in a zone with daylight saving, an editor of it and of beta, and secrets that are hard to write down.
async fn stage() -> Result<(Acme, Role)> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    acme.db.tenant("beta").await?;
    let editor = acme.db.member("acme", "editor").await?;
    acme.db
        .admin
        .execute(
            "select rotator.add_member($1, 'editor', 'beta')",
            &[&editor.subject()],
        )
        .await?;
    let items = json!([
        {"name": "=cmd|' /C calc'!A0", "purpose": "\tone;\n\"two\", three\r\n ", "expiry_date": "2031-03-30T02:30:00.123456+01:00",
         "rotation_interval": "1 year 2 mons 3 days 04:05:06.789", "owner_id": "+49 30", "provider_ref": "@ref",
         "environment": "-prod", "priority": "P1", "secondary_owner_id": "'quoted'", "team_lead_id": "'=x",
         "provider_type": "aws_sm", "labels": {"b": 1, "a": {"ü": [null, "=1"]}}},
        {"name": "Größe 😀, \"x\"", "expiry_date": "2031-10-26T02:30:00.000001+02:00", "external_id": "x-1", "owner_id": "dana"},
        {"name": "days", "rotation_interval": "90 days", "expiry_date": "9999-12-31T00:00:00Z", "external_id": "=x-2", "owner_id": "dana"},
        {"name": "one day", "rotation_interval": "1 day", "expiry_date": "1970-01-02T00:00:00Z", "owner_id": "dana"},
    ]);
    let failed: i64 = scalar(
        &acme.operator,
        "select count(*) from rotator.import_secrets($1) where action <> 'created'",
        &[&items],
    )
    .await?;
    ensure!(failed == 0);
    acme.operator
        .execute(
            "update rotator.secrets set labels = '{\"n\": 12345678901234567890.10, \"e\": 1e300}' where name = 'days'",
            &[],
        )
        .await?;
    Ok((acme, editor))
}

async fn export(acme: &Acme, editor: &Role, format: &str) -> Result<String> {
    let list = ["secrets", "list", "--tenant", "acme", "--format", format];
    Cli::new(&acme.db, editor, &list)?.ok().await
}

async fn import(
    acme: &Acme,
    editor: &Role,
    tenant: &str,
    format: &str,
    text: &str,
) -> Result<String> {
    let file = format!("export.{format}");
    let import = ["secrets", "import", "--tenant", tenant, &file];
    Cli::new(&acme.db, editor, &import)?
        .file(&file, text.as_bytes())?
        .ok()
        .await
}

/// What an import can set of every secret of a tenant, as stored; not its days, which each tenant counts in its zone.
async fn records(acme: &Acme, tenant: &str) -> Result<Value> {
    acme.operator
        .execute("select rotator.use_tenant($1)", &[&tenant])
        .await?;
    let text: String = scalar(
        &acme.operator,
        "select jsonb_agg(to_jsonb(s) - '{id,created_at,updated_at,last_rotated_at,days_until_expiry}'::text[] order by s.name)::text
         from rotator.secrets as s",
        &[],
    )
    .await?;
    // As text, since a parser here would round the numbers.
    Ok(Value::String(text))
}

#[tokio::test]
async fn an_unchanged_export_changes_nothing() -> Result<()> {
    let (acme, editor) = stage().await?;
    for format in FORMATS {
        let text = export(&acme, &editor, format).await?;
        let before = acme.fingerprint().await?;
        let printed = import(&acme, &editor, "acme", format, &text).await?;
        ensure!(
            printed == "created 0, updated 0, unchanged 4, failed 0\n",
            "{format}: {printed}\n{text}"
        );
        ensure!(acme.fingerprint().await? == before, "{format}");
    }
    Ok(())
}

#[tokio::test]
async fn another_tenant_gets_the_same_records() -> Result<()> {
    for format in FORMATS {
        let (acme, editor) = stage().await?;
        let text = export(&acme, &editor, format).await?;
        let original = records(&acme, "acme").await?;
        let printed = import(&acme, &editor, "beta", format, &text).await?;
        ensure!(printed.starts_with("created 4,"), "{format}: {printed}");
        let copied = records(&acme, "beta").await?;
        ensure!(copied == original, "{format}:\n{original}\n{copied}");
        let again = import(&acme, &editor, "beta", format, &text).await?;
        ensure!(again.contains("unchanged 4, failed 0"), "{format}: {again}");
    }
    Ok(())
}

#[tokio::test]
async fn an_edited_export_changes_what_was_edited_even_a_name() -> Result<()> {
    let (acme, editor) = stage().await?;
    let text = export(&acme, &editor, "csv").await?;
    ensure!(text.contains("one day,"), "{text}");
    let edited = text.replace("one day,", "once a day,");
    let printed = import(&acme, &editor, "acme", "csv", &edited).await?;
    ensure!(
        printed.starts_with("created 0, updated 1, unchanged 3"),
        "{printed}"
    );
    let renamed: bool = scalar(
        &acme.operator,
        "select count(*) = 1 from rotator.secrets where name = 'once a day'",
        &[],
    )
    .await?;
    ensure!(renamed);
    Ok(())
}

#[tokio::test]
async fn spreadsheets_find_no_formula_in_a_cell() -> Result<()> {
    let (acme, editor) = stage().await?;
    let text = export(&acme, &editor, "csv").await?;
    let mut cells = 0;
    for record in csv_cells(&text) {
        cells += 1;
        let number = record.parse::<f64>().is_ok();
        ensure!(
            number || !record.starts_with(['=', '+', '-', '@', '\t', '\r']),
            "{record:?}"
        );
    }
    ensure!(cells == 26 * 5, "{cells}");
    Ok(())
}

/// The cells of RFC 4180, by a reader that shares nothing with the product.
fn csv_cells(text: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => cell.extend(chars.next()),
            ('"', _) => quoted = !quoted,
            (',' | '\n', false) => cells.push(std::mem::take(&mut cell)),
            _ => cell.push(c),
        }
    }
    cells
}

#[tokio::test]
async fn programs_get_every_row_and_people_a_screenful() -> Result<()> {
    let acme = Acme::new().await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    acme.operator
        .batch_execute("select rotator.register_secret('s ' || n, expiry_date => now() + n * interval '1 day') from generate_series(1, 250) as n")
        .await?;
    let list = async |more: &[&str]| {
        let arguments: Vec<&str> = ["secrets", "list"].iter().chain(more).copied().collect();
        Cli::new(&acme.db, &viewer, &arguments)?.run().await
    };
    let rows: Value = serde_json::from_str(&list(&["--format", "json"]).await?.stdout)?;
    ensure!(rows.as_array().is_some_and(|rows| rows.len() == 250));
    ensure!(list(&["--format", "csv"]).await?.stdout.lines().count() == 251);
    let narrowed = list(&["--format", "csv", "--expires-within-days", "10"]).await?;
    ensure!(narrowed.stdout.lines().count() == 11, "{narrowed:?}");
    let some = list(&["--format", "csv", "--limit", "7"]).await?;
    ensure!(
        some.stdout.lines().count() == 8 && some.stderr.contains("more than 7"),
        "{some:?}"
    );
    let table = list(&[]).await?;
    ensure!(
        table.stdout.lines().count() == 101 && table.stderr.contains("--limit"),
        "{table:?}"
    );
    let none: Value = serde_json::from_str(
        &list(&["--format", "json", "--query", "nosuch"])
            .await?
            .stdout,
    )?;
    ensure!(none == json!([]));
    Ok(())
}
