//! `rotator secrets list|add|rotated|ack` as an SRE types them: what comes out, in which format, with which exit code.

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::Printed;
use rotator_tests::{Cli, Role};
use serde_json::Value;
use uuid::Uuid;

use crate::seed::Acme;

/// The contract's columns of the view, in its order.
const COLUMNS: &str = "id,name,provider_type,provider_ref,purpose,environment,priority,labels,owner_id,secondary_owner_id,\
team_lead_id,expiry_date,rotation_interval,interval_days,last_rotated_at,cycle,status,days_until_expiry,acknowledged_at,\
acknowledged_by,snoozed_until,verified_at,verified_expiry_date,external_id,created_at,updated_at";

async fn editor() -> Result<(Acme, Role)> {
    let acme = Acme::new().await?;
    let editor = acme.db.member("acme", "editor").await?;
    Ok((acme, editor))
}

/// One message and one hint on standard error, nothing on standard output.
pub fn refused(printed: &Printed, code: i32, message: &str, hint: &str) -> Result<()> {
    ensure!(printed.code == code, "{printed:?}");
    ensure!(printed.stdout.is_empty(), "{printed:?}");
    ensure!(
        printed.stderr.matches("error: ").count() == 1 && printed.stderr.contains(message),
        "{printed:?}"
    );
    ensure!(
        printed.stderr.matches("hint: ").count() == 1 && printed.stderr.contains(hint),
        "{printed:?}"
    );
    Ok(())
}

#[tokio::test]
async fn add_prints_the_id_alone_and_list_shows_what_was_given() -> Result<()> {
    let (acme, editor) = editor().await?;
    let arguments = [
        "secrets",
        "add",
        "Stripe live",
        "--provider",
        "stripe",
        "--interval",
        "90 days",
        "--owner",
        "dana",
        "--priority",
        "p1",
        "--environment",
        "production",
        "--purpose",
        "takes money",
        "--ref",
        "acct_1",
        "--label",
        "team=pay",
        "--external-id",
        "ext-1",
        "--secondary-owner",
        "erin",
        "--team-lead",
        "finn",
    ];
    let id: Uuid = Cli::new(&acme.db, &editor, &arguments)?
        .ok()
        .await?
        .trim_end_matches('\n')
        .parse()?;

    let json = Cli::new(&acme.db, &editor, &["secrets", "list", "--format", "json"])?
        .ok()
        .await?;
    let rows: Value = serde_json::from_str(&json)?;
    let row = &rows[0];
    for (column, value) in [
        ("id", id.to_string().as_str()),
        ("name", "Stripe live"),
        ("provider_type", "stripe"),
        ("provider_ref", "acct_1"),
        ("purpose", "takes money"),
        ("environment", "production"),
        ("priority", "P1"),
        ("owner_id", "dana"),
        ("secondary_owner_id", "erin"),
        ("team_lead_id", "finn"),
        ("external_id", "ext-1"),
        ("status", "healthy"),
    ] {
        ensure!(row[column] == value, "{column}: {row}");
    }
    ensure!(
        row["labels"]["team"] == "pay" && row["interval_days"] == 90 && row["cycle"] == 1,
        "{row}"
    );
    let keys: Vec<&str> = json
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\":"))
        .map(|pair| pair.0)
        .filter(|key| *key != "team")
        .collect();
    ensure!(keys.join(",") == COLUMNS, "in the view's order: {keys:?}");

    let csv = Cli::new(&acme.db, &editor, &["secrets", "list", "--format", "csv"])?
        .ok()
        .await?;
    let mut lines = csv.lines();
    ensure!(lines.next() == Some(COLUMNS), "{csv}");
    ensure!(
        lines
            .next()
            .is_some_and(|line| line.starts_with(&format!("{id},Stripe live,stripe,"))),
        "{csv}"
    );
    let table = Cli::new(&acme.db, &editor, &["secrets", "list"])?
        .ok()
        .await?;
    ensure!(
        table.starts_with("NAME") && table.contains("Stripe live") && table.contains("healthy"),
        "{table}"
    );
    Ok(())
}

