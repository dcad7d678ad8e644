//! The outbox as a worker sees it: claims, leases, outcomes, and what follows from each.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::{eventually, refused, scalar};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::seed::{Acme, claim, rows};

/// A reminder that waits to be sent.
async fn queued() -> Result<Acme> {
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

const STATE: &str = "select state, attempts, last_error, provider_message_id, sent_at is not null as sent from rotator.notifications";

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
    let lost = claim(&acme.worker, 1, "1 second")
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
async fn attempts(acme: &Acme) -> Result<Value> {
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
async fn failures_wait_between_a_second_and_an_hour_and_as_long_as_the_vendor_asks() -> Result<()> {
    let acme = queued().await?;
    for (reason, retry_after, at_least, at_most) in [
        ("transient", None, 1, 3600),
        ("timeout", Some("0 seconds"), 1, 3600),
        ("rate_limited", Some("-1 hour"), 1, 3600),
        ("rate_limited", Some("20 minutes"), 1200, 3600),
        ("transient", Some("5 hours"), 3600, 3600),
        ("transient", Some("3600 seconds"), 3600, 3600),
    ] {
        let claim = acme.claim_one().await?;
        let accepted: bool = scalar(
            &acme.worker,
            "select rotator.fail_notification($1, $2, 'no', $3, $4::text::interval)",
            &[&claim.id, &claim.claim_id, &reason, &retry_after],
        )
        .await?;
        ensure!(accepted);
        let wait: i32 = scalar(
            &acme.db.admin,
            "select ceil(extract(epoch from available_at - clock_timestamp()))::integer from rotator_internal.notification",
            &[],
        )
        .await?;
        // What has passed since then is a second or two at most.
        ensure!(
            (at_least - 2..=at_most).contains(&wait),
            "{reason} {retry_after:?}: {wait} s"
        );
        ensure!(
            retry_after.is_none() || wait > 600 || at_least < 600,
            "{retry_after:?}: {wait} s"
        );
        assert_eq!(acme.claim().await?.len(), 0, "not before its time");
        acme.end_waiting().await?;
    }
    Ok(())
}

#[tokio::test]
async fn backoff_grows_and_is_spread() -> Result<()> {
    let acme = queued().await?;
    let mut waits = Vec::new();
    for _ in 1..12 {
        let claim = acme.claim_one().await?;
        acme.fail(&claim, "transient").await?;
        let wait: f64 = scalar(
            &acme.db.admin,
            "select extract(epoch from available_at - clock_timestamp())::float8 from rotator_internal.notification",
            &[],
        )
        .await?;
        ensure!(wait <= 3600.0, "{wait}");
        waits.push(wait);
        acme.end_waiting().await?;
    }
    let (first, last): (f64, f64) = (waits[..3].iter().sum(), waits[8..].iter().sum());
    ensure!(last > first, "later waits are longer: {waits:?}");
    Ok(())
}

#[tokio::test]
async fn it_is_given_up_after_twelve_attempts() -> Result<()> {
    let acme = queued().await?;
    for attempt in 1..=12 {
        let claim = acme.claim_one().await?;
        assert_eq!(claim.attempt, attempt);
        acme.fail(&claim, "transient").await?;
        acme.end_waiting().await?;
    }
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        acme.rows(STATE).await?,
        json!([{"state": "dead", "attempts": 12, "last_error": "it did not work", "provider_message_id": null, "sent": false}])
    );
    assert_eq!(attempts(&acme).await?.as_array().map(Vec::len), Some(12));
    Ok(())
}

#[tokio::test]
async fn a_worker_lost_at_the_last_attempt_leaves_it_dead_not_stuck() -> Result<()> {
    let acme = queued().await?;
    for _ in 1..=12 {
        acme.claim_one().await?;
        acme.end_waiting().await?;
    }
    acme.tick().await?;
    assert_eq!(
        acme.rows("select state, attempts from rotator.notifications")
            .await?,
        json!([{"state": "dead", "attempts": 12}])
    );
    Ok(())
}

#[tokio::test]
async fn final_reasons_are_final_and_others_are_no_reasons() -> Result<()> {
    for reason in ["permanent", "recipient_gone"] {
        let acme = queued().await?;
        let claim = acme.claim_one().await?;
        for nonsense in ["because", "", "Permanent"] {
            let outcome = acme
                .worker
                .query(
                    "select rotator.fail_notification($1, $2, 'no', $3)",
                    &[&claim.id, &claim.claim_id, &nonsense],
                )
                .await;
            refused(outcome, "22023")?;
        }
        let outcome = acme
            .worker
            .query(
                "select rotator.fail_notification($1, $2, 'no', null)",
                &[&claim.id, &claim.claim_id],
            )
            .await;
        refused(outcome, "22023")?;
        ensure!(acme.fail(&claim, reason).await?);
        acme.end_waiting().await?;
        assert_eq!(acme.claim().await?.len(), 0);
        assert_eq!(
            acme.rows("select state from rotator.notifications").await?,
            json!([{"state": "dead"}])
        );
        assert_eq!(attempts(&acme).await?, json!([[1, reason]]));
    }
    Ok(())
}

#[tokio::test]
async fn many_outcomes_are_told_in_one_call() -> Result<()> {
    let acme = Acme::new().await?;
    for number in 0..4 {
        acme.due(&format!("key {number}")).await?;
    }
    acme.tick().await?;
    let claims = acme.claim().await?;
    let results = json!([
        {"id": claims[0].id.to_string(), "claim_id": claims[0].claim_id.to_string(), "ok": true, "provider_message_id": "m-1"},
        {"id": claims[1].id.to_string(), "claim_id": claims[1].claim_id.to_string(), "ok": false, "error": "slow", "reason": "rate_limited", "retry_after": 1800},
        {"id": claims[2].id.to_string(), "claim_id": claims[2].claim_id.to_string(), "ok": false, "error": "gone", "reason": "recipient_gone"},
        {"id": claims[3].id.to_string(), "claim_id": Uuid::nil().to_string(), "ok": true},
    ]);
    let accepted = acme
        .worker
        .query(
            "select id, accepted from rotator.complete_notifications($1)",
            &[&results],
        )
        .await?;
    let accepted: BTreeSet<(Uuid, bool)> = accepted
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let expected = claims
        .iter()
        .enumerate()
        .map(|(number, claim)| (claim.id, number != 3))
        .collect();
    assert_eq!(accepted, expected);
    let mut states: Vec<(Uuid, String)> = Vec::new();
    for row in acme
        .editor
        .query("select id, state from rotator.notifications", &[])
        .await?
    {
        states.push((row.get(0), row.get(1)));
    }
    for (claim, state) in claims.iter().zip(["sent", "retry", "dead", "leased"]) {
        ensure!(
            states.contains(&(claim.id, state.to_owned())),
            "{state}: {states:?}"
        );
    }
    let wait: bool = scalar(
        &acme.db.admin,
        "select available_at > now() + interval '29 minutes' from rotator_internal.notification where state = 'retry'",
        &[],
    )
    .await?;
    ensure!(wait, "a bare number is seconds");
    Ok(())
}

#[tokio::test]
async fn outcomes_that_make_no_sense_are_refused_as_a_whole() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    let good = json!({"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": true});
    let before = acme.fingerprint().await?;
    let with = |key: &str, value: Value| {
        let mut bad = json!({"id": claim.id.to_string(), "claim_id": claim.claim_id.to_string(), "ok": false, "error": "no", "reason": "transient"});
        bad[key] = value;
        json!([good, bad])
    };
    for results in [
        json!({}),
        json!("x"),
        json!([1]),
        json!([good, "x"]),
        with("reason", json!("because")),
        with("reason", json!(null)),
        with("retry_after", json!("soon")),
        with("id", json!("not-a-uuid")),
        with("ok", json!("perhaps")),
    ] {
        let outcome = acme
            .worker
            .query(
                "select * from rotator.complete_notifications($1)",
                &[&results],
            )
            .await;
        refused(outcome, "22023").map_err(|error| error.context(results.to_string()))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn what_a_stopping_worker_gives_back_counts_as_no_attempt() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    let release = "select rotator.release_notifications($1)";
    assert_eq!(
        scalar::<i32>(&acme.worker, release, &[&vec![claim.claim_id, Uuid::nil()]]).await?,
        1
    );
    assert_eq!(
        scalar::<i32>(&acme.worker, release, &[&vec![claim.claim_id]]).await?,
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
        .execute("select rotator.register_secret('key ' || n, expiry_date => now() + interval '5 days') from generate_series(1, 200) as n", &[])
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
async fn what_is_withdrawn_while_it_is_sent_is_not_tried_again() -> Result<()> {
    let acme = queued().await?;
    let claim = acme.claim_one().await?;
    acme.editor
        .execute("select rotator.mark_rotated(id) from rotator.secrets", &[])
        .await?;
    ensure!(acme.fail(&claim, "transient").await?);
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "cancelled"}])
    );
    Ok(())
}

/// A worker holds the reminder while the date is corrected away and back; then its attempt fails.
#[tokio::test]
async fn a_reminder_that_is_due_again_outlives_the_correction_it_was_withdrawn_by() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme
        .register("stripe", "expiry_date => '2031-01-31 00:00+00'")
        .await?;
    acme.tick_at("'2031-01-24 01:00+00'").await?;
    let held = acme.claim_one().await?;
    for date in ["2031-06-30 00:00+00", "2031-01-31 00:00+00"] {
        acme.editor
            .execute(
                &format!("update rotator.secrets set expiry_date = '{date}' where id = $1"),
                &[&id],
            )
            .await?;
    }
    acme.tick_at("'2031-01-24 01:00+00'").await?;
    acme.fail(&held, "transient").await?;
    acme.tick_at("'2031-01-24 02:00+00'").await?;
    acme.end_waiting().await?;
    assert_eq!(acme.claim().await?.len(), 1, "somebody must be told");
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
