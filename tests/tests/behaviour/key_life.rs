//! The end of keys: what refuses to retire or destroy one, what is left afterwards, and a tenant that leaves with its keys.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;
use tokio_postgres::error::DbError;

use crate::key_rotation::reencrypt_all;
use crate::seed::{Acme, rows};

async fn refusal(acme: &Acme, call: &str, code: &str) -> Result<DbError> {
    refused(
        acme.operator
            .query(&format!("select rotator.{call}"), &[])
            .await,
        code,
    )
}

async fn acme_after_rotation() -> Result<Acme> {
    let acme = Acme::new().await?;
    acme.operator
        .batch_execute(
            "select rotator.register_secret('s' || n, rotation_interval => '90 days') from generate_series(1, 5) as n;
             select rotator.rotate_key()",
        )
        .await?;
    Ok(acme)
}

#[tokio::test]
async fn a_version_in_use_is_neither_retired_nor_destroyed() -> Result<()> {
    let acme = acme_after_rotation().await?;
    for (call, code, says) in [
        ("retire_key(2)", "PT409", "version 2 is active"),
        ("retire_key(1)", "PT409", "10 row(s) are under version 1"),
        ("retire_key(7)", "PT404", "no version 7"),
        ("retire_key(null)", "PT404", "no version"),
        (
            "destroy_key(1, 'acme/1')",
            "PT409",
            "version 1 is decrypt_only",
        ),
        ("destroy_key(2, 'acme/2')", "PT409", "version 2 is active"),
    ] {
        let refusal = refusal(&acme, call, code).await?;
        ensure!(
            refusal.message().contains(says),
            "{call}: {}",
            refusal.message()
        );
    }
    reencrypt_all(&acme.operator, 1000).await?;
    acme.operator
        .batch_execute("select rotator.retire_key(1)")
        .await?;
    refusal(&acme, "retire_key(1)", "PT409").await?;
    for confirm in ["null", "''", "'acme'", "'acme/2'", "'beta/1'", "'ACME/1'"] {
        let refusal = refusal(&acme, &format!("destroy_key(1, {confirm})"), "22023").await?;
        ensure!(refusal.hint().is_some_and(|hint| hint.contains("'acme/1'")));
    }

    // A ciphertext that somebody copied back from elsewhere counts until it is gone.
    acme.db
        .admin
        .batch_execute(
            "create table old as select * from rotator_internal.secret;
             update rotator_internal.secret set purpose = set_byte(name, 8, get_byte(name, 8) - (select (max(id) - min(id))::int from rotator_internal.encryption_key where purpose = 'data'))
             where id = (select min(id::text)::uuid from rotator_internal.secret)",
        )
        .await?;
    let refusal = refusal(&acme, "destroy_key(1, 'acme/1')", "PT409").await?;
    ensure!(
        refusal.message().contains("1 row(s) are under version 1"),
        "{}",
        refusal.message()
    );
    acme.db
        .admin
        .batch_execute("update rotator_internal.secret set purpose = null")
        .await?;

    acme.operator
        .batch_execute("select rotator.destroy_key(1, 'acme/1')")
        .await?;
    let keys = rows(
        &acme.operator,
        "select version, status, retired_at is not null as retired, destroyed_at is not null as destroyed, row_count
         from rotator.encryption_keys where purpose = 'data' order by 1",
    )
    .await?;
    ensure!(
        keys == json!([
            {"version": 1, "status": "destroyed", "retired": true, "destroyed": true, "row_count": 0},
            {"version": 2, "status": "active", "retired": false, "destroyed": false, "row_count": 10}]),
        "{keys}"
    );
    let wrapped: i64 = scalar(&acme.db.admin, "select count(*) from rotator_internal.encryption_key where status = 'destroyed' and wrapped_key is not null", &[]).await?;
    ensure!(wrapped == 0);
    let read = acme
        .rows("select count(name) as n from rotator.secrets")
        .await?;
    ensure!(read == json!([{"n": 5}]));
    Ok(())
}

