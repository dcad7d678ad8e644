//! Who may still write under an old key is there to be seen: a transaction that has encrypted holds a lock on its key to
//! its end, whatever is rotated meanwhile, and none that begins after a rotation takes the old one.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;
use tokio_postgres::Client;

use crate::fixture::text;

const ENCRYPT: &str = "select rotator_internal.ciphertext_key(rotator.encrypt('x', 'l', 'k'))";

/// Ids of the data keys that transactions of this database hold, each with how many.
async fn held(db: &TestDb) -> Result<String> {
    text(
        &db.admin,
        "select coalesce(string_agg(key || ':' || holders, ' ' order by key), 'none') from (
            select l.objid::bigint + (l.objsubid::bigint << 32) as key, count(distinct l.virtualtransaction) as holders
            from pg_locks l where l.locktype = 'object' and l.classid = 'rotator_internal.encryption_key'::regclass
              and l.database = (select oid from pg_database where datname = current_database())
              and l.granted and l.mode = 'AccessShareLock' group by 1) as h",
    )
    .await
}

/// Two superuser sessions of acme (who may call what is internal), and the key they write with.
async fn writers(db: &TestDb) -> Result<(Client, Client, i64)> {
    db.tenant("acme").await?;
    let (one, two) = (db.superuser().await?, db.superuser().await?);
    for session in [&one, &two] {
        session
            .batch_execute("select rotator.use_tenant('acme')")
            .await?;
    }
    let key = text(&one, ENCRYPT).await?.parse()?;
    ensure!(
        held(db).await? == "none",
        "nothing is held between transactions"
    );
    Ok((one, two, key))
}

async fn rotated(db: &TestDb) -> Result<i64> {
    db.admin
        .batch_execute("select rotator.use_tenant('acme'); select rotator.rotate_key()")
        .await?;
    Ok(text(
        &db.admin,
        "select id from rotator.encryption_keys where active and purpose = 'data'",
    )
    .await?
    .parse()?)
}

#[tokio::test]
async fn a_writer_holds_its_key_through_a_rotation_and_the_next_takes_the_new_one() -> Result<()> {
    let db = TestDb::new().await?;
    let (one, two, old) = writers(&db).await?;
    ensure!(text(&two, ENCRYPT).await? == old.to_string());
    one.batch_execute("begin").await?;
    ensure!(held(&db).await? == "none", "not before it encrypts");
    one.batch_execute("select rotator.register_secret('one', rotation_interval => '1 day')")
        .await?;
    ensure!(held(&db).await? == format!("{old}:1"));

    let new = rotated(&db).await?;
    ensure!(
        held(&db).await? == format!("{old}:1"),
        "the rotation waits for nobody"
    );
    ensure!(
        text(&one, ENCRYPT).await? == old.to_string(),
        "one key a transaction"
    );
    two.batch_execute("begin").await?;
    ensure!(
        text(&two, ENCRYPT).await? == new.to_string(),
        "its guess was the old one"
    );
    ensure!(
        held(&db).await? == format!("{old}:1 {new}:1"),
        "and is held no more: {}",
        held(&db).await?
    );
    one.batch_execute("commit").await?;
    ensure!(held(&db).await? == format!("{new}:1"));
    one.batch_execute("begin").await?;
    ensure!(text(&one, ENCRYPT).await? == new.to_string());
    one.batch_execute("rollback").await?;
    two.batch_execute("rollback").await?;
    ensure!(held(&db).await? == "none");
    Ok(())
}

#[tokio::test]
async fn a_transaction_of_an_old_snapshot_takes_the_new_key() -> Result<()> {
    let db = TestDb::new().await?;
    let (one, _, old) = writers(&db).await?;
    one.batch_execute(
        "begin isolation level repeatable read; select count(*) from rotator.secrets",
    )
    .await?;
    let new = rotated(&db).await?;
    let opened = text(
        &one,
        "select rotator.decrypt(rotator.encrypt('x', 'l', 'k'), 'l', 'k')",
    )
    .await?;
    ensure!(opened == "x");
    ensure!(held(&db).await? == format!("{new}:1") && new != old);
    one.batch_execute("rollback").await?;
    Ok(())
}

