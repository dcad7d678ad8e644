//! `rotator keys …` and `rotator doctor`: a master key that a server takes, data keys listed and rotated, an
//! installation examined; and what every command says when it gets no database.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::free_address;
use rotator_tests::{Cli, Cluster, Options, TestDb, refused};
use serde_json::Value;

use crate::cli_secrets::refused as says;
use crate::seed::Acme;

#[tokio::test]
async fn a_new_master_key_is_one_line_that_a_server_takes() -> Result<()> {
    let mut lines = Vec::new();
    for _ in 0..2 {
        let printed = Cli::offline(&["keys", "new-master"])?.run().await?;
        ensure!(
            printed.code == 0 && printed.stderr.is_empty(),
            "{}",
            printed.stderr
        );
        ensure!(
            printed.stdout.matches('\n').count() == 1 && printed.stdout.ends_with('\n'),
            "one line"
        );
        let (id, key) = printed
            .stdout
            .trim_end()
            .split_once(':')
            .context("id:key")?;
        ensure!(
            (1..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        );
        ensure!(key.len() == 44 && key.ends_with('='), "32 bytes in base64");
        lines.push(printed.stdout);
    }
    ensure!(lines[0] != lines[1]);

    let cluster = Arc::new(
        Cluster::start(Options {
            no_master_key: true,
            ..Options::default()
        })
        .await?,
    );
    let db = TestDb::in_cluster(cluster).await?;
    refused(
        db.admin
            .query("select rotator.create_tenant('acme', 'acme')", &[])
            .await,
        "RT010",
    )?;
    db.cluster.write_master_key(&lines.concat())?;
    let acme = Acme::on(db, "UTC").await?;
    acme.due("stripe-live").await?;
    let wrapped_by: String = rotator_tests::scalar(
        &acme.db.admin,
        "select min(master_key_id) from rotator_internal.encryption_key having count(distinct master_key_id) = 1",
        &[],
    )
    .await?;
    ensure!(
        lines[0].starts_with(&format!("{wrapped_by}:")),
        "the first line wraps"
    );
    Ok(())
}

#[tokio::test]
async fn rotating_makes_a_new_version_active_and_old_rows_still_read() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("written before").await?;
    let admin = acme.db.member("acme", "admin").await?;
    let rotation = Cli::new(&acme.db, &admin, &["keys", "rotate", "--reason", "drill"])?
        .ok()
        .await?;
    rotation
        .trim_end()
        .parse::<i64>()
        .context("the id of the rotation, alone")?;
    acme.due("written after").await?;

    let keys: Value = serde_json::from_str(
        &Cli::new(&acme.db, &admin, &["keys", "status", "--format", "json"])?
            .ok()
            .await?,
    )?;
    let keys = keys.as_array().context("an array")?;
    let active: Vec<&Value> = keys
        .iter()
        .filter(|key| key["active"] == true && key["version"] == 2)
        .collect();
    ensure!(
        active.len() == 1 && active[0]["status"] == "active",
        "{keys:?}"
    );
    let old = keys
        .iter()
        .find(|key| key["version"] == 1 && key["purpose"] == active[0]["purpose"])
        .context("version 1")?;
    ensure!(
        old["active"] == false && old["status"] == "decrypt_only",
        "{old}"
    );
    ensure!(
        keys.iter().all(|key| key.get("wrapped_key").is_none()),
        "never key bytes"
    );
    let list = Cli::new(&acme.db, &admin, &["secrets", "list"])?
        .ok()
        .await?;
    ensure!(
        list.contains("written before") && list.contains("written after"),
        "{list}"
    );

    let editor = acme.db.member("acme", "editor").await?;
    says(
        &Cli::new(&acme.db, &editor, &["keys", "rotate"])?
            .run()
            .await?,
        1,
        "",
        "",
    )?;
    let csv = Cli::new(
        &acme.db,
        &acme.operator_role,
        &["keys", "status", "--tenant", "acme", "--format", "csv"],
    )?
    .ok()
    .await?;
    ensure!(
        csv.starts_with("id,tenant_id,purpose,version,status,active,"),
        "{csv}"
    );
    let table = Cli::new(&acme.db, &acme.operator_role, &["keys", "status"])?
        .ok()
        .await?;
    ensure!(
        table.starts_with("PURPOSE") && table.contains("decrypt_only"),
        "{table}"
    );
    Ok(())
}

