//! A rotation to its end: every row goes under the new key and reads as before, locked rows are visited again, what can't
//! be opened is named, and a rotation during a rotation takes over. The way back, and who may: `key_rollback`.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar, until};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::seed::{Acme, rows};

/// Steps until nothing remains; gives how many rows were done.
pub async fn reencrypt_all(session: &Client, max_rows: i32) -> Result<i64> {
    let mut done = 0;
    for _ in 0..10_000 {
        let step: Value =
            scalar(session, "select rotator.reencrypt_step($1)", &[&max_rows]).await?;
        done += step["done"].as_i64().unwrap_or_default();
        if step["remaining"] == 0 {
            return Ok(done);
        }
    }
    anyhow::bail!("re-encryption does not come to an end after {done} rows")
}

/// Thirty secrets, one in three with purpose and reference, and two addresses; and of each what the audit log keeps.
pub async fn acme_with_rows() -> Result<Acme> {
    let acme = Acme::new().await?;
    acme.operator
        .batch_execute(
            "select rotator.register_secret('secret-' || n, rotation_interval => '90 days',
                 purpose => case when n % 3 = 0 then 'for ' || n end, provider_ref => case when n % 3 = 0 then 'a/' || n end)
             from generate_series(1, 30) as n;
             select rotator.set_contact('x', 'email', 'x@example.com'), rotator.add_notification_policy(3, 'email', 'y@example.com')",
        )
        .await?;
    Ok(acme)
}

pub async fn rotate(acme: &Acme) -> Result<i64> {
    scalar(&acme.operator, "select rotator.rotate_key()", &[]).await
}

/// What people read, and when rows were changed.
pub async fn shown(acme: &Acme) -> Result<Value> {
    acme.rows(
        "select s.*, (select jsonb_agg(c.recipient_hint order by 1) from rotator.contacts as c) as hints
         from rotator.secrets as s order by s.id",
    )
    .await
}

/// version: rows, for every data key that has some.
pub async fn versions(acme: &Acme) -> Result<Value> {
    scalar(
        &acme.operator,
        "select coalesce(jsonb_object_agg(version, row_count), '{}') from rotator.encryption_keys
         where purpose = 'data' and row_count > 0 and tenant_id = rotator.current_tenant()",
        &[],
    )
    .await
}

pub async fn run(acme: &Acme, rotation: i64) -> Result<Value> {
    let found = rows(
        &acme.operator,
        &format!(
            "select from_version, to_version, trigger, status, total, done, failed, error, finished_at is not null as ended
             from rotator.key_rotations where id = {rotation}"
        ),
    )
    .await?;
    Ok(found[0].clone())
}

