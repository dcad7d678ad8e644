//! What happens in PagerDuty comes back: an incident that somebody acknowledges there is acknowledged here. Its webhooks
//! are signed; what isn't, or is about something else, changes nothing. The way there: `pagerduty.rs`.

use anyhow::{Context, Result, ensure};
use ring::hmac;
use rotator_tests::sidecar::http;
use rotator_tests::vendor::Vendor;
use rotator_tests::{Sidecar, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::pagerduty::{KEY, pagerduty};
use crate::seed::{Acme, SOON};

const SECRET: &str = "Wz8sDq2vXk3n+ThisIsNotARealSecret/0123456789";
const OLD_SECRET: &str = "the-secret-that-is-being-replaced";

struct Bench {
    acme: Acme,
    pagerduty: Vendor,
    sidecar: Sidecar,
    secret: Uuid,
    /// Our dedup key, as PagerDuty got it.
    key: String,
}

impl Bench {
    async fn new() -> Result<Self> {
        let (acme, pagerduty) = (Acme::new().await?, pagerduty().await?);
        let secrets = format!("{OLD_SECRET},{SECRET}");
        let settings = [
            ("ROTATOR_PAGERDUTY_URL", pagerduty.url()),
            ("ROTATOR_PAGERDUTY_WEBHOOK_SECRET", secrets),
        ];
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let sidecar = Sidecar::start(&acme.db, &settings).await?;
        acme.contact("pagerduty", KEY).await?;
        let secret = acme.due("stripe-live").await?;
        acme.tick().await?;
        let trigger = pagerduty.received(1, SOON).await?.remove(0).json()?;
        acme.becomes(secret, "sent").await?;
        let key = trigger["dedup_key"].as_str().context("a key")?.to_owned();
        Ok(Self {
            acme,
            pagerduty,
            sidecar,
            secret,
            key,
        })
    }

    /// An event as PagerDuty's documentation shows it.
    fn event(&self, kind: &str) -> Value {
        json!({"event": {
            "id": "01BWQNYHSJ8VBVWQ5SJJKPVGFD", "event_type": kind, "resource_type": "incident",
            "occurred_at": "2099-10-02T18:45:22.169Z",
            "agent": {"html_url": "https://acme.pagerduty.com/users/PLH1HKV", "id": "PLH1HKV",
                      "self": "https://api.pagerduty.com/users/PLH1HKV", "summary": "Dana", "type": "user_reference"},
            "client": null,
            "data": {"id": "PGR0VU2", "type": "incident", "number": 2, "status": "acknowledged",
                     "incident_key": self.key, "title": "stripe-live expires in 5 days",
                     "service": {"id": "PF9KMXH", "type": "service_reference"}, "urgency": "high"}
        }})
    }

    async fn send(&self, event: &Value) -> Result<u16> {
        let body = event.to_string();
        self.send_signed(&body, &signature(SECRET, &body)).await
    }

    async fn send_signed(&self, body: &str, signature: &str) -> Result<u16> {
        let answer = http()
            .post(self.sidecar.url("/pagerduty/webhooks"))
            .header("content-type", "application/json")
            .header("x-pagerduty-signature", signature)
            .body(body.to_owned())
            .send()
            .await?;
        Ok(answer.status().as_u16())
    }

    async fn acknowledged_by(&self) -> Result<Option<String>> {
        let sql = "select acknowledged_by from rotator.alerts where secret_id = $1 and cycle = 1";
        scalar(&self.acme.operator, sql, &[&self.secret]).await
    }
}

fn signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("v1={hex}")
}

