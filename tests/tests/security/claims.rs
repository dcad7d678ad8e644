//! Claims mode: tenant, subject and role come from the verified claims of a trusted authenticator and from nowhere
//! else; the member row outranks the role claim; and nobody who isn't listed is believed. Malformed ones: `claims_shapes`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, TestDb, until};
use tokio_postgres::Client;

use crate::fixture::{text, texts, verdict};

/// A cluster of its own, because whom to trust is a setting of the whole cluster.
pub async fn with_gate(settings: &[&str]) -> Result<(TestDb, Client)> {
    let mut settings: Vec<String> = settings
        .iter()
        .map(|setting| (*setting).to_owned())
        .collect();
    settings.push("rotator.trusted_authenticators = 'other, gate'".to_owned());
    let cluster = Cluster::start(Options {
        settings,
        ..Options::default()
    })
    .await?;
    let db = TestDb::in_cluster(Arc::new(cluster)).await?;
    db.admin
        .batch_execute("create role authenticated nologin; grant rotator_user to authenticated; create role gate login noinherit; grant authenticated to gate")
        .await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{tenant}', true);
                 select rotator.register_secret('{tenant}-key', rotation_interval => '30 days')"
            ))
            .await?;
    }
    let gate = db.cluster.connect("gate", &db.name).await?;
    Ok((db, gate))
}

/// As PostgREST does it: one transaction a request, role and claims local to it.
pub async fn request(gate: &Client, claims: &str, mode: &str) -> Result<()> {
    gate.batch_execute(&format!("begin {mode}; set local role authenticated"))
        .await?;
    gate.execute(
        "select set_config('request.jwt.claims', $1, true)",
        &[&claims],
    )
    .await?;
    Ok(())
}

/// Slug of the tenant, actor and role that such a request has.
async fn who(gate: &Client, claims: &str) -> Result<String> {
    request(gate, claims, "read only").await?;
    let who = text(gate, "select concat_ws('/', split_part((select min(name) from rotator.secrets), '-', 1), rotator.current_actor(), rotator.current_member_role())").await;
    gate.batch_execute("commit").await?;
    who
}

fn claims(tenant: &str, subject: &str, role: &str) -> String {
    format!(
        r#"{{"sub":"{subject}","tenant_id":"{tenant}","rotator_role":"{role}","role":"authenticated","aud":["x"],"exp":1}}"#
    )
}

#[tokio::test]
async fn verified_claims_give_tenant_subject_and_role() -> Result<()> {
    let (db, gate) = with_gate(&[]).await?;
    let id = text(
        &db.admin,
        "select tenant_id from rotator_internal.tenant where slug = 'beta'",
    )
    .await?;
    ensure!(who(&gate, &claims("acme", "u1", "viewer")).await? == "acme/u1/viewer");
    ensure!(
        who(&gate, &claims(&id, "u1", "admin")).await? == "beta/u1/admin",
        "by id"
    );
    ensure!(who(&gate, &claims(&id.to_uppercase(), "u1", "admin")).await? == "beta/u1/admin");
    ensure!(
        texts(&gate, "select name from rotator.secrets")
            .await
            .is_err(),
        "outside of a request the gate may nothing"
    );
    ensure!(
        text(
            &gate,
            "select coalesce(rotator.current_tenant()::text, 'none')"
        )
        .await?
            == "none",
        "claims end with the request"
    );

    // The member row outranks the claim, and a removed member stays removed.
    for role in ["viewer", "editor"] {
        db.admin
            .execute("select rotator.add_member('u1', $1, 'acme')", &[&role])
            .await?;
        ensure!(who(&gate, &claims("acme", "u1", "admin")).await? == format!("acme/u1/{role}"));
    }
    let without_role = r#"{"sub":"u1","tenant_id":"acme"}"#;
    ensure!(
        who(&gate, without_role).await? == "acme/u1/editor",
        "membership needs no role claim"
    );
    db.admin.batch_execute("select rotator.remove_member('u1', 'acme'), rotator.remove_member('never-there', 'acme')").await?;
    for subject in ["u1", "never-there"] {
        ensure!(
            who(&gate, &claims("acme", subject, "admin")).await? == subject,
            "no tenant, no role"
        );
    }
    ensure!(
        who(&gate, &claims("beta", "u1", "admin")).await? == "beta/u1/admin",
        "removed from acme only"
    );
    Ok(())
}

