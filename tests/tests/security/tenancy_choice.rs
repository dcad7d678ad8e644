//! What `use_tenant` chose: kept for the session, or until the end of the transaction; forgotten with what is rolled
//! back and by `discard all`; and imitated by no setting, whatever a session knows of an earlier choice.

use anyhow::{Result, ensure};
use rotator_tests::{Role, TestDb};
use tokio_postgres::Client;

use crate::fixture::{text, verdict};

const TENANT: &str = "select coalesce((select min(name) from rotator.secrets), '')";

struct Setup {
    db: TestDb,
    role: Role,
}

/// A login role that belongs to acme and beta, and so to none until it chooses.
async fn setup() -> Result<Setup> {
    let db = TestDb::new().await?;
    let role = db.login_role("both", &["rotator_user"]).await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{tenant}');
                 select rotator.register_secret('{tenant}', rotation_interval => '30 days');
                 select rotator.add_member('{}', 'editor', '{tenant}')",
                role.subject()
            ))
            .await?;
        db.admin.batch_execute("discard all").await?;
    }
    Ok(Setup { db, role })
}

async fn expect(session: &Client, after: &str, tenant: &str) -> Result<()> {
    session.batch_execute(after).await?;
    let seen = text(session, TENANT).await?;
    ensure!(
        seen == tenant,
        "after {after}: {seen:?} instead of {tenant:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_choice_lasts_for_the_session_and_discard_all_forgets_it() -> Result<()> {
    let s = setup().await?;
    let session = s.db.connect_as(&s.role).await?;
    expect(&session, "select 1", "").await?;
    expect(&session, "select rotator.use_tenant('acme')", "acme").await?;
    expect(&session, "begin; select 1; commit", "acme").await?;
    expect(
        &session,
        "begin; savepoint a; rollback to a; rollback",
        "acme",
    )
    .await?;
    expect(&session, "select rotator.use_tenant('beta')", "beta").await?;
    expect(&session, "discard all", "").await?;
    expect(&session, "select rotator.use_tenant('acme'); reset all", "").await?;
    expect(&session, "select rotator.use_tenant('acme')", "acme").await?;
    let other = s.db.connect_as(&s.role).await?;
    expect(&other, "select 1", "").await?;
    Ok(())
}

#[tokio::test]
async fn a_local_choice_ends_with_its_transaction() -> Result<()> {
    let s = setup().await?;
    let session = s.db.connect_as(&s.role).await?;
    for end in ["commit", "rollback"] {
        expect(
            &session,
            "begin; select rotator.use_tenant('acme', true)",
            "acme",
        )
        .await?;
        expect(&session, end, "").await?;
    }
    expect(&session, "select rotator.use_tenant('beta')", "beta").await?;
    expect(
        &session,
        "begin; select rotator.use_tenant('acme', is_local => true)",
        "acme",
    )
    .await?;
    expect(&session, "commit", "beta").await?;
    expect(&session, "select rotator.use_tenant('acme', true)", "beta").await?;
    expect(
        &session,
        "begin read only; select rotator.use_tenant('acme', true)",
        "acme",
    )
    .await?;
    expect(&session, "commit", "beta").await
}

#[tokio::test]
async fn what_is_rolled_back_is_forgotten() -> Result<()> {
    let s = setup().await?;
    let session = s.db.connect_as(&s.role).await?;
    expect(&session, "begin; select rotator.use_tenant('acme')", "acme").await?;
    expect(&session, "rollback", "").await?;
    expect(
        &session,
        "begin; select rotator.use_tenant('acme'); savepoint a; select rotator.use_tenant('beta')",
        "beta",
    )
    .await?;
    expect(&session, "rollback to a", "acme").await?;
    expect(
        &session,
        "select rotator.use_tenant('beta'); savepoint b; select rotator.use_tenant('acme', true)",
        "acme",
    )
    .await?;
    expect(&session, "release b", "acme").await?;
    expect(&session, "rollback to a", "acme").await?;
    expect(&session, "commit", "acme").await?;
    ensure!(
        verdict(
            &session,
            "do $$ begin perform rotator.use_tenant('beta'); perform 1/0; end $$"
        )
        .await?
            == "22012"
    );
    expect(&session, "select 1", "acme").await
}

#[tokio::test]
async fn no_setting_imitates_a_choice() -> Result<()> {
    let s = setup().await?;
    let session = s.db.connect_as(&s.role).await?;
    session
        .batch_execute("begin; select rotator.use_tenant('acme')")
        .await?;
    let mark = text(&session, "select current_setting('rotator.session', true)").await?;
    session.batch_execute("rollback").await?;
    let acme = text(
        &s.db.admin,
        "select tenant_id from rotator_internal.tenant where slug = 'acme'",
    )
    .await?;
    for value in [mark.as_str(), &acme, "acme", ""] {
        for forging in [
            "set rotator.session = '{}'",
            "begin; set local rotator.session = '{}'",
            "select set_config('rotator.session', '{}', false)",
            "select set_config('rotator.tenant', '{}', false), set_config('request.jwt.claims', '{\"tenant_id\":\"{}\"}', false)",
            "alter role current_user set rotator.session = '{}'",
            "update pg_settings set setting = '{}' where name = 'rotator.session'",
        ] {
            verdict(&session, &forging.replace("{}", value)).await?;
            expect(&session, "select 1", "").await?;
            session.batch_execute("rollback").await?;
        }
    }
    // While it holds, its own mark set again must not make it last longer than it was given for.
    expect(&session, "begin; select rotator.use_tenant('acme', true); select set_config('rotator.session', current_setting('rotator.session'), false); commit", "").await?;

    let mut config = tokio_postgres::Config::new();
    config
        .host_path(&s.db.cluster.socket)
        .port(s.db.cluster.port)
        .user(&s.role.name)
        .dbname(&s.db.name);
    config.options(format!("-c rotator.session={mark}"));
    let (by_option, connection) = config.connect(tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    expect(&by_option, "select 1", "").await?;
    drop(by_option);
    connection.await??;
    s.db.admin
        .batch_execute(&format!("alter role {} reset all", s.role.name))
        .await?;
    Ok(())
}

#[tokio::test]
async fn another_session_user_does_not_inherit_the_choice() -> Result<()> {
    let s = setup().await?;
    let session = s.db.superuser().await?;
    expect(&session, "select rotator.use_tenant('acme')", "acme").await?;
    expect(
        &session,
        &format!("set session authorization {}", s.role.name),
        "",
    )
    .await?;
    expect(&session, "select rotator.use_tenant('beta')", "beta").await?;
    expect(&session, "reset session authorization", "").await
}
