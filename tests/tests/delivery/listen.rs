//! NOTIFY is a hint: it makes delivery quick, and whatever becomes of it, the queue is polled every five seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{Sidecar, eventually, scalar, until};

use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

/// The sidecar's connection that listens: it has said LISTEN last, or answered a ping since.
const LISTENING: &str = "select pid from pg_stat_activity
    where usename = $1 and datname = current_database() and state = 'idle' and (query ilike 'listen %' or query = '')";

fn login(sidecar: &Sidecar) -> Result<String> {
    Ok(sidecar.role.as_ref().context("a role")?.name.clone())
}

/// From the tick's commit to the request at Slack, at worst of five: five polls in a row are never all that lucky.
async fn slowest_of_five(acme: &Acme, slack: &StandIn) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let before = slack.requests().len();
        acme.due(&format!("round {before}")).await?;
        acme.tick().await?;
        let committed = Instant::now();
        let requests = slack.received(before + 1, SOON).await?;
        slowest = slowest.max(requests[before].at.saturating_duration_since(committed));
    }
    Ok(slowest)
}

#[tokio::test]
async fn a_tick_wakes_it_at_once() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let _sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let slowest = slowest_of_five(&acme, &slack).await?;
    ensure!(
        slowest < Duration::from_secs(1),
        "that was the poll, not NOTIFY: {slowest:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_lost_notify_is_made_up_by_the_poll() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(Answer::Status(500));
    let _sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "retry").await?;
    // Due now, and nobody says so.
    acme.db
        .admin
        .batch_execute("update rotator_internal.notification set available_at = now()")
        .await?;
    acme.becomes_within(secret, "sent", Duration::from_secs(8))
        .await?;
    Ok(())
}

#[tokio::test]
async fn without_its_listening_connection_it_delivers_and_gets_a_new_one() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let role = login(&sidecar)?;
    let pid: i32 = eventually(SOON, "a listening connection", async || {
        Ok(acme
            .db
            .admin
            .query_opt(LISTENING, &[&role])
            .await?
            .map(|row| row.get(0)))
    })
    .await?;
    ensure!(scalar::<bool>(&acme.db.admin, "select pg_terminate_backend($1)", &[&pid]).await?);
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;

    sidecar.logged(SOON, "LISTEN is back").await?;
    sidecar.ready().await?;
    let slowest = slowest_of_five(&acme, &slack).await?;
    ensure!(
        slowest < Duration::from_secs(1),
        "the new connection listens: {slowest:?}"
    );
    Ok(())
}

#[tokio::test]
async fn all_its_connections_killed_it_goes_on() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let role = login(&sidecar)?;
    for round in 0..3 {
        acme.db
            .admin
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
                &[&role],
            )
            .await?;
        let secret = acme.due(&format!("round {round}")).await?;
        acme.tick().await?;
        acme.becomes(secret, "sent").await?;
    }
    sidecar.ready().await?;
    until(SOON, "as many requests as reminders", async || {
        Ok(slack.requests().len() == 3)
    })
    .await
}

/// Anybody with a login may send them, as many as he likes and with anything in them.
#[tokio::test]
async fn a_flood_of_forged_notifies_delays_at_most() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut floods = tokio::task::JoinSet::new();
    let stranger = acme.db.login_role("stranger", &[]).await?;
    for _ in 0..2 {
        let (session, stop) = (acme.db.connect_as(&stranger).await?, stop.clone());
        floods.spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::SeqCst) {
                session
                    .batch_execute(
                        "select pg_notify('rotator_outbox', repeat(n::text, 500)) from generate_series(1, 1000) as n",
                    )
                    .await?;
                sent += 1000;
            }
            anyhow::Ok(sent)
        });
    }
    for round in 1..=5 {
        let secret = acme.due(&format!("flooded {round}")).await?;
        acme.tick().await?;
        let sent = acme.becomes(secret, "sent").await?;
        ensure!(
            sent.attempts == 1 && slack.requests().len() == round,
            "{sent:?}"
        );
    }
    stop.store(true, Ordering::SeqCst);
    let mut sent = 0;
    while let Some(flood) = floods.join_next().await {
        sent += flood??;
    }
    ensure!(sent >= 10_000, "that was no flood: {sent}");
    sidecar.ready().await?;
    let slowest = slowest_of_five(&acme, &slack).await?;
    ensure!(
        slowest < Duration::from_secs(1),
        "it still listens: {slowest:?}"
    );
    let memory = std::fs::read_to_string(format!("/proc/{}/status", sidecar.process()?))?;
    let peak = memory
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("its peak")?;
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    ensure!(
        kilobytes < 100_000,
        "it took {kilobytes} kB for {sent} of them"
    );
    Ok(())
}
