//! A writer against the end of the key it writes with: whatever the order, a version is retired, or destroyed, only when
//! no row is under it and none can come any more. And the same for callers whose snapshot is older than what they ask.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::{Chance, Cluster, Options, TestDb, refused, scalar, scaled, until};
use serde_json::Value;
use tokio_postgres::{Client, Error};

use crate::rotation_model::{HOST_TABLE, Place, read_all};

/// A version that is out of use, and still rows under it; and rows that can't be read.
const WRONG: &str = "select (select count(*) from shop.note n join rotator_internal.encryption_key k
        on k.id = rotator_internal.ciphertext_key(n.body) where k.status in ('retired', 'destroyed'))
    + (select count(*) from rotator_internal.secret s join rotator_internal.encryption_key k
        on k.id in (rotator_internal.ciphertext_key(s.name), rotator_internal.ciphertext_key(s.purpose))
        where k.status in ('retired', 'destroyed'))";

async fn acme() -> Result<TestDb> {
    prepared(TestDb::new().await?).await
}

async fn prepared(db: TestDb) -> Result<TestDb> {
    db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!("select rotator.use_tenant('acme'); {HOST_TABLE}"))
        .await?;
    Ok(db)
}

async fn operator(db: &TestDb) -> Result<Client> {
    db.connect_as(&db.login_role("operator", &["rotator_admin"]).await?)
        .await
}

/// Steps until nothing is left that could be done now.
async fn reencrypt(operator: &Client) -> Result<Value> {
    for _ in 0..1000 {
        let step: Value = scalar(operator, "select rotator.reencrypt_step()", &[]).await?;
        if step["remaining"] == 0 || step["waiting"] != 0 {
            return Ok(step);
        }
    }
    bail!("re-encryption doesn't end")
}

fn code(error: &Error) -> &str {
    error.code().map_or("", |code| code.code())
}

/// A transaction with a write in the middle: what of it must be there afterwards.
async fn write(
    session: &Client,
    place: Place,
    key: &str,
    chance: &mut Chance,
) -> Result<Option<String>> {
    chance.moment(3_000).await;
    match transaction(session, place, key, chance).await {
        Ok(written) => Ok(written),
        // What a serializable transaction must be ready for; nothing of it is there.
        Err(error) if code(&error) == "40001" => {
            session.batch_execute("rollback").await?;
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("writing {place:?} {key}")),
    }
}

async fn transaction(
    session: &Client,
    place: Place,
    key: &str,
    chance: &mut Chance,
) -> Result<Option<String>, Error> {
    let (insert, value) = (place.insert(), format!("{key} v1"));
    let isolation = chance.one_of(&["read committed", "repeatable read", "serializable"]);
    session
        .batch_execute(&format!("begin isolation level {isolation}"))
        .await?;
    if chance.once_in(2) {
        // Its snapshot is now older than what it writes, and perhaps than a rotation.
        session.simple_query("select 1").await?;
        chance.moment(3_000).await;
    }
    if chance.once_in(3) {
        // The lock on the key goes with the savepoint; the next write must take it again.
        session.batch_execute("savepoint s").await?;
        session.execute(insert, &[&key, &value]).await?;
        chance.moment(1_000).await;
        session.batch_execute("rollback to s").await?;
        chance.moment(2_000).await;
    }
    session.execute(insert, &[&key, &value]).await?;
    if place == Place::Host && chance.once_in(4) {
        let other = format!("{key}/other");
        let value = format!("{other} v1");
        session.execute(insert, &[&other, &value]).await?;
    }
    chance.moment(6_000).await;
    if chance.once_in(6) {
        session.batch_execute("rollback").await?;
        return Ok(None);
    }
    session.batch_execute("commit").await?;
    Ok(Some(value))
}

