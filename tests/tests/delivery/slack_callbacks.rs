//! Calls to `/slack/interactions` that aren't Slack's, or are no press of a button of ours: refused before anything is
//! understood, and nothing happens. Presses that count: `slack_buttons.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::slack_sdk::{self, Callback};
use serde_json::{Value, json};

use crate::slack_buttons::{Bench, SIGNING_SECRET};

const DANA: &str = "T024BE7LD/U012AB3CD";

async fn callback(bench: &Bench) -> Result<Callback> {
    let payload = slack_sdk::press(&bench.message, "1700000000.000001", "acknowledge", DANA)?;
    bench.sdk.callback(SIGNING_SECRET, &payload).await
}

#[tokio::test]
async fn what_slack_did_not_sign_is_refused() -> Result<()> {
    let bench = Bench::new().await?;
    let before = bench.acme.fingerprint().await?;
    let good = callback(&bench).await?;
    let payload = slack_sdk::press(&bench.message, "1700000000.000001", "acknowledge", DANA)?;
    let foreign = bench
        .sdk
        .callback("another-signing-secret-of-somebody", &payload)
        .await?;
    // The same payload with other bytes: as who parses it first and writes it again would check it.
    let spaced = good.body.replace("%22%2C%22", "%22%2C+%22");
    ensure!(spaced != good.body);
    let lower = good.body.replace("%7B", "%7b");
    let change = |change: &dyn Fn(&mut Callback)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let forged = [
        ("another secret", foreign),
        ("a word more", change(&|c| c.body.push_str("&x=1"))),
        ("written again", change(&|c| c.body = spaced.clone())),
        ("encoded otherwise", change(&|c| c.body = lower.clone())),
        (
            "another time",
            change(&|c| c.timestamp = (c.timestamp.parse::<i64>().unwrap_or(0) - 1).to_string()),
        ),
        ("time with a sign", change(&|c| c.timestamp.insert(0, '+'))),
        ("no time", change(&|c| c.timestamp.clear())),
        (
            "another version",
            change(&|c| c.signature = c.signature.replace("v0=", "v1=")),
        ),
        (
            "no version",
            change(&|c| c.signature = c.signature.replace("v0=", "")),
        ),
        (
            "upper case",
            change(&|c| c.signature = format!("v0={}", c.signature[3..].to_uppercase())),
        ),
        ("cut off", change(&|c| c.signature.truncate(60))),
        ("too long", change(&|c| c.signature.push('0'))),
        ("empty", change(&|c| c.signature.clear())),
        (
            "zeros",
            change(&|c| c.signature = format!("v0={}", "0".repeat(64))),
        ),
        (
            "two at once",
            change(&|c| c.signature = format!("{0},{0}", c.signature)),
        ),
    ];
    for (what, callback) in forged {
        ensure!(callback.send(&bench.url()).await? == 401, "{what}");
    }
    for names in [
        &["x-slack-signature"][..],
        &["x-slack-request-timestamp"],
        &[],
    ] {
        let mut request = http().post(bench.url()).body(good.body.clone());
        for name in names {
            let value = if name.ends_with("signature") {
                &good.signature
            } else {
                &good.timestamp
            };
            request = request.header(*name, value);
        }
        ensure!(request.send().await?.status() == 401, "only {names:?}");
    }
    let twice = http()
        .post(bench.url())
        .header("x-slack-request-timestamp", &good.timestamp)
        .header("x-slack-signature", &good.signature)
        .header("x-slack-signature", &good.signature)
        .body(good.body.clone());
    ensure!(twice.send().await?.status() == 401, "which of the two?");
    ensure!(bench.acme.fingerprint().await? == before);
    // It was good all the time.
    ensure!(good.send(&bench.url()).await? == 200);
    Ok(())
}

