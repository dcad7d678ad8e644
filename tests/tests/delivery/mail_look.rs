//! What a mail is when a mail program reads it back: parsed MIME with a plain and an HTML part, headers that stay one
//! line each whatever a name holds, and the same mail by SMTP and by SendGrid.

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::slack::StandIn;
use rotator_tests::slack_sdk::Sdk;
use rotator_tests::smtp::{Mail, Server};
use rotator_tests::vendor::{Answer, Vendor};
use rotator_tests::{Sidecar, eventually, scalar};
use uuid::Uuid;

use crate::seed::{Acme, SOON};

const FROM: (&str, &str) = ("ROTATOR_EMAIL_FROM", "Über uns <rotator@acme.example>");

/// Acme's mail server, and what came in there about one secret of that name.
async fn mailed(name: &str) -> Result<Mail> {
    let (acme, server) = (Acme::new().await?, Server::start().await?);
    let url = server.url();
    let _sidecar = Sidecar::start(&acme.db, &[("ROTATOR_SMTP_URL", &url), FROM]).await?;
    acme.contact("email", "dana@acme.example").await?;
    acme.due(name).await?;
    acme.tick().await?;
    let mut mails = server.received(1, SOON).await?;
    mails.pop().context("one mail")
}

/// The head of the mail as it was sent: names in lower case, folded lines joined.
fn head(mail: &Mail) -> Result<Vec<(String, String)>> {
    let (head, _) = mail.raw.split_once("\r\n\r\n").context("head and body")?;
    let mut lines: Vec<(String, String)> = Vec::new();
    for line in head.split("\r\n") {
        ensure!(line.is_ascii(), "a header that is not encoded: {line}");
        ensure!(line.len() <= 998, "RFC 5322, 2.1.1");
        match line.split_once(": ") {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                lines.push((name.to_lowercase(), value.to_owned()));
            }
            _ => lines
                .last_mut()
                .context("a folded line after another")?
                .1
                .push_str(line),
        }
    }
    Ok(lines)
}

#[tokio::test]
async fn subjects_are_one_line_that_reads_as_the_name_was_given() -> Result<()> {
    for name in [
        "Schlüssel für Kölle 🔑",
        "データベースの認証情報",
        "=?utf-8?q?Bcc=3A_eve=40evil.example?=",
        "Bcc: eve@evil.example",
        "a\"b\\c<d>e&f'g",
        "Subject: x\\r\\nBcc: eve@evil.example",
    ] {
        let mail = mailed(name).await?;
        let subject = mail.headers.get("subject").context("a subject")?;
        // What looks like an encoded word is broken up, or a mail program would decode it.
        let read = name.replace("=?", "= ?");
        ensure!(*subject == format!("{read} expires in 5 days"), "{subject}");
        ensure!(mail.recipients == ["dana@acme.example"], "{mail:?}");
        let head = head(&mail)?;
        let mut names: Vec<&str> = head.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        ensure!(
            names
                == [
                    "auto-submitted",
                    "content-type",
                    "date",
                    "from",
                    "in-reply-to",
                    "list-id",
                    "list-post",
                    "message-id",
                    "mime-version",
                    "references",
                    "subject",
                    "to",
                    "x-auto-response-suppress",
                ],
            "a header too many: {names:?}"
        );
        ensure!(mail.headers["from"].contains("Über uns"), "{mail:?}");
    }
    Ok(())
}

#[tokio::test]
async fn names_that_were_stored_with_line_breaks_add_nothing() -> Result<()> {
    // The database refuses such names; this is what the sidecar does should one be there all the same.
    let (acme, server) = (Acme::new().await?, Server::start().await?);
    let url = server.url();
    acme.contact("email", "dana@acme.example").await?;
    let secret = acme.due("ordinary").await?;
    acme.db
        .admin
        .execute(
            "update rotator_internal.secret as s
             set name = rotator_internal.seal_field(s.tenant_id, 'secret.name', s.id, $2)
             where s.id = $1",
            &[
                &secret,
                &"x\r\nBcc: eve@evil.example\r\n\r\n<script>alert(1)</script>",
            ],
        )
        .await?;
    acme.tick().await?;
    let _sidecar = Sidecar::start(&acme.db, &[("ROTATOR_SMTP_URL", &url), FROM]).await?;
    let mail = server.received(1, SOON).await?.remove(0);
    ensure!(mail.recipients == ["dana@acme.example"], "{mail:?}");
    ensure!(
        mail.headers["subject"].starts_with("x  Bcc: eve@evil.example    <script>"),
        "{mail:?}"
    );
    ensure!(head(&mail)?.iter().all(|(name, _)| name != "bcc"));
    ensure!(!mail.html.contains("<script"), "{}", mail.html);
    Ok(())
}

