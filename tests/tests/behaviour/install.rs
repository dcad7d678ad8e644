//! `create extension rotator`: again after a drop, with members granted, in a second database of the cluster; and the
//! install script declares exactly the functions that the library exports.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scalar};

const OURS: &str =
    "select count(*) from pg_namespace where nspname in ('rotator', 'rotator_internal')";

#[tokio::test]
async fn dropping_and_creating_again_works() -> Result<()> {
    let db = TestDb::bare().await?;
    for _ in 0..2 {
        db.admin.batch_execute("create extension rotator").await?;
        ensure!(
            scalar::<i64>(&db.admin, OURS, &[]).await? == 2,
            "both schemas come with the extension"
        );
        db.tenant("acme").await?;
        db.admin.batch_execute("drop extension rotator").await?;
        ensure!(
            scalar::<i64>(&db.admin, OURS, &[]).await? == 0,
            "both schemas go with the extension"
        );
    }
    Ok(())
}

#[tokio::test]
async fn creating_again_keeps_granted_roles() -> Result<()> {
    let db = TestDb::bare().await?;
    db.admin.batch_execute("create extension rotator").await?;
    db.tenant("acme").await?;
    let editor = db.member("acme", "editor").await?;
    db.login_role("operator", &["rotator_admin"]).await?;
    db.login_role("worker", &["rotator_sidecar"]).await?;

    db.admin
        .batch_execute("drop extension rotator; create extension rotator")
        .await?;

    // The tenant went with its tables; the grant is the cluster's and stayed, so a new member row is all it takes.
    db.tenant("acme").await?;
    db.admin
        .execute(
            "select rotator.add_member($1, 'editor', 'acme')",
            &[&editor.subject()],
        )
        .await?;
    let session = db.connect_as(&editor).await?;
    let role: String = scalar(&session, "select rotator.current_member_role()", &[]).await?;
    ensure!(
        role == "editor",
        "the granted role is a member again, as {role}"
    );
    Ok(())
}

#[tokio::test]
async fn a_second_database_of_the_cluster_works_by_itself() -> Result<()> {
    let (first, second) = (TestDb::new().await?, TestDb::bare().await?);
    second
        .admin
        .batch_execute("create extension rotator")
        .await?;
    first.tenant("acme").await?;
    second.tenant("acme").await?;
    second.admin.batch_execute("drop extension rotator").await?;

    let editor = first.session("acme", "editor").await?;
    editor
        .execute(
            "select rotator.register_secret('stripe-prod-key', rotation_interval => '90 days')",
            &[],
        )
        .await?;
    let name: String = scalar(&editor, "select name from rotator.secrets", &[]).await?;
    ensure!(
        name == "stripe-prod-key",
        "the other database's extension is untouched by the drop: {name}"
    );
    Ok(())
}

#[tokio::test]
async fn an_existing_schema_is_not_adopted() -> Result<()> {
    let db = TestDb::bare().await?;
    db.admin.batch_execute("create schema rotator").await?;
    let outcome = db.admin.batch_execute("create extension rotator").await;
    let error = outcome.expect_err("somebody else's schema must stay theirs");
    ensure!(
        error.code().is_some_and(|code| code.code() == "42P06"),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn native_functions_can_not_be_called_by_a_member() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let editor = db.session("acme", "editor").await?;
    let outcome = editor
        .query("select rotator_internal.mint_token()", &[])
        .await;
    let error = outcome.expect_err("rotator_internal is closed to members");
    ensure!(
        error.code().is_some_and(|code| code.code() == "42501"),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn declared_functions_are_the_exported_ones() -> Result<()> {
    let db = TestDb::new().await?;
    let declared: BTreeSet<String> = db
        .admin
        .query("select p.prosrc from pg_proc p join pg_language l on l.oid = p.prolang where l.lanname = 'c' and p.probin like '%rotator%'", &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();

    let listed = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&db.cluster.library)
        .output()?;
    ensure!(
        listed.status.success(),
        "nm: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let exported: BTreeSet<String> = String::from_utf8(listed.stdout)?
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .filter_map(|symbol| symbol.strip_prefix("pg_finfo_"))
        .map(str::to_owned)
        .collect();

    ensure!(
        !declared.is_empty() && declared == exported,
        "declared {declared:#?}\nexported {exported:#?}"
    );
    Ok(())
}
