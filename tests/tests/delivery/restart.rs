//! The database goes away under the sidecar and comes back: delivery resumes by itself, and nothing is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::{Answer, Request, StandIn};
use rotator_tests::{Cluster, Options, TestDb, until};

use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

/// What was in flight when the server went away may have to wait for its lease of a minute.
const AFTER_THE_LEASE: Duration = Duration::from_secs(120);

async fn of_its_own() -> Result<Acme> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    Acme::on(TestDb::in_cluster(cluster).await?, "UTC").await
}

/// Which secrets were announced, by the first word of the message.
fn names(requests: &[Request]) -> Result<BTreeSet<String>> {
    requests
        .iter()
        .map(|request| {
            let body = request.json()?;
            let text = body["text"].as_str().context("a message has a text")?;
            Ok(text.split(' ').next().unwrap_or_default().to_owned())
        })
        .collect()
}

#[tokio::test]
async fn restarted_in_the_middle_of_a_delivery_nothing_is_lost() -> Result<()> {
    let (mut acme, slack) = (of_its_own().await?, StandIn::start().await?);
    slack.answer_always(Answer::After(
        Duration::from_millis(200),
        Box::new(Answer::Ok),
    ));
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.many_owners_due(150).await?;
    acme.tick().await?;
    slack.received(20, SOON).await?;
    acme.db.cluster.crash().await?;
    sidecar
        .logged(SOON, "results wait for the database")
        .await?;
    acme.db.cluster.start_again().await?;
    acme.reconnect().await?;

    until(AFTER_THE_LEASE, "all to be sent", async || {
        Ok(acme.count("sent").await? == 150)
    })
    .await?;
    ensure!(names(&slack.requests())?.len() == 150, "each was announced");
    sidecar.ready().await?;
    Ok(())
}

#[tokio::test]
async fn restarted_while_idle_the_next_reminder_is_delivered() -> Result<()> {
    let (mut acme, slack) = (of_its_own().await?, StandIn::start().await?);
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.db.cluster.restart().await?;
    acme.reconnect().await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;
    sidecar.ready().await?;
    sidecar.logged(SOON, "LISTEN is back").await?;
    Ok(())
}

#[tokio::test]
async fn told_to_stop_while_the_database_is_away_it_stops() -> Result<()> {
    let (acme, slack) = (of_its_own().await?, StandIn::start().await?);
    slack.answer(Answer::After(Duration::from_secs(2), Box::new(Answer::Ok)));
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.due("stripe-live").await?;
    acme.tick().await?;
    slack.received(1, SOON).await?;
    acme.db.cluster.stop().await?;
    sidecar.terminate().await?;
    ensure!(
        sidecar.log()?.contains("will be delivered again"),
        "and it says what that means"
    );
    Ok(())
}
