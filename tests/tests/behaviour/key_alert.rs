//! A key rotation that failed, is stalled or can't start: who is told, with what facts, how often, and what is not sent
//! any more. What arrives on each channel: `delivery/key_alert.rs`. When a run fails or stalls: `key_rotation`.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::seed::{Acme, Claim, rows};

const ALERT: &str = "select rotator_internal.alert_admins($1, $2, $3)";
const QUEUED: &str = "select rotation_id, kind, channel, recipient_hint, state from rotator.notifications order by channel, recipient_hint";

/// A rotation of acme that ended for three of its rows.
async fn failed(acme: &Acme) -> Result<(Uuid, i64)> {
    let (tenant, rotation) = running(acme).await?;
    fail(acme, rotation).await?;
    Ok((tenant, rotation))
}

async fn running(acme: &Acme) -> Result<(Uuid, i64)> {
    let tenant = scalar(&acme.operator, "select rotator.current_tenant()", &[]).await?;
    let rotation: i64 = scalar(&acme.operator, "select rotator.rotate_key()", &[]).await?;
    acme.db
        .admin
        .execute(
            "insert into rotator_internal.reencryption (tenant_id, rotation_id, place, total, done, failed)
             values ($1, $2, 'secret', 1000, 1000, 0), ($1, $2, 'public.customers.token', 9000, 8997, 3)",
            &[&tenant, &rotation],
        )
        .await?;
    Ok((tenant, rotation))
}

async fn fail(acme: &Acme, rotation: i64) -> Result<()> {
    let sql = "update rotator_internal.key_rotation
        set status = 'failed', finished_at = clock_timestamp(), error = 'public.customers.token: 17'
        where id = $1";
    acme.db.admin.execute(sql, &[&rotation]).await?;
    Ok(())
}

/// As the engine calls it; how many were queued.
async fn alert(session: &Client, tenant: Uuid, rotation: Option<i64>, state: &str) -> Result<i32> {
    scalar(session, ALERT, &[&tenant, &rotation, &state]).await
}

async fn admin(acme: &Acme, subject: &str, contacts: &[(&str, &str)]) -> Result<()> {
    let sql = "select rotator.add_member($1, 'admin')";
    acme.operator.execute(sql, &[&subject]).await?;
    reached(acme, subject, contacts).await
}

async fn reached(acme: &Acme, subject: &str, contacts: &[(&str, &str)]) -> Result<()> {
    for (channel, recipient) in contacts {
        let sql = "select rotator.set_contact($1, $2, $3)";
        let to: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&subject, channel, recipient];
        acme.operator.execute(sql, &to).await?;
    }
    Ok(())
}

fn recipients(claims: &[Claim]) -> Vec<&str> {
    let mut recipients: Vec<_> = claims
        .iter()
        .filter_map(|claim| claim.recipient.as_deref())
        .collect();
    recipients.sort_unstable();
    recipients
}

#[tokio::test]
async fn each_contact_of_each_admin_is_told_and_nobody_else() -> Result<()> {
    let acme = Acme::new().await?;
    let slack = ("slack", "C0SECURITY");
    admin(&acme, "dana", &[("email", "dana@acme.example"), slack]).await?;
    admin(&acme, "pat", &[("email", "pat@acme.example"), slack]).await?;
    admin(&acme, "gone", &[("email", "gone@acme.example")]).await?;
    let sql = "select rotator.remove_member('gone')";
    acme.operator.execute(sql, &[]).await?;
    let sql = "select rotator.add_member('eve', 'editor')";
    acme.operator.execute(sql, &[]).await?;
    reached(&acme, "eve", &[("email", "eve@acme.example")]).await?;
    reached(&acme, "manager", &[("email", "boss@acme.example")]).await?;

    let (tenant, rotation) = failed(&acme).await?;
    let queued = alert(&acme.db.admin, tenant, Some(rotation), "failed").await?;
    ensure!(queued == 3, "two share an address: {queued}");
    let claims = acme.claim().await?;
    assert_eq!(
        recipients(&claims),
        ["C0SECURITY", "dana@acme.example", "pat@acme.example"]
    );
    ensure!(claims.iter().all(|claim| claim.link_token.is_empty()));

    let audited = rows(
        &acme.operator,
        "select actor, source, entity, changes from rotator.audit_log
         where action = 'key_rotation.queued' and changes ->> 'channel' = 'slack'",
    )
    .await?;
    let changes = json!({"channel": "slack", "rule": "key_rotation:failed", "rotation": rotation});
    assert_eq!(
        audited,
        json!([{"actor": "rotator", "source": "engine", "entity": "notification", "changes": changes}])
    );
    Ok(())
}

