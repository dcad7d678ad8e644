//! A dump taken before a rotation, or in the middle of one, restored after it into another cluster that holds the same
//! master key: everything is readable there, a rotation that was under way goes on, a new one can begin, and schedules
//! and counts of uses are as they were.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::{Cluster, Options, TestDb, scalar};
use serde_json::Value;
use tokio_postgres::Client;

use crate::fixture::{text, texts};
use crate::rotation_model::{HOST_TABLE, Place, UNDER_OLDER_KEYS, read_all};

/// As many of each place as three steps of a hundred take.
const ROWS: i64 = 120;
const STATE: [&str; 5] = [
    "select concat_ws(' ', tenant_id, every, next_at) from rotator_internal.key_schedule order by 1",
    "select concat_ws(' ', key_id, sum(uses)) from rotator_internal.key_use group by key_id order by 1",
    "select concat_ws(' ', id, version, status, encode(wrapped_key, 'hex')) from rotator_internal.encryption_key order by 1",
    "select concat_ws(' ', id, status, trigger, started_at, finished_at) from rotator_internal.key_rotation order by 1",
    "select concat_ws(' ', schema_name, table_name, column_name, label, row_key_column, only_tenant) from rotator_internal.encrypted_column order by 1",
];

async fn source() -> Result<TestDb> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme'); {HOST_TABLE};
             select rotator.set_key_schedule('30 days', 'acme');
             select rotator.set_contact('owner', 'email', 'owner@acme.example');
             insert into shop.note (key, body)
             select n, rotator.encrypt(n || ' v1', 'note.body', n)
             from (select 'note-' || n as n from generate_series(1, {ROWS}) as n) as fresh;
             select rotator.register_secret(n || ' v1', rotation_interval => '90 days', purpose => n || ' v1', external_id => n)
             from (select 'secret-' || n as n from generate_series(1, {ROWS}) as n) as fresh"
        ))
        .await?;
    Ok(db)
}

fn tool(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(cluster.bindir.join(name))
        .args(arguments)
        .arg("-h")
        .arg(&cluster.socket)
        .args(["-p", &cluster.port.to_string(), "-U", "postgres"])
        .output()?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Another cluster, with the same master key and nothing else.
async fn elsewhere(cluster: &Cluster) -> Result<Arc<Cluster>> {
    let fresh = Cluster::start(Options {
        no_master_key: true,
        ..Options::default()
    })
    .await?;
    fresh.write_master_key(&std::fs::read_to_string(&cluster.master_key)?)?;
    fresh.restart().await?;
    // Roles are the cluster's, and no part of a dump; rotator's own come with it.
    let first = TestDb::in_cluster(Arc::new(fresh)).await?;
    Ok(first.cluster.clone())
}

async fn reencrypt(admin: &Client, steps: usize) -> Result<Value> {
    let mut step = Value::Null;
    for _ in 0..steps {
        step = scalar(admin, "select rotator.reencrypt_step(100)", &[]).await?;
        if step["remaining"] == 0 {
            break;
        }
    }
    Ok(step)
}

async fn expect_readable(db: &TestDb) -> Result<()> {
    let member = db.session("acme", "editor").await?;
    for place in [Place::Host, Place::Secret] {
        let found = read_all(&member, place, "").await?;
        ensure!(
            found.len() as i64 == ROWS,
            "{place:?}: {} rows",
            found.len()
        );
        for (key, value) in found {
            ensure!(value == format!("{key} v1"), "{key} reads {value}");
        }
    }
    let contact = text(
        &db.admin,
        "select rotator_internal.open_field(tenant_id, 'recipient.address', id, address) from rotator_internal.recipient",
    )
    .await?;
    ensure!(contact == "owner@acme.example", "{contact}");
    Ok(())
}

/// Runs to its end what is under way, then a rotation from the beginning, and ends the versions before.
async fn expect_rotates(db: &TestDb, versions: i32) -> Result<()> {
    db.admin
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    reencrypt(&db.admin, 200).await?;
    db.admin
        .batch_execute("select rotator.rotate_key()")
        .await?;
    let last = reencrypt(&db.admin, 200).await?;
    ensure!(last["remaining"] == 0, "{last}");
    let left: i64 = scalar(&db.admin, UNDER_OLDER_KEYS, &[]).await?;
    ensure!(left == 0, "{left} fields are under older keys");
    let statuses = texts(
        &db.admin,
        "select distinct status from rotator.key_rotations order by 1",
    )
    .await?;
    ensure!(
        !statuses.contains(&"running".to_owned()) && !statuses.contains(&"failed".to_owned()),
        "{statuses:?}"
    );
    for version in 1..=versions {
        db.admin
            .batch_execute(&format!(
                "select rotator.retire_key({version}); select rotator.destroy_key({version}, 'acme/{version}')"
            ))
            .await?;
    }
    expect_readable(db).await
}

#[tokio::test]
async fn dumps_from_before_and_from_the_middle_of_a_rotation_are_restored_after_it() -> Result<()> {
    let from = source().await?;
    let scratch = Scratch::new("rotation-dump")?;
    let [before, middle] =
        ["before", "middle"].map(|name| scratch.join(name).display().to_string());
    let dump = |file: &str| {
        tool(
            &from.cluster,
            "pg_dump",
            &["-Fc", "-f", file, "-d", &from.name],
        )
    };

    dump(&before)?;
    let state_before = state_of(&from, 0).await?;
    from.admin
        .batch_execute("select rotator.rotate_key()")
        .await?;
    // Some of the rows, not all; nobody else drives it here.
    let mut step = Value::Null;
    for _ in 0..20 {
        step = reencrypt(&from.admin, 1).await?;
        // More than the one address, which may have a step of its own.
        if step["done"].as_i64() > Some(1) {
            break;
        }
    }
    let left: i64 = scalar(&from.admin, UNDER_OLDER_KEYS, &[]).await?;
    ensure!(
        step["remaining"] != 0 && (1..ROWS * 4).contains(&left),
        "in the middle: {step}, {left}"
    );
    dump(&middle)?;
    let state_middle = state_of(&from, 1).await?;
    expect_rotates(&from, 2).await?;

    let cluster = elsewhere(&from.cluster).await?;
    for (file, expected, versions) in [(&before, &state_before, 1), (&middle, &state_middle, 2)] {
        let restored = TestDb::bare_in(cluster.clone()).await?;
        tool(
            &cluster,
            "pg_restore",
            &["--exit-on-error", "-d", &restored.name, file],
        )?;
        let found = state_of(&restored, versions - 1).await?;
        ensure!(&found == expected, "{found:#?} instead of {expected:#?}");
        expect_readable(&restored).await?;
        expect_rotates(&restored, versions).await?;
    }
    Ok(())
}

/// The state, once there are this many rotations.
async fn state_of(db: &TestDb, rotations: i32) -> Result<Vec<Vec<String>>> {
    let known = texts(&db.admin, STATE[3]).await?;
    ensure!(known.len() as i32 == rotations, "{known:?}");
    let mut all = Vec::new();
    for sql in STATE {
        all.push(texts(&db.admin, sql).await?);
    }
    ensure!(
        all.iter().filter(|rows| rows.is_empty()).count() <= usize::from(rotations == 0),
        "nothing to compare: {all:?}"
    );
    Ok(all)
}
