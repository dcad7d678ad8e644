//! What the sidecar prints even at RUST_LOG=trace holds no credential, no recipient, no link and no name of a secret.

use anyhow::{Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::smtp::{Server, Stage};
use rotator_tests::{Sidecar, until};

use crate::link_page::{get, post};
use crate::seed::{Acme, SOON};
use crate::slack::{BOT_TOKEN, link};

#[tokio::test]
async fn at_trace_level_nothing_that_must_not_be_seen_is_printed() -> Result<()> {
    let (acme, slack, mail) = (
        Acme::new().await?,
        StandIn::start().await?,
        Server::start().await?,
    );
    let (slack_url, mail_url) = (slack.url(), mail.url());
    let mut sidecar = Sidecar::start(
        &acme.db,
        &[
            ("RUST_LOG", "trace"),
            ("ROTATOR_SLACK_URL", &slack_url),
            ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN),
            ("ROTATOR_SMTP_URL", &mail_url),
            ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
        ],
    )
    .await?;
    acme.contact_of("dana", "slack", "C0DEPLOYS1").await?;
    acme.contact_of(
        "erin",
        "slack",
        "https://hooks.slack.com/services/T024BE7LD/B1H9RESUF/xyzzyPlugh",
    )
    .await?;
    acme.contact_of("finn", "email", "finn.mailbox@acme.example")
        .await?;
    acme.contact_of("gail", "email", "gail.mailbox@acme.example")
        .await?;
    mail.refuse(
        "gail.mailbox@acme.example",
        Stage::Recipient,
        Some("550 5.1.1 <gail.mailbox@acme.example> unknown"),
    )?;
    // Good and bad answers of both kinds.
    slack.answer_when("xyzzyPlugh", Answer::Status(500));
    for owner in ["dana", "erin", "finn", "gail"] {
        acme.due_for(owner, &format!("unspeakable-{owner}")).await?;
    }
    acme.tick().await?;
    until(SOON, "each to be tried", async || {
        Ok(acme.count("sent").await? == 2
            && acme.count("retry").await? == 1
            && acme.count("dead").await? == 1)
    })
    .await?;

    let requests = slack.requests();
    let links: Vec<String> = requests.iter().map(link).collect::<Result<_>>()?;
    ensure!(links.len() == 2);
    ensure!(get(&links[0]).await?.0 == 200);
    ensure!(
        post(&links[0], "action=acknowledge&note=private-remark")
            .await?
            .0
            == 200
    );
    ensure!(
        post(&links[1], "action=rotated&note=private-remark")
            .await?
            .0
            == 200
    );
    let mangled = sidecar.url(&format!("/b/{}?t=queried-token", "mangledToken".repeat(4)));
    ensure!(http().get(mangled).send().await?.status() == 404);
    ensure!(sidecar.terminate().await?.success());

    let log = sidecar.log()?;
    ensure!(
        log.contains("\"level\":\"TRACE\"") && log.contains("delivered"),
        "it did log: {log}"
    );
    let password = sidecar
        .role
        .as_ref()
        .map(|role| role.password.clone())
        .unwrap_or_default();
    let tokens = links.iter().filter_map(|link| link.rsplit('/').next());
    let unseen = [
        BOT_TOKEN,
        "C0DEPLOYS1",
        "xyzzyPlugh",
        "B1H9RESUF",
        "finn.mailbox",
        "gail.mailbox",
        "unspeakable",
        "private-remark",
        "mangledToken",
        "queried-token",
        &password,
    ];
    for text in unseen.into_iter().chain(tokens) {
        let found: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(text))
            .take(3)
            .collect();
        ensure!(found.is_empty(), "{text:?} is printed: {found:#?}");
    }
    Ok(())
}