/// Markup of every kind, escapes of terminals, marks that turn text around or can't be seen, and far too much of it.
const HOSTILE: &str = "<!channel> <@U1> *b* _i_ ~s~ `c` &lt;b&gt; <script>alert(1)</script> \" onload=\"x <a href='javascript:x'>x</a>\r\nBcc: eve@evil.example\n.\n\u{1b}[2J\u{202e}gnp\u{2028}z\u{200b}w \u{338}é 🔑 ";

#[tokio::test]
async fn hostile_texts_arrive_as_text_by_mail_in_slack_and_on_the_console() -> Result<()> {
    let (acme, server) = (Acme::new().await?, Server::start().await?);
    let (slack, folder) = (StandIn::start().await?, Scratch::new("hostile")?);
    let (url, slack_url, outbox) = (server.url(), slack.url(), folder.join("outbox.jsonl"));
    for (channel, address) in [
        ("email", "dana@acme.example"),
        ("slack", "C0DEPLOYS1"),
        ("console", "desk"),
    ] {
        acme.contact(channel, address).await?;
    }
    // The database takes it as a purpose; elsewhere it refuses what can't be seen, so there it is put in behind its back.
    let secret = acme.due("ordinary").await?;
    let long = HOSTILE.repeat(9_000 / HOSTILE.chars().count());
    acme.operator
        .execute(
            "update rotator.secrets set purpose = $2 where id = $1",
            &[&secret, &long],
        )
        .await?;
    for (field, text) in [("name", HOSTILE), ("provider_ref", &long)] {
        let sql = format!(
            "update rotator_internal.secret as s set {field} = rotator_internal.seal_field(s.tenant_id, 'secret.{field}', s.id, $2)
             where s.id = $1"
        );
        acme.db.admin.execute(&sql, &[&secret, &text]).await?;
    }
    let short: String = HOSTILE.chars().take(60).collect();
    for sql in [
        "update rotator_internal.tenant set name = $1 where slug = 'acme'",
        "update rotator_internal.secret set environment = $1, provider_type = 'x'",
    ] {
        acme.db.admin.execute(sql, &[&short]).await?;
    }
    acme.tick().await?;
    let settings = [
        ("ROTATOR_SMTP_URL", url.as_str()),
        ("ROTATOR_SLACK_URL", &slack_url),
        ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-test"),
        (
            "ROTATOR_SLACK_SIGNING_SECRET",
            crate::slack_buttons::SIGNING_SECRET,
        ),
        ("ROTATOR_CONSOLE_OUTBOX", outbox.to_str().context("a path")?),
        FROM,
    ];
    let sidecar = Sidecar::start(&acme.db, &settings).await?;
    let is_plain = |text: &str| {
        !text.contains(|c: char| {
            c.is_control() || matches!(c, '\u{202e}' | '\u{2028}' | '\u{200b}' | '\u{338}')
        })
    };

    let mail = server.received(1, SOON).await?.remove(0);
    ensure!(mail.recipients == ["dana@acme.example"], "{mail:?}");
    let head = head(&mail)?;
    ensure!(
        head.len() == 13 && head.iter().all(|(name, _)| name != "bcc"),
        "{head:?}"
    );
    let subject = &mail.headers["subject"];
    ensure!(
        subject.starts_with("<!channel> <@U1> *b* ") && subject.ends_with("… expires in 5 days"),
        "{subject}"
    );
    for text in [&mail.text, &mail.html] {
        ensure!(text.lines().all(is_plain), "{text:?}");
        ensure!(
            text.contains('🔑') && text.contains("…"),
            "cut, and whole characters: {text}"
        );
    }
    ensure!(mail.text.lines().count() < 16, "{}", mail.text);
    let mut rest = mail.html.as_str();
    for tag in ["<script", "<a href='", "<!channel", "onload=\""] {
        ensure!(!rest.contains(tag), "{tag}: {rest}");
    }
    while let Some((_, after)) = rest.split_once("href=\"") {
        ensure!(after.starts_with(&sidecar.url("/a/")), "{after}");
        rest = after;
    }

    let posted = slack.received(1, SOON).await?.remove(0);
    let text = posted.text();
    for injected in ["<!channel", "<@U1", "<script", "`c`", "~s~", "\u{202e}"] {
        // Of the text that asks whether it is rotated nothing is read as markup.
        let in_words = posted.json()?["blocks"][0].to_string();
        ensure!(
            !in_words.contains(injected)
                && (injected.starts_with(['`', '~']) || !text.contains(injected)),
            "{injected}: {text}"
        );
    }
    Sdk::start()
        .await?
        .blocks(&posted.json()?["blocks"])
        .await?;

    let printed = eventually(SOON, "the console", async || {
        let printed = std::fs::read_to_string(&outbox).unwrap_or_default();
        Ok((printed.lines().count() == 1).then_some(printed))
    })
    .await?;
    ensure!(
        printed
            .trim_end()
            .chars()
            .all(|c| !c.is_control() && c != '\u{202e}'),
        "{printed:?}"
    );
    ensure!(!sidecar.log()?.contains(['\u{202e}', '\u{2028}', '\u{9b}']));
    Ok(())
}

