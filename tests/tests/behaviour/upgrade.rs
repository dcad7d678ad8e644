//! Upgrades with data in them, from every released version and from this one to itself: an upgraded installation is a
//! fresh one, nothing is lost, what was under way goes on, and a dump of an old one restores into a new one.
//! How two installations are compared: `upgrade_catalog.rs`. Keys and their rotations: `upgrade_keys.rs`. Rules that need
//! no upgrade: `upgrade_rules.rs`.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cluster, Options, TestDb, scalar};
use tokio_postgres::Client;

use crate::upgrade_audit::begin_sealing;
use crate::upgrade_catalog::{Definitions, line_differences, statements};
use crate::upgrade_keys::{begin_reencryption, expect_rotations_completed};
use crate::upgrade_origin::{Origin, origins};
use crate::upgrade_seed::{InUse, Rows};

/// Databases in which a version is installed and in use.
pub async fn installed() -> Result<Vec<(Origin, TestDb, InUse)>> {
    let mut all = Vec::new();
    for origin in origins(&Cluster::shared()?)? {
        let db = TestDb::bare().await?;
        origin.create(&db.admin).await?;
        let in_use = InUse::begin(&db.admin)
            .await
            .with_context(|| format!("using version {}", origin.version))?;
        begin_reencryption(&db.admin).await?;
        begin_sealing(&db.admin).await?;
        all.push((origin, db, in_use));
    }
    Ok(all)
}

