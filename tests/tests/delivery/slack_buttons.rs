//! Buttons in Slack, pressed by people as Slack says them: signed by Slack's own SDK, checked by the database, answered in
//! the message. Who is nobody, or may not: `slack_strangers.rs`. Calls that aren't Slack's, or are no press: `slack_callbacks.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::{Answer, Request, StandIn};
use rotator_tests::slack_sdk::{self, Sdk};
use rotator_tests::{Sidecar, eventually, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::{Acme, SOON};
use crate::slack::BOT_TOKEN;

pub const SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
pub const CHANNEL: &str = "C0DEPLOYS1";

/// Acme with a Slack app, its SDK, and one message about a secret of dana's in a channel.
pub struct Bench {
    pub acme: Acme,
    pub slack: StandIn,
    pub sidecar: Sidecar,
    pub sdk: Sdk,
    pub secret: Uuid,
    /// What was posted.
    pub message: Value,
}

impl Bench {
    pub async fn new() -> Result<Self> {
        Self::with("expiry_date => now() + interval '5 days', rotation_interval => '90 days'").await
    }

    pub async fn with(dates: &str) -> Result<Self> {
        let (acme, slack) = (
            Acme::in_zone("Europe/Berlin").await?,
            StandIn::start().await?,
        );
        let settings = [
            ("ROTATOR_SLACK_URL", slack.url()),
            ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN.to_owned()),
            ("ROTATOR_SLACK_SIGNING_SECRET", SIGNING_SECRET.to_owned()),
            ("RUST_LOG", "trace".to_owned()),
        ];
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let sidecar = Sidecar::start(&acme.db, &settings).await?;
        acme.contact("slack", CHANNEL).await?;
        let secret = acme
            .register(
                "stripe <live> & more",
                &format!("owner_id => 'dana', {dates}"),
            )
            .await?;
        acme.tick().await?;
        let message = slack.received(1, SOON).await?.remove(0).json()?;
        acme.becomes(secret, "sent").await?;
        let bench = Self {
            acme,
            slack,
            sidecar,
            sdk: Sdk::start().await?,
            secret,
            message,
        };
        bench.link("dana", "slack", "T024BE7LD/U012AB3CD").await?;
        Ok(bench)
    }

    pub async fn link(&self, subject: &str, kind: &str, id: &str) -> Result<()> {
        let sql = "select rotator.link_identity($1, $2, $3)";
        self.acme
            .operator
            .execute(sql, &[&subject, &kind, &id])
            .await?;
        Ok(())
    }

    pub fn url(&self) -> String {
        self.sidecar.url("/slack/interactions")
    }

    /// That user presses that button of a message.
    pub async fn press(&self, message: &Value, action: &str, identity: &str) -> Result<u16> {
        let payload = slack_sdk::press(message, "1700000000.000001", action, identity)?;
        let callback = self.sdk.callback(SIGNING_SECRET, &payload).await?;
        callback.send(&self.url()).await
    }

    /// The first request that Slack got at this path, after so many in all.
    pub async fn next(&self, path: &str, after: usize) -> Result<Request> {
        eventually(SOON, path, async || {
            let all = self.slack.requests();
            Ok(all
                .into_iter()
                .skip(after)
                .find(|request| request.path == path))
        })
        .await
    }

    pub async fn state(&self) -> Result<(String, Option<String>)> {
        let sql =
            "select state, acknowledged_by from rotator.alerts where secret_id = $1 and cycle = 1";
        let row = self.acme.operator.query_one(sql, &[&self.secret]).await?;
        Ok((row.get(0), row.get(1)))
    }
}

fn text(message: &Value) -> &str {
    message["blocks"][0]["text"]["text"]
        .as_str()
        .unwrap_or_default()
}