#[tokio::test]
async fn it_is_plain_and_html_for_a_phone_and_loads_nothing() -> Result<()> {
    let mail = mailed("<b>stripe</b> \"live\" & co").await?;
    let kind = mail.headers.get("content-type").context("a type")?;
    ensure!(kind.starts_with("multipart/alternative"), "{kind}");
    let (plain, html) = (mail.raw.find("text/plain"), mail.raw.find("text/html"));
    ensure!(plain.is_some() && plain < html, "plain first");
    ensure!(mail.text.contains("<b>stripe</b> \"live\" & co"));
    ensure!(!mail.text.contains("&#38;") && !mail.text.contains("&amp;"));
    ensure!(!mail.html.contains("<b>stripe"), "{}", mail.html);
    ensure!(
        mail.html
            .contains("<meta name=\"viewport\" content=\"width=device-width")
            && mail.html.contains("content=\"light dark\"")
    );
    for loaded in [
        "<img", "<link", "<style", "<script", "<iframe", "src=", "url(", "@import", "@font",
    ] {
        ensure!(!mail.html.contains(loaded), "{loaded}: {}", mail.html);
    }
    // The only address in it is that of the button.
    ensure!(mail.html.matches("http").count() == 1, "{}", mail.html);
    Ok(())
}

#[tokio::test]
async fn both_ways_carry_the_same_mail() -> Result<()> {
    let (acme, server) = (Acme::new().await?, Server::start().await?);
    let sendgrid = Vendor::start(Answer::status(202)).await?;
    let (smtp_url, sendgrid_url) = (server.url(), sendgrid.url());
    acme.contact("email", "dana@acme.example").await?;
    let public = ("ROTATOR_PUBLIC_URL", "https://rotator.acme.example");
    let by_smtp = [("ROTATOR_SMTP_URL", smtp_url.as_str()), FROM, public];
    let by_sendgrid = [
        ("ROTATOR_SENDGRID_URL", sendgrid_url.as_str()),
        ("ROTATOR_SENDGRID_API_KEY", "SG.x"),
        FROM,
        public,
    ];
    let test = async || -> Result<Uuid> {
        scalar(
            &acme.operator,
            "select rotator.test_notification('email', 'dana@acme.example')",
            &[],
        )
        .await
    };

    let first = test().await?;
    let mut sidecar = Sidecar::start(&acme.db, &by_smtp).await?;
    let mail = server.received(1, SOON).await?.remove(0);
    ensure!(sidecar.terminate().await?.success());
    let second = test().await?;
    let _sidecar = Sidecar::start(&acme.db, &by_sendgrid).await?;
    let body = sendgrid.received(1, SOON).await?.remove(0).json()?;

    ensure!(body["subject"] == mail.headers["subject"], "{body}");
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let part = |i: usize| lines(body["content"][i]["value"].as_str().unwrap_or_default());
    ensure!(part(0) == lines(&mail.text), "{body}\n{}", mail.text);
    ensure!(part(1) == lines(&mail.html), "{body}\n{}", mail.html);
    ensure!(mail.headers["message-id"] == format!("<{first}@acme.example>"));
    ensure!(body["headers"]["Message-ID"] == format!("<{second}@acme.example>"));
    Ok(())
}