#[tokio::test]
async fn list_filters_and_pages() -> Result<()> {
    let (acme, editor) = editor().await?;
    acme.many_due(12).await?;
    acme.register(
        "far away",
        "expiry_date => now() + interval '400 days', owner_id => 'erin', provider_type => 'vault'",
    )
    .await?;
    let names = async |arguments: &[&str]| -> Result<Vec<String>> {
        let all = [&["secrets", "list", "--format", "json"], arguments].concat();
        let rows: Value = serde_json::from_str(&Cli::new(&acme.db, &editor, &all)?.ok().await?)?;
        let rows = rows.as_array().context("an array")?;
        Ok(rows
            .iter()
            .map(|row| row["name"].as_str().unwrap_or_default().to_owned())
            .collect())
    };
    ensure!(
        names(&[])
            .await?
            .last()
            .is_some_and(|name| name == "far away"),
        "soonest first"
    );
    ensure!(names(&["--owner", "erin"]).await? == ["far away"]);
    ensure!(names(&["--provider", "vault"]).await? == ["far away"]);
    ensure!(names(&["--query", "AWAY"]).await? == ["far away"]);
    ensure!(names(&["--status", "healthy"]).await? == ["far away"]);
    ensure!(names(&["--expires-within-days", "30"]).await?.len() == 12);
    ensure!(names(&["--limit", "5"]).await?.len() == 5);
    let cut = Cli::new(&acme.db, &editor, &["secrets", "list", "--limit", "5"])?
        .run()
        .await?;
    ensure!(
        cut.code == 0 && cut.stderr.contains("more than 5"),
        "{cut:?}"
    );
    let none = Cli::new(&acme.db, &editor, &["secrets", "list", "--owner", "nobody"])?
        .ok()
        .await?;
    ensure!(none == "no secret matches\n", "{none}");
    Ok(())
}

#[tokio::test]
async fn rotated_finds_by_name_or_id_and_prints_the_next_date() -> Result<()> {
    let (acme, editor) = editor().await?;
    let secret = acme.due("Stripe live").await?;
    let arguments = [
        "secrets",
        "rotated",
        "stripe LIVE",
        "--at",
        "2026-01-31T10:00:00Z",
        "--note",
        "by hand",
    ];
    let next = Cli::new(&acme.db, &editor, &arguments)?.ok().await?;
    ensure!(next.trim() == "2026-05-01T10:00:00+00:00", "{next}");
    let again = [
        "secrets",
        "rotated",
        &secret.to_string(),
        "--format",
        "json",
    ];
    let row: Value = serde_json::from_str(&Cli::new(&acme.db, &editor, &again)?.ok().await?)?;
    ensure!(
        row["id"] == secret.to_string() && row["next_expiry_date"].is_string(),
        "{row}"
    );

    acme.register("no interval", "expiry_date => now() + interval '5 days'")
        .await?;
    let missing = Cli::new(&acme.db, &editor, &["secrets", "rotated", "no interval"])?
        .run()
        .await?;
    refused(&missing, 1, "interval", "next")?;
    let given = [
        "secrets",
        "rotated",
        "no interval",
        "--next-expiry",
        "2031-07-01",
    ];
    let next = Cli::new(&acme.db, &editor, &given)?.ok().await?;
    ensure!(next.trim() == "2031-07-01T00:00:00+00:00", "{next}");
    let future = ["secrets", "rotated", "Stripe live", "--at", "2999-01-01"];
    refused(
        &Cli::new(&acme.db, &editor, &future)?.run().await?,
        1,
        "future",
        "",
    )?;
    Ok(())
}

