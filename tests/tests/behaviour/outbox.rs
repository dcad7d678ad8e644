//! The outbox as a worker sees it: claims, leases and completion. Failures and what follows are in `outcome`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::{eventually, refused, scalar};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::seed::{Acme, claim, rows};

/// A reminder that waits to be sent.
pub async fn queued() -> Result<Acme> {
    let acme = Acme::new().await?;
    acme.operator
        .execute(
            "select rotator.set_contact('priya', 'email', 'priya@acme.example')",
            &[],
        )
        .await?;
    acme.register(
        "stripe",
        "expiry_date => now() + interval '5 days', rotation_interval => '90 days', owner_id => 'priya', purpose => 'cards',
         provider_type => 'stripe', provider_ref => 'acct_1', environment => 'production', priority => 'P2'",
    )
    .await?;
    acme.tick().await?;
    Ok(acme)
}

pub const STATE: &str = "select state, attempts, last_error, provider_message_id, sent_at is not null as sent from rotator.notifications";

#[tokio::test]
async fn a_claim_carries_all_that_a_message_needs() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    assert_eq!(
        (
            claim.channel.as_str(),
            claim.recipient.as_deref(),
            claim.attempt
        ),
        ("email", Some("priya@acme.example"), 1)
    );
    ensure!(
        claim.link_token.len() >= 22,
        "128 random bits at least: {}",
        claim.link_token.len()
    );
    let m = &claim.message;
    assert_eq!(m["kind"], "reminder");
    assert_eq!(m["notification_id"], json!(claim.id.to_string()));
    assert_eq!(
        m["tenant"],
        json!({"slug": "acme", "name": "acme", "time_zone": "UTC"})
    );
    let secret = &m["secret"];
    for (key, value) in [
        ("name", "stripe"),
        ("provider_type", "stripe"),
        ("environment", "production"),
        ("priority", "P2"),
        ("owner_id", "priya"),
        ("purpose", "cards"),
        ("provider_ref", "acct_1"),
    ] {
        assert_eq!(secret[key], value, "{key}");
    }
    assert_eq!(
        (&m["days_until_expiry"], &m["lead_time_days"], &m["cycle"]),
        (&json!(5), &json!(7), &json!(1))
    );
    assert_eq!(
        (&m["has_interval"], &m["interval_text"], &m["acknowledged"]),
        (&json!(true), &json!("90 days"), &json!(null))
    );
    ensure!(
        m["expiry_date"]
            .as_str()
            .is_some_and(|date| date.ends_with('Z')),
        "{m}"
    );
    ensure!(
        m["expiry_local"]
            .as_str()
            .is_some_and(|date| date.ends_with("(UTC)")),
        "{m}"
    );
    Ok(())
}

#[tokio::test]
async fn completing_is_told_once_and_may_be_repeated() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.complete(&claim).await?);
    assert_eq!(
        acme.rows(STATE).await?,
        json!([{"state": "sent", "attempts": 1, "last_error": null, "provider_message_id": "vendor-1", "sent": true}])
    );
    let before = acme.fingerprint().await?;
    ensure!(
        acme.complete(&claim).await?,
        "a repeat by the same claim is true"
    );
    ensure!(
        acme.fail(&claim, "permanent").await?,
        "whatever it says now"
    );
    assert_eq!(acme.fingerprint().await?, before, "and changes nothing");
    for (id, claim_id) in [(claim.id, Uuid::nil()), (Uuid::nil(), claim.claim_id)] {
        let stranger: bool = scalar(
            &acme.worker,
            "select rotator.complete_notification($1, $2)",
            &[&id, &claim_id],
        )
        .await?;
        ensure!(!stranger);
    }
    assert_eq!(acme.claim().await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_lost_worker_s_row_is_taken_again_and_its_stale_claim_counts_no_more() -> Result<()> {
    let acme = queued().await?;
    let lost = claim(&acme.worker, 1, "3 seconds")
        .await?
        .pop()
        .context("queued")?;
    assert_eq!(acme.claim().await?.len(), 0, "leased");
    let again = eventually(Duration::from_secs(20), "the lease to end", async || {
        Ok(acme.claim().await?.pop())
    })
    .await?;
    assert_eq!((again.id, again.attempt), (lost.id, 2));
    assert_ne!(
        again.link_token, lost.link_token,
        "each attempt has a link of its own"
    );
    ensure!(
        !acme.complete(&lost).await?,
        "the claim is no longer theirs"
    );
    ensure!(!acme.fail(&lost, "permanent").await?);
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "leased"}])
    );
    ensure!(acme.complete(&again).await?);
    assert_eq!(attempts(&acme).await?, json!([[1, "lost"], [2, "sent"]]));
    Ok(())
}

