//! Behind a pooler: in session mode all is as without it; in transaction mode LISTEN is accepted and never answered, which
//! the sidecar finds out, says, and makes up for by polling.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rotator_tests::pooler::Pooler;
use rotator_tests::sidecar::http;
use rotator_tests::slack::StandIn;
use rotator_tests::{Sidecar, scalar};
use serde_json::Value;

use crate::seed::{Acme, SOON};
use crate::slack::BOT_TOKEN;

async fn behind(acme: &Acme, slack: &StandIn, mode: &str) -> Result<(Pooler, Sidecar)> {
    let role = acme.db.login_role("sidecar", &["rotator_sidecar"]).await?;
    let pooler = Pooler::start(&acme.db, &role, mode).await?;
    let url = slack.url();
    let settings = [
        ("ROTATOR_SLACK_URL", url.as_str()),
        ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN),
    ];
    let mut sidecar = Sidecar::spawn(&pooler.url(&acme.db, &role), &settings).await?;
    sidecar.ready().await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    Ok((pooler, sidecar))
}

async fn readyz(sidecar: &Sidecar) -> Result<(u16, Value)> {
    let answer = http().get(sidecar.url("/readyz")).send().await?;
    let status = answer.status().as_u16();
    Ok((status, serde_json::from_str(&answer.text().await?)?))
}

#[tokio::test]
async fn in_transaction_mode_it_delivers_by_polling_and_says_so() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let (_pooler, sidecar) = behind(&acme, &slack, "transaction").await?;
    let line = sidecar.logged(SOON, "NOTIFY does not arrive").await?;
    ensure!(
        line.contains("WARN") && line.contains("transaction mode") && line.contains("session mode"),
        "{line}"
    );
    let (status, body) = readyz(&sidecar).await?;
    ensure!(
        status == 200 && body["ready"] == true && body["listen"] == "polling",
        "{body}"
    );
    ensure!(
        body["warnings"][0]
            .as_str()
            .is_some_and(|text| text.starts_with("listen: NOTIFY does not arrive")),
        "{body}"
    );
    let page = http()
        .get(sidecar.url("/metrics"))
        .send()
        .await?
        .text()
        .await?;
    ensure!(
        page.contains("\nrotator_listen_up 0\n"),
        "an alert can see it"
    );

    acme.many_owners_due(40).await?;
    acme.tick().await?;
    slack.received(40, SOON).await?;
    rotator_tests::until(SOON, "all to be reported", async || {
        Ok(acme.count("sent").await? == 40)
    })
    .await?;
    let late: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.delivery_attempt where outcome is distinct from 'sent'",
        &[],
    )
    .await?;
    ensure!(late == 0, "each at the first attempt");
    ensure!(
        sidecar.log()?.matches("NOTIFY does not arrive").count() == 1,
        "said once"
    );
    Ok(())
}

#[tokio::test]
async fn in_session_mode_it_is_woken_as_ever() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let (_pooler, sidecar) = behind(&acme, &slack, "session").await?;
    let (status, body) = readyz(&sidecar).await?;
    ensure!(
        status == 200 && body["listen"] == "ok" && body["warnings"] == serde_json::json!([]),
        "{body}"
    );
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        acme.due(&format!("round {round}")).await?;
        acme.tick().await?;
        let committed = Instant::now();
        let request = slack
            .received(round + 1, SOON)
            .await?
            .pop()
            .context("a request")?;
        slowest = slowest.max(request.at.saturating_duration_since(committed));
    }
    ensure!(
        slowest < Duration::from_secs(1),
        "that was the poll: {slowest:?}"
    );
    Ok(())
}
