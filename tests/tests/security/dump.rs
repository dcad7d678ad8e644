//! pg_dump in each of its formats, restored into a cluster of another identity: the same rows in every table, readable
//! with the same master key, sequences that go on, the audit log as it was, every guard as after a fresh installation,
//! and all that was under way goes on. What is dumped: `dump_source.rs`.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::restore::spend_transactions;
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cluster, Options, TestDb, scalar};
use serde_json::Value;

use crate::dump_content::{Content, audit, expect_audit_sealed, expect_audit_verified};
use crate::dump_source::{ROTATING, TENANTS, source, work_off};
use crate::fixture::{text, texts, verdict};
use crate::upgrade_catalog::{Definitions, line_differences, statements};

#[derive(Clone, Copy, Debug)]
enum Format {
    Script,
    Inserts,
    Custom,
    Directory,
}

impl Format {
    fn dump(self) -> &'static [&'static str] {
        match self {
            Self::Script => &["--format=plain"],
            Self::Inserts => &["--format=plain", "--inserts"],
            Self::Custom => &["--format=custom"],
            Self::Directory => &["--format=directory", "--jobs=2"],
        }
    }

    /// Several processes don't keep the order in which rows depend on each other, and our foreign keys are there already.
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Directory => &[("PGOPTIONS", "-c session_replication_role=replica")],
            _ => &[],
        }
    }

    /// The program and its arguments; the file comes last.
    fn restore(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Script | Self::Inserts => (
                "psql",
                &[
                    "-X",
                    "-q",
                    "-1",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "--output=/dev/null",
                    "-f",
                ],
            ),
            Self::Custom => ("pg_restore", &["--exit-on-error", "--single-transaction"]),
            Self::Directory => ("pg_restore", &["--exit-on-error", "--jobs=2"]),
        }
    }
}

/// Restores into a fresh cluster each; `target_is_older`: one whose transaction ids are beyond the source's.
async fn round_trips(formats: [Format; 2], target_is_older: bool) -> Result<()> {
    let from = source(Options::default()).await?;
    // Open while the dump is taken, with an event whose id is lower than others that are in it.
    let late = from.session("acme", "admin").await?;
    late.batch_execute(
        "begin; select rotator.register_secret('too late', rotation_interval => '1 day')",
    )
    .await?;
    from.admin
        .batch_execute("select rotator.add_member('after@acme.example', 'viewer', 'acme'); select rotator.tick()")
        .await?;
    let log = audit(&from.admin).await?;
    ensure!(
        log.ok && log.checked > 0 && log.unsealed > 0,
        "sealed and unsealed events: {log:?}"
    );
    let before = Content::of(&from.admin).await?;
    before.expect_rows_everywhere()?;

    let scratch = Scratch::new("dump")?;
    let path = |name: &str| scratch.join(name).display().to_string();
    let roles = path("roles.sql");
    from.cluster
        .tool("pg_dumpall", &["--roles-only", "-f", &roles])?;
    let mut files = Vec::new();
    for format in formats {
        let file = path(&format!("{format:?}"));
        let mut arguments = format.dump().to_vec();
        arguments.extend(["-f", &file, &from.name]);
        from.cluster.tool("pg_dump", &arguments)?;
        if matches!(format, Format::Script | Format::Inserts) {
            shows_no_plaintext(&file)?;
        }
        files.push((format, file));
    }
    late.batch_execute("commit").await?;

    let target = Arc::new(from.cluster.another(Options::default()).await?);
    ensure!(identity(&target)? != identity(&from.cluster)?);
    let maintenance = target.connect("postgres", "postgres").await?;
    if target_is_older {
        spend_transactions(&maintenance, 20_000).await?;
    }
    // Its one error: postgres is there already.
    target.tool("psql", &["-X", "-q", "-f", &roles, "postgres"])?;
    for (format, file) in &files {
        let restored = TestDb::bare_in(target.clone()).await?;
        let (program, arguments) = format.restore();
        let mut arguments = arguments.to_vec();
        if program == "psql" {
            arguments.extend([file.as_str(), "-d", &restored.name]);
        } else {
            arguments.extend(["-d", &restored.name, file]);
        }
        target.tool_with(format.settings(), program, &arguments)?;
        expect_restored(&before, &restored)
            .await
            .with_context(|| format!("{format:?}"))?;
    }
    Ok(())
}

