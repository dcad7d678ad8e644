//! What comes due together for one person arrives as one message: by mail, in Slack and on the console, with a row and a
//! link for each. When there is one: `behaviour/digest.rs`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rotator_tests::Sidecar;
use rotator_tests::scratch::Scratch;
use rotator_tests::sidecar::http;
use rotator_tests::slack::StandIn;
use rotator_tests::smtp::Server;

use crate::link_page::post;
use crate::seed::{Acme, SOON};

/// Three of dana's, whose reminders are due: one is overdue, and one ends tomorrow.
const THREE: &str = "
    insert into rotator.secrets (name, owner_id, provider_type, environment, expiry_date, rotation_interval)
    select n, 'dana', 'stripe', 'production', now() + days * interval '1 day', '90 days'
    from (values ('live-key', 5), ('webhook-key', 1), ('old-key', -9)) as s (n, days)";

fn links(text: &str) -> BTreeSet<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("http"))
        .collect()
}

#[tokio::test]
async fn what_is_due_together_is_one_message_on_each_channel() -> Result<()> {
    let (acme, server, slack) = (
        Acme::new().await?,
        Server::start().await?,
        StandIn::start().await?,
    );
    let (smtp_url, slack_url) = (server.url(), slack.url());
    let folder = Scratch::new("digest")?;
    let outbox = folder.join("outbox.jsonl");
    acme.contact("email", "dana@acme.example").await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.contact("console", "desk").await?;
    acme.operator.execute(THREE, &[]).await?;
    acme.tick().await?;
    let settings = [
        ("ROTATOR_SMTP_URL", smtp_url.as_str()),
        ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
        ("ROTATOR_SLACK_URL", &slack_url),
        ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-test"),
        ("ROTATOR_CONSOLE_OUTBOX", outbox.to_str().context("a path")?),
    ];
    let sidecar = Sidecar::start(&acme.db, &settings).await?;
    let subject = "old-key expired 9 days ago, and 2 more credentials to rotate";

    let mail = server.received(1, SOON).await?.remove(0);
    ensure!(mail.headers["subject"] == subject, "{mail:?}");
    let rows: Vec<&str> = mail
        .text
        .lines()
        .filter(|line| line.starts_with(['1', '2', '3']))
        .collect();
    ensure!(
        rows == [
            "1. old-key (stripe, production)",
            "2. webhook-key (stripe, production)",
            "3. live-key (stripe, production)"
        ],
        "{}",
        mail.text
    );
    let in_mail = links(&mail.text);
    ensure!(in_mail.len() == 3, "a link each: {}", mail.text);
    for link in &in_mail {
        ensure!(link.starts_with(&sidecar.url("/a/")) && mail.html.contains(link));
    }

    let posted = slack.received(1, SOON).await?.remove(0).json()?;
    let blocks = posted["blocks"].as_array().context("blocks")?;
    ensure!(
        blocks[0]["text"]["text"]
            .as_str()
            .is_some_and(|text| text.contains(subject)),
        "{posted:#}"
    );
    let in_slack: BTreeSet<&str> = blocks
        .iter()
        .filter_map(|block| block["accessory"]["url"].as_str())
        .collect();
    ensure!(
        in_slack.len() == 3 && in_slack.is_disjoint(&in_mail),
        "{posted:#}"
    );

    // By one of the links that one is done, and no other; another channel's link knows it.
    let first = mail
        .text
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("http"))
        .context("a link")?;
    let (status, page) = post(first, "action=rotated").await?;
    ensure!(
        status == 200 && page.contains("Marked as rotated"),
        "{page}"
    );
    let mut open = 0;
    for link in &in_slack {
        let page = http().get(*link).send().await?.text().await?;
        open += usize::from(page.contains("<form"));
    }
    ensure!(open == 2, "{open} are still open");
    let printed = std::fs::read_to_string(&outbox)?;
    let line: serde_json::Value = serde_json::from_str(printed.lines().next().context("a line")?)?;
    ensure!(line["subject"] == subject, "{line:#}");
    ensure!(
        line["items"].as_array().map(Vec::len) == Some(3),
        "{line:#}"
    );
    ensure!(
        server.mails()?.len() == 1 && slack.requests().len() == 1 && printed.lines().count() == 1,
        "one message each"
    );
    Ok(())
}
