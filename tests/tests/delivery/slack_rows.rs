//! A message about many in Slack: each row has buttons of its own, a press acts on that one, and its row says who did what.
//! Who may press, and what a message about one does: `slack_buttons.rs`, `slack_strangers.rs`; when there is one about many:
//! `behaviour/digest.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::Answer;
use rotator_tests::slack_sdk::{self, RESPONSES};
use rotator_tests::until;
use serde_json::{Value, json};

use crate::seed::SOON;
use crate::slack_buttons::{Bench, CHANNEL, SIGNING_SECRET};

const DANA: &str = "T024BE7LD/U012AB3CD";

/// Three of dana's come due together: one is late, and one ends tomorrow.
const THREE: &str = "
    insert into rotator.secrets (name, owner_id, provider_type, expiry_date, rotation_interval)
    select n, 'dana', 'stripe', now() + days * interval '1 day', every
    from (values ('<live> & *key*', 5, null), ('webhook_key', 1, interval '90 days'), ('old-key', -9, '90 days')) as s (n, days, every)";

/// The blocks of the row that says so: its text, and its buttons by name.
fn row(message: &Value, name: &str) -> Result<(String, Vec<String>)> {
    let blocks = message["blocks"].as_array().context("blocks")?;
    let text = |block: &Value| {
        block["text"]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let place = blocks
        .iter()
        .skip(1)
        .position(|block| text(block).contains(name))
        .with_context(|| format!("no row {name} in {message:#}"))?
        + 1;
    let below = blocks
        .get(place + 1)
        .filter(|block| block["type"] == "actions");
    let elements = below
        .and_then(|block| block["elements"].as_array())
        .into_iter()
        .flatten();
    let names = elements.filter_map(|element| Some(element["action_id"].as_str()?.to_owned()));
    Ok((text(&blocks[place]), names.collect()))
}

async fn press(bench: &Bench, message: &Value, row: &str, action: &str, who: &str) -> Result<()> {
    let payload = slack_sdk::press_below(message, "1700000000.000002", row, action, who)?;
    let callback = bench.sdk.callback(SIGNING_SECRET, &payload).await?;
    ensure!(callback.send(&bench.url()).await? == 200);
    Ok(())
}

/// The message as it is after that press, as Slack keeps it.
async fn changed(bench: &Bench, message: &Value, row: &str, action: &str) -> Result<Value> {
    let seen = bench.slack.requests().len();
    press(bench, message, row, action, DANA).await?;
    let changed = bench.next("/api/chat.update", seen).await?.json()?;
    ensure!(
        (&changed["channel"], &changed["ts"]) == (&json!(CHANNEL), &json!("1700000000.000002")),
        "{changed}"
    );
    bench.sdk.blocks(&changed["blocks"]).await?;
    Ok(changed)
}

#[tokio::test]
async fn each_row_has_its_buttons_and_says_what_was_done() -> Result<()> {
    let bench = Bench::new().await?;
    bench.acme.operator.execute(THREE, &[]).await?;
    bench.acme.tick().await?;
    let posted = bench.slack.received(2, SOON).await?.remove(1).json()?;
    bench.sdk.blocks(&posted["blocks"]).await?;
    let (live, buttons) = row(&posted, "live")?;
    ensure!(
        live.starts_with("*&lt;live&gt; &amp; ∗key∗ (stripe)*\nexpires in 5 days, "),
        "{live}"
    );
    ensure!(
        buttons == ["acknowledge", "rotated_until", "snooze", "open_link"],
        "{buttons:?}"
    );
    let (old, buttons) = row(&posted, "old-key")?;
    ensure!(
        old.starts_with(":red_circle: ") && buttons == ["acknowledge", "rotated", "open_link"],
        "{old}"
    );

    // A stranger is told so, and nothing changes.
    let seen = bench.slack.requests().len();
    press(
        &bench,
        &posted,
        "webhook",
        "acknowledge",
        "T024BE7LD/U0NOBODY",
    )
    .await?;
    let told = bench.next(RESPONSES, seen).await?.text();
    ensure!(
        told.contains("Nothing was changed") && told.contains("link_identity("),
        "{told}"
    );

    let taken = changed(&bench, &posted, "webhook", "acknowledge").await?;
    let (text, buttons) = row(&taken, "webhook")?;
    ensure!(
        text.contains("*\nacknowledged by dana · expires tomorrow, "),
        "{text}"
    );
    ensure!(buttons == ["rotated", "open_link"], "{buttons:?}");
    for name in ["live", "old-key"] {
        ensure!(
            row(&taken, name)? == row(&posted, name)?,
            "{name}: {taken:#}"
        );
    }
    ensure!(taken["blocks"][0] == posted["blocks"][0] && taken["text"] == posted["text"]);
    let states =
        "select string_agg(s.name || ' ' || a.state, ', ' order by s.name) from rotator.alerts as a
                  join rotator.secrets as s on s.id = a.secret_id where s.id <> $1 and a.cycle = 1";
    let of = async || -> Result<String> {
        Ok(bench
            .acme
            .operator
            .query_one(states, &[&bench.secret])
            .await?
            .get(0))
    };
    ensure!(
        of().await? == "<live> & *key* open, old-key open, webhook_key acknowledged",
        "{}",
        of().await?
    );

    let done = changed(&bench, &taken, "old-key", "rotated").await?;
    let (text, buttons) = row(&done, "old-key")?;
    ensure!(
        text.contains(":white_check_mark: ") && text.contains("was rotated by dana · expires in "),
        "{text}"
    );
    ensure!(buttons.is_empty(), "{buttons:?}");
    ensure!(row(&done, "webhook")? == row(&taken, "webhook")?);
    ensure!(of().await?.contains("old-key resolved"));

    // Pressed again in a window that shows the message as it was: it says what is so now, of each of them.
    let again = changed(&bench, &posted, "webhook", "acknowledge").await?;
    ensure!(
        row(&again, "webhook")? == row(&taken, "webhook")?,
        "{again:#}"
    );
    ensure!(
        row(&again, "old-key")?.0.contains("was rotated by dana"),
        "{again:#}"
    );
    let quiet = changed(&bench, &again, "live", "snooze").await?;
    let (text, buttons) = row(&quiet, "live")?;
    ensure!(
        text.contains("snoozed until ") && text.contains(" by dana · expires in 5 days"),
        "{text}"
    );
    ensure!(buttons.len() == 4, "it may still be taken on: {buttons:?}");
    let last = changed(&bench, &quiet, "live", "rotated_until").await?;
    ensure!(
        row(&last, "live")?
            .0
            .contains("was rotated by dana · expires in "),
        "{last:#}"
    );
    ensure!(
        !bench
            .sidecar
            .log()?
            .contains(&posted["blocks"][2]["block_id"].to_string())
    );
    Ok(())
}

#[tokio::test]
async fn twenty_fit_and_what_slack_finds_too_long_goes_without_buttons() -> Result<()> {
    let bench = Bench::new().await?;
    bench.slack.answer(Answer::NotOk("msg_blocks_too_long"));
    bench.acme.many_due(20).await?;
    bench.acme.tick().await?;
    let mut requests = bench.slack.received(3, SOON).await?;
    let (short, long) = (requests.remove(2).json()?, requests.remove(1).json()?);
    let count = |message: &Value, part: &str| {
        let blocks = message["blocks"].as_array().into_iter().flatten();
        blocks
            .filter(|block| !block[part].is_null() && block["block_id"].is_string())
            .count()
    };
    ensure!(
        count(&long, "elements") == 20 && count(&long, "accessory") == 0,
        "{long:#}"
    );
    ensure!(
        count(&short, "elements") == 0 && count(&short, "accessory") == 20,
        "{short:#}"
    );
    for message in [&long, &short] {
        bench.sdk.blocks(&message["blocks"]).await?;
        ensure!(message["channel"] == CHANNEL);
    }
    until(SOON, "it to be recorded", async || {
        Ok(bench.acme.count("leased").await? == 0)
    })
    .await?;
    let sent = "select count(*) from rotator.notifications where kind = 'summary' and state = 'sent' and attempts = 1";
    let sent: i64 = rotator_tests::scalar(&bench.acme.operator, sent, &[]).await?;
    ensure!(sent == 1);
    Ok(())
}