#[tokio::test]
async fn an_upgraded_installation_is_a_fresh_one() -> Result<()> {
    // Clusters of their own: roles belong to a cluster, and must come from the one script alone.
    let fresh = Cluster::start(Options::default()).await?;
    let session = fresh.connect("postgres", "postgres").await?;
    session.batch_execute("create extension rotator").await?;
    let wanted = Definitions::of(&session).await?;
    let wanted_statements = statements(&fresh, "postgres")?;

    for origin in origins(&fresh)? {
        let cluster = Cluster::start(Options::default()).await?;
        let session = cluster.connect("postgres", "postgres").await?;
        // As on Supabase: whatever is made new is given away, and must be taken back.
        session
            .batch_execute(
                "create role anon;
                 alter default privileges grant all on tables to anon;
                 alter default privileges grant all on sequences to anon;
                 alter default privileges grant all on routines to anon;
                 alter default privileges grant all on schemas to anon",
            )
            .await?;
        origin.create(&session).await?;
        InUse::begin(&session).await?;
        origin.upgrade(&session).await?;

        let differences = Definitions::of(&session).await?.differences_from(&wanted);
        ensure!(
            differences.is_empty(),
            "upgraded from {}, not as a fresh installation: {differences:#?}",
            origin.version
        );
        let differences: Vec<String> =
            line_differences(&statements(&cluster, "postgres")?, &wanted_statements)
                .into_iter()
                .filter(|line| !line.contains("DEFAULT PRIVILEGES"))
                .collect();
        ensure!(
            differences.is_empty(),
            "upgraded from {}, pg_dump writes it down otherwise: {differences:#?}",
            origin.version
        );
        let added: Vec<String> = session
            .query("select a from rotator_internal.additions() as a", &[])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        ensure!(
            added.is_empty(),
            "upgraded from {}, doctor takes for somebody's addition: {added:#?}",
            origin.version
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_loses_nothing_and_what_was_under_way_goes_on() -> Result<()> {
    for (origin, db, in_use) in installed().await? {
        let rows = Rows::of(&db.admin).await?;
        origin.upgrade(&db.admin).await?;
        // A new session, as most are after an upgrade.
        let session = db.superuser().await?;
        rows.expect_kept(&session)
            .await
            .with_context(|| format!("upgraded from {}", origin.version))?;
        in_use.expect_readable(&session).await?;
        in_use.expect_alive(&session).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sessions_of_the_old_version_go_on_with_the_new_one() -> Result<()> {
    for (origin, db, in_use) in installed().await? {
        let (other, member) = (db.superuser().await?, db.session("acme", "editor").await?);
        in_use.expect_readable(&other).await?;
        let query = member
            .prepare("select count(*) from rotator.search_secrets(status => 'expiring_soon')")
            .await?;
        let before: i64 = member.query_one(&query, &[]).await?.get(0);
        ensure!(before == 4, "{before} secrets expire soon");

        origin.upgrade(&db.admin).await?;

        let after: i64 = member.query_one(&query, &[]).await?.get(0);
        ensure!(
            after == before,
            "the statement that was prepared finds {after}"
        );
        member
            .execute(
                "select rotator.register_secret('by an old session', rotation_interval => '90 days')",
                &[],
            )
            .await?;
        in_use.expect_alive(&other).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_that_does_not_get_its_locks_changes_nothing() -> Result<()> {
    for (origin, db, in_use) in installed().await? {
        let before = Definitions::of(&db.admin).await?;
        let mut reader = db.session("acme", "viewer").await?;
        let transaction = reader.transaction().await?;
        let seen: i64 = scalar(&transaction, "select count(*) from rotator.secrets", &[]).await?;
        ensure!(seen > 0);

        db.admin.batch_execute("set lock_timeout = '200ms'").await?;
        let refused = db.admin.batch_execute(&origin.update()).await;
        let code = refused.err().and_then(|error| error.code().cloned());
        ensure!(
            code.as_ref().is_some_and(|code| code.code() == "55P03"),
            "with a reader in the way: {code:?}"
        );
        let differences = Definitions::of(&db.admin).await?.differences_from(&before);
        ensure!(differences.is_empty(), "half an upgrade: {differences:#?}");

        transaction.commit().await?;
        origin.upgrade(&db.admin).await?;
        in_use.expect_alive(&db.admin).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_dump_of_an_old_version_restores_into_the_new_one() -> Result<()> {
    for (origin, db, in_use) in installed().await? {
        let rows = Rows::of(&db.admin).await?.in_a_dump();
        let scratch = Scratch::new("upgrade")?;
        let file = scratch.join("dump");
        let file = file.to_str().context("a path")?;
        tool(&db.cluster, "pg_dump", &["-Fc", "-f", file, "-d", &db.name])?;

        // It names no version: the server makes its default, the new one.
        let restored = TestDb::bare().await?;
        tool(
            &db.cluster,
            "pg_restore",
            &["--exit-on-error", "-d", &restored.name, file],
        )?;
        ensure!(version(&restored.admin).await? == crate::upgrade_origin::CURRENT);
        rows.expect_kept(&restored.admin)
            .await
            .with_context(|| format!("a dump of version {}", origin.version))?;
        expect_rotations_completed(&restored.admin)
            .await
            .with_context(|| format!("a dump of version {}", origin.version))?;
        in_use.expect_readable(&restored.admin).await?;
        in_use.expect_alive(&restored.admin).await?;
        let unscheduled: i64 = scalar(
            &restored.admin,
            "select count(*) from rotator_internal.tenant where tenant_id not in (select tenant_id from rotator_internal.key_schedule)",
            &[],
        )
        .await?;
        ensure!(
            unscheduled == 0,
            "restored from {}, {unscheduled} tenants whose keys are never replaced",
            origin.version
        );
        let wanted = Definitions::of(&TestDb::new().await?.admin).await?;
        let differences = Definitions::of(&restored.admin)
            .await?
            .differences_from(&wanted);
        ensure!(
            differences.is_empty(),
            "restored from {}, not as a fresh installation: {differences:#?}",
            origin.version
        );
    }
    Ok(())
}

async fn version(session: &Client) -> Result<String> {
    scalar(
        session,
        "select extversion from pg_extension where extname = 'rotator'",
        &[],
    )
    .await
}

fn tool(cluster: &Arc<Cluster>, name: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(cluster.bindir.join(name))
        .args(arguments)
        .arg("-h")
        .arg(&cluster.socket)
        .args(["-p", &cluster.port.to_string(), "-U", "postgres"])
        .output()
        .with_context(|| name.to_owned())?;
    ensure!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
