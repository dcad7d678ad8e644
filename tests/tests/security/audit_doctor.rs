//! The doctor on the audit log: events that nobody seals, blocks that nobody signs, and triggers that were weakened.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;
use rotator_tests::doctor::check;

use crate::fixture::text;
use crate::sealed::{events, seal_all};

/// What happened happened so much earlier.
async fn age(db: &TestDb, table: &str, column: &str, by: &str) -> Result<()> {
    db.admin
        .batch_execute(&format!(
            "begin; alter table rotator_internal.{table} disable trigger user;
             update rotator_internal.{table} set {column} = {column} - interval '{by}';
             alter table rotator_internal.{table} enable always trigger append_only;
             alter table rotator_internal.{table} enable always trigger append_only_rows; commit"
        ))
        .await?;
    Ok(())
}

#[tokio::test]
async fn events_that_nobody_seals_are_noticed() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    ensure!(check(&db.admin, "audit sealing").await?.0, "too young");
    age(&db, "audit_event", "occurred_at", "11 minutes").await?;
    let (ok, detail) = check(&db.admin, "audit sealing").await?;
    ensure!(!ok && detail.contains("66"), "never ticked: {detail}");
    seal_all(&db).await?;
    ensure!(check(&db.admin, "audit sealing").await? == (true, "every event is sealed".to_owned()));
    db.admin.batch_execute(&events("new", 2)).await?;
    age(&db, "audit_event", "occurred_at", "5 minutes").await?;
    ensure!(check(&db.admin, "audit sealing").await?.0);
    age(&db, "audit_event", "occurred_at", "6 minutes").await?;
    ensure!(!check(&db.admin, "audit sealing").await?.0);
    seal_all(&db).await?;
    ensure!(check(&db.admin, "audit sealing").await?.0);
    Ok(())
}

#[tokio::test]
async fn blocks_that_nobody_signs_are_noticed_once_somebody_did() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    seal_all(&db).await?;
    age(&db, "audit_block", "sealed_at", "1 day").await?;
    ensure!(
        check(&db.admin, "audit signatures").await?.0,
        "nobody signs here"
    );
    db.admin
        .batch_execute(
            "select rotator.record_audit_signature(tenant_id, block_id,
                 rotator_internal.audit_note_body(tenant_id, block_id, decode(hash, 'hex')) || chr(10) || '— key AAAA' || chr(10), 'key')
             from rotator.audit_blocks order by block_id",
        )
        .await?;
    ensure!(
        check(&db.admin, "audit signatures").await? == (true, "every block is signed".to_owned())
    );
    db.admin.batch_execute(&events("new", 1)).await?;
    seal_all(&db).await?;
    ensure!(check(&db.admin, "audit signatures").await?.0, "too young");
    age(&db, "audit_block", "sealed_at", "16 minutes").await?;
    let (ok, detail) = check(&db.admin, "audit signatures").await?;
    ensure!(!ok && detail.contains("96"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn weakened_triggers_are_noticed() -> Result<()> {
    let db = TestDb::new().await?;
    ensure!(check(&db.admin, "audit append only").await?.0);
    for table in [
        "audit_event",
        "audit_block",
        "audit_leaf",
        "audit_signature",
    ] {
        let table = format!("rotator_internal.{table}");
        for (weakening, named) in [
            (format!("alter table {table} disable trigger append_only"), "append_only"),
            (format!("alter table {table} enable trigger append_only"), "append_only"),
            (format!("alter table {table} enable replica trigger append_only"), "append_only"),
            (format!("alter table {table} disable trigger append_only_rows"), "append_only_rows"),
            (format!("alter table {table} disable trigger all"), "append_only"),
            (format!("alter extension rotator drop table {table}; drop trigger append_only on {table}"), "append_only"),
            (
                format!("drop trigger append_only on {table}; create trigger append_only before update on {table}
                    for each statement execute function rotator_internal.refuse_audit_change()"),
                "append_only",
            ),
            (
                format!("create function public.eat() returns trigger language plpgsql as 'begin return null; end';
                    create trigger eat before insert on {table} for each row execute function public.eat()"),
                "trigger eat",
            ),
            (format!("create rule eat as on insert to {table} do instead nothing"), "rule eat"),
        ] {
            db.admin.batch_execute("begin").await?;
            db.admin.batch_execute(&weakening).await?;
            let (ok, detail) = check(&db.admin, "audit append only").await?;
            ensure!(!ok && detail.contains(named), "{weakening}: {detail}");
            db.admin.batch_execute("rollback").await?;
        }
    }
    ensure!(
        text(
            &db.admin,
            "select ok from rotator.doctor() where check_name = 'audit append only'"
        )
        .await?
            == "t"
    );
    Ok(())
}
