//! Who a session is, is remembered between statements (`extension/src/session/memory.rs`): each change that decides it
//! must be seen at once, within a transaction that has asked before, and after a rollback it must be as it was.

use anyhow::{Result, ensure};
use rotator_tests::{Role, TestDb, scalar};
use tokio_postgres::Client;

struct Stage {
    db: TestDb,
    role: Role,
    session: Client,
}

/// A member of acme, whose session has asked who it is in an open transaction.
async fn stage() -> Result<Stage> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    db.tenant("beta").await?;
    let role = db.member("acme", "editor").await?;
    let session = db.connect_as(&role).await?;
    session.batch_execute("begin").await?;
    ensure!(who(&session).await? == "acme/editor");
    ensure!(who(&session).await? == "acme/editor");
    Ok(Stage { db, role, session })
}

/// `acme/` and the role, as the session sees it; `-` for no tenant.
async fn who(session: &Client) -> Result<String> {
    let asked = "select case when rotator.current_tenant() is null then '-' else 'acme/' || rotator.current_member_role() end";
    scalar(session, asked, &[]).await
}

#[tokio::test]
async fn what_another_session_takes_away_is_gone_at_the_next_statement() -> Result<()> {
    let stage = stage().await?;
    let change = |sql: &str| sql.replace("$1", &format!("'{}'", stage.role.subject()));
    for (sql, expected) in [
        (
            "select rotator.add_member($1, 'viewer', 'acme')",
            "acme/viewer",
        ),
        ("select rotator.remove_member($1, 'acme')", "-"),
        (
            "select rotator.add_member($1, 'admin', 'acme')",
            "acme/admin",
        ),
        ("select rotator.add_member($1, 'admin', 'beta')", "-"),
        ("select rotator.remove_member($1, 'beta')", "acme/admin"),
        (
            "update rotator_internal.tenant set status = 'offboarded' where slug = 'acme'",
            "-",
        ),
    ] {
        stage.db.admin.batch_execute(&change(sql)).await?;
        ensure!(who(&stage.session).await? == expected, "after {sql}");
        ensure!(who(&stage.session).await? == expected, "again after {sql}");
    }
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_stays_keeps_what_it_sees() -> Result<()> {
    let stage = stage().await?;
    stage
        .session
        .batch_execute("commit; begin isolation level repeatable read")
        .await?;
    ensure!(who(&stage.session).await? == "acme/editor");
    let remove = format!(
        "select rotator.remove_member('{}', 'acme')",
        stage.role.subject()
    );
    stage.db.admin.batch_execute(&remove).await?;
    ensure!(
        who(&stage.session).await? == "acme/editor",
        "as any other table"
    );
    stage.session.batch_execute("commit").await?;
    ensure!(who(&stage.session).await? == "-");
    Ok(())
}

#[tokio::test]
async fn own_changes_count_at_once_and_end_with_their_savepoint() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    let session = db.connect_as(&operator).await?;
    session
        .batch_execute(&format!(
            "select rotator.add_member('{}', 'viewer', 'acme')",
            operator.subject()
        ))
        .await?;
    for (sql, expected) in [
        ("begin", "acme/viewer"),
        ("savepoint a", "acme/viewer"),
        (
            "select rotator.add_member(session_user_is, 'auditor', 'acme')",
            "acme/auditor",
        ),
        ("savepoint b", "acme/auditor"),
        ("select rotator.remove_member(session_user_is, 'acme')", "-"),
        ("rollback to b", "acme/auditor"),
        ("rollback to a", "acme/viewer"),
        ("select rotator.use_tenant('acme', true)", "acme/admin"),
        ("rollback to a", "acme/viewer"),
        ("select rotator.use_tenant('acme')", "acme/admin"),
        ("set local rotator.session = 'x'", "acme/viewer"),
        ("rollback", "acme/viewer"),
        ("begin; select rotator.use_tenant('acme')", "acme/admin"),
        ("commit", "acme/admin"),
        ("discard all", "acme/viewer"),
    ] {
        let sql = sql.replace("session_user_is", &format!("'{}'", operator.subject()));
        session.batch_execute(&sql).await?;
        ensure!(who(&session).await? == expected, "after {sql}");
        ensure!(who(&session).await? == expected, "again after {sql}");
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_who_is_none_any_more_has_no_tenant() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let operator = db.login_role("operator", &["rotator_admin"]).await?;
    let (name, session) = (&operator.name, db.superuser().await?);
    // In one transaction, where nothing but the role changes. (What another session does to roles PostgreSQL itself looks
    // at when the next transaction begins.)
    session
        .batch_execute(&format!(
            "begin; set session authorization {name}; select rotator.use_tenant('acme')"
        ))
        .await?;
    ensure!(who(&session).await? == "acme/admin");
    for (change, expected) in [
        (format!("revoke rotator_admin from {name}"), "-"),
        (format!("grant rotator_admin to {name}"), "acme/admin"),
    ] {
        let sql =
            format!("reset session authorization; {change}; set session authorization {name}");
        session.batch_execute(&sql).await?;
        ensure!(who(&session).await? == expected, "after {change}");
    }
    session.batch_execute("rollback").await?;
    Ok(())
}

#[tokio::test]
async fn another_login_is_another_one() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let (editor, viewer) = (
        db.member("acme", "editor").await?,
        db.member("acme", "viewer").await?,
    );
    let session = db.superuser().await?;
    session.batch_execute("begin").await?;
    for (role, expected) in [
        (&editor, "acme/editor"),
        (&viewer, "acme/viewer"),
        (&editor, "acme/editor"),
    ] {
        session
            .batch_execute(&format!("set session authorization {}", role.name))
            .await?;
        ensure!(who(&session).await? == expected);
        session.batch_execute("reset session authorization").await?;
        ensure!(who(&session).await? == "-");
    }
    Ok(())
}

