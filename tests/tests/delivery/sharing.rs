//! Several sidecars on one queue: each notification goes out once, and all of them work.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{scalar, scaled, until};

use crate::seed::Acme;
use crate::slack::sidecar;

#[tokio::test]
async fn two_sidecars_share_the_queue_without_sending_twice() -> Result<()> {
    let count = scaled(2000);
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_always(Answer::After(
        Duration::from_millis(50),
        Box::new(Answer::Ok),
    ));
    let _first = sidecar(&acme, &slack).await?;
    let _second = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.many_due(count).await?;
    acme.tick().await?;

    let limit = Duration::from_secs(120);
    until(limit, "all to be sent", async || {
        Ok(acme.count("sent").await? == i64::try_from(count)?)
    })
    .await?;
    let mut announced = BTreeMap::new();
    for request in slack.requests() {
        let body = request.json()?;
        let text = body["text"]
            .as_str()
            .context("a message has a text")?
            .to_owned();
        *announced
            .entry(text.split(' ').next().unwrap_or_default().to_owned())
            .or_insert(0) += 1;
    }
    let twice: Vec<_> = announced.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(
        announced.len() == count && twice.is_empty(),
        "sent more than once: {twice:?}"
    );
    let workers: i64 = scalar(
        &acme.db.admin,
        "select count(distinct worker) from rotator_internal.delivery_attempt",
        &[],
    )
    .await?;
    ensure!(workers == 2, "both had their share");
    Ok(())
}
