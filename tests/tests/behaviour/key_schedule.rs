//! Keys that are replaced by themselves: after 90 days, or as set; what happens when that can't begin; and runs that make
//! no progress.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};

use crate::seed::{Acme, rows};

async fn active_version(acme: &Acme) -> Result<i32> {
    scalar(
        &acme.operator,
        "select version from rotator.encryption_keys where purpose = 'data' and active",
        &[],
    )
    .await
}

#[tokio::test]
async fn a_new_tenants_key_is_replaced_after_ninety_days() -> Result<()> {
    let acme = Acme::new().await?;
    let early: Value = acme.tick_at("now() + interval '89 days'").await?;
    ensure!(early["keys_rotated"] == 0, "{early}");
    let tick = acme.tick_at("now() + interval '91 days'").await?;
    ensure!(tick["keys_rotated"] == 1, "{tick}");
    ensure!(active_version(&acme).await? == 2);
    let run = rows(
        &acme.operator,
        "select trigger, status from rotator.key_rotations",
    )
    .await?;
    ensure!(
        run == json!([{"trigger": "schedule", "status": "running"}]),
        "{run}"
    );
    let actor = rows(
        &acme.operator,
        "select actor, source from rotator.audit_log where action = 'key.rotated'",
    )
    .await?;
    ensure!(
        actor == json!([{"actor": "rotator", "source": "engine"}]),
        "{actor}"
    );
    // Once: the next one counts from here.
    ensure!(acme.tick_at("now() + interval '89 days'").await?["keys_rotated"] == 0);
    Ok(())
}

#[tokio::test]
async fn a_schedule_is_set_moved_by_a_rotation_and_turned_off() -> Result<()> {
    let acme = Acme::new().await?;
    for every in ["'1 hour'", "'-3 days'", "'200 years'"] {
        refused(
            acme.operator
                .query(&format!("select rotator.set_key_schedule({every})"), &[])
                .await,
            "22023",
        )?;
    }
    acme.operator
        .batch_execute("select rotator.set_key_schedule('30 days')")
        .await?;
    let days = "select every::text, round(extract(epoch from next_at - now()) / 86400)::int as days from rotator.key_schedules";
    ensure!(rows(&acme.operator, days).await? == json!([{"every": "30 days", "days": 30}]));
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.key_schedule set next_at = next_at - interval '20 days'",
        )
        .await?;
    acme.operator
        .batch_execute("select rotator.rotate_key()")
        .await?;
    ensure!(
        rows(&acme.operator, days).await? == json!([{"every": "30 days", "days": 30}]),
        "a rotation by hand counts"
    );
    acme.operator
        .batch_execute("select rotator.set_key_schedule(null)")
        .await?;
    ensure!(acme.tick_at("now() + interval '10 years'").await?["keys_rotated"] == 0);
    ensure!(active_version(&acme).await? == 2);
    Ok(())
}

#[tokio::test]
async fn a_run_without_progress_is_told_once() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .batch_execute("select rotator.register_secret('s', rotation_interval => '90 days'); select rotator.rotate_key()")
        .await?;
    acme.tick().await?;
    let told = "select kind, channel from rotator.notifications where kind = 'key_rotation'";
    ensure!(acme.rows(told).await? == json!([]));
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.key_rotation set progressed_at = now() - interval '2 hours'",
        )
        .await?;
    acme.tick().await?;
    acme.tick().await?;
    ensure!(acme.rows(told).await? == json!([{"kind": "key_rotation", "channel": "console"}]));
    let stalled = rows(
        &acme.operator,
        "select count(*) as n from rotator.audit_log where action = 'key.rotation_stalled'",
    )
    .await?;
    ensure!(stalled == json!([{"n": 1}]), "{stalled}");
    let unwell = rows(
        &acme.operator,
        "select ok, detail from rotator.doctor() where check_name = 'key rotation'",
    )
    .await?;
    ensure!(unwell[0]["ok"] == false, "{unwell}");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_used_too_often_is_replaced_before_its_time() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .batch_execute("select rotator.set_key_schedule(null)")
        .await?;
    acme.db
        .admin
        .batch_execute(
            "insert into rotator_internal.key_use (tenant_id, key_id, uses)
             select tenant_id, id, 2147483647 from rotator_internal.encryption_key where purpose = 'data'",
        )
        .await?;
    acme.editor
        .batch_execute(
            "select rotator.register_secret('the last straw', rotation_interval => '90 days')",
        )
        .await?;
    let near = rows(
        &acme.operator,
        "select ok from rotator.doctor() where check_name = 'key uses'",
    )
    .await?;
    ensure!(near == json!([{"ok": false}]), "{near}");
    ensure!(acme.tick().await?["keys_rotated"] == 1);
    let run = rows(&acme.operator, "select trigger from rotator.key_rotations").await?;
    ensure!(run == json!([{"trigger": "uses"}]), "{run}");
    let off = rows(
        &acme.operator,
        "select every, next_at, reason from rotator.key_schedules",
    )
    .await?;
    ensure!(
        off == json!([{"every": null, "next_at": null, "reason": null}]),
        "{off}"
    );
    Ok(())
}
