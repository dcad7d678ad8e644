//! There is a way back from a rotation, at any point of its re-encryption, until the old key is retired; and who may rotate
//! keys, roll back and try again: admins of the tenant and operators.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;

use crate::key_rotation::{acme_with_rows, reencrypt_all, rotate, run, shown, versions};

#[tokio::test]
async fn there_is_a_way_back_at_any_point_until_the_old_key_is_retired() -> Result<()> {
    let acme = acme_with_rows().await?;
    let before = shown(&acme).await?;
    for steps in [0, 1, 3, 100] {
        let rotation = rotate(&acme).await?;
        let versions_now: i32 = scalar(
            &acme.operator,
            "select to_version from rotator.key_rotations where id = $1",
            &[&rotation],
        )
        .await?;
        for _ in 0..steps {
            acme.operator
                .batch_execute("select rotator.reencrypt_step(8)")
                .await?;
        }
        acme.operator
            .execute("select rotator.rollback_key_rotation($1)", &[&rotation])
            .await?;
        // At once for new writes; what was re-encrypted goes back in a run of its own.
        let written: i32 = scalar(
            &acme.db.admin,
            "select version from rotator_internal.encryption_key where purpose = 'data' and status = 'active'",
            &[],
        )
        .await?;
        ensure!(written == 1, "{steps} steps: version {written} is active");
        reencrypt_all(&acme.operator, 8).await?;
        ensure!(versions(&acme).await? == json!({"1": 64}), "{steps} steps");
        ensure!(shown(&acme).await? == before, "{steps} steps");
        let status = run(&acme, rotation).await?["status"].clone();
        ensure!(status == "rolled_back", "{steps} steps: {status}");
        let refusal = refused(
            acme.operator
                .query("select rotator.rollback_key_rotation($1)", &[&rotation])
                .await,
            "PT409",
        )?;
        ensure!(
            refusal
                .message()
                .contains(&format!("version {versions_now} is decrypt_only"))
        );
    }
    let last = rotate(&acme).await?;
    reencrypt_all(&acme.operator, 1000).await?;
    acme.operator
        .batch_execute("select rotator.retire_key(1)")
        .await?;
    let refusal = refused(
        acme.operator
            .query("select rotator.rollback_key_rotation($1)", &[&last])
            .await,
        "PT409",
    )?;
    ensure!(refusal.message().contains("retired"), "{refusal:?}");
    Ok(())
}

#[tokio::test]
async fn only_an_admin_of_the_tenant_may_and_others_learn_nothing() -> Result<()> {
    let acme = acme_with_rows().await?;
    let rotation = rotate(&acme).await?;
    acme.db.tenant("beta").await?;
    let beta = acme.db.session("beta", "admin").await?;
    for (session, code) in [(&acme.editor, "42501"), (&beta, "PT404")] {
        for call in ["rollback_key_rotation", "retry_key_rotation"] {
            refused(
                session
                    .query(&format!("select rotator.{call}($1)"), &[&rotation])
                    .await,
                code,
            )?;
        }
    }
    for call in [
        "rotate_key()",
        "retire_key(1)",
        "destroy_key(1, 'acme/1')",
        "set_key_schedule('30 days')",
    ] {
        refused(
            acme.editor
                .query(&format!("select rotator.{call}"), &[])
                .await,
            "42501",
        )?;
    }
    refused(
        beta.query("select rotator.rotate_key('acme')", &[]).await,
        "42501",
    )?;
    for call in [
        "rotate_all_keys()",
        "reencrypt_step()",
        "offboard_tenant('acme', 'acme')",
    ] {
        let error = beta
            .query(&format!("select rotator.{call}"), &[])
            .await
            .expect_err("not for members");
        ensure!(
            error.code().is_some_and(|code| code.code() == "42501"),
            "{call}: {error:?}"
        );
    }
    let rotated: i32 = scalar(
        &acme.operator,
        "select rotator.rotate_all_keys('drill')",
        &[],
    )
    .await?;
    ensure!(rotated == 2);
    Ok(())
}