#[tokio::test]
async fn without_a_contact_of_an_admin_it_is_the_manager_and_then_the_console() -> Result<()> {
    let acme = Acme::new().await?;
    let (tenant, first) = failed(&acme).await?;
    ensure!(alert(&acme.db.admin, tenant, Some(first), "failed").await? == 1);
    let told = acme.claim_one().await?;
    assert_eq!(
        (told.channel.as_str(), told.recipient.as_deref()),
        ("console", Some("admins"))
    );

    reached(&acme, "manager", &[("email", "boss@acme.example")]).await?;
    let (_, second) = failed(&acme).await?;
    ensure!(alert(&acme.db.admin, tenant, Some(second), "failed").await? == 1);
    let told = acme.claim_one().await?;
    assert_eq!(told.recipient.as_deref(), Some("boss@acme.example"));
    Ok(())
}

#[tokio::test]
async fn it_says_how_far_it_came_what_is_in_the_way_and_what_to_do() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    let (tenant, rotation) = failed(&acme).await?;
    alert(&acme.db.admin, tenant, Some(rotation), "failed").await?;
    let claim = acme.claim_one().await?;
    let mut said = claim.message;
    for stamp in ["since_local", "since_at"] {
        let text = said[stamp].take();
        let text = text.as_str().unwrap_or_default();
        ensure!(text.ends_with("(Europe/Berlin)") || text.ends_with('Z'));
    }
    for stamp in ["started_local", "started_at"] {
        ensure!(said["rotation"][stamp].take().is_string(), "{said}");
    }
    assert_eq!(
        said,
        json!({
            "kind": "key_rotation", "notification_id": claim.id.to_string(), "tenant_id": tenant.to_string(),
            "tenant": {"slug": "acme", "name": "acme", "time_zone": "Europe/Berlin"},
            "state": "failed",
            "rotation": {"id": rotation, "from_version": 1, "to_version": 2, "total": 10_000, "done": 9_997, "failed": 3,
                         "started_at": null, "started_local": null},
            "since_at": null, "since_local": null,
            "error": "public.customers.token: 17",
            "fix": format!("Restore or delete these rows, then run rotator keys reencrypt --retry {rotation}. All other rows stay readable."),
        })
    );
    Ok(())
}

#[tokio::test]
async fn once_each_time_it_comes_to_that() -> Result<()> {
    let acme = Acme::new().await?;
    let (tenant, rotation) = running(&acme).await?;
    let admin = &acme.db.admin;
    for expected in [1, 0] {
        ensure!(alert(admin, tenant, Some(rotation), "stalled").await? == expected);
    }
    fail(&acme, rotation).await?;
    for expected in [1, 0] {
        ensure!(alert(admin, tenant, Some(rotation), "failed").await? == expected);
    }
    // Retried after mending, and failed again; delivered or not, that is news.
    fail(&acme, rotation).await?;
    for expected in [1, 0] {
        ensure!(alert(admin, tenant, Some(rotation), "failed").await? == expected);
    }
    Ok(())
}

#[tokio::test]
async fn one_that_can_not_start_is_told_once_until_one_has_begun() -> Result<()> {
    let acme = Acme::new().await?;
    let tenant = scalar(&acme.operator, "select rotator.current_tenant()", &[]).await?;
    acme.db
        .admin
        .execute(
            "update rotator_internal.key_schedule set last_error = 'no master key' where tenant_id = $1",
            &[&tenant],
        )
        .await?;
    for expected in [1, 0] {
        ensure!(alert(&acme.db.admin, tenant, None, "overdue").await? == expected);
    }
    let said = acme.claim_one().await?.message;
    assert_eq!(
        (&said["state"], &said["rotation"]),
        (&json!("overdue"), &Value::Null)
    );
    running(&acme).await?;
    ensure!(alert(&acme.db.admin, tenant, None, "overdue").await? == 1);
    Ok(())
}

#[tokio::test]
async fn the_tick_tells_of_a_run_that_has_not_moved_for_an_hour() -> Result<()> {
    let acme = Acme::new().await?;
    let (_, rotation) = running(&acme).await?;
    for (ago, told) in [("59 minutes", 0), ("61 minutes", 1), ("62 minutes", 1)] {
        let sql = "update rotator_internal.key_rotation
            set progressed_at = clock_timestamp() - $2::text::interval where id = $1";
        acme.db.admin.execute(sql, &[&rotation, &ago]).await?;
        acme.tick().await?;
        let queued = acme
            .rows("select rotation_id, state from rotator.notifications")
            .await?;
        let one = json!({"rotation_id": rotation, "state": "queued"});
        assert_eq!(queued, Value::Array(vec![one; told]), "{ago}");
    }
    Ok(())
}

