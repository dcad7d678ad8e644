//! A restore and the people who are told: what was sent before the dump isn't sent again, what somebody was just sending
//! goes out once more under the same id, what was queued goes out once. A real sidecar, against a stand-in for Slack.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::sidecar::http;
use rotator_tests::slack::{Request, StandIn};
use rotator_tests::{Options, Sidecar, TestDb, until};

use crate::fixture::texts;

const SOON: Duration = Duration::from_secs(30);

async fn sidecar(db: &TestDb, slack: &StandIn) -> Result<Sidecar> {
    let url = slack.url();
    let settings = [
        ("ROTATOR_SLACK_URL", url.as_str()),
        ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-4711-0815-NotAReal0ne"),
    ];
    Sidecar::start(db, &settings).await
}

async fn register_due(db: &TestDb, label: &str) -> Result<()> {
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme');
             select rotator.register_secret('{label}-' || n, expiry_date => now() + interval '84 hours',
                 rotation_interval => '90 days', owner_id => 'owner-' || n) from generate_series(1, 3) as n;
             select rotator.tick()"
        ))
        .await?;
    Ok(db.admin.batch_execute("discard all").await?)
}

/// Notification id → state and attempts.
async fn outbox(db: &TestDb) -> Result<BTreeMap<String, String>> {
    let rows = texts(
        &db.admin,
        "select concat_ws('=', id, concat_ws(' ', state, attempts)) from rotator_internal.notification",
    )
    .await?;
    rows.into_iter()
        .map(|row| {
            let (id, rest) = row.split_once('=').context("an id and a state")?;
            Ok((id.to_owned(), rest.to_owned()))
        })
        .collect()
}

/// The labels of the secrets that messages are about, sorted.
fn about(requests: &[Request]) -> Vec<String> {
    let mut found: Vec<String> = requests
        .iter()
        .map(|request| {
            let text = request.text();
            ["told", "leased", "queued"]
                .iter()
                .find(|label| text.contains(&format!("{label}-")))
                .map_or(text.clone(), |label| (*label).to_owned())
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn after_a_restore_nobody_is_told_again_and_nobody_is_forgotten() -> Result<()> {
    let (db, before) = (TestDb::new().await?, StandIn::start().await?);
    db.tenant("acme").await?;
    db.admin
        .batch_execute("select rotator.use_tenant('acme'); select rotator.set_contact('owner-' || n, 'slack', 'C0DEPLOYS' || n) from generate_series(1, 3) as n")
        .await?;
    db.admin.batch_execute("discard all").await?;
    register_due(&db, "told").await?;
    let mut first = sidecar(&db, &before).await?;
    let sent = "select count(*) = 3 from rotator_internal.notification where state = 'sent'";
    until(SOON, "three to be sent", async || {
        rotator_tests::scalar(&db.admin, sent, &[]).await
    })
    .await?;
    first.terminate().await?;
    // Somebody else has these when the dump is taken; with him they are lost.
    register_due(&db, "leased").await?;
    let leased = texts(
        &db.admin,
        "select id from rotator.claim_notifications('lost', 10, '1 second')",
    )
    .await?;
    ensure!(leased.len() == 3);
    register_due(&db, "queued").await?;

    let scratch = Scratch::new("dump-queue")?;
    let file = scratch.join("dump").display().to_string();
    db.cluster
        .tool("pg_dump", &["-Fc", "-f", &file, &db.name])?;
    let known = outbox(&db).await?;
    let target = std::sync::Arc::new(db.cluster.another(Options::default()).await?);
    let restored = TestDb::bare_in(target.clone()).await?;
    target.tool(
        "pg_restore",
        &["--exit-on-error", "-d", &restored.name, &file],
    )?;
    ensure!(outbox(&restored).await? == known);

    let after = StandIn::start().await?;
    let mut second = sidecar(&restored, &after).await?;
    let done =
        "select count(*) = 9 and bool_and(state = 'sent') from rotator_internal.notification";
    until(SOON, "all to be sent", async || {
        rotator_tests::scalar(&restored.admin, done, &[]).await
    })
    .await?;
    // Ticks, too, find nothing that would have to be said again.
    restored
        .admin
        .batch_execute("select rotator.tick()")
        .await?;

    // The link in a message from before the dump leads to the restored secret.
    let body = before.requests()[0].json()?.to_string();
    let token = body
        .split_once("/a/")
        .and_then(|(_, rest)| rest.split('"').next())
        .context("a message has a link")?;
    let page = http()
        .get(second.url(&format!("/a/{token}")))
        .send()
        .await?;
    ensure!(
        page.status() == 200,
        "the old link answers {}",
        page.status()
    );
    second.terminate().await?;

    let messages = about(&after.requests());
    ensure!(
        messages == ["leased", "leased", "leased", "queued", "queued", "queued"],
        "{messages:?}"
    );
    let now = outbox(&restored).await?;
    for (id, state) in &known {
        let expected = if leased.contains(id) {
            "sent 2"
        } else {
            "sent 1"
        };
        ensure!(
            now.get(id).is_some_and(|state| state == expected),
            "{id} was {state} and is {:?}",
            now.get(id)
        );
    }
    ensure!(about(&before.requests()) == ["told", "told", "told"]);
    Ok(())
}