/// A statement that began before, or a cursor, still sees the member who was removed meanwhile; what they work out must
/// not be remembered for the statements that follow.
#[tokio::test]
async fn an_older_view_of_the_same_transaction_is_not_remembered() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let role = db.member("acme", "admin").await?;
    let session = db.connect_as(&role).await?;
    // Only operators change login roles, and this one changes itself.
    let grant = format!("grant rotator_admin to \"{}\"", role.name);
    db.admin.batch_execute(&grant).await?;
    let remove = format!("select rotator.remove_member('{}', 'acme')", role.subject());
    for steps in [
        vec![format!("{remove}, rotator.current_tenant()")],
        vec![
            "declare c cursor for select rotator.current_tenant()".to_owned(),
            remove.clone(),
            "fetch c".to_owned(),
        ],
    ] {
        session.batch_execute("begin").await?;
        ensure!(who(&session).await? == "acme/admin");
        for step in steps {
            session.batch_execute(&step).await?;
        }
        ensure!(who(&session).await? == "-");
        ensure!(who(&session).await? == "-", "again");
        session.batch_execute("rollback").await?;
    }
    Ok(())
}

/// Whoever may set the claims may set them to hundreds of megabytes.
#[tokio::test]
async fn claims_of_any_length_change_nothing_for_a_member_and_are_not_copied() -> Result<()> {
    let stage = stage().await?;
    let backend: i32 = scalar(&stage.session, "select pg_backend_pid()", &[]).await?;
    stage
        .session
        .batch_execute(
            "select length(set_config('request.jwt.claims', repeat('x', 200 * 1024 * 1024), true))",
        )
        .await?;
    let before = resident_memory(backend)?;
    ensure!(who(&stage.session).await? == "acme/editor");
    ensure!(
        resident_memory(backend)? < before + 50_000,
        "they were copied: {before} kB before"
    );
    Ok(())
}

/// In kilobytes.
fn resident_memory(process: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
