//! A test notification over each channel: the production message, clearly a test, with a link that says that links
//! arrive. What it may be asked for and by whom: `behaviour/test_notification.rs`, `security/member_roles.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::slack::StandIn;
use rotator_tests::smtp::{Server, Stage};
use rotator_tests::{Cli, Sidecar, eventually, scalar};
use serde_json::Value;
use uuid::Uuid;

use crate::outbox::Outbox;
use crate::seed::{Acme, SOON};

struct Peers {
    acme: Acme,
    slack: StandIn,
    mail: Server,
    outbox: Outbox,
    sidecar: Sidecar,
}

impl Peers {
    async fn new() -> Result<Self> {
        let acme = Acme::in_zone("Asia/Kathmandu").await?;
        let (slack, mail) = (StandIn::start().await?, Server::start().await?);
        let outbox = Outbox::new()?;
        let (slack_url, mail_url, file) = (slack.url(), mail.url(), outbox.setting());
        let settings = [
            ("ROTATOR_SLACK_URL", slack_url.as_str()),
            ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-test"),
            ("ROTATOR_SMTP_URL", &mail_url),
            ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
            ("ROTATOR_CONSOLE_OUTBOX", &file),
        ];
        let sidecar = Sidecar::start(&acme.db, &settings).await?;
        Ok(Self {
            acme,
            slack,
            mail,
            outbox,
            sidecar,
        })
    }

    async fn test(&self, channel: &str, recipient: &str) -> Result<Uuid> {
        let sql = "select rotator.test_notification($1, $2)";
        scalar(&self.acme.operator, sql, &[&channel, &recipient]).await
    }

    /// Its kind and state in `rotator.notifications`, once it is not under way any more.
    async fn ended(&self, id: Uuid) -> Result<(String, String)> {
        eventually(SOON, "the test to be delivered", async || {
            let sql = "select kind, state from rotator.notifications where id = $1 and state not in ('queued', 'leased')";
            let row = self.acme.operator.query_opt(sql, &[&id]).await?;
            Ok(row.map(|row| (row.get(0), row.get(1))))
        })
        .await
    }
}

#[tokio::test]
async fn each_channel_carries_the_production_message_marked_as_a_test() -> Result<()> {
    let peers = Peers::new().await?;
    let by_slack = peers.test("slack", "C0DEPLOYS1").await?;
    let by_mail = peers.test("email", "dana@acme.example").await?;
    let on_console = peers.test("console", "the desk").await?;
    for id in [by_slack, by_mail, on_console] {
        let (kind, state) = peers.ended(id).await?;
        ensure!((kind.as_str(), state.as_str()) == ("test", "sent"));
    }
    let subject = "[Test] sample-api-key expires in 14 days";
    let link = peers.sidecar.url("/a/test");

    let posted = peers.slack.received(1, SOON).await?.remove(0).json()?;
    let section = posted["blocks"][0]["text"]["text"]
        .as_str()
        .unwrap_or_default();
    ensure!(section.starts_with(&format!("*{subject}*\n")), "{posted}");
    ensure!(posted["blocks"].to_string().contains(&link), "{posted}");

    let mail = peers.mail.received(1, SOON).await?.remove(0);
    ensure!(mail.headers["subject"] == subject, "{mail:?}");
    ensure!(mail.headers["message-id"].contains(&by_mail.to_string()));
    ensure!(mail.html.contains(&link) && mail.text.contains(&link));
    ensure!(!mail.headers.contains_key("references"), "it is no reply");

    let printed = peers.outbox.received(1).await?.remove(0);
    ensure!(printed["subject"] == subject && printed["kind"] == "test");
    ensure!(printed["link"] == link.as_str(), "{printed}");

    for text in [
        section,
        &mail.text,
        printed["todo"].as_str().unwrap_or_default(),
    ] {
        ensure!(text.contains("This is a test that"), "{text}");
        ensure!(text.contains("nothing needs rotating"), "{text}");
    }
    for text in [section, &mail.text] {
        ensure!(text.contains("(Asia/Kathmandu)"), "dates are local: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn its_link_says_that_links_arrive_and_takes_nothing() -> Result<()> {
    let peers = Peers::new().await?;
    let before = peers.acme.fingerprint().await?;
    let link = peers.sidecar.url("/a/test");
    let shown = http().get(&link).send().await?;
    ensure!(shown.status() == 200);
    let policy = shown.headers().get("content-security-policy").cloned();
    ensure!(policy.is_some(), "headers as on every page");
    let page = shown.text().await?;
    ensure!(page.contains("Links from your notifications reach rotator"));
    ensure!(!page.contains("<form") && !page.contains("http"), "{page}");
    ensure!(http().head(&link).send().await?.status() == 200);

    let form = "action=rotated";
    for request in [
        http()
            .post(&link)
            .body(form)
            .header("content-type", "application/x-www-form-urlencoded"),
        http().put(&link),
        http().delete(&link),
    ] {
        let refused = request.send().await?;
        ensure!(refused.status() == 405);
        let allowed = refused.headers().get("allow").context("Allow")?;
        ensure!(allowed == "GET,HEAD", "{allowed:?}");
        ensure!(refused.text().await?.contains("Nothing was changed."));
    }
    ensure!(peers.acme.fingerprint().await? == before);
    Ok(())
}

async fn command(peers: &Peers, arguments: &[&str], input: Option<&str>) -> Result<(i32, String)> {
    let mut line = vec!["--tenant", "acme", "notifications", "test"];
    line.extend(arguments);
    let mut cli = Cli::new(&peers.acme.db, &peers.acme.operator_role, &line)?;
    if let Some(input) = input {
        cli = cli.input(input);
    }
    let printed = cli.run().await?;
    Ok((printed.code, printed.stdout + &printed.stderr))
}

#[tokio::test]
async fn the_command_waits_and_says_what_became_of_it() -> Result<()> {
    let peers = Peers::new().await?;
    let to = |address| ["--channel", "email", "--recipient", address];

    let (code, id) = command(&peers, &to("dana@acme.example"), None).await?;
    let (_, state) = peers.ended(id.trim().parse()?).await?;
    ensure!(code == 0 && state == "sent");

    let waiting = [&to("-")[..], &["--wait", "--format", "json"]].concat();
    let (code, printed) = command(&peers, &waiting, Some("dana@acme.example\n")).await?;
    let row: Value = serde_json::from_str(&printed).context(printed)?;
    ensure!(code == 0 && row["state"] == "sent", "{row}");
    ensure!(
        row["provider_message_id"]
            .as_str()
            .is_some_and(|id| id.starts_with('<')),
        "{row}"
    );

    let gone = "gone@acme.example";
    peers
        .mail
        .refuse(gone, Stage::Recipient, Some("550 5.1.1 no such user"))?;
    let (code, said) = command(&peers, &[&to(gone)[..], &["--wait"]].concat(), None).await?;
    ensure!(
        code == 1 && said.contains("not delivered, dead: SMTP 550 5.1.1"),
        "{said}"
    );

    peers
        .mail
        .refuse(gone, Stage::Recipient, Some("451 4.3.0 later"))?;
    let (code, said) = command(&peers, &[&to(gone)[..], &["--wait", "7"]].concat(), None).await?;
    ensure!(
        code == 1 && said.contains("not delivered within 7 s, and tried again: SMTP 451"),
        "{said}"
    );

    let (code, said) = command(&peers, &to("Dana <dana@acme.example>"), None).await?;
    ensure!(code == 1 && said.contains("no email recipient"), "{said}");
    Ok(())
}
