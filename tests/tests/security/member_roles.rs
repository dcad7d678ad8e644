//! What viewer, editor, auditor and admin may do in their tenant, and what an owner may without being an editor. Each
//! try is rolled back, so that they don't depend on each other.

use anyhow::{Result, ensure};
use rotator_tests::scalar;

use crate::fixture::{TwoTenants, text, tried};

/// A statement, and which of viewer, editor, auditor and admin may (`v`, `e`, `a`, `A`). `$due` is a secret's id.
const RULES: &[(&str, &str)] = &[
    (
        "select rotator.register_secret('x', rotation_interval => '1 day')",
        "eA",
    ),
    (
        "insert into rotator.secrets (name, interval_days) values ('x', 30)",
        "eA",
    ),
    ("select rotator.import_secrets('[]')", "eA"),
    (
        "select rotator.import_secrets('[{\"name\":\"x\",\"rotation_interval\":\"1 day\"}]', dry_run => true)",
        "eA",
    ),
    ("update rotator.secrets set environment = 'prod'", "eA"),
    ("delete from rotator.secrets", "eA"),
    ("select rotator.retire_secret('$due')", "eA"),
    (
        "select rotator.mark_rotated('$due', next_expiry_date => now() + interval '1 year')",
        "eA",
    ),
    ("select rotator.acknowledge('$due')", "eA"),
    (
        "select rotator.set_contact(rotator.current_actor(), 'console', 'me')",
        "veaA",
    ),
    (
        "select rotator.set_contact('somebody', 'console', 'them')",
        "A",
    ),
    (
        "select rotator.set_contact('manager', 'console', 'boss')",
        "A",
    ),
    ("select rotator.add_member('u1', 'viewer')", "A"),
    ("select rotator.add_member('u1', 'admin', 'acme')", "A"),
    ("select rotator.remove_member('u1')", "A"),
    ("select rotator.add_notification_policy(2)", "A"),
    ("select rotator.test_notification('console', 'me')", "A"),
    (
        "select rotator.add_notification_policy(2, secret_id => '$due')",
        "A",
    ),
    (
        "select rotator.remove_notification_policy((select min(id::text)::uuid from rotator.notification_policies))",
        "A",
    ),
    ("select rotator.rotate_key()", "A"),
    ("select rotator.rotate_key('acme', 'drill')", "A"),
    ("select * from rotator.search_secrets()", "veaA"),
];

#[tokio::test]
async fn each_role_may_what_the_contract_says() -> Result<()> {
    let t = TwoTenants::new().await?;
    let due = text(&t.db.admin, "select s.id from rotator_internal.secret s join rotator_internal.tenant t using (tenant_id) where t.slug = 'acme' and external_id = 'due'").await?;
    for (letter, kind) in [
        ('v', "viewer"),
        ('e', "editor"),
        ('a', "auditor"),
        ('A', "admin"),
    ] {
        let session = t.db.session("acme", kind).await?;
        for (statement, who) in RULES {
            let expected = if who.contains(letter) { "ok" } else { "42501" };
            let verdict = tried(&session, &statement.replace("$due", &due)).await?;
            ensure!(
                verdict == expected,
                "{kind}: {statement}: {verdict} instead of {expected}"
            );
        }
        let secrets: i64 = scalar(&session, "select count(*) from rotator.secrets", &[]).await?;
        ensure!(secrets == 2, "{kind} reads the secrets");
        let events: i64 = scalar(&session, "select count(*) from rotator.audit_log", &[]).await?;
        ensure!(
            (events > 0) == "aA".contains(letter),
            "{kind} sees {events} audit events"
        );
        let foreign: i64 = scalar(
            &session,
            "select count(*) from rotator.audit_log where tenant_id <> rotator.current_tenant()",
            &[],
        )
        .await?;
        ensure!(foreign == 0);
    }
    let none =
        t.db.connect_as(&t.db.login_role("none", &["rotator_user"]).await?)
            .await?;
    for (statement, _) in RULES.iter().filter(|(statement, _)| {
        statement.starts_with("select rotator.") || statement.starts_with("insert")
    }) {
        let verdict = tried(&none, &statement.replace("$due", &due)).await?;
        ensure!(
            verdict == "RT002" || (statement.contains("'acme'") && verdict == "42501"),
            "without a tenant: {statement}: {verdict}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn owners_may_handle_their_own_secrets_only() -> Result<()> {
    let t = TwoTenants::new().await?;
    let admin = t.db.connect_as(&t.acme).await?;
    for column in ["owner_id", "secondary_owner_id", "team_lead_id"] {
        let role = t.db.member("acme", "viewer").await?;
        admin
            .execute(
                &format!("update rotator.secrets set {column} = $1 where external_id = 'due'"),
                &[&role.subject()],
            )
            .await?;
        let viewer = t.db.connect_as(&role).await?;
        let (own, other) = (
            text(
                &viewer,
                "select id from rotator.secrets where external_id = 'due'",
            )
            .await?,
            text(
                &viewer,
                "select id from rotator.secrets where external_id is null",
            )
            .await?,
        );
        for (call, id, expected) in [
            ("acknowledge('{}')", &own, "ok"),
            (
                "mark_rotated('{}', next_expiry_date => now() + interval '1 year')",
                &own,
                "ok",
            ),
            ("retire_secret('{}')", &own, "42501"),
            ("acknowledge('{}')", &other, "42501"),
            ("mark_rotated('{}')", &other, "42501"),
        ] {
            let verdict = tried(
                &viewer,
                &format!("select rotator.{}", call.replace("{}", id)),
            )
            .await?;
            ensure!(verdict == expected, "{column}: {call}: {verdict}");
        }
        ensure!(
            tried(
                &viewer,
                "update rotator.secrets set environment = 'prod' where external_id = 'due'"
            )
            .await?
                == "42501"
        );
    }
    Ok(())
}
