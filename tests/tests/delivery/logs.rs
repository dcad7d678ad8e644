//! What the sidecar prints even at RUST_LOG=trace holds no credential, no recipient, no link and no name of a secret, not
//! even when a vendor sends them back. And its form: fields that a program can rely on.

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::{free_address, http};
use rotator_tests::slack::{Answer, Request, StandIn};
use rotator_tests::smtp::{Server, Stage};
use rotator_tests::vendor::{self, Reply, Vendor};
use rotator_tests::{Sidecar, until};
use serde_json::{Value, json};

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
        Ok(acme.count("sent").await? >= 2
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
        log.contains("\"level\":\"DEBUG\"") && log.contains("delivered"),
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
        "private-remark",
        "mangledToken",
        "queried-token",
        &password,
    ];
    holds_none(&log, unseen.into_iter().chain(tokens))?;
    holds_none(&events(&log), ["unspeakable"])
}

/// The log alone: what nobody could be told otherwise is printed for the operator, with the names of the secrets.
fn events(printed: &str) -> String {
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines.collect::<Vec<_>>().join("\n")
}

fn holds_none<'a>(printed: &str, unseen: impl IntoIterator<Item = &'a str>) -> Result<()> {
    for text in unseen {
        let found: Vec<&str> = printed
            .lines()
            .filter(|line| line.contains(text))
            .take(3)
            .collect();
        ensure!(
            !text.is_empty() && found.is_empty(),
            "{text:?} is printed: {found:#?}"
        );
    }
    Ok(())
}

/// Everything that came in, in every part of an answer that a vendor can fill.
fn echo(request: &Request, status: u16) -> vendor::Answer {
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let all = format!(
        "{} {} {} {}",
        header("authorization"),
        request.path,
        request.query,
        request.text()
    );
    let word: String = all.chars().filter(|c| !c.is_control()).collect();
    let short: String = word.chars().take(200).collect();
    // In the shape of each vendor's own errors.
    let body = json!({
        "ok": false, "error": short, "status": word, "message": word, "errors": [{"message": word, "field": short, "help": word}],
        "needed": short, "provided": short, "warning": word, "response_metadata": {"messages": [word]},
    });
    vendor::Answer::Reply(
        Reply::json(status, &body)
            .header("retry-after", &short)
            .header("x-message-id", &short)
            .header("x-echo", &word)
            .header("location", &format!("http://127.0.0.1:1/{}", request.path)),
    )
}

#[tokio::test]
async fn what_a_vendor_echoes_is_not_printed_either() -> Result<()> {
    const SENDGRID_KEY: &str = "SG.echoedKey0815.NotAReal0ne";
    const ROUTING_KEY: &str = "0123456789abcdefEchoedRoutingKey";
    let statuses = [200, 202, 302, 400, 401, 403, 404, 413, 429, 500];
    let hostile = Vendor::start(vendor::Answer::by(move |request, count| {
        echo(request, statuses[count % statuses.len()])
    }))
    .await?;
    let acme = Acme::new().await?;
    let url = hostile.url();
    let mut sidecar = Sidecar::start(
        &acme.db,
        &[
            ("RUST_LOG", "trace"),
            ("ROTATOR_SLACK_URL", &url),
            ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN),
            ("ROTATOR_SENDGRID_URL", &url),
            ("ROTATOR_SENDGRID_API_KEY", SENDGRID_KEY),
            ("ROTATOR_PAGERDUTY_URL", &url),
            ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
        ],
    )
    .await?;
    let contacts = [
        ("dana", "slack", "C0DEPLOYS1"),
        (
            "erin",
            "slack",
            "https://hooks.slack.com/services/T024BE7LD/B1H9RESUF/xyzzyPlugh",
        ),
        ("finn", "email", "finn.mailbox@acme.example"),
        ("gail", "pagerduty", ROUTING_KEY),
    ];
    // As many of each as there are answers, so that each owner's channel gets about every one.
    for (owner, channel, recipient) in contacts {
        acme.contact_of(owner, channel, recipient).await?;
        for number in 0..statuses.len() {
            acme.due_for(owner, &format!("unspeakable-{owner}-{number}"))
                .await?;
            // Each by itself: what one recipient is told in one tick is one message.
            acme.tick().await?;
        }
    }
    until(SOON, "each to be tried", async || {
        Ok(acme.count("queued").await? == 0 && acme.count("leased").await? == 0)
    })
    .await?;
    let page = http()
        .get(sidecar.url("/metrics"))
        .send()
        .await?
        .text()
        .await?;
    let answers = hostile.requests().len();
    ensure!(answers >= statuses.len() * 2, "{answers} requests came in");
    ensure!(sidecar.terminate().await?.success());
    let log = sidecar.log()?;
    ensure!(log.contains("not delivered"), "it did log: {log}");

    let role = sidecar.role.as_ref().context("a role")?;
    let mut unseen: Vec<String> = [
        BOT_TOKEN,
        SENDGRID_KEY,
        ROUTING_KEY,
        "Bearer",
        "C0DEPLOYS1",
        "xyzzyPlugh",
        "B1H9RESUF",
        "finn.mailbox",
        "unspeakable",
    ]
    .map(str::to_owned)
    .into();
    unseen.push(role.password.clone());
    unseen.extend(hostile.requests().iter().flat_map(|request| {
        let text = request.text();
        let tokens = text.split("/a/").skip(1);
        tokens
            .map(|rest| {
                rest.chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
                    .collect::<String>()
            })
            .filter(|token| token.len() > 15)
            .collect::<Vec<_>>()
    }));
    ensure!(unseen.len() > 15, "links went out: {}", unseen.len());
    holds_none(&events(&log), unseen.iter().map(String::as_str))?;
    holds_none(&page, unseen.iter().map(String::as_str))?;
    // What members can read about it is no place for them either.
    let told: Vec<String> = acme
        .db
        .admin
        .query("select coalesce(last_error, '') || coalesce(provider_message_id, '') from rotator_internal.notification", &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let secrets = unseen
        .iter()
        .map(String::as_str)
        .filter(|text| *text != "unspeakable");
    holds_none(&log, secrets.clone())?;
    holds_none(&told.join("\n"), secrets)
}