#[tokio::test]
async fn a_savepoint_that_is_rolled_back_holds_nothing() -> Result<()> {
    let db = TestDb::new().await?;
    let (one, _, old) = writers(&db).await?;
    one.batch_execute("begin; savepoint s").await?;
    ensure!(text(&one, ENCRYPT).await? == old.to_string());
    ensure!(held(&db).await? == format!("{old}:1"));
    one.batch_execute("rollback to s").await?;
    ensure!(held(&db).await? == "none");
    let new = rotated(&db).await?;
    ensure!(text(&one, ENCRYPT).await? == new.to_string(), "asked anew");
    ensure!(held(&db).await? == format!("{new}:1"));
    one.batch_execute("savepoint t; release t; release s")
        .await?;
    ensure!(
        held(&db).await? == format!("{new}:1"),
        "released is not rolled back"
    );
    one.batch_execute("savepoint u").await?;
    ensure!(text(&one, ENCRYPT).await? == new.to_string());
    one.batch_execute("rollback to u").await?;
    ensure!(
        held(&db).await? == format!("{new}:1"),
        "the outer transaction's own stays"
    );
    one.batch_execute("commit").await?;
    ensure!(held(&db).await? == "none");
    Ok(())
}

#[tokio::test]
async fn who_rotates_moves_on_in_the_same_transaction() -> Result<()> {
    let db = TestDb::new().await?;
    let (one, two, old) = writers(&db).await?;
    one.batch_execute("begin").await?;
    ensure!(text(&one, ENCRYPT).await? == old.to_string());
    one.batch_execute("select rotator.rotate_key()").await?;
    let new = text(&one, ENCRYPT).await?.parse::<i64>()?;
    ensure!(new > old);
    ensure!(
        held(&db).await? == format!("{old}:1 {new}:1"),
        "what it wrote before is still to be reckoned with"
    );
    ensure!(
        text(&two, ENCRYPT).await? == old.to_string(),
        "not committed"
    );
    one.batch_execute("rollback").await?;
    ensure!(
        text(&one, ENCRYPT).await? == old.to_string(),
        "its last key was never there"
    );
    one.batch_execute("begin").await?;
    ensure!(text(&one, ENCRYPT).await? == old.to_string());
    ensure!(held(&db).await? == format!("{old}:1"));
    one.batch_execute("commit").await?;
    Ok(())
}

#[tokio::test]
async fn keys_of_an_extension_that_was_dropped_encrypt_nothing_more() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let session = db.superuser().await?;
    session
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    let tenant = text(&session, "select rotator.current_tenant()").await?;
    let sql = "select rotator.encrypt('x', 'l', 'k')";
    let before = text(&session, sql).await?;

    // As when a dump is restored in place, and the next rotation gives another key the id that one had before.
    let last = text(
        &db.admin,
        "select max(id) from rotator_internal.encryption_key where purpose = 'data'",
    )
    .await?;
    db.admin
        .batch_execute(&format!(
            "drop extension rotator cascade; create extension rotator;
             insert into rotator_internal.tenant (tenant_id, slug, name, time_zone) values ('{tenant}', 'acme', 'Acme', 'UTC');
             select setval('rotator_internal.encryption_key_id', {last}, false);
             select rotator_internal.add_key('{tenant}', 'data')"
        ))
        .await?;
    session
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    let after = text(&session, sql).await?;
    ensure!(
        before[..20] == after[..20],
        "not under the same id: {before} {after}"
    );
    let other = db.superuser().await?;
    other
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    let opened = text(
        &other,
        &format!("select rotator.decrypt('{after}', 'l', 'k')"),
    )
    .await?;
    ensure!(opened == "x");
    Ok(())
}
