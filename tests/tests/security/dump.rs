//! pg_dump and restore, as a custom archive and as a script: the same rows, readable, sequences that go on, times and ids
//! of the audit log as they were, and every guard in place again.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cluster, TestDb};
use tokio_postgres::Client;

use crate::fixture::{populate, text, texts, verdict};

fn tool(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(cluster.bindir.join(name))
        .args(arguments)
        .arg("-h")
        .arg(&cluster.socket)
        .args(["-p", &cluster.port.to_string(), "-U", "postgres"])
        .output()
        .with_context(|| name.to_owned())?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Every table with its rows, as text.
async fn contents(admin: &Client) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for table in texts(admin, "select relname from pg_class where relnamespace = 'rotator_internal'::regnamespace and relkind = 'r' and relname <> 'heartbeat' order by 1").await? {
        all.extend(texts(admin, &format!("select '{table}: ' || t::text from rotator_internal.{table} t order by 1")).await?);
    }
    Ok(all)
}

/// Two tenants with rows in every table.
async fn source() -> Result<TestDb> {
    let db = TestDb::new().await?;
    db.admin
        .batch_execute("create schema app; create table app.vault (id uuid primary key, tenant uuid, secret bytea)")
        .await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        populate(&db, tenant).await?;
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{tenant}');
                 insert into app.vault select i, rotator.current_tenant(), rotator.encrypt('{tenant}', 'l', i::text) from gen_random_uuid() as i"
            ))
            .await?;
        db.admin.batch_execute("discard all").await?;
        db.admin.batch_execute(&format!("select rotator.rotate_key('{tenant}'), rotator.add_member('u1', 'editor', '{tenant}'), rotator.remove_member('u2', '{tenant}')")).await?;
    }
    // A rotation under way: it goes on over there.
    db.admin
        .batch_execute("select rotator.register_encrypted_column('app.vault', 'secret', 'l', 'id', 'tenant'); select rotator.reencrypt_step(1)")
        .await?;
    let claimed = texts(&db.admin, "select format('select rotator.redeem_link(%L, %L), rotator.complete_notification(%L, %L)', link_token, 'acknowledge', id, claim_id) from rotator.claim_notifications('w', 1)").await?;
    db.admin.batch_execute(&claimed.join(";")).await?;
    Ok(db)
}

async fn expect_same(from: &TestDb, restored: &TestDb) -> Result<()> {
    let (before, after) = (
        contents(&from.admin).await?,
        contents(&restored.admin).await?,
    );
    let tables: std::collections::BTreeSet<_> = before
        .iter()
        .filter_map(|row| row.split(':').next())
        .collect();
    let count = text(&from.admin, "select count(*) from pg_class where relnamespace = 'rotator_internal'::regnamespace and relkind = 'r' and relname <> 'heartbeat'").await?;
    ensure!(
        tables.len().to_string() == count,
        "not every table has rows to compare: {tables:?} of {count}"
    );
    ensure!(
        before == after,
        "rows differ: {:#?}",
        before
            .iter()
            .filter(|row| !after.contains(row))
            .chain(after.iter().filter(|row| !before.contains(row)))
            .collect::<Vec<_>>()
    );
    for sequence in ["encryption_key_id", "key_rotation_id", "audit_event_id"] {
        let last = format!("select last_value from rotator_internal.{sequence}");
        ensure!(
            text(&from.admin, &last).await? == text(&restored.admin, &last).await?,
            "{sequence} starts again"
        );
    }
    for tenant in ["acme", "beta"] {
        let names = format!(
            "begin; select rotator.use_tenant('{tenant}', true); select string_agg(concat_ws('/', name, purpose, provider_ref), ' ' order by id) from rotator.secrets; commit"
        );
        let (there, here) = (
            texts(&from.admin, &names).await?,
            texts(&restored.admin, &names).await?,
        );
        ensure!(
            here.last() == there.last()
                && here
                    .last()
                    .is_some_and(|names| names.contains(&format!("{tenant}-due/{tenant} purpose"))),
            "{here:?}"
        );
    }
    Ok(())
}

/// What was restored works on, under the same guards.
async fn expect_alive(restored: &TestDb) -> Result<()> {
    let last = text(
        &restored.admin,
        "select max(id) from rotator_internal.audit_event",
    )
    .await?;
    let editor = restored.session("acme", "admin").await?;
    editor.batch_execute("select rotator.register_secret('after the restore', rotation_interval => '1 day'); select rotator.rotate_key()").await?;
    let duplicate = verdict(
        &editor,
        "select rotator.register_secret('ACME-due', rotation_interval => '1 day')",
    )
    .await?;
    ensure!(
        duplicate == "23505",
        "the blind index still finds equal names: {duplicate}"
    );
    ensure!(
        text(
            &restored.admin,
            &format!("select count(*) from rotator_internal.audit_event where id > {last}")
        )
        .await?
            == "3"
    );
    ensure!(verdict(&restored.admin, "delete from rotator_internal.audit_event").await? == "42501");
    ensure!(
        texts(
            &restored.session("beta", "viewer").await?,
            "select name from rotator.secrets where name like 'acme%'"
        )
        .await?
        .is_empty()
    );
    restored
        .admin
        .batch_execute("select rotator.tick()")
        .await?;
    Ok(())
}

async fn round_trip(format: &str) -> Result<()> {
    let from = source().await?;
    let scratch = Scratch::new("dump")?;
    let file = scratch.join("dump");
    let file = Path::new(&file).to_str().context("a path")?;
    tool(
        &from.cluster,
        "pg_dump",
        &[format, "-f", file, "-d", &from.name],
    )?;
    let plain = std::fs::read(file)?;
    for name in ["acme-due", "acme purpose", "acme/path", "acme@example.com"] {
        ensure!(
            !plain
                .windows(name.len())
                .any(|window| window == name.as_bytes()),
            "the dump shows {name}"
        );
    }
    let restored = TestDb::bare().await?;
    if format == "-Fp" {
        tool(
            &restored.cluster,
            "psql",
            &[
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                file,
                "-d",
                &restored.name,
            ],
        )?;
    } else {
        tool(
            &restored.cluster,
            "pg_restore",
            &["--exit-on-error", "-d", &restored.name, file],
        )?;
    }
    expect_same(&from, &restored).await?;
    expect_alive(&restored).await
}

#[tokio::test]
async fn a_custom_archive_restores_everything() -> Result<()> {
    round_trip("-Fc").await
}

#[tokio::test]
async fn a_script_restores_everything() -> Result<()> {
    round_trip("-Fp").await
}
