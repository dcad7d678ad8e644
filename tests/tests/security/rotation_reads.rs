//! Sessions that were there before a rotation notice nothing of it: prepared statements, cursors and snapshots that were
//! opened before go on reading, through re-encryption and the end of the old version, and what they write is under
//! the new one.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rotator_tests::{TestDb, scalar, until};
use serde_json::Value;
use tokio_postgres::Client;

use crate::fixture::texts;
use crate::rotation_model::{HOST_TABLE, Place, UNDER_OLDER_KEYS};

const ROWS: usize = 300;
const SOON: Duration = Duration::from_secs(30);

async fn filled() -> Result<TestDb> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme'); {HOST_TABLE};
             insert into shop.note (key, body)
             select n, rotator.encrypt(n || ' v1', 'note.body', n)
             from (select 'note-' || n as n from generate_series(1, {ROWS}) as n) as fresh;
             select rotator.register_secret(n || ' v1', rotation_interval => '90 days', purpose => n || ' v1', external_id => n)
             from (select 'secret-' || n as n from generate_series(1, {ROWS}) as n) as fresh"
        ))
        .await?;
    Ok(db)
}

async fn reencrypted(admin: &Client) -> Result<()> {
    admin.batch_execute("select rotator.rotate_key()").await?;
    until(SOON, "the rotation to be done", async || {
        let step: Value = scalar(admin, "select rotator.reencrypt_step(100)", &[]).await?;
        Ok(step["remaining"] == 0 && step["waiting"] == 0)
    })
    .await?;
    let left: i64 = scalar(admin, UNDER_OLDER_KEYS, &[]).await?;
    ensure!(left == 0, "{left} fields are under older keys");
    Ok(())
}

const BOTH: &str = "select name as value from rotator.secrets where name = purpose
    union all select rotator.decrypt(body, 'note.body', key) from shop.note";

async fn fetch(session: &Client, cursor: &str, count: &str) -> Result<usize> {
    let rows = texts(session, &format!("fetch {count} from {cursor}")).await?;
    if let Some(wrong) = rows.iter().find(|value| !value.ends_with(" v1")) {
        bail!("{cursor} reads {wrong}");
    }
    Ok(rows.len())
}

#[tokio::test]
async fn prepared_statements_and_cursors_opened_before_go_on() -> Result<()> {
    let db = filled().await?;
    let member = db.member("acme", "editor").await?;
    let (prepared, cursor, held, snapshot) = (
        db.connect_as(&member).await?,
        db.connect_as(&member).await?,
        db.connect_as(&member).await?,
        db.connect_as(&member).await?,
    );
    let read = prepared.prepare(BOTH).await?;
    let insert = prepared.prepare(Place::Host.insert()).await?;
    // Often enough for a generic plan.
    for _ in 0..7 {
        ensure!(prepared.query(&read, &[]).await?.len() == 2 * ROWS);
    }
    cursor
        .batch_execute(&format!("begin; declare c cursor for {BOTH}"))
        .await?;
    held.batch_execute(&format!("declare h cursor with hold for {BOTH}"))
        .await?;
    snapshot
        .batch_execute("begin isolation level repeatable read; select 1")
        .await?;
    ensure!(fetch(&cursor, "c", "50").await? == 50 && fetch(&held, "h", "50").await? == 50);

    for version in 1..=3 {
        reencrypted(&db.admin).await?;
        db.admin
            .batch_execute(&format!("select rotator.retire_key({version})"))
            .await?;
        ensure!(fetch(&cursor, "c", "100").await? == 100);
        ensure!(fetch(&held, "h", "100").await? == 100);
        let rows = texts(&snapshot, BOTH).await?;
        ensure!(
            rows.len() == 2 * ROWS && rows.iter().all(|value| value.ends_with(" v1")),
            "the old snapshot reads {} rows",
            rows.len()
        );
        let known = prepared.query(&read, &[]).await?.len();
        let key = format!("later-{version}");
        prepared
            .execute(&insert, &[&key, &format!("{key} v1")])
            .await?;
        ensure!(prepared.query(&read, &[]).await?.len() == known + 1);
        let left: i64 = scalar(&db.admin, UNDER_OLDER_KEYS, &[]).await?;
        ensure!(left == 0, "what it writes is under the new version");
    }
    let rest = 2 * ROWS - 50 - 300;
    ensure!(fetch(&cursor, "c", "all").await? == rest && fetch(&held, "h", "all").await? == rest);
    cursor.batch_execute("commit").await?;
    snapshot.batch_execute("commit").await?;
    Ok(())
}
