//! The audit log of an older version, which knew no sealing: its events are as they were, the next ticks seal them, and
//! nothing of it is mistaken for tampering, before or after.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::{scalar, until};
use tokio_postgres::Client;

use crate::upgrade::installed;

/// What a version that seals has besides the rows of `upgrade_seed.rs`: blocks, and a signature.
pub async fn begin_sealing(session: &Client) -> Result<()> {
    const SEALS: &str = "select to_regprocedure('rotator.verify_audit(text)') is not null";
    const SEALED: &str = "select exists (select from rotator.audit_blocks)";
    if !scalar::<bool>(session, SEALS, &[]).await? {
        return Ok(());
    }
    // Transactions of other tests hold it up as well.
    until(Duration::from_secs(60), "a block", async || {
        session.batch_execute("select rotator.tick()").await?;
        scalar(session, SEALED, &[]).await
    })
    .await?;
    session
        .batch_execute(
            "select rotator.record_audit_signature(tenant_id, block_id, rotator_internal.audit_note_body(
                 tenant_id, block_id, decode(hash, 'hex')) || chr(10) || '\u{2014} key AAAA' || chr(10), 'key')
             from rotator.audit_blocks where block_id = 1",
        )
        .await
        .context("a signature")
}

/// Whether it is in order, how many events were checked, and how many are not sealed.
async fn verified(session: &Client) -> Result<(bool, i64, i64)> {
    let row = session
        .query_one("select * from rotator.verify_audit()", &[])
        .await?;
    eprintln!("{}", row.get::<_, String>("detail"));
    Ok((row.get("ok"), row.get("checked"), row.get("unsealed")))
}

#[tokio::test]
async fn events_of_an_older_version_are_sealed_and_verify() -> Result<()> {
    const EVENTS: &str = "select count(*) from rotator_internal.audit_event";
    const UNSEALED: &str = "select count(*) from rotator.audit_log where block_id is null";
    for (origin, db, _) in installed().await? {
        let written: i64 = scalar(&db.admin, EVENTS, &[]).await?;
        let sealed_before = origin.version != "0.1.0";
        origin.upgrade(&db.admin).await?;
        let session = db.superuser().await?;
        let (ok, checked, unsealed) = verified(&session).await?;
        ensure!(
            ok && checked + unsealed == written && (sealed_before || checked == 0),
            "{}: {written} events, {checked} checked, {unsealed} unsealed",
            origin.version
        );
        let operator = db
            .connect_as(&db.login_role("operator", &["rotator_admin"]).await?)
            .await?;
        until(
            Duration::from_secs(60),
            "every event to be sealed",
            async || {
                operator.batch_execute("select rotator.tick()").await?;
                Ok(scalar::<i64>(&session, UNSEALED, &[]).await? == 0)
            },
        )
        .await
        .with_context(|| format!("upgraded from {}", origin.version))?;
        let (ok, checked, unsealed) = verified(&session).await?;
        let events: i64 = scalar(&session, EVENTS, &[]).await?;
        ensure!(
            ok && checked == events && events >= written && unsealed == 0,
            "{}: {events} events, {checked} checked, {unsealed} unsealed",
            origin.version
        );
    }
    Ok(())
}