fn actions(message: &Value) -> Vec<String> {
    let blocks = message["blocks"].as_array().into_iter().flatten();
    let elements = blocks
        .filter_map(|block| block["elements"].as_array())
        .flatten();
    elements
        .filter_map(|element| Some(element["action_id"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
async fn acknowledge_is_pressed_and_the_message_says_so() -> Result<()> {
    let bench = Bench::new().await?;
    ensure!(
        actions(&bench.message) == ["acknowledge", "rotated", "snooze", "open_link"],
        "{}",
        bench.message
    );
    bench.sdk.blocks(&bench.message["blocks"]).await?;

    ensure!(
        bench
            .press(&bench.message, "acknowledge", "T024BE7LD/U012AB3CD")
            .await?
            == 200
    );
    ensure!(bench.state().await? == ("acknowledged".to_owned(), Some("dana".to_owned())));
    let changed = bench.next("/api/chat.update", 1).await?;
    ensure!(changed.header("authorization") == Some(format!("Bearer {BOT_TOKEN}").as_str()));
    let changed = changed.json()?;
    ensure!(
        (&changed["channel"], &changed["ts"]) == (&json!(CHANNEL), &json!("1700000000.000001")),
        "{changed}"
    );
    ensure!(
        text(&changed).starts_with("*stripe &lt;live&gt; &amp; more is acknowledged by dana*\n"),
        "{changed}"
    );
    ensure!(
        actions(&changed) == ["rotated", "open_link"],
        "acknowledged is not rotated: {changed}"
    );
    bench.sdk.blocks(&changed["blocks"]).await?;

    // The button that is left works, and then none is.
    ensure!(
        bench
            .press(&changed, "rotated", "T024BE7LD/U012AB3CD")
            .await?
            == 200
    );
    ensure!(bench.state().await?.0 == "resolved");
    let all = eventually(SOON, "the message to end", async || {
        let all = bench.slack.requests();
        Ok(all
            .iter()
            .any(|request| request.text().contains("was rotated by dana"))
            .then_some(all))
    })
    .await?;
    let last = all
        .iter()
        .rfind(|request| request.path == "/api/chat.update")
        .context("an update")?
        .json()?;
    ensure!(
        actions(&last).is_empty() && text(&last).contains("Expires next"),
        "{last}"
    );
    ensure!(
        !bench
            .sidecar
            .log()?
            .contains(&bench.message["blocks"][2]["elements"][0]["value"].to_string())
    );
    Ok(())
}

#[tokio::test]
async fn rotated_asks_first_and_without_an_interval_for_the_new_date() -> Result<()> {
    let bench = Bench::with("expiry_date => now() + interval '5 days'").await?;
    ensure!(
        actions(&bench.message).contains(&"rotated_until".to_owned()),
        "{}",
        bench.message
    );
    let confirm =
        |message: &Value, place: usize| message["blocks"][2]["elements"][place]["confirm"].clone();
    ensure!(
        confirm(&bench.message, 1)["text"]["text"]
            .as_str()
            .is_some_and(|text| text.contains("‹live›"))
    );
    bench.sdk.blocks(&bench.message["blocks"]).await?;
    ensure!(
        bench
            .press(&bench.message, "rotated_until", "T024BE7LD/U012AB3CD")
            .await?
            == 200
    );
    let right: bool = scalar(
        &bench.acme.operator,
        "select cycle = 2 and expiry_date = '2031-06-30 22:00:00+00' from rotator.secrets where id = $1",
        &[&bench.secret],
    )
    .await?;
    ensure!(right, "the day begins where the tenant is");
    Ok(())
}

#[tokio::test]
async fn snoozing_is_pressed_and_the_message_says_until_when() -> Result<()> {
    let bench = Bench::new().await?;
    ensure!(
        bench
            .press(&bench.message, "snooze", "T024BE7LD/U012AB3CD")
            .await?
            == 200
    );
    let changed = bench.next("/api/chat.update", 1).await?.json()?;
    ensure!(
        text(&changed).contains("Snoozed until ") && text(&changed).contains(" by dana"),
        "{changed}"
    );
    ensure!(actions(&changed).len() == 4, "{changed}");
    let right: bool = scalar(
        &bench.acme.operator,
        "select snoozed_until between now() + interval '23 hours' and now() + interval '1 day' from rotator.secrets where id = $1",
        &[&bench.secret],
    )
    .await?;
    ensure!(right);
    Ok(())
}

#[tokio::test]
async fn without_the_signing_secret_there_is_one_button_and_no_route() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let sidecar = crate::slack::sidecar(&acme, &slack).await?;
    acme.contact("slack", CHANNEL).await?;
    acme.due("stripe-live").await?;
    acme.tick().await?;
    let message = slack.received(1, SOON).await?.remove(0).json()?;
    ensure!(actions(&message) == ["open_link"], "{message}");
    let sdk = Sdk::start().await?;
    sdk.blocks(&message["blocks"]).await?;
    let callback = sdk
        .callback(SIGNING_SECRET, &json!({"type": "block_actions"}))
        .await?;
    ensure!(callback.send(&sidecar.url("/slack/interactions")).await? == 404);
    Ok(())
}

#[tokio::test]
async fn while_slack_or_the_database_hang_a_press_is_answered_in_time() -> Result<()> {
    let bench = Bench::new().await?;
    bench.slack.answer_when("/api/chat.update", Answer::Never);
    let begun = std::time::Instant::now();
    ensure!(
        bench
            .press(&bench.message, "acknowledge", "T024BE7LD/U012AB3CD")
            .await?
            == 200
    );
    ensure!(begun.elapsed().as_millis() < 3000, "{:?}", begun.elapsed());
    ensure!(bench.state().await?.0 == "acknowledged");

    // Somebody holds the secret: the press waits for him, and Slack doesn't.
    let holder = bench.acme.db.superuser().await?;
    holder.batch_execute("begin; select from rotator_internal.secret for update; select from rotator_internal.calendar for update").await?;
    let begun = std::time::Instant::now();
    ensure!(
        bench
            .press(&bench.message, "rotated", "T024BE7LD/U012AB3CD")
            .await?
            == 200
    );
    ensure!(begun.elapsed().as_millis() < 3000, "{:?}", begun.elapsed());
    holder.batch_execute("rollback").await?;
    rotator_tests::until(SOON, "the press to go on", async || {
        Ok(bench.state().await?.0 == "resolved")
    })
    .await
}
