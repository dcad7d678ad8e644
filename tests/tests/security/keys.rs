//! Versions of a tenant's data key: which one a ciphertext names, that a rotation counts in every session at once and
//! not at all when rolled back, and that two at a time leave one active key.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scalar, scaled};
use tokio_postgres::Client;

use crate::fixture::{text, texts};

/// Format byte and key id of every ciphertext with what it should be: format 1 and a key of the same tenant.
const HEADERS: &str = "with field as (
        select tenant_id, name as c from rotator_internal.secret
        union all select tenant_id, purpose from rotator_internal.secret where purpose is not null
        union all select tenant_id, provider_ref from rotator_internal.secret where provider_ref is not null
        union all select tenant_id, address from rotator_internal.recipient)
    select count(*) from field f left join rotator_internal.encryption_key k
        on k.tenant_id = f.tenant_id and k.purpose = 'data' and k.id = ('x' || encode(substr(f.c, 2, 8), 'hex'))::bit(64)::bigint
    where get_byte(f.c, 0) <> 1 or k.id is null or octet_length(f.c) < 37";
const VERSION_OF: &str =
    "select k.version::text from rotator_internal.secret s join rotator_internal.encryption_key k
    on k.id = ('x' || encode(substr(s.name, 2, 8), 'hex'))::bit(64)::bigint where s.id = ";

async fn register(session: &Client, name: &str) -> Result<String> {
    text(session, &format!("select rotator.register_secret('{name}', rotation_interval => '90 days', purpose => 'why', provider_ref => 'a/b')")).await
}

async fn version(db: &TestDb, id: &str) -> Result<String> {
    text(&db.admin, &format!("{VERSION_OF}'{id}'")).await
}

#[tokio::test]
async fn new_writes_use_the_new_key_in_every_session() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.tenant("beta").await?;
    let (admin, other) = (
        db.session("acme", "admin").await?,
        db.session("acme", "editor").await?,
    );
    let beta = db.session("beta", "editor").await?;
    let old = register(&other, "old").await?;
    register(&beta, "of beta").await?;
    admin
        .batch_execute("select rotator.set_contact('x', 'email', 'a@example.com')")
        .await?;
    ensure!(version(&db, &old).await? == "1");
    ensure!(text(&db.admin, HEADERS).await? == "0");

    let rotation: i64 = scalar(&admin, "select rotator.rotate_key(reason => 'drill')", &[]).await?;
    ensure!(rotation > 0);
    for (session, name) in [(&admin, "by the one"), (&other, "by the other")] {
        ensure!(
            version(&db, &register(session, name).await?).await? == "2",
            "{name}"
        );
    }
    ensure!(
        version(&db, &register(&beta, "of beta later").await?).await? == "1",
        "another tenant's key stays"
    );
    ensure!(
        version(&db, &old).await? == "1",
        "what was written before stays as it is"
    );
    other
        .batch_execute(&format!(
            "update rotator.secrets set name = 'old renamed' where id = '{old}'"
        ))
        .await?;
    ensure!(
        version(&db, &old).await? == "2",
        "what is written again is under the new key"
    );
    ensure!(text(&db.admin, HEADERS).await? == "0");
    let fresh = db.session("acme", "viewer").await?;
    for session in [&admin, &other, &fresh] {
        ensure!(
            texts(
                session,
                "select name || purpose || provider_ref from rotator.secrets order by created_at"
            )
            .await?
                == [
                    "old renamedwhya/b",
                    "by the onewhya/b",
                    "by the otherwhya/b"
                ]
        );
    }
    let keys = texts(&admin, "select concat_ws(' ', purpose, version, status, active) from rotator.encryption_keys order by 1").await?;
    ensure!(
        keys == [
            "data 1 decrypt_only f",
            "data 2 active t",
            "index 1 active t"
        ],
        "{keys:?}"
    );
    ensure!(
        texts(
            &fresh,
            "select id from rotator.secrets where name = 'by the one'"
        )
        .await?
        .len()
            == 1
    );
    let duplicate = other
        .execute(
            "select rotator.register_secret(' By The ONE', rotation_interval => '1 day')",
            &[],
        )
        .await;
    rotator_tests::refused(duplicate, "23505")?;
    Ok(())
}