#[tokio::test]
async fn every_row_goes_under_the_new_key_and_reads_as_before() -> Result<()> {
    let acme = acme_with_rows().await?;
    acme.db.tenant("beta").await?;
    let beta = acme.db.session("beta", "editor").await?;
    beta.batch_execute("select rotator.register_secret('of beta', rotation_interval => '1 day')")
        .await?;
    let before = shown(&acme).await?;
    ensure!(versions(&acme).await? == json!({"1": 64}));

    let rotation = rotate(&acme).await?;
    ensure!(run(&acme, rotation).await?["status"] == "running");
    let mut seen_between = 0;
    for _ in 0..1000 {
        let step: Value = scalar(&acme.worker, "select rotator.reencrypt_step(7)", &[]).await?;
        ensure!(step["done"].as_i64() <= Some(7), "{step}");
        ensure!(shown(&acme).await? == before, "after {step}");
        if versions(&acme)
            .await?
            .as_object()
            .is_some_and(|v| v.len() == 2)
        {
            seen_between += 1;
        }
        if step["remaining"] == 0 {
            break;
        }
    }
    ensure!(seen_between >= 3, "in several steps: {seen_between}");
    ensure!(versions(&acme).await? == json!({"2": 64}));
    let ended = run(&acme, rotation).await?;
    ensure!(
        ended
            == json!({"from_version": 1, "to_version": 2, "trigger": "manual", "status": "completed", "total": 64,
                "done": 64, "failed": 0, "error": null, "ended": true}),
        "{ended}"
    );
    // Equality still finds what it found, and another tenant's rows are where they were.
    let found = acme
        .rows("select name from rotator.search_secrets(query => 'SECRET-30')")
        .await?;
    ensure!(found == json!([{"name": "secret-30"}]), "{found}");
    let others: i64 = scalar(
        &acme.db.admin,
        "select rotator_internal.rows_using_key(k.tenant_id, k.id) from rotator_internal.encryption_key as k
         join rotator_internal.tenant as t using (tenant_id) where t.slug = 'beta' and k.purpose = 'data'",
        &[],
    )
    .await?;
    ensure!(
        others == 2,
        "of beta: a secret and what the audit log keeps of it"
    );
    let of_beta = rows(&beta, "select id from rotator.key_rotations").await?;
    ensure!(
        of_beta == json!([]),
        "a tenant's runs are its own: {of_beta}"
    );
    let events = rows(
        &acme.operator,
        "select action, actor like 'db:%' as by_person, changes ->> 'done' as done from rotator.audit_log
         where action like 'key.%' order by id",
    )
    .await?;
    ensure!(
        events
            == json!([
                {"action": "key.rotated", "by_person": true, "done": null},
                {"action": "key.rotation_progress", "by_person": false, "done": "32"},
                {"action": "key.rotation_progress", "by_person": false, "done": "2"},
                {"action": "key.rotation_progress", "by_person": false, "done": "30"},
                {"action": "key.rotation_completed", "by_person": false, "done": "64"}]),
        "{events}"
    );
    Ok(())
}

#[tokio::test]
async fn a_step_that_is_rolled_back_left_nothing_and_two_workers_share() -> Result<()> {
    let acme = acme_with_rows().await?;
    let rotation = rotate(&acme).await?;
    let before = acme.fingerprint().await?;
    acme.operator
        .batch_execute(
            "begin; select rotator.reencrypt_step(5); select rotator.reencrypt_step(5); rollback",
        )
        .await?;
    ensure!(acme.fingerprint().await? == before);
    let other = acme.db.superuser().await?;
    // While one has the run in hand, the other finds nothing to do and doesn't wait.
    acme.operator
        .batch_execute("begin; select rotator.reencrypt_step(5)")
        .await?;
    let step: Value = scalar(&other, "select rotator.reencrypt_step()", &[]).await?;
    ensure!(
        step["done"] == 0 && step["rotation"] == Value::Null,
        "{step}"
    );
    acme.operator.batch_execute("commit").await?;
    let (one, two) = tokio::try_join!(reencrypt_all(&acme.worker, 3), reencrypt_all(&other, 3))?;
    ensure!(one + two <= 64, "none twice: {one} and {two}");
    let ended = run(&acme, rotation).await?;
    ensure!(
        ended["status"] == "completed" && ended["done"] == 64,
        "{ended}"
    );
    Ok(())
}

#[tokio::test]
async fn locked_rows_are_passed_over_and_visited_again() -> Result<()> {
    let acme = acme_with_rows().await?;
    let rotation = rotate(&acme).await?;
    let holder = acme.db.superuser().await?;
    holder
        .batch_execute("begin; select from rotator_internal.secret where name_index in (select name_index from rotator_internal.secret order by id limit 2) for update")
        .await?;
    let mut last = Value::Null;
    for _ in 0..20 {
        last = scalar(&acme.operator, "select rotator.reencrypt_step()", &[]).await?;
    }
    ensure!(
        last["remaining"] == 2 && last["done"] == 0 && last["waiting"] == 1,
        "{last}"
    );
    ensure!(versions(&acme).await? == json!({"1": 2, "2": 62}));
    let waiting = run(&acme, rotation).await?;
    ensure!(
        waiting["status"] == "running"
            && waiting["error"]
                .as_str()
                .is_some_and(|error| error.contains("2 row(s) in secret that somebody has locked")),
        "{waiting}"
    );
    holder.batch_execute("commit").await?;
    ensure!(reencrypt_all(&acme.operator, 1000).await? == 2);
    let ended = run(&acme, rotation).await?;
    ensure!(
        ended["status"] == "completed" && ended["error"] == Value::Null,
        "{ended}"
    );
    Ok(())
}