#[tokio::test]
async fn an_acknowledgement_in_pagerduty_counts_here() -> Result<()> {
    let bench = Bench::new().await?;
    let link = "select rotator.link_identity('dana', 'pagerduty', 'PLH1HKV')";
    bench.acme.operator.execute(link, &[]).await?;
    let event = bench.event("incident.acknowledged");
    ensure!(bench.send(&event).await? == 200);
    ensure!(bench.acknowledged_by().await?.as_deref() == Some("dana"));
    let event_of: (String, String) = {
        let sql = "select actor, source from rotator.audit_log where action = 'alert.acknowledged'";
        let row = bench.acme.operator.query_one(sql, &[]).await?;
        (row.get(0), row.get(1))
    };
    ensure!(
        event_of == ("dana".to_owned(), "pagerduty".to_owned()),
        "{event_of:?}"
    );
    // PagerDuty tells it again when it isn't sure, and is told of it itself: neither changes anything more.
    bench
        .acme
        .db
        .admin
        .batch_execute("notify rotator_outbox")
        .await?;
    bench.pagerduty.received(2, SOON).await?;
    rotator_tests::until(SOON, "nothing to be under way", async || {
        Ok(bench.acme.count("leased").await? == 0)
    })
    .await?;
    let before = bench.acme.fingerprint().await?;
    ensure!(bench.send(&event).await? == 200);
    ensure!(bench.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn who_is_not_linked_is_named_by_pagerduty() -> Result<()> {
    for (agent, expected) in [
        (
            json!({"id": "PX9", "type": "user_reference"}),
            "pagerduty:PX9",
        ),
        (
            json!({"id": "PS1", "type": "service_reference"}),
            "pagerduty",
        ),
        (json!({"id": "<b>", "type": "user_reference"}), "pagerduty"),
        (Value::Null, "pagerduty"),
    ] {
        let bench = Bench::new().await?;
        let mut event = bench.event("incident.acknowledged");
        event["event"]["agent"] = agent;
        let body = event.to_string();
        // While the secret is changed there are two signatures.
        let both = format!(
            "{},{}",
            signature("unknown", &body),
            signature(OLD_SECRET, &body)
        );
        ensure!(bench.send_signed(&body, &both).await? == 200);
        ensure!(bench.acknowledged_by().await?.as_deref() == Some(expected));
    }
    Ok(())
}

#[tokio::test]
async fn what_pagerduty_did_not_sign_is_refused() -> Result<()> {
    let bench = Bench::new().await?;
    let before = bench.acme.fingerprint().await?;
    let event = bench.event("incident.acknowledged");
    let (body, pretty) = (event.to_string(), serde_json::to_string_pretty(&event)?);
    let good = signature(SECRET, &body);
    let forged = [
        (body.as_str(), signature("another", &body)),
        (body.as_str(), good.replace("v1=", "v2=")),
        (body.as_str(), good.replace("v1=", "")),
        (body.as_str(), good.to_uppercase()),
        (body.as_str(), good[..40].to_owned()),
        (body.as_str(), String::new()),
        // Written anew it is another body, although it says the same.
        (pretty.as_str(), good.clone()),
    ];
    for (body, signature) in &forged {
        ensure!(
            bench.send_signed(body, signature).await? == 401,
            "{signature}"
        );
    }
    let unsigned = http()
        .post(bench.sidecar.url("/pagerduty/webhooks"))
        .body(body.clone());
    ensure!(unsigned.send().await?.status() == 401);
    ensure!(
        http()
            .get(bench.sidecar.url("/pagerduty/webhooks"))
            .send()
            .await?
            .status()
            == 405
    );
    ensure!(bench.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn other_events_and_other_incidents_change_nothing() -> Result<()> {
    let bench = Bench::new().await?;
    let before = bench.acme.fingerprint().await?;
    for kind in [
        "incident.resolved",
        "incident.triggered",
        "incident.unacknowledged",
        "pagey.ping",
        "service.updated",
        "",
    ] {
        ensure!(bench.send(&bench.event(kind)).await? == 200, "{kind}");
    }
    let unknown = Uuid::from_u128(1);
    for key in [
        json!(null),
        json!(""),
        json!("somebody else's"),
        json!(format!("rotator.{unknown}.1")),
        json!(format!("rotator.{}.2", bench.secret)),
        json!(format!("rotator.{}.99999999999", bench.secret)),
        json!(format!("{}'; drop schema rotator; --", bench.key)),
    ] {
        let mut event = bench.event("incident.acknowledged");
        event["event"]["data"]["incident_key"] = key.clone();
        ensure!(bench.send(&event).await? == 200, "{key}");
    }
    let mut event = bench.event("incident.acknowledged");
    event["event"]["data"]["incident_key"] = json!("rotator.\0");
    let null = event.to_string();
    for body in [
        "",
        "[]",
        "{}",
        "{\"event\": {}}",
        "{\"event\": {\"event_type\": 1}}",
        &null,
    ] {
        let status = bench.send_signed(body, &signature(SECRET, body)).await?;
        ensure!(status == 400, "{body}: {status}");
    }
    // A time as nobody writes it, but read all the same.
    event["event"]["data"]["incident_key"] = json!("somebody else's");
    event["event"]["occurred_at"] = json!("2026-11-23T01:00:00+01:00[Europe/Berlin]");
    ensure!(bench.send(&event).await? == 200);
    let huge = "x".repeat(600 * 1024);
    ensure!(bench.send_signed(&huge, &signature(SECRET, &huge)).await? == 413);
    ensure!(bench.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn an_old_event_does_not_acknowledge_what_was_opened_again() -> Result<()> {
    let bench = Bench::new().await?;
    let (operator, admin) = (&bench.acme.operator, &bench.acme.db.admin);
    let state = async || -> Result<String> {
        let sql = "select state from rotator.alerts where secret_id = $1";
        scalar(operator, sql, &[&bench.secret]).await
    };
    let mut event = bench.event("incident.acknowledged");
    // Of an alert of this cycle that a moved date has ended since, and another one opened anew.
    event["event"]["occurred_at"] = json!("2026-01-01T00:00:00Z");
    ensure!(bench.send(&event).await? == 200);
    ensure!(state().await? == "open" && bench.acknowledged_by().await?.is_none());
    let now = "select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    event["event"]["occurred_at"] = json!(scalar::<String>(operator, now, &[]).await?);
    ensure!(bench.send(&event).await? == 200);
    ensure!(state().await? == "acknowledged");
    // As when the acknowledgement has run out.
    let open = "update rotator_internal.alert set state = 'open', acknowledged_until = null";
    admin.batch_execute(open).await?;
    ensure!(bench.send(&event).await? == 200);
    ensure!(state().await? == "open");
    event["event"]["occurred_at"] = json!("2099-01-01T00:00:00Z");
    ensure!(bench.send(&event).await? == 200);
    ensure!(state().await? == "acknowledged");
    Ok(())
}