#[tokio::test]
async fn what_a_destroyed_key_encrypted_is_lost_on_purpose() -> Result<()> {
    let acme = acme_after_rotation().await?;
    let kept: Vec<u8> = scalar(
        &acme.editor,
        "select rotator.encrypt('kept elsewhere', 'l', '1')",
        &[],
    )
    .await?;
    acme.operator
        .batch_execute("select rotator.rotate_key()")
        .await?;
    reencrypt_all(&acme.operator, 1000).await?;
    acme.operator
        .batch_execute("select rotator.retire_key(1), rotator.retire_key(2)")
        .await?;
    let read: String = scalar(
        &acme.editor,
        "select rotator.decrypt($1, 'l', '1')",
        &[&kept],
    )
    .await?;
    ensure!(read == "kept elsewhere", "a retired key still opens");
    acme.operator
        .batch_execute("select rotator.destroy_key(2, 'acme/2')")
        .await?;
    let fresh = acme.db.session("acme", "viewer").await?;
    refused(
        fresh
            .query("select rotator.decrypt($1, 'l', '1')", &[&kept])
            .await,
        "RT012",
    )?;
    Ok(())
}

#[tokio::test]
async fn a_tenant_leaves_and_takes_its_keys_along() -> Result<()> {
    let acme = acme_after_rotation().await?;
    acme.db.tenant("beta").await?;
    let beta = acme.db.session("beta", "editor").await?;
    beta.batch_execute("select rotator.register_secret('of beta', rotation_interval => '1 day')")
        .await?;
    acme.due("due").await?;
    acme.tick().await?;
    refusal(&acme, "offboard_tenant('nobody', 'nobody')", "PT404").await?;
    for confirm in ["null", "'beta'", "''"] {
        refusal(
            &acme,
            &format!("offboard_tenant('acme', {confirm})"),
            "22023",
        )
        .await?;
    }
    let events: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator.audit_log",
        &[],
    )
    .await?;

    acme.operator
        .batch_execute("select rotator.offboard_tenant('acme', 'acme')")
        .await?;
    let claims = acme.claim().await?;
    ensure!(
        claims
            .iter()
            .all(|claim| claim.message["tenant"]["slug"] == "beta"),
        "nothing of acme is sent any more: {claims:?}"
    );
    ensure!(acme.rows("select * from rotator.secrets").await? == json!([]));
    refused(
        acme.editor
            .query(
                "select rotator.register_secret('x', rotation_interval => '1 day')",
                &[],
            )
            .await,
        "RT002",
    )?;
    refused(
        acme.operator
            .query("select rotator.rotate_key('acme')", &[])
            .await,
        "PT404",
    )?;
    let left = rows(
        &acme.db.admin,
        "select (select count(*) from rotator_internal.encryption_key as k where wrapped_key is not null and k.tenant_id = t.tenant_id) as keys,
             (select count(*) from rotator_internal.secret as s where s.tenant_id = t.tenant_id) as secrets,
             (select count(*) from rotator_internal.notification as n where n.tenant_id = t.tenant_id and n.stage = 'pending') as pending,
             (select count(*) from rotator_internal.key_rotation as r where r.tenant_id = t.tenant_id and r.status = 'running') as running
         from rotator_internal.tenant as t where t.slug = 'acme'",
    )
    .await?;
    ensure!(
        left == json!([{"keys": 0, "secrets": 6, "pending": 0, "running": 0}]),
        "{left}"
    );
    let after: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator.audit_log where action = 'tenant.offboarded'",
        &[],
    )
    .await?;
    let kept: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator.audit_log",
        &[],
    )
    .await?;
    ensure!(after == 1 && kept > events, "its events stay");

    // Nothing starts for it, nothing stumbles over it, and the others go on.
    acme.tick_at("now() + interval '200 days'").await?;
    ensure!(rows(&beta, "select name from rotator.secrets").await? == json!([{"name": "of beta"}]));
    let rotated: i32 = scalar(&acme.operator, "select rotator.rotate_all_keys()", &[]).await?;
    ensure!(rotated == 1);
    reencrypt_all(&acme.operator, 100).await?;
    Ok(())
}
