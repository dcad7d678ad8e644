//! What a mail is when a mail program reads it back: parsed MIME with a plain and an HTML part, headers that stay one
//! line each whatever a name holds, and the same mail by SMTP and by SendGrid.

use anyhow::{Context, Result, ensure};
use rotator_tests::smtp::{Mail, Server};
use rotator_tests::vendor::{Answer, Vendor};
use rotator_tests::{Sidecar, scalar};
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
