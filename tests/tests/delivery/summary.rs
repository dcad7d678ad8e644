//! One message about many: an import that is long overdue arrives as a single mail and a single Slack message, with a
//! link for each of the most urgent. When there is one and what it counts: `behaviour/summary.rs`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rotator_tests::Sidecar;
use rotator_tests::sidecar::http;
use rotator_tests::slack::StandIn;
use rotator_tests::smtp::Server;

use crate::link_page::post;
use crate::seed::{Acme, SOON};

/// 25 of dana's: 22 that ended long ago, and 3 that end tomorrow.
const BACKLOG: &str = "
    select count(*) from rotator.import_secrets((
        select jsonb_agg(jsonb_build_object(
            'name', 'key-' || i, 'external_id', 'cmdb-' || i, 'owner_id', 'dana', 'rotation_interval', '90 days',
            'provider_type', 'stripe',
            'expiry_date', case when i > 22 then now() + interval '1 day' else now() - i * interval '10 days' end))
        from generate_series(1, 25) as i))";

#[tokio::test]
async fn an_overdue_import_is_one_message_with_a_link_for_each() -> Result<()> {
    let (acme, server, slack) = (
        Acme::new().await?,
        Server::start().await?,
        StandIn::start().await?,
    );
    let (smtp_url, slack_url) = (server.url(), slack.url());
    acme.contact("email", "dana@acme.example").await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.operator.execute(BACKLOG, &[]).await?;
    acme.tick().await?;
    let settings = [
        ("ROTATOR_SMTP_URL", smtp_url.as_str()),
        ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
        ("ROTATOR_SLACK_URL", &slack_url),
        ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-test"),
    ];
    let sidecar = Sidecar::start(&acme.db, &settings).await?;
    let subject = "25 imported credentials need attention: 22 overdue, 3 expiring soon";

    let mail = server.received(1, SOON).await?.remove(0);
    ensure!(mail.headers["subject"] == subject, "{mail:?}");
    let mut lines = mail
        .text
        .lines()
        .skip_while(|line| *line != "1. key-22 (stripe)");
    let when = lines.nth(1).context("the most urgent comes first")?;
    ensure!(when.starts_with("   expired 220 days ago, "), "{when}");
    ensure!(
        mail.text.contains("5 more are not listed here"),
        "{}",
        mail.text
    );
    let links: BTreeSet<&str> = mail
        .text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("http"))
        .collect();
    ensure!(links.len() == 20, "a link of its own for each: {links:?}");
    for link in &links {
        ensure!(link.starts_with(&sidecar.url("/a/")) && mail.html.contains(link));
    }

    let posted = slack.received(1, SOON).await?.remove(0).json()?;
    let blocks = posted["blocks"].as_array().context("blocks")?;
    let buttons = blocks
        .iter()
        .filter(|block| block["accessory"]["url"].is_string());
    ensure!(buttons.count() == 20 && blocks.len() <= 50, "{posted}");
    ensure!(
        blocks[0]["text"]["text"]
            .as_str()
            .is_some_and(|text| text.contains(subject))
    );

    // Each link is about one secret, and what is done with it concerns no other.
    let first = links.iter().next().context("a link")?;
    let (status, page) = post(first, "action=rotated").await?;
    ensure!(
        status == 200 && page.contains("Marked as rotated"),
        "{page}"
    );
    let mut open = 0;
    for link in &links {
        let page = http().get(*link).send().await?.text().await?;
        open += usize::from(page.contains("<form"));
    }
    ensure!(open == 19, "{open} are still open");
    ensure!(
        server.mails()?.len() == 1 && slack.requests().len() == 1,
        "one message, no storm"
    );
    Ok(())
}
