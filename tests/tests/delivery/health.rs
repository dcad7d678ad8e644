//! `/healthz` says that the process answers, `/readyz` whether it can do its work, and if not, why.
//! Draining: `drain.rs`.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{Cluster, Options, Sidecar, TestDb, eventually};
use serde_json::Value;

use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

async fn ask(sidecar: &Sidecar, path: &str) -> Result<(u16, Value)> {
    let answer = http().get(sidecar.url(path)).send().await?;
    ensure!(answer.headers()["content-type"] == "application/json");
    Ok((
        answer.status().as_u16(),
        serde_json::from_str(&answer.text().await?)?,
    ))
}

/// Waits for `/readyz` to be 503 for a reason that begins so.
async fn unready(sidecar: &Sidecar, reason: &str) -> Result<Value> {
    eventually(SOON, &format!("/readyz to say {reason}"), async || {
        let (status, body) = ask(sidecar, "/readyz").await?;
        let reasons = body["reasons"].as_array().context("reasons")?;
        let said = reasons
            .iter()
            .any(|text| text.as_str().is_some_and(|text| text.starts_with(reason)));
        Ok((status == 503 && said).then_some(body))
    })
    .await
}

#[tokio::test]
async fn when_all_is_well_both_say_so() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let sidecar = sidecar(&acme, &slack).await?;
    ensure!(ask(&sidecar, "/healthz").await? == (200, serde_json::json!({"status": "ok"})));
    let (status, body) = ask(&sidecar, "/readyz").await?;
    ensure!(
        status == 200 && body["ready"] == true && body["reasons"] == serde_json::json!([]),
        "{body}"
    );
    ensure!(
        body["database"] == "ok" && body["listen"] == "ok" && body["draining"] == false,
        "{body}"
    );
    ensure!(
        body["queue"]["queued"] == 0 && body["queue"]["dead"] == 0,
        "{body}"
    );
    Ok(())
}

#[tokio::test]
async fn the_queue_is_counted_and_its_age_is_a_reason() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(Answer::NotOk("token_revoked"));
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "dead").await?;
    let dead = eventually(SOON, "the dead one to be counted", async || {
        let (_, body) = ask(&sidecar, "/readyz").await?;
        Ok((body["queue"]["dead"] == 1).then_some(body))
    })
    .await?;
    ensure!(
        dead["ready"] == true,
        "a dead notification doesn't stop the others: {dead}"
    );

    // One that has been due for ten minutes and that nobody can take, since another session holds its row; the weakest
    // lock lets the update pass, stays with the row, and makes the claim skip it.
    let holder = acme.db.superuser().await?;
    holder
        .batch_execute("begin; select 1 from rotator_internal.notification for key share")
        .await?;
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.notification set state = 'retry', available_at = now() - interval '10 minutes'",
        )
        .await?;
    let body = unready(&sidecar, "queue:").await?;
    ensure!(
        body["queue"]["oldest_due_seconds"]
            .as_f64()
            .is_some_and(|age| age > 500.0),
        "{body}"
    );
    holder.batch_execute("rollback").await?;
    acme.becomes(secret, "sent").await?;
    sidecar.ready().await
}

#[tokio::test]
async fn without_the_database_it_lives_and_is_not_ready() -> Result<()> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let acme = Acme::on(TestDb::in_cluster(cluster).await?, "UTC").await?;
    let slack = StandIn::start().await?;
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.db.cluster.stop().await?;
    let body = unready(&sidecar, "database:").await?;
    ensure!(
        body["database"] == "down" && body.get("queue").is_none(),
        "{body}"
    );
    let port = acme.db.cluster.port.to_string();
    ensure!(
        !body.to_string().contains(&port),
        "where the database is is nobody's business: {body}"
    );
    unready(&sidecar, "listen:").await?;
    ensure!(ask(&sidecar, "/healthz").await?.0 == 200);
    acme.db.cluster.start_again().await?;
    sidecar.ready().await
}