#[tokio::test]
async fn it_waits_for_whoever_may_still_write_under_the_old_key() -> Result<()> {
    let acme = acme_with_rows().await?;
    acme.editor
        .batch_execute(
            "begin; select rotator.register_secret('in flight', rotation_interval => '1 day')",
        )
        .await?;
    let rotation = rotate(&acme).await?;
    ensure!(reencrypt_all(&acme.operator, 1000).await? == 64);
    let waiting = run(&acme, rotation).await?;
    ensure!(
        waiting["status"] == "running"
            && waiting["error"]
                .as_str()
                .is_some_and(|error| error.contains("may still write under an older version")),
        "{waiting}"
    );
    refused(
        acme.operator
            .query("select rotator.retire_key(1)", &[])
            .await,
        "PT409",
    )?;
    acme.editor.batch_execute("commit").await?;
    until(
        Duration::from_secs(10),
        "the lock to be let go",
        async || Ok(reencrypt_all(&acme.operator, 1000).await? == 2),
    )
    .await?;
    ensure!(run(&acme, rotation).await?["status"] == "completed");
    ensure!(versions(&acme).await? == json!({"2": 66}));
    Ok(())
}

#[tokio::test]
async fn a_rotation_during_a_rotation_takes_over() -> Result<()> {
    let acme = acme_with_rows().await?;
    let first = rotate(&acme).await?;
    acme.operator
        .batch_execute("select rotator.reencrypt_step(10)")
        .await?;
    let second = rotate(&acme).await?;
    reencrypt_all(&acme.operator, 10).await?;
    ensure!(run(&acme, first).await?["status"] == "superseded");
    let ended = run(&acme, second).await?;
    ensure!(
        ended["status"] == "completed" && ended["done"] == 64,
        "{ended}"
    );
    ensure!(versions(&acme).await? == json!({"3": 64}));
    acme.operator
        .batch_execute("select rotator.retire_key(1), rotator.retire_key(2)")
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_tried_again_after_it_was_mended() -> Result<()> {
    let acme = acme_with_rows().await?;
    let bad: String = scalar(
        &acme.db.admin,
        "with bad as (select id from rotator_internal.secret order by id limit 1)
         update rotator_internal.secret as s set purpose = s.name from bad where s.id = bad.id returning s.id::text",
        &[],
    )
    .await?;
    let rotation = rotate(&acme).await?;
    ensure!(reencrypt_all(&acme.operator, 10).await? == 63);
    let failed = run(&acme, rotation).await?;
    ensure!(
        failed["status"] == "failed"
            && failed["failed"] == 1
            && failed["done"] == 63
            && failed["error"]
                == json!(format!(
                    "1 row(s) could not be re-encrypted, the first in secret: {bad}"
                )),
        "{failed}"
    );
    refused(
        acme.operator
            .query("select rotator.retire_key(1)", &[])
            .await,
        "PT409",
    )?;
    let told = acme
        .rows("select kind, state from rotator.notifications")
        .await?;
    ensure!(
        told == json!([{"kind": "key_rotation", "state": "queued"}]),
        "{told}"
    );

    acme.db
        .admin
        .batch_execute("update rotator_internal.secret set purpose = null where purpose = name")
        .await?;
    acme.operator
        .execute("select rotator.retry_key_rotation($1)", &[&rotation])
        .await?;
    ensure!(reencrypt_all(&acme.operator, 10).await? == 1);
    let ended = run(&acme, rotation).await?;
    ensure!(
        ended["status"] == "completed" && ended["error"] == Value::Null,
        "{ended}"
    );
    acme.operator
        .batch_execute("select rotator.retire_key(1)")
        .await?;
    Ok(())
}