#[tokio::test]
async fn doctor_lists_checks_and_what_to_do_about_those_that_fail() -> Result<()> {
    let acme = Acme::new().await?;
    let printed = Cli::new(
        &acme.db,
        &acme.operator_role,
        &["doctor", "--format", "json"],
    )?
    .run()
    .await?;
    let checks: Value = serde_json::from_str(&printed.stdout)?;
    let checks = checks.as_array().context("an array")?;
    let named = |name: &str| checks.iter().find(|check| check["check_name"] == name);
    ensure!(
        named("connection").is_some_and(|check| check["ok"] == true),
        "{checks:?}"
    );
    ensure!(
        named("master key").is_some_and(|check| check["ok"] == true),
        "{checks:?}"
    );
    let failed: Vec<&Value> = checks.iter().filter(|check| check["ok"] == false).collect();
    ensure!(
        failed
            .iter()
            .all(|check| check["fix"].as_str().is_some_and(|fix| !fix.is_empty())),
        "{failed:?}"
    );
    ensure!(printed.code == i32::from(!failed.is_empty()), "{printed:?}");
    let table = Cli::new(&acme.db, &acme.operator_role, &["doctor"])?
        .run()
        .await?;
    ensure!(
        table.code == printed.code && table.stdout.contains("✓ connection"),
        "{table:?}"
    );

    let older = "update pg_extension set extversion = '0.0.9' where extname = 'rotator'";
    acme.db.admin.batch_execute(older).await?;
    let printed = Cli::new(&acme.db, &acme.operator_role, &["doctor"])?
        .run()
        .await?;
    ensure!(
        printed.code == 1
            && printed.stdout.contains("older")
            && printed.stdout.contains("alter extension"),
        "{printed:?}"
    );
    let list = Cli::new(&acme.db, &acme.operator_role, &["secrets", "list"])?
        .run()
        .await?;
    says(&list, 3, "older", "alter extension rotator update")
}

#[tokio::test]
async fn commands_without_a_database_end_with_its_code() -> Result<()> {
    let nowhere = format!("postgres://u:hunter2hunter2@{}/app", free_address()?);
    for arguments in [&["secrets", "list"][..], &["keys", "status"]] {
        says(
            &Cli::offline(arguments)?.run().await?,
            4,
            "ROTATOR_DATABASE_URL",
            "set it",
        )?;
        let printed = Cli::offline(arguments)?
            .env("ROTATOR_DATABASE_URL", &nowhere)
            .run()
            .await?;
        says(&printed, 6, "can't reach", "")?;
        ensure!(!printed.stderr.contains("hunter2"), "{printed:?}");
    }
    let doctor = Cli::offline(&["doctor"])?
        .env("ROTATOR_DATABASE_URL", &nowhere)
        .run()
        .await?;
    ensure!(
        doctor.code == 1 && doctor.stdout.contains("✗ connection"),
        "{doctor:?}"
    );

    let bare = TestDb::bare().await?;
    let role = bare.login_role("somebody", &[]).await?;
    says(
        &Cli::new(&bare, &role, &["secrets", "list"])?.run().await?,
        3,
        "no extension rotator",
        "create extension rotator",
    )
}

#[tokio::test]
async fn help_is_everywhere_and_needs_nothing() -> Result<()> {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["secrets", "--help"],
        &["secrets", "list", "--help"],
        &["secrets", "add", "--help"],
        &["secrets", "import", "--help"],
        &["secrets", "rotated", "--help"],
        &["secrets", "ack", "--help"],
        &["keys", "--help"],
        &["keys", "new-master", "--help"],
        &["keys", "status", "--help"],
        &["keys", "rotate", "--help"],
        &["keys", "reencrypt", "--help"],
        &["keys", "schedule", "--help"],
        &["keys", "rollback", "--help"],
        &["keys", "retire", "--help"],
        &["keys", "destroy", "--help"],
        &["keys", "rewrap", "--help"],
        &["doctor", "--help"],
    ] {
        let help = Cli::offline(arguments)?.ok().await?;
        ensure!(
            help.contains("Usage: rotator") && help.contains("Examples:"),
            "{arguments:?}: {help}"
        );
    }
    ensure!(
        Cli::offline(&["--version"])?
            .ok()
            .await?
            .contains(env!("CARGO_PKG_VERSION"))
    );
    Ok(())
}
