//! `/metrics`: names that the guide documents, figures that follow what happens, and no cost to the database for being
//! asked often. That nothing secret is in it: `logs.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::exposition::Exposition;
use rotator_tests::scratch::root;
use rotator_tests::sidecar::{free_address, http};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{Cluster, Options, Sidecar, TestDb, eventually, scalar, until};

use crate::seed::{Acme, SOON};
use crate::slack::{BOT_TOKEN, sidecar};

pub async fn scrape(address: &str) -> Result<Exposition> {
    let answer = http()
        .get(format!("http://{address}/metrics"))
        .send()
        .await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    ensure!(answer.headers()["content-type"] == "text/plain; version=0.0.4; charset=utf-8");
    Exposition::read(&answer.text().await?)
}

/// Waits for a series to have this value.
async fn shows(sidecar: &Sidecar, series: &str, value: f64) -> Result<Exposition> {
    let mut last = None;
    let outcome = eventually(SOON, &format!("{series} to be {value}"), async || {
        let page = scrape(&sidecar.address).await?;
        last = page.get(series);
        Ok((last == Some(value)).then_some(page))
    })
    .await;
    outcome.with_context(|| format!("it is {last:?}"))
}

/// Names in the first column of the guide's table, with their types in the second.
fn documented() -> Result<BTreeSet<(String, String)>> {
    let guide = std::fs::read_to_string(root().join("docs/sidecar.md"))?;
    let (_, section) = guide.split_once("## Metrics").context("a section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cell = |line: &str, position: usize| -> Result<String> {
        let cell = line.split('|').nth(position).context("a cell")?;
        Ok(cell
            .trim()
            .split('{')
            .next()
            .unwrap_or_default()
            .trim_matches('`')
            .to_owned())
    };
    rows.map(|row| Ok((cell(row, 1)?, cell(row, 2)?))).collect()
}

#[tokio::test]
async fn what_is_documented_is_what_is_exported() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    acme.tick().await?;
    let sidecar = sidecar(&acme, &slack).await?;
    let page = scrape(&sidecar.address).await?;
    let exported: BTreeSet<(String, String)> = page.families.into_iter().collect();
    let documented = documented()?;
    let (lacking, gone): (Vec<_>, Vec<_>) = (
        exported.difference(&documented).collect(),
        documented.difference(&exported).collect(),
    );
    ensure!(
        lacking.is_empty() && gone.is_empty(),
        "not in the guide: {lacking:?}; only there: {gone:?}"
    );
    Ok(())
}

#[tokio::test]
async fn deliveries_are_counted_by_channel_and_outcome() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(Answer::NotOk("is_archived"));
    slack.answer(Answer::RateLimited(3600));
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.contact_of("erin", "console", "desk").await?;
    for number in 0..3 {
        acme.due(&format!("key {number}")).await?;
        acme.tick().await?;
    }
    acme.due_for("erin", "another").await?;
    acme.tick().await?;
    let sidecar = sidecar(&acme, &slack).await?;
    // What was refused goes to the console instead, and there the admins are told that the channel is gone.
    until(SOON, "all to be tried", async || {
        Ok(acme.count("sent").await? == 4
            && acme.count("dead").await? == 1
            && acme.count("retry").await? == 1)
    })
    .await?;

    let page = shows(&sidecar, "rotator_deliveries_in_flight", 0.0).await?;
    let counted: Vec<_> = page
        .series("rotator_deliveries_total")
        .into_iter()
        .filter(|(_, value)| *value > 0.0)
        .collect();
    ensure!(
        counted
            == [
                (
                    "rotator_deliveries_total{channel=\"console\",outcome=\"delivered\"}",
                    3.0
                ),
                (
                    "rotator_deliveries_total{channel=\"slack\",outcome=\"delivered\"}",
                    1.0
                ),
                (
                    "rotator_deliveries_total{channel=\"slack\",outcome=\"rate_limited\"}",
                    1.0
                ),
                (
                    "rotator_deliveries_total{channel=\"slack\",outcome=\"recipient_gone\"}",
                    1.0
                ),
            ],
        "{counted:?}"
    );
    ensure!(page.get("rotator_delivery_duration_seconds_count{channel=\"slack\"}") == Some(3.0));
    ensure!(
        page.get("rotator_delivery_duration_seconds_sum{channel=\"slack\"}")
            .is_some_and(|sum| sum > 0.0 && sum < 30.0)
    );
    ensure!(
        page.get("rotator_claimed_total") == Some(6.0),
        "{:?}",
        page.get("rotator_claimed_total")
    );
    Ok(())
}

#[tokio::test]
async fn what_is_under_way_and_what_waits_is_shown() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_always(Answer::Never);
    let sidecar = sidecar(&acme, &slack).await?;
    acme.many_owners_due(300).await?;
    acme.tick().await?;
    // They are set aside when they take long, until so many hang that no more are let through.
    shows(&sidecar, "rotator_deliveries_in_flight", 224.0).await?;
    // Once the last claim has come.
    let page = shows(&sidecar, "rotator_deliveries_waiting", 76.0).await?;
    let in_flight = page.get("rotator_deliveries_in_flight");
    ensure!(in_flight == Some(224.0), "{in_flight:?}");
    Ok(())
}