#[tokio::test]
async fn the_tick_tells_of_a_rotation_that_could_not_begin_three_times() -> Result<()> {
    let acme = Acme::new().await?;
    // No rotation takes a reason that long.
    let sql = "update rotator_internal.key_schedule
        set next_at = clock_timestamp(), reason = repeat('x', 20000)";
    acme.db.admin.execute(sql, &[]).await?;
    for (hours, told) in [(0, 0), (2, 0), (4, 1), (6, 1)] {
        acme.tick_at(&format!("clock_timestamp() + interval '{hours} hours'"))
            .await?;
        let queued: i64 = scalar(
            &acme.operator,
            "select count(*) from rotator.notifications where kind = 'key_rotation'",
            &[],
        )
        .await?;
        ensure!(queued == told, "{queued} after {hours} hours");
    }
    let said = acme.claim_one().await?.message;
    let error = said["error"].as_str().unwrap_or_default();
    ensure!(
        said["state"] == "overdue" && error.contains("(23514)"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_put_right_before_it_was_sent_is_not_sent() -> Result<()> {
    let mended = "set status = 'completed', error = null";
    let moving = "set progressed_at = clock_timestamp()";
    for (state, cure, sent) in [
        ("failed", "set error = error", 1),
        ("failed", mended, 0),
        ("stalled", "set error = 'still'", 1),
        ("stalled", moving, 0),
        (
            "stalled",
            "set status = 'rolled_back', finished_at = now()",
            0,
        ),
    ] {
        let acme = Acme::new().await?;
        let (tenant, rotation) = running(&acme).await?;
        if state == "failed" {
            fail(&acme, rotation).await?;
        }
        alert(&acme.db.admin, tenant, Some(rotation), state).await?;
        let sql = format!("update rotator_internal.key_rotation {cure}");
        acme.db.admin.execute(&sql, &[]).await?;
        let claims = acme.claim().await?;
        ensure!(claims.len() == sent, "{state}, {cure}: {claims:?}");
        let became = acme.rows("select state from rotator.notifications").await?;
        let state = if sent == 1 { "leased" } else { "cancelled" };
        assert_eq!(became, json!([{"state": state}]), "{cure}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_queues_nothing_and_other_tenants_hear_nothing() -> Result<()> {
    let mut acme = Acme::new().await?;
    let other = acme.db.tenant("other").await?;
    let stranger = acme.db.session("other", "admin").await?;
    let sql = "select rotator.set_contact(rotator.current_actor(), 'email', 'root@other.example')";
    stranger.execute(sql, &[]).await?;
    let (tenant, rotation) = failed(&acme).await?;

    let transaction = acme.db.admin.transaction().await?;
    let queued: i32 = scalar(&transaction, ALERT, &[&tenant, &Some(rotation), &"failed"]).await?;
    transaction.rollback().await?;
    ensure!(queued == 1 && acme.claim().await?.is_empty());

    // A rotation of somebody else's is none of theirs.
    ensure!(alert(&acme.db.admin, other, Some(rotation), "failed").await? == 0);
    ensure!(alert(&acme.db.admin, tenant, Some(rotation), "failed").await? == 1);
    assert_eq!(
        acme.rows(QUEUED).await?,
        json!([{"rotation_id": rotation, "kind": "key_rotation", "channel": "console", "recipient_hint": "admins", "state": "queued"}])
    );
    assert_eq!(rows(&stranger, QUEUED).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn an_offboarded_tenant_is_not_told() -> Result<()> {
    let acme = Acme::new().await?;
    let (tenant, rotation) = failed(&acme).await?;
    ensure!(alert(&acme.db.admin, tenant, Some(rotation), "failed").await? == 1);
    let sql = "update rotator_internal.tenant set status = 'offboarded' where tenant_id = $1";
    acme.db.admin.execute(sql, &[&tenant]).await?;
    fail(&acme, rotation).await?;
    ensure!(alert(&acme.db.admin, tenant, Some(rotation), "failed").await? == 0);
    ensure!(alert(&acme.db.admin, tenant, None, "overdue").await? == 0);
    ensure!(acme.claim().await?.is_empty(), "nor what was queued");
    Ok(())
}

#[tokio::test]
async fn the_state_is_recorded_also_while_nothing_can_be_encrypted() -> Result<()> {
    let acme = Acme::new().await?;
    let (tenant, rotation) = failed(&acme).await?;
    let sql =
        "update rotator_internal.encryption_key set master_key_id = 'lost' where tenant_id = $1";
    acme.db.admin.execute(sql, &[&tenant]).await?;
    let fresh = acme.db.superuser().await?;
    let intern = "select rotator_internal.intern_recipient($1, 'console', 'x')";
    refused(fresh.query(intern, &[&tenant]).await, "RT010")?;
    ensure!(alert(&fresh, tenant, Some(rotation), "failed").await? == 0);
    Ok(())
}

#[tokio::test]
async fn states_that_are_none_are_refused() -> Result<()> {
    let acme = Acme::new().await?;
    let (tenant, rotation) = failed(&acme).await?;
    for (rotation, state) in [
        (Some(rotation), Some("paused")),
        (Some(rotation), None),
        (Some(rotation), Some("overdue")),
        (None, Some("failed")),
    ] {
        let outcome = acme
            .db
            .admin
            .query(ALERT, &[&tenant, &rotation, &state])
            .await;
        refused(outcome, "22023")?;
    }
    Ok(())
}
