//! `rotator keys`: status with what hangs on each version, rollback, schedule, retiring and destroying, rewrapping; and who
//! is refused what. Re-encryption: `cli_reencrypt.rs`. Master keys and the first rotation: `cli_keys.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cli, Role, scalar};
use serde_json::Value;

use crate::cli_reencrypt::{rotated, rows_under};
use crate::cli_secrets::refused as says;
use crate::seed::{Acme, SOON};

fn keys(acme: &Acme, role: &Role, arguments: &[&str]) -> Result<Cli> {
    let all: Vec<&str> = ["keys"].iter().chain(arguments).copied().collect();
    Ok(Cli::new(&acme.db, role, &all)?.env("ROTATOR_TENANT", "acme"))
}

async fn version(acme: &Acme, version: i32) -> Result<String> {
    let sql = "select status from rotator.encryption_keys
        where tenant_id = rotator.current_tenant() and purpose = 'data' and version = $1";
    scalar(&acme.operator, sql, &[&version]).await
}

#[tokio::test]
async fn status_shows_uses_and_rows_and_how_far_rotations_are() -> Result<()> {
    let acme = rotated(26).await?;
    acme.db.tenant("globex").await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    let table = keys(&acme, &viewer, &["status"])?.ok().await?;
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines: Vec<Vec<String>> = table.lines().map(words).collect();
    ensure!(
        lines[0] == ["PURPOSE", "VERSION", "STATUS", "ACTIVATED", "ROWS", "USES"],
        "{table}"
    );
    ensure!(
        lines[1][..3] == ["data", "1", "decrypt_only"] && lines[1][4] == "26",
        "{table}"
    );
    ensure!(lines[1][5].parse::<i64>()? >= 26, "{table}");
    ensure!(
        lines
            .iter()
            .any(|line| line.join(" ") == "ROTATION KEYS STATUS TOTAL DONE FAILED LEFT TOOK"),
        "{table}"
    );
    ensure!(
        table.contains("1→2") && table.contains("running"),
        "{table}"
    );

    let everybody = Cli::new(&acme.db, &acme.operator_role, &["keys", "status"])?
        .ok()
        .await?;
    ensure!(everybody.starts_with("TENANT"), "{everybody}");
    ensure!(
        everybody.lines().all(|line| line.chars().count() <= 100),
        "{everybody}"
    );

    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    let json = keys(
        &acme,
        &viewer,
        &["status", "--rotations", "--format", "json"],
    )?
    .ok()
    .await?;
    let rotations: Value = serde_json::from_str(&json)?;
    let one = &rotations[0];
    ensure!(
        one["status"] == "completed" && one["total"] == 26 && one["done"] == 26,
        "{one}"
    );
    ensure!(
        one["remaining"] == 0 && one["failed"] == 0 && one["trigger"] == "manual",
        "{one}"
    );
    ensure!(
        one["duration"].is_string() && one["finished_at"].is_string(),
        "{one}"
    );
    let csv = keys(
        &acme,
        &viewer,
        &["status", "--rotations", "--format", "csv"],
    )?
    .ok()
    .await?;
    ensure!(
        csv.starts_with(
            "id,tenant_id,from_version,to_version,trigger,status,total,done,failed,remaining,"
        ),
        "{csv}"
    );
    let history = keys(&acme, &viewer, &["status", "--rotations"])?
        .ok()
        .await?;
    ensure!(
        history.starts_with("ROTATION  KEYS") && history.contains("manual"),
        "{history}"
    );
    let quick = keys(&acme, &viewer, &["status", "--no-rows", "--format", "json"])?
        .ok()
        .await?;
    let quick: Value = serde_json::from_str(&quick)?;
    ensure!(
        quick[0]["row_count"].is_null() && quick[0]["uses"].as_i64() >= Some(26),
        "{quick}"
    );
    Ok(())
}

#[tokio::test]
async fn a_version_is_retired_and_destroyed_once_nothing_is_under_it() -> Result<()> {
    let acme = rotated(10).await?;
    let admin = acme.db.member("acme", "admin").await?;
    let refused = async |role: &Role, arguments: &[&str], message: &str, hint: &str| {
        let printed = keys(&acme, role, arguments)?.run().await?;
        says(&printed, 1, message, hint).with_context(|| format!("{arguments:?}"))
    };
    let viewer = acme.db.member("acme", "viewer").await?;
    for arguments in [
        &["retire", "1"][..],
        &["destroy", "1", "--confirm", "acme/1"],
        &["rotate"],
        &["rollback", "1"],
        &["schedule", "--off"],
    ] {
        refused(&viewer, arguments, "", "admin").await?;
    }
    refused(
        &admin,
        &["retire", "1"],
        "10 row(s) are under version 1",
        "",
    )
    .await?;
    refused(
        &admin,
        &["retire", "2"],
        "version 2 is active",
        "rotate the key first",
    )
    .await?;
    refused(&admin, &["retire", "7"], "no version 7", "").await?;
    refused(
        &admin,
        &["destroy", "1", "--confirm", "acme/1"],
        "version 1 is decrypt_only",
        "Retire it first",
    )
    .await?;

    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    ensure!(keys(&acme, &admin, &["retire", "1"])?.ok().await? == "retired: version 1\n");
    ensure!(version(&acme, 1).await? == "retired");
    refused(&admin, &["retire", "1"], "version 1 is retired", "").await?;

    // Without a terminal nobody can be asked.
    let printed = keys(&acme, &admin, &["destroy", "1"])?.run().await?;
    says(&printed, 2, "has to be confirmed", "--confirm SLUG/1")?;
    for wrong in ["acme/2", "globex/1", "acme", "1", "yes"] {
        refused(
            &admin,
            &["destroy", "1", "--confirm", wrong],
            "must be confirmed",
            "",
        )
        .await?;
    }
    ensure!(version(&acme, 1).await? == "retired");
    let destroy = ["destroy", "1", "--confirm", "acme/1", "--format", "json"];
    let json = keys(&acme, &admin, &destroy)?.ok().await?;
    let document: Value = serde_json::from_str(&json)?;
    ensure!(
        document == serde_json::json!({"version": 1, "status": "destroyed"}),
        "{json}"
    );
    ensure!(version(&acme, 1).await? == "destroyed");
    Ok(())
}