#[tokio::test]
async fn a_result_that_comes_too_late_is_counted() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(Answer::After(
        std::time::Duration::from_secs(2),
        Box::new(Answer::Ok),
    ));
    let slow = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    slack.received(1, SOON).await?;
    slow.signal(libc::SIGSTOP)?;
    let quick = sidecar(&acme, &slack).await?;
    acme.end_leases().await?;
    acme.becomes(secret, "sent").await?;
    slow.signal(libc::SIGCONT)?;
    shows(&slow, "rotator_late_results_total", 1.0).await?;
    ensure!(
        scrape(&quick.address)
            .await?
            .get("rotator_late_results_total")
            == Some(0.0)
    );
    Ok(())
}

#[tokio::test]
async fn the_queue_is_shown_and_missing_while_the_database_is() -> Result<()> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let acme = Acme::on(TestDb::in_cluster(cluster).await?, "UTC").await?;
    let slack = StandIn::start().await?;
    slack.answer(Answer::NotOk("token_revoked"));
    slack.answer_always(Answer::RateLimited(3600));
    let sidecar = sidecar(&acme, &slack).await?;
    acme.many_owners_due(4).await?;
    acme.tick().await?;
    shows(&sidecar, "rotator_dead_notifications", 1.0).await?;
    let page = shows(&sidecar, "rotator_queue_notifications", 3.0).await?;
    ensure!(
        page.get("rotator_queue_oldest_due_seconds") == Some(0.0),
        "what waits for a retry is not due"
    );
    ensure!(
        page.get("rotator_seconds_since_tick")
            .is_some_and(|age| age < 60.0)
    );
    for up in ["rotator_database_up", "rotator_listen_up"] {
        ensure!(page.get(up) == Some(1.0), "{up}");
    }
    ensure!(
        page.get("process_resident_memory_bytes")
            .is_some_and(|bytes| bytes > 1e6 && bytes < 1e9)
    );

    acme.db.cluster.stop().await?;
    shows(&sidecar, "rotator_listen_up", 0.0).await?;
    let page = shows(&sidecar, "rotator_database_up", 0.0).await?;
    for absent in [
        "rotator_queue_notifications",
        "rotator_dead_notifications",
        "rotator_seconds_since_tick",
    ] {
        ensure!(
            page.get(absent).is_none(),
            "a stale {absent} would keep an alert quiet"
        );
    }
    acme.db.cluster.start_again().await?;
    shows(&sidecar, "rotator_database_up", 1.0).await?;
    Ok(())
}

#[tokio::test]
async fn scraped_often_it_asks_the_database_seldom() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    acme.tick().await?;
    let counting = format!(
        "alter database {} set track_functions = 'all'",
        acme.db.name
    );
    acme.db.admin.batch_execute(&counting).await?;
    let sidecar = sidecar(&acme, &slack).await?;
    for _ in 0..200 {
        scrape(&sidecar.address).await?;
    }
    // Sessions report what they counted when they are idle for a second, and at their end.
    drop(sidecar);
    let calls = "select coalesce(sum(calls), 0)::bigint from pg_stat_user_functions where funcname = 'engine_status'";
    let calls: i64 = eventually(SOON, "the calls to be counted", async || {
        let calls: i64 = scalar(&acme.db.admin, calls, &[]).await?;
        Ok((calls > 0).then_some(calls))
    })
    .await?;
    // At the start, in upkeep, by the harness that asks whether it is ready, and one for each five seconds of scraping.
    ensure!(calls < 30, "{calls} calls for 200 scrapes");
    Ok(())
}

#[tokio::test]
async fn on_an_address_of_its_own_it_is_nowhere_else() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let (own, slack_url) = (free_address()?, slack.url());
    let settings = [
        ("ROTATOR_METRICS_LISTEN", own.as_str()),
        ("ROTATOR_SLACK_URL", slack_url.as_str()),
        ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN),
    ];
    let sidecar = Sidecar::start(&acme.db, &settings).await?;
    scrape(&own).await?;
    let status = async |address: &str, path: &str| -> Result<u16> {
        Ok(http()
            .get(format!("http://{address}{path}"))
            .send()
            .await?
            .status()
            .as_u16())
    };
    ensure!(status(&sidecar.address, "/metrics").await? == 404);
    for path in ["/healthz", "/readyz"] {
        ensure!(
            status(&own, path).await? == 200 && status(&sidecar.address, path).await? == 200,
            "{path}"
        );
    }
    let (there, here) = (
        status(&own, "/a/sometoken").await?,
        status(&own, "/nothing").await?,
    );
    ensure!(
        (there, here) == (404, 404),
        "links lead to the other address"
    );
    Ok(())
}