#[tokio::test]
async fn a_request_writes_and_is_bound_to_its_tenant() -> Result<()> {
    let (db, gate) = with_gate(&[]).await?;
    let foreign = text(&db.admin, "select id from rotator_internal.secret where tenant_id = (select tenant_id from rotator_internal.tenant where slug = 'beta')").await?;
    request(&gate, &claims("acme", "u1", "editor"), "").await?;
    gate.batch_execute(
        "select set_config('request.headers', '{\"x-request-id\":\"req-7\"}', true)",
    )
    .await?;
    gate.batch_execute(
        "select rotator.register_secret('by-claims', rotation_interval => '1 day'); commit",
    )
    .await?;
    let event = text(&db.admin, "select concat_ws('/', actor, source, action, request_id) from rotator_internal.audit_event order by id desc limit 1").await?;
    ensure!(event == "u1/api/secret.registered/req-7", "{event}");

    for refused in [
        ("select rotator.use_tenant('acme')", "42501"),
        ("select rotator.use_tenant('beta', true)", "42501"),
        ("select rotator.create_tenant('mine', 'Mine')", "42501"),
        ("select rotator.add_member('db:gate', 'admin')", "42501"),
        ("select rotator.add_member('x', 'admin', 'beta')", "42501"),
        (
            &format!("select rotator.mark_rotated('{foreign}')"),
            "PT404",
        ),
        ("select rotator.tick()", "42501"),
    ] {
        request(&gate, &claims("acme", "u1", "admin"), "").await?;
        ensure!(
            verdict(&gate, refused.0).await? == refused.1,
            "{}",
            refused.0
        );
        gate.batch_execute("rollback").await?;
    }
    // Even an operator's rights are left at the door.
    db.admin
        .batch_execute("grant rotator_admin to gate")
        .await?;
    gate.batch_execute("set role rotator_admin").await?;
    ensure!(verdict(&gate, "select rotator.use_tenant('acme')").await? == "42501");
    ensure!(
        text(
            &gate,
            "select coalesce(rotator.current_tenant()::text, 'none')"
        )
        .await?
            == "none"
    );
    ensure!(verdict(&gate, "select rotator.tick(now() + interval '1 year')").await? == "42501");
    Ok(())
}

#[tokio::test]
async fn nobody_else_is_believed() -> Result<()> {
    let (db, _gate) = with_gate(&[]).await?;
    let plain = db.login_role("plain", &["authenticated"]).await?;
    db.admin.batch_execute("create role \"gate \" login; grant authenticated to \"gate \"; create role \"Gate\" login; grant authenticated to \"Gate\"").await?;
    let good = claims("acme", "u1", "admin");
    for name in [plain.name.as_str(), "gate ", "Gate"] {
        db.admin
            .batch_execute(&format!(
                "alter role \"{name}\" set request.jwt.claims = '{good}'"
            ))
            .await?;
        let session = db.cluster.connect(name, &db.name).await?;
        for setting in [
            "select 1".to_owned(),
            format!("set request.jwt.claims = '{good}'"),
            format!("select set_config('request.jwt.claims', '{good}', false)"),
            "set role authenticated".to_owned(),
            "set rotator.trusted_authenticators = 'plain'".to_owned(),
            format!("alter role \"{name}\" set rotator.trusted_authenticators = '{name}'"),
        ] {
            verdict(&session, &setting).await?;
            ensure!(
                texts(&session, "select name from rotator.secrets")
                    .await?
                    .is_empty(),
                "{name}: {setting}"
            );
            ensure!(
                verdict(
                    &session,
                    "select rotator.register_secret('x', rotation_interval => '1 day')"
                )
                .await?
                    == "RT002"
            );
        }
        ensure!(text(&session, "select rotator.current_actor()").await? == format!("db:{name}"));
        ensure!(
            verdict(&session, "show rotator.trusted_authenticators").await? == "42501",
            "whom to trust is nobody's to see"
        );
    }
    db.admin
        .batch_execute("drop role \"gate \", \"Gate\"")
        .await?;
    Ok(())
}

#[tokio::test]
async fn claims_can_lie_deeper() -> Result<()> {
    let (db, gate) = with_gate(&[
        "rotator.tenant_claim = 'app_metadata.rotator.tenant'",
        "rotator.role_claim = 'app_metadata.role'",
    ])
    .await?;
    let nested = r#"{"sub":"u1","app_metadata":{"rotator":{"tenant":"beta"},"role":"viewer"},"tenant_id":"acme"}"#;
    ensure!(who(&gate, nested).await? == "beta/u1/viewer");
    ensure!(
        !who(&gate, &claims("acme", "u1", "admin"))
            .await?
            .contains("acme"),
        "the default path is not read as well"
    );
    // Somebody who is no longer trusted is a plain login role from the reload on.
    db.admin
        .batch_execute("alter system set rotator.trusted_authenticators = ''; ")
        .await?;
    db.admin.batch_execute("select pg_reload_conf()").await?;
    until(Duration::from_secs(10), "the reload", async || {
        Ok(who(&gate, nested).await?.ends_with("db:gate"))
    })
    .await
}
