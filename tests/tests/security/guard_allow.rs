//! Letting one value through that only looks random: who may, in which field, for whom; what is kept of it; and that what
//! is certain to be a secret is never let through.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, refused, scalar};

use crate::fixture::{texts, verdict};

/// Looks random, and isn't Azure's.
fn token() -> String {
    ["Zk3vR8qLw2Xn7Tb9", "Yc4Hd6Jf1Gs5"].concat()
}

async fn register(session: &tokio_postgres::Client, purpose: &str) -> Result<String> {
    verdict(
        session,
        &format!("select rotator.register_secret('n' || clock_timestamp(), rotation_interval => '90 days', purpose => '{purpose}')"),
    )
    .await
}

#[tokio::test]
async fn an_admin_lets_one_value_through_in_one_field_of_one_tenant() -> Result<()> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
    }
    let admin = db.session("acme", "admin").await?;
    let editor = db.session("acme", "editor").await?;
    let other = db.session("beta", "admin").await?;
    let token = token();
    let text = format!("the vendor calls it {token}, on the invoice");
    ensure!(register(&editor, &text).await? == "RT001");
    let allow =
        format!("select rotator.allow_value('purpose', '{text}', 'number of the contract')");
    ensure!(
        verdict(&editor, &allow).await? == "42501",
        "an editor may not"
    );
    ensure!(verdict(&admin, &allow).await? == "ok");
    ensure!(verdict(&admin, &allow).await? == "ok", "a repeat is fine");

    ensure!(register(&editor, &text).await? == "ok");
    ensure!(
        register(&editor, &format!("see {token}.")).await? == "ok",
        "in another sentence"
    );
    ensure!(
        register(&editor, &format!("see {token} and {token}x9")).await? == "RT001",
        "another value beside it"
    );
    ensure!(
        register(&editor, &token.to_lowercase()).await? != "ok" || !token.contains('Z'),
        "as it is written"
    );
    ensure!(register(&other, &text).await? == "RT001", "another tenant");
    let elsewhere =
        format!("select rotator.register_secret('{token}', rotation_interval => '90 days')");
    ensure!(
        verdict(&editor, &elsewhere).await? == "RT001",
        "another field"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_kept_is_a_keyed_hash_and_an_event() -> Result<()> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        let admin = db.session(tenant, "admin").await?;
        admin
            .execute(
                "select rotator.allow_value('note', $1, 'an id of the vendor''s')",
                &[&token()],
            )
            .await?;
        let changes = texts(
            &admin,
            "select concat_ws(' ', action, entity, entity_id, changes) from rotator.audit_log where action = 'value.allowed'",
        )
        .await?;
        ensure!(
            changes
                == [
                    "value.allowed field note {\"rule\": \"random-token\", \"reason\": \"an id of the vendor's\"}"
                ]
                || changes
                    == [
                        "value.allowed field note {\"reason\": \"an id of the vendor's\", \"rule\": \"random-token\"}"
                    ],
            "{changes:?}"
        );
    }
    let hashes: i64 = scalar(
        &db.admin,
        "select count(distinct value_index) from rotator_internal.allowed_value",
        &[],
    )
    .await?;
    ensure!(hashes == 2, "each tenant's key gives another hash");
    for table in texts(&db.admin, "select c.oid::regclass::text from pg_class c where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind = 'r'").await? {
        let count: i64 = scalar(&db.admin, &format!("select count(*) from {table} as t where position($1 in t::text) > 0"), &[&token()]).await?;
        ensure!(count == 0, "{table} has the value");
    }
    Ok(())
}

#[tokio::test]
async fn certain_secrets_and_harmless_values_cannot_be_allowed() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let admin = db.session("acme", "admin").await?;
    let call = "select rotator.allow_value($1, $2, $3)";
    let certain = ["ghp_Zx8Kq2Lw9Vb4Nc7MZx8K", "q2Lw9Vb4Nc7MAb12"].concat();
    for (field, value, reason, code) in [
        ("note", Some(certain.as_str()), Some("it is fine"), "RT001"),
        (
            "note",
            Some("stripe-prod-key-2026"),
            Some("it is fine"),
            "22023",
        ),
        ("note", None, Some("it is fine"), "22023"),
        ("note", Some(&*token()), None, "22023"),
        ("note", Some(&*token()), Some("  "), "22023"),
        ("note", Some(&*token()), Some(&*certain), "RT001"),
        ("recipient", Some(&*token()), Some("it is fine"), "22023"),
    ] {
        let refusal = refused(admin.query(call, &[&field, &value, &reason]).await, code)?;
        ensure!(refusal.hint().is_some(), "{refusal:?}");
    }
    for role in ["viewer", "editor", "auditor"] {
        let session = db.session("acme", role).await?;
        refused(
            session
                .query(call, &[&"note", &token(), &"it is fine"])
                .await,
            "42501",
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn identifiers_that_programs_make_pass_in_their_own_fields() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let admin = db.session("acme", "admin").await?;
    // A pairwise subject of 43 characters, a nanoid, a KSUID.
    let subject = ["Zk3vR8qLw2Xn7Tb9Yc4Hd6Jf1Gs5", "Mq0pWe3rTy6uIoP"].concat();
    for field in [
        "owner_id",
        "secondary_owner_id",
        "team_lead_id",
        "external_id",
    ] {
        let sql = format!(
            "select rotator.register_secret('by {field}', rotation_interval => '90 days', {field} => $1)"
        );
        admin.execute(&sql, &[&subject]).await?;
        refused(
            admin
                .query(&sql, &[&[subject.as_str(), "Lk9Wq3Tz"].concat()])
                .await,
            "RT001",
        )?;
    }
    admin
        .execute("select rotator.add_member($1)", &[&subject])
        .await?;
    refused(
        admin
            .query(
                "select rotator.register_secret($1, rotation_interval => '90 days')",
                &[&subject],
            )
            .await,
        "RT001",
    )?;
    Ok(())
}
