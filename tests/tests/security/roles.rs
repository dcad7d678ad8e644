//! Installing where roles of our names exist already: a harmless one is taken over, any other stops the installation
//! with what to alter, and leaves nothing behind. A cluster of its own, because roles belong to the whole cluster.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cluster, Options, TestDb};

use crate::fixture::{text, texts};

/// Statements that make the role, and what the refusal has to name.
const WRONG: &[(&str, &str)] = &[
    ("create role rotator_owner login", "rotator_owner"),
    ("create role rotator_owner superuser", "rotator_owner"),
    ("create role rotator_owner bypassrls", "rotator_owner"),
    ("create role rotator_engine createrole", "rotator_engine"),
    ("create role rotator_user login", "rotator_user"),
    ("create role rotator_admin superuser", "rotator_admin"),
    ("create role rotator_auditor bypassrls", "rotator_auditor"),
    ("create role rotator_sidecar createrole", "rotator_sidecar"),
    ("create role rotator_host login bypassrls", "rotator_host"),
    (
        "create role rotator_host_writer login",
        "rotator_host_writer",
    ),
    (
        "create role mallory; create role rotator_host_writer role mallory",
        "rotator_host_writer",
    ),
    (
        "create role rotator_owner; create role mallory login; grant rotator_owner to mallory",
        "rotator_owner",
    ),
    (
        "create role rotator_engine; create role mallory; grant mallory to rotator_engine",
        "rotator_engine",
    ),
    (
        "create role rotator_host; create role mallory; grant rotator_host to mallory",
        "rotator_host",
    ),
];
const DROP_ROLES: &str = "drop role if exists rotator_owner, rotator_engine, rotator_host, rotator_host_writer, rotator_user, rotator_admin, rotator_auditor, rotator_sidecar, mallory";
const OURS: &str =
    "select string_agg(rolname, ' ' order by rolname) from pg_roles where rolname like 'rotator%'";

#[tokio::test]
async fn a_role_of_our_name_with_rights_stops_the_installation() -> Result<()> {
    let db = TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await?;
    db.admin
        .batch_execute(&format!("drop extension rotator; {DROP_ROLES}"))
        .await?;
    for (make, named) in WRONG {
        db.admin.batch_execute(make).await?;
        let before = text(&db.admin, OURS).await?;
        let Err(error) = db.admin.batch_execute("create extension rotator").await else {
            anyhow::bail!("installed over: {make}")
        };
        let error = error.as_db_error().context("no answer")?;
        let hint = error.hint().unwrap_or_default();
        ensure!(
            error.code().code() == "42710" && error.message().contains(named),
            "{make}: {error}"
        );
        ensure!(
            hint.contains("alter role") || hint.contains("revoke"),
            "{make}: {hint}"
        );
        ensure!(
            text(&db.admin, OURS).await? == before,
            "{make}: roles were left behind"
        );
        let left = texts(
            &db.admin,
            "select nspname from pg_namespace where nspname like 'rotator%'",
        )
        .await?;
        ensure!(left.is_empty(), "{make}: {left:?}");
        db.admin.batch_execute(DROP_ROLES).await?;
    }

    // Harmless ones are taken over, with their members where they may have some.
    db.admin
        .batch_execute("create role rotator_owner; create role rotator_host; create role rotator_user; create role mallory login; grant rotator_user to mallory; create extension rotator")
        .await?;
    let shape = text(&db.admin, "select string_agg(rolname, ' ' order by rolname) from pg_roles where rolname like 'rotator%' and rolbypassrls").await?;
    ensure!(shape == "rotator_host rotator_host_writer", "{shape}");
    let all = text(&db.admin, OURS).await?;
    ensure!(
        all == "rotator_admin rotator_auditor rotator_engine rotator_host rotator_host_writer rotator_owner rotator_sidecar rotator_user",
        "{all}"
    );
    Ok(())
}

#[tokio::test]
async fn a_schema_of_our_name_stops_the_installation() -> Result<()> {
    let db = TestDb::bare().await?;
    for make in [
        "create schema rotator",
        "create schema rotator_internal",
        "create schema rotator; create function rotator.current_tenant() returns uuid language sql as 'select null::uuid'",
    ] {
        db.admin.batch_execute(make).await?;
        let Err(error) = db.admin.batch_execute("create extension rotator").await else {
            anyhow::bail!("adopted: {make}")
        };
        ensure!(
            error.code().is_some_and(|code| code.code() == "42P06"),
            "{make}: {error:?}"
        );
        db.admin
            .batch_execute("drop schema if exists rotator, rotator_internal cascade")
            .await?;
    }
    for how in [
        "create extension rotator schema public",
        "create extension rotator; alter extension rotator set schema public",
    ] {
        ensure!(
            db.admin.batch_execute(how).await.is_err(),
            "accepted: {how}"
        );
    }
    let left = texts(
        &db.admin,
        "select extname from pg_extension where extname = 'rotator'",
    )
    .await?;
    ensure!(left.is_empty());
    // A plain login, even one that owns the database, can't install it.
    let owner = db.login_role("owner", &[]).await?;
    db.admin
        .batch_execute(&format!(
            "alter database {} owner to {}",
            db.name, owner.name
        ))
        .await?;
    let session = db.connect_as(&owner).await?;
    ensure!(
        session
            .batch_execute("create extension rotator")
            .await
            .is_err(),
        "the extension is not trusted"
    );
    db.admin
        .batch_execute(&format!("alter database {} owner to postgres", db.name))
        .await?;
    Ok(())
}
