//! The doctor: each check turns when what it checks turns, and says what to do.

use anyhow::{Result, ensure};
use rotator_tests::doctor::check;
use rotator_tests::{Cluster, Options, TestDb, refused, scalar};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::seed::Acme;

#[tokio::test]
async fn a_well_kept_server_has_little_to_mend() -> Result<()> {
    let acme = Acme::new().await?;
    for name in [
        "library version",
        "library preloaded",
        "master key",
        "server version",
        "outbox",
        "undeliverable",
        "owners with a contact",
    ] {
        let (ok, detail) = check(&acme.operator, name).await?;
        ensure!(ok && !detail.is_empty(), "{name}: {detail}");
    }
    let complete: bool = scalar(
        &acme.operator,
        "select bool_and(check_name is not null and ok is not null and detail is not null) from rotator.doctor()",
        &[],
    )
    .await?;
    ensure!(complete);
    Ok(())
}

#[tokio::test]
async fn it_notices_that_nobody_ticks() -> Result<()> {
    let acme = Acme::new().await?;
    ensure!(!check(&acme.operator, "tick").await?.0, "never ticked");
    acme.tick().await?;
    ensure!(check(&acme.operator, "tick").await?.0);
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.heartbeat set last_tick_at = now() - interval '10 minutes'",
        )
        .await?;
    let (ok, detail) = check(&acme.operator, "tick").await?;
    ensure!(!ok && detail.contains("600"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn it_notices_what_waits_and_what_was_given_up() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    acme.due("vault").await?;
    acme.tick().await?;
    ensure!(check(&acme.operator, "outbox").await?.0, "just queued");
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.notification set available_at = now() - interval '10 minutes'",
        )
        .await?;
    ensure!(!check(&acme.operator, "outbox").await?.0, "nobody delivers");
    for claim in acme.claim().await? {
        acme.fail(&claim, "permanent").await?;
    }
    ensure!(check(&acme.operator, "outbox").await?.0);
    let (ok, detail) = check(&acme.operator, "undeliverable").await?;
    ensure!(!ok && detail.contains('2'), "{detail}");
    Ok(())
}

#[tokio::test]
async fn it_counts_owners_that_can_not_be_reached() -> Result<()> {
    let acme = Acme::new().await?;
    acme.register(
        "stripe",
        "rotation_interval => '90 days', owner_id => 'priya'",
    )
    .await?;
    ensure!(!check(&acme.operator, "owners with a contact").await?.0);
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'email', 'priya@acme.example')",
            &[],
        )
        .await?;
    ensure!(check(&acme.operator, "owners with a contact").await?.0);
    Ok(())
}

#[tokio::test]
async fn without_a_master_key_it_says_so_and_nothing_is_written() -> Result<()> {
    let cluster = Arc::new(
        Cluster::start(Options {
            no_master_key: true,
            ..Options::default()
        })
        .await?,
    );
    let db = TestDb::in_cluster(cluster).await?;
    refused(
        db.admin
            .query("select rotator.create_tenant('acme', 'Acme')", &[])
            .await,
        "RT010",
    )?;
    assert_eq!(
        scalar::<i64>(
            &db.admin,
            "select count(*) from rotator_internal.tenant",
            &[]
        )
        .await?,
        0
    );
    let (ok, detail) = check(&db.admin, "master key").await?;
    ensure!(!ok && !detail.is_empty(), "{detail}");
    Ok(())
}

#[tokio::test]
async fn only_operators_may_ask_and_the_sidecar_has_its_own_status() -> Result<()> {
    let acme = Acme::new().await?;
    for session in [&acme.editor, &acme.worker] {
        let error = session
            .query("select * from rotator.doctor()", &[])
            .await
            .expect_err("not for members");
        ensure!(
            error.code().is_some_and(|code| code.code() == "42501"),
            "{error:?}"
        );
    }
    let status =
        async || scalar::<Value>(&acme.worker, "select rotator.engine_status()", &[]).await;
    let before = status().await?;
    assert_eq!(
        (
            &before["seconds_since_tick"],
            &before["queued"],
            &before["dead"]
        ),
        (&json!(null), &json!(0), &json!(0))
    );
    assert_eq!(before["extension_version"], before["library_version"]);
    acme.due("stripe").await?;
    acme.tick().await?;
    let after = status().await?;
    ensure!(
        after["seconds_since_tick"]
            .as_i64()
            .is_some_and(|seconds| seconds < 60)
            && after["queued"] == 1,
        "{after}"
    );
    Ok(())
}
