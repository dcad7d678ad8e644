//! Several sidecars on one queue: each notification goes out once, and all of them work. One that is killed under load
//! loses nothing: what it had begun goes out again under the same id.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{scalar, scaled, until};

use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

/// How often each secret was announced, by the first word of the message. There is one notification of each here, so the
/// name stands for its id.
fn announced(slack: &StandIn) -> Result<BTreeMap<String, usize>> {
    let mut announced = BTreeMap::new();
    for request in slack.requests() {
        let body = request.json()?;
        let text = body["text"].as_str().context("a message has a text")?;
        let name = text.split(' ').next().unwrap_or_default().to_owned();
        *announced.entry(name).or_insert(0) += 1;
    }
    Ok(announced)
}

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
    acme.many_owners_due(count).await?;
    acme.tick().await?;

    let limit = Duration::from_secs(120);
    until(limit, "all to be sent", async || {
        Ok(acme.count("sent").await? == i64::try_from(count)?)
    })
    .await?;
    let announced = announced(&slack)?;
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

#[tokio::test]
async fn one_of_two_killed_under_load_loses_nothing() -> Result<()> {
    let count = scaled(5000);
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_always(Answer::After(
        Duration::from_millis(50),
        Box::new(Answer::Ok),
    ));
    let mut doomed = sidecar(&acme, &slack).await?;
    let _survivor = sidecar(&acme, &slack).await?;
    acme.many_owners_due(count).await?;
    acme.tick().await?;
    slack.received(count / 4, Duration::from_secs(60)).await?;
    doomed.kill().await?;
    ensure!(
        acme.count("sent").await? < i64::try_from(count)?,
        "it was killed under load"
    );

    // What it held waits for the end of its lease, a minute.
    let limit = Duration::from_secs(180);
    until(limit, "all to be sent", async || {
        Ok(acme.count("sent").await? == i64::try_from(count)?)
    })
    .await?;
    let announced = announced(&slack)?;
    ensure!(announced.len() == count, "{} of {count}", announced.len());
    let repeated = announced.values().filter(|times| **times > 1).count();
    ensure!(
        announced.values().all(|times| *times <= 2),
        "once more at most"
    );
    // Whatever went out twice is one notification with an attempt that was lost, not two notifications.
    let sql = "select count(*) as all, count(distinct secret_id) as secrets,
            count(*) filter (where exists (select from rotator_internal.delivery_attempt as a
                where a.notification_id = n.id and a.outcome = 'lost')) as lost
        from rotator_internal.notification as n";
    let row = acme.db.admin.query_one(sql, &[]).await?;
    let (all, secrets, lost): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    ensure!(
        all == secrets && all == i64::try_from(count)?,
        "{all} {secrets}"
    );
    ensure!(lost > 0, "it had something in its hands");
    ensure!(
        i64::try_from(repeated)? <= lost,
        "{repeated} went out twice, {lost} were lost"
    );
    let log = doomed.log()?;
    ensure!(!log.contains("panicked"), "{log}");
    slack.received(count, SOON).await?;
    Ok(())
}