/// Rotates, re-encrypts, retires, and destroys every other time: the version that was active before.
async fn end_active(operator: &Client, chance: &mut Chance) -> Result<usize> {
    chance.moment(4_000).await;
    let version: i32 = scalar(
        operator,
        "select version from rotator.encryption_keys where purpose = 'data' and active",
        &[],
    )
    .await?;
    operator
        .execute("select rotator.rotate_key('acme')", &[])
        .await?;
    let mut refusals = 0;
    loop {
        if !chance.once_in(3) {
            reencrypt(operator).await?;
        }
        let retired = operator
            .execute("select rotator.retire_key($1, 'acme')", &[&version])
            .await;
        match retired {
            Ok(_) => break,
            Err(error) if code(&error) == "PT409" && refusals < 1000 => refusals += 1,
            Err(error) => return Err(error).context("retire_key"),
        }
    }
    if chance.once_in(2) {
        operator
            .execute(
                "select rotator.destroy_key($1, $2, 'acme')",
                &[&version, &format!("acme/{version}")],
            )
            .await?;
    }
    Ok(refusals)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_race_leaves_a_row_under_a_version_that_is_gone() -> Result<()> {
    let mut chance = Chance::for_test("retire_race");
    let db = acme().await?;
    let operator = operator(&db).await?;
    let member = db.member("acme", "editor").await?;
    let (host, own, reader) = (
        db.connect_as(&member).await?,
        db.connect_as(&member).await?,
        db.connect_as(&member).await?,
    );
    let mut refusals = 0;
    for race in 1..=scaled(1000) {
        let key = format!("race-{race}");
        let [mut first, mut second, mut third] = std::array::from_fn(|_| chance.branch());
        let (note, secret, refused) = tokio::try_join!(
            write(&host, Place::Host, &key, &mut first),
            write(&own, Place::Secret, &key, &mut second),
            end_active(&operator, &mut third),
        )
        .with_context(|| format!("race {race}"))?;
        refusals += refused;
        let wrong: i64 = scalar(&db.admin, WRONG, &[]).await?;
        ensure!(
            wrong == 0,
            "race {race}: {wrong} rows are under a version that is gone"
        );
        for (place, expected) in [(Place::Host, note), (Place::Secret, secret)] {
            let found = read_all(&reader, place, &key)
                .await
                .with_context(|| format!("race {race}"))?;
            ensure!(
                found.get(&key) == expected.as_ref(),
                "race {race}: {found:?} instead of {expected:?}"
            );
        }
        if race % 100 == 0 {
            // Kept small: the races are about keys, not about many rows.
            db.admin.batch_execute("delete from shop.note").await?;
        }
    }
    eprintln!("{refusals} times retirement was refused");
    ensure!(
        refusals > 0,
        "the writer was never ahead: there was no race"
    );
    let lost = "select count(*) from rotator.key_rotations where status not in ('completed', 'superseded', 'running')";
    ensure!(scalar::<i64>(&operator, lost, &[]).await? == 0);
    Ok(())
}

#[tokio::test]
async fn a_writer_that_began_before_holds_its_version() -> Result<()> {
    let db = acme().await?;
    let (operator, writer) = (operator(&db).await?, db.session("acme", "editor").await?);
    writer.batch_execute("begin").await?;
    writer
        .execute(Place::Host.insert(), &[&"held", &"held v1"])
        .await?;
    operator
        .execute("select rotator.rotate_key('acme')", &[])
        .await?;
    let step = reencrypt(&operator).await?;
    ensure!(step["waiting"] == 1, "it waits for the writer: {step}");
    let refusal = refused(
        operator
            .execute("select rotator.retire_key(1, 'acme')", &[])
            .await,
        "PT409",
    )?;
    let pid: i32 = scalar(&writer, "select pg_backend_pid()", &[]).await?;
    ensure!(
        refusal
            .hint()
            .is_some_and(|hint| hint.contains(&pid.to_string())),
        "{refusal}"
    );
    writer.batch_execute("commit").await?;
    refused(
        operator
            .execute("select rotator.retire_key(1, 'acme')", &[])
            .await,
        "PT409",
    )?;
    until(
        std::time::Duration::from_secs(20),
        "the row to be re-encrypted",
        async || Ok(reencrypt(&operator).await?["remaining"] == 0),
    )
    .await?;
    operator
        .execute("select rotator.retire_key(1, 'acme')", &[])
        .await?;
    ensure!(scalar::<i64>(&db.admin, WRONG, &[]).await? == 0);
    Ok(())
}

#[tokio::test]
async fn an_old_snapshot_retires_nothing_and_ends_no_rotation() -> Result<()> {
    for isolation in ["repeatable read", "serializable"] {
        for asked in [
            "select rotator.retire_key(1, 'acme')",
            "select rotator.reencrypt_step()",
        ] {
            let db = acme().await?;
            let (operator, writer) = (operator(&db).await?, db.session("acme", "editor").await?);
            writer.batch_execute("begin").await?;
            writer
                .execute(Place::Host.insert(), &[&"late", &"late v1"])
                .await?;
            operator
                .execute("select rotator.rotate_key('acme')", &[])
                .await?;
            reencrypt(&operator).await?;
            let stale = db.superuser().await?;
            stale
                .batch_execute(&format!(
                    "begin isolation level {isolation}; select count(*) from shop.note"
                ))
                .await?;
            writer.batch_execute("commit").await?;
            // The lock is gone, and the row is not to be seen.
            let outcome = stale.simple_query(asked).await;
            stale
                .batch_execute(if outcome.is_ok() {
                    "commit"
                } else {
                    "rollback"
                })
                .await?;
            let under_old: i64 = scalar(
                &db.admin,
                "select count(*) from shop.note n join rotator_internal.encryption_key k on k.id = rotator_internal.ciphertext_key(n.body)
                 where k.version = 1 and (k.status <> 'decrypt_only'
                     or exists (select from rotator_internal.key_rotation r where r.tenant_id = k.tenant_id and r.status = 'completed'))",
                &[],
            )
            .await?;
            ensure!(under_old == 0, "{isolation}: {asked} passed over a row");
        }
    }
    Ok(())
}

/// Of a transaction that is prepared, nobody is connected who could be seen to hold its lock.
#[tokio::test]
async fn a_prepared_transaction_holds_its_version() -> Result<()> {
    let options = Options {
        settings: vec!["max_prepared_transactions = 2".to_owned()],
        ..Options::default()
    };
    let cluster = Arc::new(Cluster::start(options).await?);
    let db = prepared(TestDb::in_cluster(cluster.clone()).await?).await?;
    let (admin, writer) = (operator(&db).await?, db.session("acme", "editor").await?);
    writer.batch_execute("begin").await?;
    writer
        .execute(Place::Host.insert(), &[&"prepared", &"prepared v1"])
        .await?;
    writer.batch_execute("prepare transaction 'note'").await?;
    drop(writer);
    admin
        .execute("select rotator.rotate_key('acme')", &[])
        .await?;
    let step = reencrypt(&admin).await?;
    ensure!(step["waiting"] == 1, "it waits: {step}");
    refused(
        admin
            .execute("select rotator.retire_key(1, 'acme')", &[])
            .await,
        "PT409",
    )?;
    // Not even a crash makes it let go.
    cluster.kill_server(true).await?;
    let (superuser, admin) = (db.superuser().await?, operator_again(&db, &cluster).await?);
    refused(
        admin
            .execute("select rotator.retire_key(1, 'acme')", &[])
            .await,
        "PT409",
    )?;
    superuser.batch_execute("commit prepared 'note'").await?;
    until(
        std::time::Duration::from_secs(20),
        "the row to be re-encrypted",
        async || Ok(reencrypt(&admin).await?["remaining"] == 0),
    )
    .await?;
    admin
        .execute("select rotator.retire_key(1, 'acme')", &[])
        .await?;
    ensure!(scalar::<i64>(&superuser, WRONG, &[]).await? == 0);
    Ok(())
}

/// The database's own superuser session went with the crash.
async fn operator_again(db: &TestDb, cluster: &Cluster) -> Result<Client> {
    let session = cluster.connect("postgres", &db.name).await?;
    session
        .batch_execute("create role operator_again login; grant rotator_admin to operator_again")
        .await?;
    cluster.connect("operator_again", &db.name).await
}