#[tokio::test]
async fn ack_needs_an_open_alert() -> Result<()> {
    let (acme, editor) = editor().await?;
    let secret = acme.due("Stripe live").await?;
    refused(
        &Cli::new(&acme.db, &editor, &["secrets", "ack", "Stripe live"])?
            .run()
            .await?,
        1,
        "alert",
        "",
    )?;
    acme.tick().await?;
    let done = Cli::new(
        &acme.db,
        &editor,
        &["secrets", "ack", "Stripe live", "--note", "on it"],
    )?
    .ok()
    .await?;
    ensure!(
        done.starts_with("acknowledged until 20") && done.ends_with(": Stripe live\n"),
        "{done}"
    );
    // Who comes second is told who has it.
    let admin = acme.db.member("acme", "admin").await?;
    let second = Cli::new(&acme.db, &admin, &["secrets", "ack", "Stripe live"])?
        .ok()
        .await?;
    ensure!(
        second.starts_with(&format!("acknowledged by {} until 20", editor.subject())),
        "{second}"
    );
    let by: Option<String> = rotator_tests::scalar(
        &acme.operator,
        "select acknowledged_by from rotator.secrets where id = $1",
        &[&secret],
    )
    .await?;
    ensure!(by == Some(editor.subject()), "{by:?}");
    Ok(())
}

#[tokio::test]
async fn mistakes_say_what_to_do() -> Result<()> {
    let (acme, editor) = editor().await?;
    acme.due("Stripe live").await?;
    let run = async |arguments: &[&str]| Cli::new(&acme.db, &editor, arguments)?.run().await;
    refused(
        &run(&["secrets", "rotated", "Stripe liv"]).await?,
        1,
        "no secret has the name",
        "Did you mean \"Stripe live\"?",
    )?;
    refused(
        &run(&["secrets", "ack", &Uuid::nil().to_string()]).await?,
        1,
        "",
        "",
    )?;
    let taken = run(&["secrets", "add", "stripe LIVE", "--interval", "1 day"]).await?;
    refused(&taken, 1, "a secret with this name", "")?;
    ensure!(
        !taken.stderr.contains("\\x"),
        "the blind index is nobody's business: {taken:?}"
    );
    for interval in ["0 days", "-1 days", "a while"] {
        refused(
            &run(&["secrets", "add", "x", &format!("--interval={interval}")]).await?,
            1,
            "interval",
            "",
        )?;
    }
    for arguments in [
        &["secrets", "add", "x"][..],
        &["secrets", "add", "x", "--expires", "99999-01-01"],
        &["secret"],
    ] {
        ensure!(run(arguments).await?.code == 2, "{arguments:?}");
    }
    for name in ["", &"x".repeat(10_000), "a\u{7}b"] {
        refused(
            &run(&["secrets", "add", name, "--interval", "1 day"]).await?,
            1,
            "name",
            "",
        )?;
    }
    let value = format!("ghp_{}", &"a1B2c3D4e5".repeat(4)[..36]);
    let printed = run(&["secrets", "add", &value, "--interval", "1 day"]).await?;
    refused(&printed, 1, "looks like a secret value", "metadata")?;
    ensure!(!printed.stderr.contains(&value));
    let viewer = acme.db.member("acme", "viewer").await?;
    let printed = Cli::new(
        &acme.db,
        &viewer,
        &["secrets", "add", "x", "--interval", "1 day"],
    )?
    .run()
    .await?;
    refused(&printed, 1, "", "")
}

#[tokio::test]
async fn a_tenant_has_to_be_known_and_chosen() -> Result<()> {
    let (acme, editor) = editor().await?;
    acme.due("Stripe live").await?;
    acme.db.tenant("beta").await?;
    let list = ["secrets", "list", "--format", "json"];
    let printed = Cli::new(&acme.db, &acme.operator_role, &list)?
        .run()
        .await?;
    refused(&printed, 1, "no tenant is chosen", "--tenant")?;
    for named in [
        Cli::new(&acme.db, &acme.operator_role, &list)?.env("ROTATOR_TENANT", "acme"),
        {
            Cli::new(
                &acme.db,
                &acme.operator_role,
                &[&list[..], &["--tenant", "acme"]].concat(),
            )?
        },
    ] {
        ensure!(named.ok().await?.contains("Stripe live"));
    }
    let other = Cli::new(&acme.db, &editor, &["secrets", "list", "--tenant", "beta"])?
        .run()
        .await?;
    refused(&other, 1, "", "")
}
