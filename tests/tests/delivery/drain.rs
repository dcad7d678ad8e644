//! SIGTERM: what is in flight is finished, what wasn't begun is given back at once, and the process ends with 0.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{eventually, scalar};

use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

#[tokio::test]
async fn in_flight_finishes_and_the_rest_is_given_back() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_always(Answer::After(Duration::from_secs(3), Box::new(Answer::Ok)));
    acme.many_owners_due(60).await?;
    acme.tick().await?;
    let mut sidecar = sidecar(&acme, &slack).await?;
    slack.received(10, SOON).await?;
    sidecar.signal(libc::SIGTERM)?;

    // While it drains it says so, and takes nothing new.
    let url = sidecar.url("/readyz");
    let body = eventually(SOON, "/readyz to tell", async || {
        let answer = http().get(&url).send().await?;
        Ok((answer.status() == 503).then_some(answer.text().await?))
    })
    .await?;
    ensure!(body.contains("draining"), "{body}");
    ensure!(sidecar.ended(Duration::from_secs(30)).await?.code() == Some(0));

    let begun = i64::try_from(slack.requests().len())?;
    ensure!(begun < 60, "there was something left to give back");
    ensure!(
        acme.count("sent").await? == begun,
        "what was begun is finished and reported"
    );
    let given_back: i64 = scalar(
        &acme.operator,
        "select count(*) from rotator.notifications where state = 'queued' and attempts = 0",
        &[],
    )
    .await?;
    ensure!(
        given_back == 60 - begun,
        "the rest waits for the next worker, its attempts not counted"
    );
    Ok(())
}

#[tokio::test]
async fn idle_it_ends_at_once() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let mut sidecar = sidecar(&acme, &slack).await?;
    sidecar.signal(libc::SIGINT)?; // Ctrl-C
    ensure!(sidecar.ended(Duration::from_secs(5)).await?.code() == Some(0));
    ensure!(sidecar.log()?.contains("stopped"));
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_always(Answer::Never);
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.due("stripe-live").await?;
    acme.tick().await?;
    let mut sidecar = sidecar(&acme, &slack).await?;
    slack.received(1, SOON).await?;
    sidecar.signal(libc::SIGTERM)?;
    sidecar.logged(SOON, "stopping").await?;
    sidecar.signal(libc::SIGTERM)?;
    ensure!(sidecar.ended(Duration::from_secs(5)).await?.code() == Some(130));
    Ok(())
}
