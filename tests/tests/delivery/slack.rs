//! Slack: what a reminder looks like on the wire, by bot token and by incoming webhook. Failures: `slack_failures.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::Sidecar;
use rotator_tests::sidecar::http;
use rotator_tests::slack::{Answer, Request, StandIn};
use serde_json::Value;

use crate::seed::{Acme, SOON};

pub const BOT_TOKEN: &str = "xoxb-4711-0815-NotAReal0ne";

/// A sidecar that takes the stand-in for Slack.
pub async fn sidecar(acme: &Acme, slack: &StandIn) -> Result<Sidecar> {
    let settings = [
        ("ROTATOR_SLACK_URL", slack.url()),
        ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN.to_owned()),
    ];
    let settings = settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    Sidecar::start(&acme.db, &settings).await
}

/// The address behind the button.
pub fn link(request: &Request) -> Result<String> {
    let body = request.json()?;
    let buttons = body["blocks"]
        .as_array()
        .context("a message has blocks")?
        .iter()
        .filter_map(|block| block["elements"].as_array())
        .flatten()
        .filter_map(|element| element["url"].as_str());
    let links: Vec<&str> = buttons.collect();
    ensure!(links.len() == 1, "a message has one button: {body}");
    Ok(links[0].to_owned())
}

#[tokio::test]
async fn a_reminder_goes_out_by_chat_post_message_with_its_link() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe <live> & more").await?;
    acme.tick().await?;

    let request = slack.received(1, SOON).await?.remove(0);
    ensure!(
        request.method == "POST" && request.path == "/api/chat.postMessage",
        "{request:?}"
    );
    ensure!(request.header("authorization") == Some(format!("Bearer {BOT_TOKEN}").as_str()));
    ensure!(
        request
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"))
    );
    let body = request.json()?;
    ensure!(body["channel"] == "C0DEPLOYS1", "{body}");
    for field in ["unfurl_links", "unfurl_media"] {
        ensure!(
            body[field] == Value::Bool(false),
            "Slack must not fetch the link: {body}"
        );
    }
    let section = body["blocks"][0]["text"]["text"]
        .as_str()
        .context("a section")?;
    ensure!(
        section.contains("stripe &lt;live&gt; &amp; more expires in 5 days"),
        "what and when come first, escaped: {section}"
    );
    ensure!(
        body["text"]
            .as_str()
            .is_some_and(|text| text.contains("expires in 5 days")),
        "{body}"
    );

    let link = link(&request)?;
    ensure!(link.starts_with(&sidecar.url("/a/")), "{link}");
    let page = http().get(&link).send().await?;
    ensure!(page.status() == 200);
    ensure!(
        page.text().await?.contains("stripe"),
        "the link leads to the secret's page"
    );

    let sent = acme.becomes(secret, "sent").await?;
    ensure!(sent.attempts == 1 && sent.last_error.is_none(), "{sent:?}");
    ensure!(
        sent.provider_message_id.as_deref() == Some("1700000000.000001"),
        "Slack's own id is kept, to update the message later: {sent:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_reminder_goes_out_by_incoming_webhook_without_the_bots_token() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let sidecar = sidecar(&acme, &slack).await?;
    acme.contact(
        "slack",
        "https://hooks.slack.com/services/T024BE7LD/B1H9RESUF/xyzzyPlugh",
    )
    .await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;

    let request = slack.received(1, SOON).await?.remove(0);
    ensure!(
        request.path == "/services/T024BE7LD/B1H9RESUF/xyzzyPlugh",
        "{request:?}"
    );
    ensure!(
        request.header("authorization").is_none(),
        "a webhook is no place for the bot's token"
    );
    let body = request.json()?;
    ensure!(
        body.get("channel").is_none(),
        "a webhook has its channel: {body}"
    );
    ensure!(
        body["text"]
            .as_str()
            .is_some_and(|text| text.contains("stripe-live expires in 5 days"))
    );
    ensure!(link(&request)?.starts_with(&sidecar.url("/a/")));

    let sent = acme.becomes(secret, "sent").await?;
    ensure!(
        sent.provider_message_id == Some(format!("webhook:{}", sent.id)),
        "{sent:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_owner_with_two_contacts_is_told_on_both() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let _sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "#deploys").await?;
    acme.contact("console", "desk").await?;
    acme.due("stripe-live").await?;
    acme.tick().await?;
    let request = slack.received(1, SOON).await?.remove(0);
    ensure!(request.json()?["channel"] == "#deploys");
    rotator_tests::until(SOON, "both to be sent", async || {
        Ok(acme.count("sent").await? == 2)
    })
    .await
}

#[tokio::test]
async fn a_channel_that_hangs_does_not_hold_up_the_others() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer_when("C0HANGS99", Answer::Never);
    acme.contact("slack", "C0HANGS99").await?;
    acme.contact_of("erin", "slack", "C0QUICK99").await?;
    acme.many_due(60).await?;
    acme.tick().await?;
    let _sidecar = sidecar(&acme, &slack).await?;
    slack.received(1, SOON).await?;

    let secret = acme.due_for("erin", "the urgent one").await?;
    acme.tick().await?;
    // Sooner than any of the hanging ones has timed out.
    let limit = std::time::Duration::from_secs(10);
    acme.becomes_within(secret, "sent", limit).await?;
    ensure!(acme.count("retry").await? == 0, "the others still hang");
    Ok(())
}