#[tokio::test]
async fn what_is_old_or_came_before_is_refused() -> Result<()> {
    let bench = Bench::new().await?;
    let payload = slack_sdk::press(&bench.message, "1700000000.000001", "acknowledge", DANA)?;
    let now = slack_sdk::now()?;
    let before = bench.acme.fingerprint().await?;
    for (seconds, status) in [(-310, 401), (310, 401), (-86_400, 401), (i64::MAX / 2, 401)] {
        let callback = bench
            .sdk
            .callback_at(SIGNING_SECRET, &payload, now.saturating_add(seconds))
            .await?;
        ensure!(
            callback.send(&bench.url()).await? == status,
            "{seconds} seconds away"
        );
    }
    ensure!(bench.acme.fingerprint().await? == before);
    for seconds in [-290, 290] {
        let callback = bench
            .sdk
            .callback_at(SIGNING_SECRET, &payload, now + seconds)
            .await?;
        ensure!(
            callback.send(&bench.url()).await? == 200,
            "{seconds} seconds away"
        );
        ensure!(callback.send(&bench.url()).await? == 401, "a repeat");
    }
    bench
        .sidecar
        .logged(Duration::from_secs(5), "it came before")
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_press_of_ours_changes_nothing() -> Result<()> {
    let bench = Bench::new().await?;
    let good = slack_sdk::press(&bench.message, "1700000000.000001", "acknowledge", DANA)?;
    let before = bench.acme.fingerprint().await?;
    let cases: [(&str, Value, u16); 9] = [
        ("/actions/0/action_id", json!("delete_everything"), 400),
        ("/actions/0/action_id", json!("ACKNOWLEDGE"), 400),
        ("/actions/0/value", json!("A"), 400),
        ("/actions", json!([]), 400),
        ("/type", json!("view_submission"), 400),
        ("/user/id", json!("<!channel>"), 400),
        ("/user", json!([1]), 400),
        // Somebody followed the link: Slack says so, too.
        ("/actions/0/action_id", json!("open_link"), 200),
        // A token that isn't one: he is told, and learns nothing.
        ("/actions/0/value", json!("A".repeat(43)), 200),
    ];
    for (place, value, status) in cases {
        let mut payload = good.clone();
        *payload.pointer_mut(place).context(place)? = value.clone();
        let callback = bench.sdk.callback(SIGNING_SECRET, &payload).await?;
        ensure!(
            callback.send(&bench.url()).await? == status,
            "{place}: {value}"
        );
    }
    for (body, status) in [
        ("", 400),
        ("payload=", 400),
        ("payload=%7B%7D&payload=%7B%7D", 400),
        ("{\"type\":\"block_actions\"}", 400),
        ("payload=%00", 400),
    ] {
        let callback = bench
            .sdk
            .signed(SIGNING_SECRET, body.to_owned(), slack_sdk::now()?)
            .await?;
        ensure!(callback.send(&bench.url()).await? == status, "{body:?}");
    }
    let huge = format!("payload={}", "x".repeat(600 * 1024));
    let huge = bench
        .sdk
        .signed(SIGNING_SECRET, huge, slack_sdk::now()?)
        .await?;
    ensure!(huge.send(&bench.url()).await? == 413);
    ensure!(bench.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn whoever_only_fetches_presses_nothing() -> Result<()> {
    let bench = Bench::new().await?;
    let before = bench.acme.fingerprint().await?;
    for agent in [
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "Mozilla/5.0 (compatible; SafeLinks)",
    ] {
        for method in [
            http().get(bench.url()),
            http().head(bench.url()),
            http().put(bench.url()),
        ] {
            let status = method.header("user-agent", agent).send().await?.status();
            ensure!(status == 405, "{agent}: {status}");
        }
        let form = http()
            .post(bench.url())
            .header("user-agent", agent)
            .body("payload={}");
        ensure!(form.send().await?.status() == 401);
    }
    ensure!(bench.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn an_answer_goes_to_slack_alone() -> Result<()> {
    let bench = Bench::new().await?;
    let elsewhere =
        rotator_tests::vendor::Vendor::start(rotator_tests::vendor::Answer::status(200)).await?;
    let seen = bench.slack.requests().len();
    for url in [
        format!("{}/actions/T/1/x", elsewhere.url()),
        "https://hooks.slack.com.evil.test/actions/T/1/x".to_owned(),
        "https://hooks.slack.com/services/T/B/x".to_owned(),
        "http://169.254.169.254/actions/latest".to_owned(),
    ] {
        let mut payload = slack_sdk::press(
            &bench.message,
            "1700000000.000001",
            "acknowledge",
            "T024BE7LD/U0NOBODY",
        )?;
        payload["response_url"] = json!(url);
        let callback = bench.sdk.callback(SIGNING_SECRET, &payload).await?;
        ensure!(callback.send(&bench.url()).await? == 200);
    }
    ensure!(elsewhere.requests().is_empty());
    let to_slack = bench.slack.requests();
    ensure!(
        to_slack[seen..]
            .iter()
            .all(|request| request.path == "/api/users.info"),
        "{to_slack:?}"
    );
    Ok(())
}
