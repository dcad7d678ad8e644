//! Whoever changes a tenant's keys at the same time, a rotation, the tick, an offboarding, a second try, waits for the one
//! before, or passes over him, and never in a circle: a deadlock would end one of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{scalar, until};
use serde_json::Value;
use tokio_postgres::Client;

use crate::encrypted_column_host::Host;

async fn backend(session: &Client) -> Result<i32> {
    scalar(session, "select pg_backend_pid()", &[]).await
}

/// Until that backend waits: for a lock, or in the trigger that pauses.
async fn waits(host: &Host, backend: i32) -> Result<()> {
    until(
        Duration::from_secs(10),
        "a session to wait for another",
        async || {
            scalar(
                &host.db.admin,
                "select coalesce(wait_event_type = 'Lock' or wait_event = 'PgSleep', false) from pg_stat_activity where pid = $1",
                &[&backend],
            )
            .await
        },
    )
    .await
}

#[tokio::test]
async fn whoever_changes_keys_at_the_same_time_waits_and_never_in_a_circle() -> Result<()> {
    let host = Host::new().await?;
    host.owner
        .batch_execute("select rotator.rotate_key()")
        .await?;
    host.db
        .admin
        .batch_execute(
            "update rotator_internal.key_schedule set next_at = now() - interval '1 day'",
        )
        .await?;
    // Holds what a rotation wants in the middle of its work: version 2, the active one.
    let gate = host.db.superuser().await?;
    gate.batch_execute(
        "begin; select from rotator_internal.encryption_key where version = 2 and purpose = 'data' for update",
    )
    .await?;
    let (rotating, leaving) = (host.db.superuser().await?, host.db.superuser().await?);
    let (first, second) = (backend(&rotating).await?, backend(&leaving).await?);
    let rotation = tokio::spawn(async move {
        rotating
            .batch_execute("select rotator.rotate_key('acme')")
            .await
    });
    waits(&host, first).await?;
    // The tick passes over the tenant whose keys somebody changes just now, and takes the other one.
    let tick: Value = scalar(&host.owner, "select rotator.tick()", &[]).await?;
    ensure!(tick["keys_rotated"] == 1, "{tick}");
    let departure = tokio::spawn(async move {
        leaving
            .batch_execute("select rotator.offboard_tenant('acme', 'acme')")
            .await
    });
    waits(&host, second).await?;
    gate.batch_execute("commit").await?;
    rotation.await??;
    departure.await??;
    let active: i64 = scalar(
        &host.db.admin,
        "select count(*) from rotator_internal.encryption_key as k join rotator_internal.tenant as t using (tenant_id)
         where t.slug = 'acme' and k.status <> 'destroyed'",
        &[],
    )
    .await?;
    ensure!(active == 0, "{active} keys outlived their tenant");
    Ok(())
}

#[tokio::test]
async fn a_rotation_is_tried_again_while_a_step_of_it_is_under_way() -> Result<()> {
    let host = Host::new().await?;
    host.owner
        .batch_execute(
            "create table app.t (id integer primary key, secret bytea);
             insert into app.t values (1, rotator.encrypt('x', 'label', '1'));
             select rotator.register_encrypted_column('app.t', 'secret', 'label', 'id');
             create function app.pause() returns trigger language plpgsql as $$
             begin
                 loop
                     exit when pg_try_advisory_xact_lock_shared(1);
                     perform pg_sleep(0.01);
                 end loop;
                 return new;
             end $$;
             create trigger pause before update on app.t for each row execute function app.pause();
             select rotator.rotate_key()",
        )
        .await?;
    // The step stops in a trigger of the host, holding its run.
    let gate = host.db.superuser().await?;
    gate.batch_execute("begin; select pg_advisory_xact_lock(1)")
        .await?;
    let stepping = host.db.superuser().await?;
    let retrying = host.db.superuser().await?;
    let (first, second) = (backend(&stepping).await?, backend(&retrying).await?);
    // Steps do nothing while a transaction is open, anywhere in the cluster, that may still write under the old key.
    let step = tokio::spawn(async move {
        loop {
            let sql = "select (rotator.reencrypt_step() ->> 'remaining')::bigint";
            let remaining: i64 = stepping.query_one(sql, &[]).await?.get(0);
            if remaining == 0 {
                return Ok::<_, tokio_postgres::Error>(());
            }
        }
    });
    waits(&host, first).await?;
    let again = tokio::spawn(async move {
        retrying
            .batch_execute("select rotator.retry_key_rotation(id) from rotator.key_rotations")
            .await
    });
    waits(&host, second).await?;
    gate.batch_execute("commit").await?;
    step.await??;
    again.await??;
    let errors: i64 = scalar(
        &host.owner,
        "select count(*) from rotator.key_rotations where error is not null",
        &[],
    )
    .await?;
    ensure!(errors == 0);
    Ok(())
}