#[tokio::test]
async fn at_a_terminal_what_is_destroyed_has_to_be_typed() -> Result<()> {
    let acme = rotated(1).await?;
    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    keys(&acme, &acme.operator_role, &["retire", "1"])?
        .ok()
        .await?;
    for (typed, code) in [("acme", 1), ("", 2), (" acme/1 ", 0)] {
        ensure!(version(&acme, 1).await? == "retired");
        let mut terminal = keys(&acme, &acme.operator_role, &["destroy", "1"])?.at_terminal()?;
        terminal
            .shows(SOON, "Type the tenant's slug, a slash and the version")
            .await?;
        terminal.types(typed)?;
        let ended = terminal.ended(SOON).await?;
        ensure!(
            ended.code() == Some(code),
            "{typed:?}: {ended} {:?}",
            terminal.shown()
        );
    }
    ensure!(version(&acme, 1).await? == "destroyed");
    Ok(())
}

#[tokio::test]
async fn a_rotation_is_rolled_back_until_its_old_version_is_retired() -> Result<()> {
    let acme = rotated(10).await?;
    let admin = acme.db.member("acme", "admin").await?;
    let id: i64 = scalar(
        &acme.operator,
        "select max(id) from rotator.key_rotations",
        &[],
    )
    .await?;
    let rotation = id.to_string();
    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    let said = keys(&acme, &admin, &["rollback", &rotation])?.ok().await?;
    ensure!(said == format!("rolled back: rotation {id}\n"), "{said}");
    ensure!(version(&acme, 1).await? == "active" && version(&acme, 2).await? == "decrypt_only");
    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    ensure!(rows_under(&acme, 1).await? == 10);
    let again = keys(&acme, &admin, &["rollback", &rotation])?.run().await?;
    says(&again, 1, "not the last one", "")?;
    let unknown = keys(&acme, &admin, &["rollback", "4711"])?.run().await?;
    says(&unknown, 1, "no such rotation", "")?;

    let id = keys(&acme, &admin, &["rotate"])?.ok().await?;
    keys(&acme, &acme.operator_role, &["reencrypt"])?
        .ok()
        .await?;
    keys(&acme, &admin, &["retire", "1"])?.ok().await?;
    let late = keys(&acme, &admin, &["rollback", id.trim_end()])?
        .run()
        .await?;
    says(&late, 1, "version 1 is retired", "")
}

#[tokio::test]
async fn a_schedule_is_shown_set_and_turned_off() -> Result<()> {
    let acme = Acme::new().await?;
    let admin = acme.db.member("acme", "admin").await?;
    let schedule = async |arguments: &[&str]| {
        let all: Vec<&str> = ["schedule"].iter().chain(arguments).copied().collect();
        keys(&acme, &admin, &all)?.ok().await
    };
    let shown = schedule(&[]).await?;
    ensure!(shown.starts_with("every 90 days, next 20"), "{shown}");
    let set = schedule(&["--every", "6 months", "--format", "json"]).await?;
    let set: Value = serde_json::from_str(&set)?;
    ensure!(
        set["every"] == "6 mons" && set["next_at"].is_string(),
        "{set}"
    );
    ensure!(schedule(&["--off"]).await? == "never\n");
    ensure!(schedule(&[]).await? == "never\n");
    let hourly = keys(&acme, &admin, &["schedule", "--every", "1 hour"])?
        .run()
        .await?;
    says(&hourly, 1, "between a day and 100 years", "")?;
    let nonsense = keys(&acme, &admin, &["schedule", "--every", "often"])?
        .run()
        .await?;
    says(&nonsense, 1, "often", "90 days")
}

#[tokio::test]
async fn all_keys_are_rotated_and_rewrapped_by_an_operator_alone() -> Result<()> {
    let acme = Acme::new().await?;
    acme.db.tenant("globex").await?;
    let admin = acme.db.member("acme", "admin").await?;
    let operator = &acme.operator_role;
    ensure!(keys(&acme, operator, &["rotate", "--all"])?.ok().await? == "2\n");
    ensure!(version(&acme, 2).await? == "active");
    let both = keys(&acme, operator, &["rotate", "--all", "--tenant", "acme"])?
        .run()
        .await?;
    says(&both, 2, "exclude each other", "")?;
    let json = keys(&acme, operator, &["rotate", "--all", "--format", "json"])?
        .ok()
        .await?;
    ensure!(
        serde_json::from_str::<Value>(&json)?["rotations"] == 2,
        "{json}"
    );
    let rewrapped = keys(&acme, operator, &["rewrap", "--format", "json"])?
        .ok()
        .await?;
    ensure!(
        serde_json::from_str::<Value>(&rewrapped)?["rewrapped"].is_i64(),
        "{rewrapped}"
    );
    for arguments in [&["rotate", "--all"][..], &["rewrap"]] {
        says(
            &keys(&acme, &admin, arguments)?.run().await?,
            1,
            "",
            "rotator_admin",
        )
        .with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}
