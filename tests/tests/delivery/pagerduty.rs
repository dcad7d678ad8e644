//! PagerDuty: what a secret's alert looks like from there, from the first reminder to the rotation, and what is never
//! told to anybody else. When an end is queued: `behaviour/incident`. Failures: `vendors`.

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::vendor::{Answer, Request, Vendor};
use rotator_tests::{Sidecar, scalar};
use serde_json::{Value, json};

use crate::seed::{Acme, SOON};

pub const KEY: &str = "0123456789abcdef0123456789ABCDEF";

/// PagerDuty as it answers when all is well.
pub async fn pagerduty() -> Result<Vendor> {
    let accepted =
        json!({"status": "success", "message": "Event processed", "dedup_key": "whatever"});
    Vendor::start(Answer::json(202, &accepted)).await
}

async fn sidecar(acme: &Acme, pagerduty: &Vendor) -> Result<Sidecar> {
    let settings = [
        ("ROTATOR_PAGERDUTY_URL", pagerduty.url()),
        ("RUST_LOG", "trace".to_owned()),
    ];
    let settings = settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    Sidecar::start(&acme.db, &settings).await
}

fn action(request: &Request) -> Result<(Value, Value)> {
    let event = request.json()?;
    Ok((event["event_action"].clone(), event["dedup_key"].clone()))
}

#[tokio::test]
async fn an_alert_is_triggered_acknowledged_and_resolved_by_one_key_a_cycle() -> Result<()> {
    let (acme, pagerduty) = (Acme::new().await?, pagerduty().await?);
    let _sidecar = sidecar(&acme, &pagerduty).await?;
    acme.contact("pagerduty", KEY).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    pagerduty.received(1, SOON).await?;
    acme.becomes(secret, "sent").await?;
    for (count, call) in [(2, "acknowledge($1)"), (3, "mark_rotated($1)")] {
        let sql = format!("select rotator.{call}");
        acme.operator.execute(&sql, &[&secret]).await?;
        pagerduty.received(count, SOON).await?;
    }
    // The next cycle begins as the first did.
    let sql = "update rotator.secrets set expiry_date = now() + interval '1 hour' where id = $1";
    acme.operator.execute(sql, &[&secret]).await?;
    acme.tick().await?;
    let requests = pagerduty.received(4, SOON).await?;

    let key = |cycle: i32| json!(format!("rotator.{secret}.{cycle}"));
    let seen = requests.iter().map(action).collect::<Result<Vec<_>>>()?;
    let expected = [
        ("trigger", 1),
        ("acknowledge", 1),
        ("resolve", 1),
        ("trigger", 2),
    ];
    assert_eq!(
        seen,
        expected.map(|(action, cycle)| (json!(action), key(cycle)))
    );
    for request in &requests {
        ensure!(
            request.method == "POST" && request.path == "/v2/enqueue",
            "{request:?}"
        );
        ensure!(request.header("content-type") == Some("application/json"));
        assert_eq!(request.json()?["routing_key"], KEY);
    }
    for request in &requests[1..3] {
        let event = request.json()?;
        ensure!(
            event["payload"].is_null() && event["links"].is_null(),
            "{event}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_trigger_says_what_is_the_matter_and_links_to_our_page() -> Result<()> {
    let (acme, pagerduty) = (Acme::new().await?, pagerduty().await?);
    let sidecar = sidecar(&acme, &pagerduty).await?;
    acme.contact("pagerduty", KEY).await?;
    let name = "stripe <live> \"&\" 🔑 schlüssel";
    let secret = acme
        .register(
            name,
            "expiry_date => now() - interval '3 days', rotation_interval => '90 days', owner_id => 'dana', priority => 'P2',
             provider_type => 'stripe', environment => 'production', purpose => 'card payments'",
        )
        .await?;
    acme.tick().await?;
    let event = pagerduty.received(1, SOON).await?.remove(0).json()?;
    let sent = acme.becomes(secret, "sent").await?;
    assert_eq!(
        sent.provider_message_id.as_deref(),
        event["dedup_key"].as_str()
    );

    let payload = &event["payload"];
    let expected = [
        ("summary", format!("{name} expired 3 days ago · acme")),
        ("source", name.to_owned()),
        ("severity", "critical".to_owned()),
        ("component", "stripe".to_owned()),
        ("group", "production".to_owned()),
        ("class", "credential overdue".to_owned()),
    ];
    for (field, text) in expected {
        assert_eq!(payload[field], text, "{field}");
    }
    let details = &payload["custom_details"];
    assert_eq!(
        (&details["owner"], &details["tenant"]),
        (&json!("dana"), &json!("acme"))
    );
    let stamp = payload["timestamp"].as_str().context("a timestamp")?;
    let fresh: bool = scalar(
        &acme.db.admin,
        "select $1::text::timestamptz between now() - interval '1 minute' and now()",
        &[&stamp],
    )
    .await?;
    ensure!(fresh, "{stamp}");
    let link = event["links"][0]["href"].as_str().context("a link")?;
    ensure!(link.starts_with(&sidecar.url("/a/")), "{link}");
    let page = http().get(link).send().await?;
    ensure!(page.status() == 200 && page.text().await?.contains("schlüssel"));
    Ok(())
}

#[tokio::test]
async fn the_routing_key_is_told_to_pagerduty_alone() -> Result<()> {
    let (acme, pagerduty) = (Acme::new().await?, pagerduty().await?);
    let quoting = json!({"status": "invalid event", "message": KEY, "errors": [format!("Invalid routing key {KEY}")]});
    pagerduty.answer(Answer::json(500, &quoting));
    pagerduty.answer(Answer::json(400, &quoting));
    let sidecar = sidecar(&acme, &pagerduty).await?;
    acme.contact("pagerduty", KEY).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "retry").await?;
    acme.end_waiting().await?;
    let dead = acme.becomes(secret, "dead").await?;
    let error = dead.last_error.context("an error")?;
    assert_eq!(
        error,
        "PagerDuty: HTTP 400: it doesn't know this integration key"
    );
    let kept: String = scalar(
        &acme.db.admin,
        "select concat(jsonb_agg(to_jsonb(n)), (select jsonb_agg(to_jsonb(d)) from rotator_internal.delivery_attempt as d),
            (select jsonb_agg(to_jsonb(e)) from rotator_internal.audit_event as e))
         from rotator_internal.notification as n",
        &[],
    )
    .await?;
    for text in [sidecar.log()?, kept] {
        ensure!(!text.contains(&KEY[..16]), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn many_at_once_go_out_at_pagerdutys_pace_and_waiting_costs_no_attempt() -> Result<()> {
    let (acme, pagerduty) = (Acme::new().await?, pagerduty().await?);
    let mut sidecar = sidecar(&acme, &pagerduty).await?;
    sidecar.shows_log = false;
    acme.contact("pagerduty", KEY).await?;
    acme.many_due(24).await?;
    acme.tick().await?;
    let requests = pagerduty.received(24, SOON).await?;
    let burst = requests[19].at - requests[0].at;
    let rest = requests[23].at - requests[0].at;
    ensure!(burst.as_millis() < 2000, "20 go at once: {burst:?}");
    ensure!(
        rest.as_millis() >= 4 * 600 - 100,
        "then 100 a minute: {rest:?}"
    );
    rotator_tests::until(SOON, "all to be sent", async || {
        Ok(acme.count("sent").await? == 24)
    })
    .await?;
    let attempts: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.delivery_attempt",
        &[],
    )
    .await?;
    assert_eq!(attempts, 24);
    Ok(())
}
