//! `rotator audit export`: one moment of the log as lines, for who may read it, and an event of the log itself.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cli, Role, scalar};
use serde_json::Value;

use crate::audit_log::Log;

fn lines(export: &str) -> Result<Vec<Value>> {
    Ok(export
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

fn count(lines: &[Value], kind: &str) -> usize {
    lines.iter().filter(|line| line.get(kind).is_some()).count()
}

async fn exported(log: &Log, role: &Role, more: &[&str]) -> Result<Vec<Value>> {
    let mut arguments = vec!["audit", "export"];
    arguments.extend(more);
    lines(&Cli::new(log.db(), role, &arguments)?.ok().await?)
}

#[tokio::test]
async fn an_auditor_gets_all_tenants_and_each_log_says_so() -> Result<()> {
    let log = Log::new().await?;
    log.db().tenant("other").await?;
    log.sealed(2, 2).await?;
    log.events(1).await?;
    let lines = exported(&log, &log.auditor, &[]).await?;
    let all: i64 = scalar(
        &log.db().admin,
        "select count(*) from rotator.audit_log",
        &[],
    )
    .await?;
    ensure!(lines[0]["export"]["all_tenants"] == true && count(&lines, "tenant") == 2);
    ensure!(
        count(&lines, "event") as i64 == all
            && count(&lines, "block") as i64 == log.blocks().await?
    );
    let end = &lines.last().context("a last line")?["end"];
    ensure!(end["events"] == all);
    let said: Vec<&Value> = lines
        .iter()
        .map(|line| &line["event"])
        .filter(|event| event["action"] == "audit.exported")
        .collect();
    ensure!(
        said.len() == 2
            && said
                .iter()
                .all(|event| event["actor"] == log.auditor.subject() && event["source"] == "cli"),
        "{said:#?}"
    );
    let changed = lines
        .iter()
        .map(|line| &line["event"])
        .find(|event| event.is_object() && event["action"] != "audit.exported")
        .context("an event")?;
    let row = log
        .db()
        .admin
        .query_one(
            "select changes::text, to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from rotator.audit_log where id = $1",
            &[&changed["id"].as_i64()],
        )
        .await?;
    let (changes, at): (String, String) = (row.get(0), row.get(1));
    ensure!(
        changed["changes"] == serde_json::from_str::<Value>(&changes)?
            && changed["occurred_at"] == at,
        "{changed}"
    );
    Ok(())
}

#[tokio::test]
async fn members_get_their_own_tenant_as_auditor_or_admin() -> Result<()> {
    let log = Log::new().await?;
    log.db().tenant("other").await?;
    log.sealed(1, 2).await?;
    for role in ["auditor", "admin"] {
        let member = log.db().member("acme", role).await?;
        let lines = exported(&log, &member, &[]).await?;
        ensure!(lines[0]["export"]["all_tenants"] == false && count(&lines, "tenant") == 1);
        let text = lines
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join("\n")
            + "\n";
        log.verify(&text, false).await?.is_clean()?;
    }
    for role in ["viewer", "editor"] {
        let member = log.db().member("acme", role).await?;
        let printed = Cli::new(log.db(), &member, &["audit", "export"])?
            .run()
            .await?;
        ensure!(
            printed.code == 1
                && printed.stdout.is_empty()
                && printed.stderr.contains("may not do this"),
            "{printed:?}"
        );
    }
    // One tenant of an auditor's, by its name; and none that isn't there.
    let lines = exported(&log, &log.auditor, &["--tenant", "other"]).await?;
    ensure!(count(&lines, "tenant") == 1 && count(&lines, "block") == 1);
    let nobody = ["audit", "export", "--tenant", "nobody"];
    let printed = Cli::new(log.db(), &log.auditor, &nobody)?.run().await?;
    ensure!(
        printed.code == 1 && printed.stderr.contains("no such tenant"),
        "{printed:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_is_made_for_its_owner_and_never_overwritten() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let log = Log::new().await?;
    log.sealed(1, 1).await?;
    let path = log.folder.join("export.jsonl");
    let name = path.display().to_string();
    let arguments = ["audit", "export", "--out", &name];
    let said = Cli::new(log.db(), &log.auditor, &arguments)?.ok().await?;
    ensure!(said.is_empty() && std::fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600);
    log.verify(&std::fs::read_to_string(&path)?, false)
        .await?
        .is_clean()?;
    let printed = Cli::new(log.db(), &log.auditor, &arguments)?.run().await?;
    ensure!(
        printed.code == 1 && printed.stderr.contains("can't write"),
        "{printed:?}"
    );
    Ok(())
}
