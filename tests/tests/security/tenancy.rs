//! Who belongs to which tenant: nobody by default, several mean none until chosen, removal and offboarding count at
//! once in sessions that are open, and only an operator moves login roles. What `use_tenant` keeps: `tenancy_choice`.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, refused};

use crate::fixture::{refusal, text, texts, verdict};

const ME: &str = "select concat_ws('/', t.slug, rotator.current_member_role()) from (select rotator.current_tenant() as id) as c
    left join (values ('acme'), ('beta')) as t (slug) on exists (select from rotator.secrets where name = t.slug || '-key')";
const REGISTER: &str = "select rotator.register_secret('new-key', rotation_interval => '1 day')";

/// Tenants acme and beta, each with a secret called after it.
async fn two_tenants() -> Result<TestDb> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{tenant}');
                 select rotator.register_secret('{tenant}-key', rotation_interval => '30 days')"
            ))
            .await?;
        db.admin.batch_execute("discard all").await?;
    }
    Ok(db)
}

#[tokio::test]
async fn a_login_role_of_several_tenants_has_none_until_it_chooses() -> Result<()> {
    let db = two_tenants().await?;
    let role = db.member("acme", "viewer").await?;
    let session = db.connect_as(&role).await?;
    ensure!(
        text(&session, ME).await? == "acme/viewer",
        "the only tenant is taken"
    );
    db.admin
        .execute(
            "select rotator.add_member($1, 'editor', 'beta')",
            &[&role.subject()],
        )
        .await?;
    ensure!(text(&session, ME).await?.is_empty(), "of two none is taken");
    ensure!(
        texts(&session, "select name from rotator.secrets")
            .await?
            .is_empty()
    );
    ensure!(verdict(&session, REGISTER).await? == "RT002");
    session
        .batch_execute("select rotator.use_tenant('beta')")
        .await?;
    ensure!(text(&session, ME).await? == "beta/editor");
    session
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    ensure!(
        text(&session, ME).await? == "acme/viewer",
        "the role is that of the tenant in use"
    );
    Ok(())
}

#[tokio::test]
async fn unknown_and_foreign_tenants_are_refused_alike() -> Result<()> {
    let db = two_tenants().await?;
    let beta = text(
        &db.admin,
        "select tenant_id from rotator_internal.tenant where slug = 'beta'",
    )
    .await?;
    let session = db.session("acme", "admin").await?;
    let unknown = refusal(&session, "select rotator.use_tenant('nobody')").await?;
    ensure!(
        unknown.starts_with("42501") && !unknown.ends_with("None"),
        "{unknown}"
    );
    for foreign in [
        "beta",
        &beta,
        &beta.to_uppercase(),
        "",
        "{acme}",
        "ACME",
        " acme",
    ] {
        let answer = refusal(&session, &format!("select rotator.use_tenant('{foreign}')")).await?;
        ensure!(
            answer == unknown,
            "use_tenant('{foreign}') tells more: {answer}"
        );
    }
    ensure!(refusal(&session, "select rotator.use_tenant(null)").await? == unknown);
    ensure!(
        text(&session, ME).await? == "acme/admin",
        "a refused choice changes nothing"
    );

    for call in [
        "add_member('x', 'viewer', '{}')",
        "remove_member('x', '{}')",
        "rotate_key('{}')",
    ] {
        let answers = ["nobody", "beta", &beta]
            .map(|tenant| format!("select rotator.{}", call.replace("{}", tenant)));
        let first = refusal(&session, &answers[0]).await?;
        for answer in &answers[1..] {
            ensure!(
                first.starts_with("42501") && refusal(&session, answer).await? == first,
                "{answer}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_removed_member_loses_everything_in_open_sessions_too() -> Result<()> {
    let db = two_tenants().await?;
    let role = db.member("acme", "editor").await?;
    let (implicit, chosen) = (db.connect_as(&role).await?, db.connect_as(&role).await?);
    chosen
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    db.admin
        .execute(
            "select rotator.remove_member($1, 'acme')",
            &[&role.subject()],
        )
        .await?;
    for session in [&implicit, &chosen] {
        ensure!(
            texts(session, "select name from rotator.secrets")
                .await?
                .is_empty()
        );
        ensure!(
            text(
                session,
                "select coalesce(rotator.current_tenant()::text, rotator.current_member_role(), '')"
            )
            .await?
            .is_empty()
        );
        ensure!(verdict(session, REGISTER).await? == "RT002");
        ensure!(verdict(session, "select rotator.use_tenant('acme')").await? == "42501");
    }
    Ok(())
}

#[tokio::test]
async fn an_offboarded_tenant_is_nobodys() -> Result<()> {
    let db = two_tenants().await?;
    let session = db.session("acme", "admin").await?;
    let operator = db
        .connect_as(&db.login_role("operator", &["rotator_admin"]).await?)
        .await?;
    operator
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    db.admin
        .batch_execute(
            "update rotator_internal.tenant set status = 'offboarded' where slug = 'acme'",
        )
        .await?;
    for session in [&session, &operator] {
        ensure!(
            texts(session, "select name from rotator.secrets")
                .await?
                .is_empty()
        );
        ensure!(verdict(session, REGISTER).await? == "RT002");
        ensure!(verdict(session, "select rotator.use_tenant('acme')").await? == "42501");
    }
    ensure!(
        verdict(
            &operator,
            "select rotator.add_member('u', 'viewer', 'acme')"
        )
        .await?
            == "PT404"
    );
    ensure!(
        verdict(
            &operator,
            "select rotator.create_tenant('acme', 'Acme again')"
        )
        .await?
            == "23505",
        "a slug is never used twice"
    );
    Ok(())
}

#[tokio::test]
async fn only_an_operator_moves_login_roles_and_makes_tenants() -> Result<()> {
    let db = two_tenants().await?;
    let victim = db.member("beta", "editor").await?;
    let admin = db.session("acme", "admin").await?;
    for call in [
        "add_member('{}', 'viewer')",
        "remove_member('{}')",
        "add_member('{}', 'viewer', 'acme')",
    ] {
        let outcome = admin
            .simple_query(&format!(
                "select rotator.{}",
                call.replace("{}", &victim.subject())
            ))
            .await;
        refused(outcome, "42501")?;
    }
    let victim = db.connect_as(&victim).await?;
    ensure!(
        text(&victim, ME).await? == "beta/editor",
        "another tenant's admin didn't give it a second tenant"
    );
    ensure!(verdict(&admin, "select rotator.create_tenant('mine', 'Mine')").await? == "42501");

    let operator = db
        .connect_as(&db.login_role("operator", &["rotator_admin"]).await?)
        .await?;
    ensure!(
        text(&operator, ME).await?.is_empty(),
        "an operator has no tenant until it uses one"
    );
    operator
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    ensure!(text(&operator, ME).await? == "acme/admin");
    ensure!(
        text(&operator, "select rotator.create_tenant('mine', 'Mine')")
            .await?
            .len()
            == 36
    );
    for slug in [
        "",
        "Mine",
        "a b",
        "-a",
        "é",
        "01890000-0000-7000-8000-000000000000",
        &"a".repeat(64),
    ] {
        let made = operator
            .simple_query(&format!("select rotator.create_tenant('{slug}', 'Name')"))
            .await;
        refused(made, "22023")?;
    }
    Ok(())
}
