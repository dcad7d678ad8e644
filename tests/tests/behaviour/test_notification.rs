//! `rotator.test_notification`: what it queues, what it says, and what it refuses. Who may call it:
//! `security/member_roles.rs`; what arrives: `delivery/test_notification.rs`.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::{Acme, rows};

const TEST: &str = "select rotator.test_notification($1, $2)";

/// What a worker is given.
struct Claim {
    id: Uuid,
    claim_id: Uuid,
    message: Value,
    link_token: Option<String>,
}

async fn claim(acme: &Acme) -> Result<Vec<Claim>> {
    let sql =
        "select id, claim_id, message, link_token from rotator.claim_notifications('worker-1')";
    let claimed = acme.worker.query(sql, &[]).await?;
    Ok(claimed
        .iter()
        .map(|row| Claim {
            id: row.get(0),
            claim_id: row.get(1),
            message: row.get(2),
            link_token: row.get(3),
        })
        .collect())
}

async fn fail(acme: &Acme, claim: &Claim, reason: &str) -> Result<bool> {
    let sql = "select rotator.fail_notification($1, $2, 'it did not work', $3)";
    scalar(&acme.worker, sql, &[&claim.id, &claim.claim_id, &reason]).await
}

#[tokio::test]
async fn it_is_queued_with_its_audit_event_and_belongs_to_no_secret() -> Result<()> {
    let acme = Acme::new().await?;
    let to = ("email", "dana@acme.example");
    let id: Uuid = scalar(&acme.operator, TEST, &[&to.0, &to.1]).await?;
    let seen = rows(
        &acme.operator,
        "select id, kind, secret_id, alert_id, channel, recipient_hint, state, attempts from rotator.notifications",
    )
    .await?;
    assert_eq!(
        seen,
        json!([{"id": id.to_string(), "kind": "test", "secret_id": null, "alert_id": null, "channel": "email",
                "recipient_hint": "…@acme.example", "state": "queued", "attempts": 0}])
    );
    let audited = rows(
        &acme.operator,
        "select e.entity, e.entity_id, e.changes - 'encrypted' as changes, v.new_value
         from rotator.audit_log as e join rotator.audit_values as v on v.event_id = e.id where e.action = 'notification.test'",
    )
    .await?;
    assert_eq!(
        audited,
        json!([{"entity": "notification", "entity_id": id.to_string(), "changes": {"channel": "email"},
                "new_value": "…@acme.example"}])
    );
    Ok(())
}

#[tokio::test]
async fn it_says_what_a_reminder_says_in_the_tenants_time() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    let id: Uuid = scalar(&acme.operator, TEST, &[&"console", &"desk"]).await?;
    let first = claim(&acme).await?.remove(0);
    ensure!(first.link_token.is_none(), "there is nothing to act on");
    let said = &first.message;
    ensure!(said["kind"] == "test" && said["notification_id"] == id.to_string());
    let actor: String = scalar(&acme.operator, "select rotator.current_actor()", &[]).await?;
    ensure!(said["requested_by"] == actor.as_str(), "{said}");
    assert_eq!(
        said["secret"],
        json!({"id": null, "name": "sample-api-key", "provider_type": "sample", "environment": null, "priority": "P3",
               "owner_id": actor, "purpose": "nothing: this is a test", "provider_ref": null})
    );
    ensure!(said["days_until_expiry"] == 14 && said["interval_text"] == "90 days");
    let local = said["expiry_local"].as_str().unwrap_or_default();
    ensure!(local.ends_with("(Europe/Berlin)"), "{local}");
    fail(&acme, &first, "transient").await?;
    acme.end_waiting().await?;
    let again = claim(&acme).await?.remove(0);
    ensure!(again.message == *said, "every attempt says the same");
    fail(&acme, &again, "permanent").await?;

    // Whoever reads a reminder finds all of it in a test.
    acme.due("stripe-live").await?;
    acme.tick().await?;
    let reminder = claim(&acme).await?.remove(0).message;
    ensure!(reminder["kind"] == "reminder");
    for key in reminder
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        ensure!(said.get(key).is_some(), "{key} is missing: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_channel_can_not_reach_is_refused_and_leaves_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    let before = acme.fingerprint().await?;
    for (channel, recipient) in [
        (None, Some("dana@acme.example")),
        (Some("email"), None),
        (Some("fax"), Some("+49 30 1234")),
        (Some("email"), Some("dana")),
        (
            Some("email"),
            Some("dana@acme.example\r\nBcc: eve@evil.example"),
        ),
        (Some("email"), Some("Dana <dana@acme.example>")),
        (Some("slack"), Some("https://evil.example/services/T/B/x")),
        (Some("pagerduty"), Some("short")),
        (Some("webhook"), Some("http://hooks.acme.example/")),
        (Some("console"), Some("")),
    ] {
        refused(
            acme.operator.query(TEST, &[&channel, &recipient]).await,
            "22023",
        )?;
    }
    ensure!(acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn a_tick_leaves_it_alone_and_it_ends_like_any_other() -> Result<()> {
    let acme = Acme::new().await?;
    for _ in 0..2 {
        scalar::<Uuid>(&acme.operator, TEST, &[&"console", &"desk"]).await?;
    }
    acme.tick().await?;
    let claims = claim(&acme).await?;
    ensure!(
        claims.len() == 2,
        "the same test may be asked for again, and a tick queues nothing of it"
    );
    let sent: bool = scalar(
        &acme.worker,
        "select rotator.complete_notification($1, $2, 'vendor-1')",
        &[&claims[0].id, &claims[0].claim_id],
    )
    .await?;
    ensure!(sent && fail(&acme, &claims[1], "permanent").await?);
    let states = rows(
        &acme.operator,
        "select state from rotator.notifications order by state",
    )
    .await?;
    assert_eq!(states, json!([{"state": "dead"}, {"state": "sent"}]));
    Ok(())
}
