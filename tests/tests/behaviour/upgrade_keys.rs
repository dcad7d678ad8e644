//! Keys across an upgrade: the new library serves the SQL of the old version until `alter extension … update`; rotations
//! from before it, which 0.1.0 made without re-encrypting anything, are completed after it; and every tenant there was
//! gets a schedule. What else an upgrade keeps: `upgrade.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cluster, TestDb, scalar};
use serde_json::json;
use tokio_postgres::Client;

use crate::key_rotation::reencrypt_all;
use crate::seed::rows;
use crate::upgrade::installed;
use crate::upgrade_origin::{CURRENT, origins};

/// What 0.2.0 has besides the rows of `upgrade_seed.rs`: a run under way, a column of the host's, signed blocks of the audit
/// log, a value that was let through.
pub async fn begin_reencryption(session: &Client) -> Result<()> {
    let reencrypts: bool = scalar(
        session,
        "select to_regprocedure('rotator.reencrypt_step(integer)') is not null",
        &[],
    )
    .await?;
    if reencrypts {
        session
            .batch_execute(
                "select rotator.use_tenant('acme');
                 create table public.vault (id bigint primary key, secret bytea);
                 insert into public.vault select n, rotator.encrypt('value ' || n, 'vault', n::text) from generate_series(1, 9) as n;
                 select rotator.register_encrypted_column('public.vault', 'secret', 'vault', 'id');
                 select rotator.reencrypt_step(3);
                 select rotator.record_audit_signature(b.tenant_id, b.block_id,
                     rotator_internal.audit_note_body(b.tenant_id, b.block_id, decode(b.header ->> 'hash', 'hex'))
                         || chr(10) || '— nobody AAAA' || chr(10),
                     'nobody')
                 from rotator.unsigned_audit_blocks() as b;
                 insert into rotator_internal.allowed_value
                 values (rotator.current_tenant(), 'purpose', sha256('some text'), 'a serial number', 'db:postgres')",
            )
            .await
            .context("a run under way")?;
    }
    Ok(())
}

/// Of each tenant the last of two rotations runs, and runs to its end: nothing is under an older key.
pub async fn expect_rotations_completed(session: &Client) -> Result<()> {
    let runs = "select t.slug, array_agg(r.status order by r.id) as runs
                from rotator_internal.key_rotation as r join rotator_internal.tenant as t using (tenant_id)
                group by t.slug order by t.slug";
    let all = |last: &str| json!([{"slug": "acme", "runs": ["superseded", last]}, {"slug": "beta", "runs": ["superseded", last]}]);
    let found = rows(session, runs).await?;
    ensure!(found == all("running"), "before: {found}");
    let done = reencrypt_all(session, 5).await?;
    ensure!(done >= 12, "{done} rows were re-encrypted");
    let found = rows(session, runs).await?;
    ensure!(found == all("completed"), "after: {found}");
    let left = rows(
        session,
        "select tenant_id, version, row_count from rotator.encryption_keys
         where purpose = 'data' and active <> (row_count > 0)",
    )
    .await?;
    ensure!(left == json!([]), "{left}");
    Ok(())
}

#[tokio::test]
async fn rotations_from_before_the_upgrade_are_completed_after_it() -> Result<()> {
    for (origin, db, in_use) in installed().await? {
        origin.upgrade(&db.admin).await?;
        let session = db.superuser().await?;
        expect_rotations_completed(&session)
            .await
            .with_context(|| format!("upgraded from {}", origin.version))?;
        session
            .batch_execute(
                "select rotator.retire_key(v, slug)
                 from generate_series(1, 2) as v, unnest(array['acme', 'beta']) as slug",
            )
            .await?;
        in_use.expect_readable(&session).await?;
        in_use.expect_alive(&session).await?;
        let uses: i64 = scalar(
            &session,
            "select count(distinct u.tenant_id) from rotator_internal.key_use as u
             join rotator_internal.encryption_key as k on k.id = u.key_id and k.status = 'active'",
            &[],
        )
        .await?;
        ensure!(
            uses == 2,
            "{}: uses of {uses} tenants are counted",
            origin.version
        );
    }
    Ok(())
}

#[tokio::test]
async fn tenants_from_before_the_upgrade_get_a_schedule_and_a_day_before_it_begins() -> Result<()> {
    for origin in origins(&Cluster::shared()?)? {
        if origin.version == CURRENT {
            continue;
        }
        let db = TestDb::bare().await?;
        origin.create(&db.admin).await?;
        db.admin
            .batch_execute(
                "select rotator.create_tenant('young', 'Young'), rotator.create_tenant('old', 'Old');
                 update rotator_internal.encryption_key as k set activated_at = now() - interval '300 days'
                 from rotator_internal.tenant as t where t.tenant_id = k.tenant_id and t.slug = 'old'",
            )
            .await?;
        origin.upgrade(&db.admin).await?;
        let schedules = "select t.slug, s.every::text, round(extract(epoch from s.next_at - now()) / 86400) as days
                         from rotator_internal.key_schedule as s join rotator_internal.tenant as t using (tenant_id)
                         order by t.slug";
        let found = rows(&db.admin, schedules).await?;
        ensure!(
            found
                == json!([
                    {"slug": "old", "every": "90 days", "days": 1},
                    {"slug": "young", "every": "90 days", "days": 90}]),
            "{}: {found}",
            origin.version
        );
        let session = db.superuser().await?;
        for (when, rotated) in [("now()", 0), ("now() + interval '25 hours'", 1)] {
            let tick: serde_json::Value = scalar(
                &session,
                &format!("select rotator.tick(as_of => {when})"),
                &[],
            )
            .await?;
            ensure!(
                tick["keys_rotated"] == rotated,
                "{} at {when}: {tick}",
                origin.version
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_new_library_serves_the_sql_of_the_old_version_until_the_update() -> Result<()> {
    for origin in origins(&Cluster::shared()?)? {
        let db = TestDb::bare().await?;
        origin.create(&db.admin).await?;
        db.admin
            .batch_execute("select rotator.create_tenant('acme', 'Acme')")
            .await?;
        let session = db.superuser().await?;
        session.batch_execute("set jit = off").await?;
        // More than any block of uses, in transactions that end one way and the other, and where none can be written.
        let round_trips = |count: i32| {
            format!(
                "select count(*) from rotator_internal.tenant as t, generate_series(1, {count}) as n,
                 lateral (select rotator_internal.seal_field(t.tenant_id, 'l', t.tenant_id, 'value ' || n) as c offset 0) as s
                 where rotator_internal.open_field(t.tenant_id, 'l', t.tenant_id, s.c) = 'value ' || n"
            )
        };
        for (begin, count, end) in [
            ("begin", 70_000, "commit"),
            ("begin; savepoint s", 70_000, "rollback"),
            ("begin read only", 100, "commit"),
            ("begin; select rotator.rotate_key('acme')", 10, "commit"),
            ("begin", 10, "commit"),
        ] {
            session.batch_execute(begin).await?;
            let opened: i64 = scalar(&session, &round_trips(count), &[])
                .await
                .with_context(|| format!("{} in `{begin}`", origin.version))?;
            ensure!(
                opened == i64::from(count),
                "{opened} in `{begin}` with {}",
                origin.version
            );
            session.batch_execute(end).await?;
        }
        origin.upgrade(&db.admin).await?;
        let opened: i64 = scalar(&session, &round_trips(10), &[]).await?;
        ensure!(
            opened == 10,
            "{opened} in a session that began with {}",
            origin.version
        );
    }
    Ok(())
}