#[tokio::test]
async fn a_rotation_that_is_rolled_back_never_was() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let admin = db.session("acme", "admin").await?;
    admin
        .batch_execute("begin; select rotator.rotate_key()")
        .await?;
    register(&admin, "gone").await?;
    admin.batch_execute("rollback").await?;
    ensure!(version(&db, &register(&admin, "after").await?).await? == "1");

    admin.batch_execute("begin").await?;
    admin
        .batch_execute("savepoint s; select rotator.rotate_key()")
        .await?;
    let inside = register(&admin, "inside").await?;
    ensure!(
        text(
            &admin,
            &format!("select name from rotator.secrets where id = '{inside}'")
        )
        .await?
            == "inside"
    );
    ensure!(text(&admin, "select max(version) from rotator.encryption_keys").await? == "2");
    admin.batch_execute("rollback to s").await?;
    let later = register(&admin, "later").await?;
    admin
        .batch_execute("savepoint t; select rotator.rotate_key(); release t")
        .await?;
    // A transaction keeps its key, unless it has rotated it itself.
    let released = register(&admin, "released").await?;
    admin.batch_execute("commit").await?;
    ensure!(version(&db, &later).await? == "1");
    ensure!(version(&db, &released).await? == "2");
    ensure!(version(&db, &register(&admin, "next").await?).await? == "2");
    let fresh = db.session("acme", "viewer").await?;
    ensure!(
        texts(
            &fresh,
            "select name from rotator.secrets order by created_at"
        )
        .await?
            == ["after", "later", "released", "next"]
    );
    ensure!(
        text(
            &db.admin,
            "select count(*) from rotator_internal.encryption_key where status = 'active'"
        )
        .await?
            == "2"
    );
    ensure!(text(&db.admin, HEADERS).await? == "0");
    Ok(())
}

#[tokio::test]
async fn rotations_at_once_leave_one_active_key_and_every_row_readable() -> Result<()> {
    let db = Arc::new(TestDb::new().await?);
    db.tenant("acme").await?;
    let rounds = scaled(50);
    let mut work = tokio::task::JoinSet::new();
    for rotating in 0..2 {
        let session = db.session("acme", "admin").await?;
        work.spawn(async move {
            for round in 0..rounds {
                session
                    .execute(
                        "select rotator.rotate_key(reason => $1)",
                        &[&format!("{rotating} {round}")],
                    )
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    for writing in 0..2 {
        let session = db.session("acme", "editor").await?;
        work.spawn(async move {
            for round in 0..rounds * 4 {
                let name = format!("{writing} {round}");
                let id = register(&session, &name).await?;
                let read = text(
                    &session,
                    &format!("select name from rotator.secrets where id = '{id}'"),
                )
                .await?;
                ensure!(read == name, "{read} is not {name}");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = work.join_next().await {
        done??;
    }
    let active = texts(&db.admin, "select version::text from rotator_internal.encryption_key where purpose = 'data' and status = 'active'").await?;
    ensure!(active == [(2 * rounds + 1).to_string()], "{active:?}");
    let broken = text(&db.admin, "select count(*) from rotator_internal.key_rotation r
        join rotator_internal.encryption_key f on f.id = r.from_key join rotator_internal.encryption_key t on t.id = r.to_key where t.version <> f.version + 1").await?;
    ensure!(broken == "0", "each rotation follows the one before");
    let viewer = db.session("acme", "viewer").await?;
    ensure!(
        text(&viewer, "select count(distinct name) from rotator.secrets").await?
            == (rounds * 8).to_string()
    );
    ensure!(text(&db.admin, HEADERS).await? == "0");
    Ok(())
}