#[tokio::test]
async fn libraries_print_nothing_whatever_rust_log_asks_for() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let url = slack.url();
    let settings = [
        (
            "RUST_LOG",
            "trace,hyper=trace,reqwest=trace,tokio_postgres=trace,rustls=trace",
        ),
        ("ROTATOR_SLACK_URL", url.as_str()),
        ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN),
    ];
    let mut sidecar = Sidecar::start(&acme.db, &settings).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;
    ensure!(sidecar.terminate().await?.success());
    for line in sidecar.log()?.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let target = event["target"].as_str().unwrap_or_default();
        ensure!(target.starts_with("rotator_sidecar"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn every_line_of_json_has_its_fields_and_a_delivery_its_own() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(Answer::Status(500));
    let url = slack.url();
    let settings = [
        ("ROTATOR_LOG_FORMAT", "json"),
        ("ROTATOR_SLACK_URL", url.as_str()),
        ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN),
    ];
    let mut sidecar = Sidecar::start(&acme.db, &settings).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "retry").await?;
    acme.end_waiting().await?;
    let sent = acme.becomes(secret, "sent").await?;
    ensure!(sidecar.terminate().await?.success());

    let mut deliveries = Vec::new();
    for line in sidecar.log()?.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for field in ["timestamp", "level", "target", "message"] {
            ensure!(event[field].is_string(), "{field}: {line}");
        }
        if event["notification"] == sent.id.to_string() {
            ensure!(
                event["channel"] == "slack" && event["milliseconds"].is_u64(),
                "{line}"
            );
            deliveries.push((event["level"].to_string(), event["attempt"].to_string()));
        }
    }
    let expected = [("\"WARN\"", "1"), ("\"INFO\"", "2")];
    ensure!(
        deliveries == expected.map(|(level, attempt)| (level.to_owned(), attempt.to_owned())),
        "{deliveries:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_format_is_chosen_by_its_setting_to_the_last_line() -> Result<()> {
    let nowhere = format!("postgres://u:hunter2hunter2@{}/x", free_address()?);
    let text = Sidecar::spawn(&nowhere, &[("ROTATOR_LOG_FORMAT", "text")]).await?;
    let line = text.logged(SOON, "waiting for the database").await?;
    ensure!(
        !line.starts_with('{') && !line.contains('\u{1b}'),
        "plain: {line}"
    );

    // The end of a process is what an operator looks for first, so it is JSON like all before it.
    for (name, value) in [
        ("ROTATOR_DATABASE_URL", "mysql://u:hunter2hunter2@x/y"),
        ("ROTATOR_LISTEN", "8080"),
    ] {
        let mut json =
            Sidecar::spawn(&nowhere, &[("ROTATOR_LOG_FORMAT", "json"), (name, value)]).await?;
        ensure!(json.ended(SOON).await?.code() == Some(4));
        let log = json.log()?;
        for line in log.lines() {
            serde_json::from_str::<Value>(line).with_context(|| log.clone())?;
        }
        let last: Value = serde_json::from_str(log.lines().last().unwrap_or_default())?;
        ensure!(last["exit_code"] == 4 && last["level"] == "ERROR", "{last}");
        ensure!(
            last["message"]
                .as_str()
                .is_some_and(|text| text.contains(name))
                && last["hint"].is_string(),
            "{last}"
        );
        ensure!(!log.contains("hunter2"), "{log}");
    }

    let mut unknown = Sidecar::spawn(&nowhere, &[("ROTATOR_LOG_FORMAT", "xml")]).await?;
    ensure!(unknown.ended(SOON).await?.code() == Some(4));
    let log = unknown.log()?;
    ensure!(
        log.contains("error: ROTATOR_LOG_FORMAT") && log.contains("hint: write text or json"),
        "{log}"
    );
    Ok(())
}