async fn expect_restored(before: &Content, restored: &TestDb) -> Result<()> {
    before.expect_same(&Content::of(&restored.admin).await?)?;
    let fresh = TestDb::in_cluster(restored.cluster.clone()).await?;
    let differences = Definitions::of(&restored.admin)
        .await?
        .differences_from(&Definitions::of(&fresh.admin).await?);
    ensure!(
        differences.is_empty(),
        "not as a fresh installation: {differences:#?}"
    );
    let written_down = line_differences(
        &statements(&restored.cluster, &restored.name)?,
        &statements(&fresh.cluster, &fresh.name)?,
    );
    let ours: Vec<&String> = written_down
        .iter()
        .filter(|line| line.starts_with('-') || line.contains(" rotator"))
        .filter(|line| {
            !["app.", "SCHEMA app", "FROM rotator.secrets"]
                .iter()
                .any(|theirs| line.contains(theirs))
        })
        .collect();
    ensure!(
        ours.is_empty(),
        "pg_dump writes it down otherwise: {ours:#?}"
    );
    expect_audit_verified(&restored.admin).await?;
    expect_alive(restored).await?;
    expect_audit_sealed(&restored.admin).await
}

/// What was restored works on, under the same guards, and nothing is said twice.
async fn expect_alive(restored: &TestDb) -> Result<()> {
    let highest = "select concat_ws(' ', (select max(id) from rotator_internal.audit_event),
        (select max(id) from rotator_internal.encryption_key), (select max(id) from rotator_internal.key_rotation))";
    let ids = |text: String| {
        text.split(' ')
            .map(str::parse)
            .collect::<Result<Vec<i64>, _>>()
    };
    let known = ids(text(&restored.admin, highest).await?)?;
    let outbox = "select count(*) from rotator_internal.notification";
    let queued = text(&restored.admin, outbox).await?;
    // Whatever was due has been queued over there.
    let tick: Value = scalar(&restored.admin, "select rotator.tick()", &[]).await?;
    ensure!(
        tick["queued"] == 0 && text(&restored.admin, outbox).await? == queued,
        "queued again: {tick}"
    );

    work_off(
        &restored.admin,
        "select rotator.reencrypt_step(5000)",
        "remaining",
        &Value::from(0),
    )
    .await?;
    let status = text(
        &restored.admin,
        &format!(
            "select string_agg(distinct r.status, ' ') from rotator_internal.key_rotation as r
             join rotator_internal.tenant as t using (tenant_id) where t.slug = '{ROTATING}'"
        ),
    )
    .await?;
    ensure!(
        status == "completed",
        "the rotation that was under way is {status}"
    );

    for (slug, _) in TENANTS {
        // Its login role and membership came along.
        let member = restored
            .cluster
            .connect(&format!("{slug}_app"), &restored.name)
            .await?;
        let names = texts(&member, "select name from rotator.secrets").await?;
        ensure!(
            !names.is_empty() && names.iter().all(|name| name.starts_with(slug)),
            "{slug} sees {names:?}"
        );
        member
            .batch_execute("select rotator.register_secret('after the restore', rotation_interval => '1 day'); select rotator.rotate_key()")
            .await?;
        let duplicate = format!(
            "select rotator.register_secret('{} DUE 1', rotation_interval => '1 day')",
            slug.to_uppercase()
        );
        ensure!(
            verdict(&member, &duplicate).await? == "23505",
            "{slug}: equal names are found"
        );
    }
    let next = ids(text(&restored.admin, highest).await?)?;
    ensure!(
        known
            .iter()
            .zip(&next)
            .all(|(known, next)| next >= &(known + 5)),
        "ids begin again: {known:?}, {next:?}"
    );
    for attack in [
        "update rotator_internal.audit_event set actor = 'nobody'",
        "truncate rotator_internal.audit_event",
    ] {
        ensure!(
            verdict(&restored.admin, attack).await? == "42501",
            "{attack}"
        );
    }
    Ok(())
}

fn shows_no_plaintext(file: &str) -> Result<()> {
    let plain = std::fs::read(file)?;
    let shows = |text: &str| {
        plain
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    ensure!(shows("owner-1"), "it can be searched");
    for (slug, _) in TENANTS {
        for text in [
            format!("{slug} key"),
            format!("{slug} due"),
            format!("{slug}/path"),
            format!("owner-1@{slug}"),
            format!("{slug} note"),
        ] {
            ensure!(!shows(&text), "the dump shows {text}");
        }
    }
    Ok(())
}

fn identity(cluster: &Cluster) -> Result<String> {
    cluster.psql(
        "postgres",
        "select system_identifier from pg_control_system()",
    )
}

#[tokio::test]
async fn scripts_restore_everything_into_a_younger_cluster() -> Result<()> {
    round_trips([Format::Script, Format::Inserts], false).await
}

#[tokio::test]
async fn archives_restore_everything_into_an_older_cluster() -> Result<()> {
    round_trips([Format::Directory, Format::Custom], true).await
}