/// Number and outcome of each attempt, kept with its error and the vendor's id.
pub async fn attempts(acme: &Acme) -> Result<Value> {
    let sql = "select coalesce(jsonb_agg(jsonb_build_array(attempt, outcome) order by attempt, started_at), '[]')
        from rotator_internal.delivery_attempt";
    scalar(&acme.db.admin, sql, &[]).await
}

#[tokio::test]
async fn a_claim_past_its_lease_still_completes_while_it_is_the_latest() -> Result<()> {
    let acme = queued().await?;
    let late = acme.claim_one().await?;
    acme.end_waiting().await?;
    ensure!(acme.complete(&late).await?);
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "sent"}])
    );
    Ok(())
}

#[tokio::test]
async fn what_a_stopping_worker_gives_back_counts_as_no_attempt() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    let release = "select rotator.release_notifications($1, $2)";
    assert_eq!(
        scalar::<i32>(
            &acme.worker,
            release,
            &[
                &vec![claim.id, Uuid::nil()],
                &vec![claim.claim_id, Uuid::nil()]
            ]
        )
        .await?,
        1
    );
    assert_eq!(
        scalar::<i32>(
            &acme.worker,
            release,
            &[&vec![claim.id], &vec![claim.claim_id]]
        )
        .await?,
        0
    );
    let again = acme.claim_one().await?;
    assert_eq!((again.id, again.attempt), (claim.id, 1));
    ensure!(!acme.complete(&claim).await?, "the old claim is gone");
    ensure!(acme.complete(&again).await?);
    Ok(())
}

#[tokio::test]
async fn two_workers_never_claim_the_same() -> Result<()> {
    let acme = Acme::new().await?;
    acme.editor
        .execute("select rotator.register_secret('key ' || n, expiry_date => now() + interval '5 days', owner_id => 'owner ' || n) from generate_series(1, 200) as n", &[])
        .await?;
    acme.tick().await?;
    let mut workers = JoinSet::new();
    for label in ["a", "b", "c", "d"] {
        let role = acme.db.login_role(label, &["rotator_sidecar"]).await?;
        let session = acme.db.connect_as(&role).await?;
        workers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claims = claim(&session, 7, "1 minute").await?;
                if claims.is_empty() {
                    return anyhow::Ok(mine);
                }
                mine.extend(claims.into_iter().map(|claim| claim.id));
            }
        });
    }
    let mut all = Vec::new();
    while let Some(outcome) = workers.join_next().await {
        all.extend(outcome??);
    }
    let distinct: BTreeSet<Uuid> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (200, 200));
    Ok(())
}

#[tokio::test]
async fn one_row_that_can_not_be_decrypted_does_not_hold_up_the_rest() -> Result<()> {
    let acme = Acme::new().await?;
    for name in ["broken name", "broken recipient", "whole"] {
        acme.operator
            .execute(
                "select rotator.set_contact($1, 'email', replace($1, ' ', '.') || '@acme.example')",
                &[&name],
            )
            .await?;
        acme.register(
            name,
            &format!("owner_id => '{name}', expiry_date => now() + interval '5 days'"),
        )
        .await?;
    }
    acme.tick().await?;
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.secret set name = set_byte(name, length(name) - 1, 255 - get_byte(name, length(name) - 1))
             where owner_id = 'broken name';
             update rotator_internal.recipient as r set address = 'garbage' from rotator_internal.contact as c
             where c.recipient_id = r.id and c.owner_id = 'broken recipient'",
        )
        .await?;
    let claims = acme.claim().await?;
    assert_eq!(claims.len(), 3);
    let whole = claims
        .iter()
        .find(|claim| claim.message["secret"]["name"] == "whole")
        .context("the whole one")?;
    assert_eq!(whole.recipient.as_deref(), Some("whole@acme.example"));
    ensure!(
        claims.iter().any(|claim| claim.recipient.is_none()),
        "the sidecar sees that it has no address"
    );
    ensure!(acme.complete(whole).await?);
    Ok(())
}

#[tokio::test]
async fn claims_out_of_bounds_are_refused() -> Result<()> {
    let acme = queued().await?;
    for arguments in [
        "null",
        "''",
        "'w', 0",
        "'w', -1",
        "'w', 1000000",
        "'w', null",
        "'w', 10, '0 seconds'",
        "'w', 10, '-1 minute'",
        "'w', 10, '2 days'",
        "'w', 10, null",
    ] {
        let sql = format!("select * from rotator.claim_notifications({arguments})");
        refused(acme.worker.query(&sql, &[]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    let error = acme
        .editor
        .query("select * from rotator.claim_notifications('w')", &[])
        .await
        .expect_err("no worker");
    ensure!(
        error.code().is_some_and(|code| code.code() == "42501"),
        "{error:?}"
    );
    let seen = rows(
        &acme.worker,
        "select * from rotator.current_tenant() as t where t is not null",
    )
    .await?;
    assert_eq!(seen, json!([]), "the sidecar has no tenant");
    Ok(())
}
