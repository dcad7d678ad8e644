//! What comes over the wire when a vendor, or something on the way to one, is broken: HTTP that is none, too much of it,
//! JSON of any shape, and connections that end at each stage. Proper answers of all kinds: `vendors`.

use anyhow::{Context, Result, ensure};
use rotator_tests::Sidecar;
use rotator_tests::slack::Answer as SlackAnswer;
use rotator_tests::vendor::{Answer, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::seed::{Acme, SOON};
use crate::vendors::{Vendors, first_attempt};
use crate::webhook::SIGNING_SECRET;

fn raw(text: &str) -> Answer {
    Answer::Raw(text.as_bytes().to_vec())
}

fn flood(head: &str, piece: &str) -> Answer {
    Answer::Flood(head.as_bytes().to_vec(), piece.repeat(100).into_bytes())
}

/// The case as it is answered to an incoming webhook of Slack's.
async fn hook_case(vendors: &Vendors, name: &str, answer: &Answer) -> Result<String> {
    let owner = format!("{name}-hook");
    let path = format!("/services/T0/B0/{name}z");
    vendors
        .slack
        .answer_when(&path, SlackAnswer::As(answer.clone()));
    let recipient = format!("https://hooks.slack.com{path}");
    vendors.acme.contact_of(&owner, "slack", &recipient).await?;
    vendors.acme.due_for(&owner, &owner).await?;
    Ok(owner)
}

#[tokio::test]
async fn broken_http_has_its_outcome_on_every_channel() -> Result<()> {
    // Of a vendor that says 202 and then makes nonsense it is known that it took it, where the status says so.
    let (broken, taken) = (["transient"; 4], ["sent", "sent", "transient", "transient"]);
    let chunked = "HTTP/1.1 202 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let piece = format!("400\r\n{}\r\n", "x".repeat(1024));
    let cases = [
        ("half", raw("HTTP/1.1 20"), broken),
        ("letters", raw("HTTP/1.1 2O2 OK\r\n\r\n"), broken),
        (
            "zero",
            raw("HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n"),
            broken,
        ),
        (
            "nines",
            raw("HTTP/1.1 999 OK\r\ncontent-length: 0\r\n\r\n"),
            broken,
        ),
        (
            "switch",
            raw("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
            broken,
        ),
        (
            "negative",
            raw("HTTP/1.1 202 OK\r\ncontent-length: -5\r\n\r\n"),
            broken,
        ),
        (
            "absurd",
            raw("HTTP/1.1 202 OK\r\ncontent-length: 99999999999999999999999999\r\n\r\n"),
            broken,
        ),
        (
            "two",
            raw("HTTP/1.1 202 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}"),
            broken,
        ),
        (
            "null",
            raw("HTTP/1.1 202 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n"),
            broken,
        ),
        (
            "manyheaders",
            flood("HTTP/1.1 202 OK\r\n", "x-more: and more\r\n"),
            broken,
        ),
        (
            "longheader",
            flood("HTTP/1.1 202 OK\r\nx-long: ", "and more "),
            broken,
        ),
        (
            "surplus",
            raw(
                "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\nHTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n",
            ),
            broken,
        ),
        (
            "huge",
            raw("HTTP/1.1 202 OK\r\ncontent-length: 9999999999999999\r\n\r\n{"),
            taken,
        ),
        ("badchunk", raw(&format!("{chunked}zz\r\n")), taken),
        (
            "bigchunk",
            raw(&format!("{chunked}ffffffffffffffffffff\r\nx")),
            taken,
        ),
        ("nochunk", raw(chunked), taken),
        ("old", raw("HTTP/1.0 202 OK\r\n\r\n{}"), taken),
        ("endless", flood(chunked, &piece), taken),
        (
            "endlessok",
            flood(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                &piece,
            ),
            ["transient", "sent", "transient", "sent"],
        ),
    ];
    let vendors = Vendors::new().await?;
    let mut hooks = Vec::new();
    for (name, answer, _) in &cases {
        vendors.case(name, answer).await?;
        hooks.push(hook_case(&vendors, name, answer).await?);
    }
    vendors.acme.tick().await?;
    for ((name, _, [pagerduty, webhook, slack, hook]), owner) in cases.into_iter().zip(hooks) {
        let outcomes = [pagerduty, webhook, slack];
        vendors.expect(name, outcomes, 2 * SOON).await?;
        let (outcome, error) = first_attempt(&vendors.acme, &owner, "slack", SOON).await?;
        ensure!(outcome == hook, "{name} by hook: {outcome}, {error}");
    }
    let peak = vendors.peak_memory()?;
    ensure!(peak < 60.0, "endless answers were read into {peak} MB");
    ensure!(!vendors.sidecar.log()?.contains("panicked"));
    Ok(())
}

/// Slack says what went wrong in the body; the table of its words is the sidecar's `slack_answer.rs`.
#[tokio::test]
async fn whatever_json_slack_answers_with_has_its_outcome() -> Result<()> {
    let said = |body: &str| Answer::Reply(Reply::text(200, "application/json", body));
    let not_ok = |word: &str| said(&format!(r#"{{"ok":false,"error":"{word}"}}"#));
    let mut cases = Vec::new();
    for word in ["internal_error", "fatal_error", "service_unavailable"] {
        cases.push((word.to_owned(), not_ok(word), "transient"));
    }
    cases.push(("limit".to_owned(), not_ok("ratelimited"), "rate_limited"));
    for word in [
        "account_inactive",
        "token_revoked",
        "invalid_auth",
        "not_in_channel",
        "new_in_2031",
    ] {
        cases.push((word.to_owned(), not_ok(word), "permanent"));
    }
    for word in ["channel_not_found", "is_archived"] {
        cases.push((word.to_owned(), not_ok(word), "recipient_gone"));
    }
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let long = format!(r#"{{"ok":false,"error":"{}"}}"#, "x".repeat(60_000));
    for (name, body, outcome) in [
        ("bare", r#"{"ok":true}"#, "sent"),
        (
            "strange",
            r#"{"ok":true,"ts":"<b>\u0000","channel":"../x"}"#,
            "sent",
        ),
        ("wordless", r#"{"ok":false}"#, "permanent"),
        (
            "markup",
            r#"{"ok":false,"error":"<script>alert(1)</script>\r\n"}"#,
            "permanent",
        ),
        ("long", &long, "permanent"),
        ("deep", &deep, "transient"),
        ("list", "[]", "transient"),
        ("nothing", "null", "transient"),
        ("empty", "", "transient"),
        ("half", r#"{"ok":true,"ts":"17000"#, "transient"),
        ("text", r#"{"ok":"true"}"#, "transient"),
        ("utf16", "{\0\"\0o\0k\0\"\0:\0t\0r\0u\0e\0}\0", "transient"),
    ] {
        cases.push((name.to_owned(), said(body), outcome));
    }
    let vendors = Vendors::new().await?;
    for (name, answer, _) in &cases {
        vendors
            .slack
            .answer_when(&format!("\"#{name}\""), SlackAnswer::As(answer.clone()));
        vendors
            .acme
            .contact_of(name, "slack", &format!("#{name}"))
            .await?;
        vendors.acme.due_for(name, name).await?;
    }
    vendors.acme.tick().await?;
    for (name, _, expected) in &cases {
        let (outcome, error) = first_attempt(&vendors.acme, name, "slack", SOON).await?;
        ensure!(outcome == *expected, "{name}: {outcome}, {error}");
        ensure!(!error.contains(['<', '\n']) && error.len() < 200, "{error}");
    }
    Ok(())
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
enum End {
    /// Somebody who hangs up at once.
    Gone,
    /// Somebody who hangs up in the middle of what we say.
    Rude,
    /// Somebody who speaks no TLS.
    Plain,
    /// Somebody who begins TLS and hangs up.
    Half,
    /// Somebody who says nothing.
    Silent,
}

/// Its address. It ends with the test's runtime.
async fn listen(end: End) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { meet(stream, end).await });
        }
    });
    Ok(address)
}

async fn meet(mut stream: TcpStream, end: End) -> Result<()> {
    let mut heard = [0; 10];
    match end {
        End::Gone => {}
        End::Rude => {
            stream.read_exact(&mut heard).await?;
        }
        End::Plain => {
            stream
                .write_all(b"HTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n")
                .await?;
        }
        // A handshake record that promises more than there is.
        End::Half => stream.write_all(b"\x16\x03\x03\x40\x00\x02").await?,
        End::Silent => std::future::pending().await,
    }
    Ok(())
}

/// Only the one who says nothing takes long: ten seconds, for all channels at once.
#[tokio::test]
async fn connections_that_end_at_each_stage_are_tried_again() -> Result<()> {
    for end in [End::Gone, End::Rude] {
        let acme = Acme::new().await?;
        let url = format!("http://{}", listen(end).await?);
        let settings = [
            ("ROTATOR_SLACK_URL", url.as_str()),
            ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-1"),
            ("ROTATOR_PAGERDUTY_URL", &url),
            ("ROTATOR_SENDGRID_URL", &url),
            ("ROTATOR_SENDGRID_API_KEY", "SG.x"),
            ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
            ("ROTATOR_WEBHOOK_SIGNING_SECRET", SIGNING_SECRET),
            ("ROTATOR_EGRESS_ALLOW", "127.0.0.0/8"),
        ];
        let _sidecar = Sidecar::start(&acme.db, &settings).await?;
        let key = "0123456789abcdef0123456789ABCDEF";
        for (channel, recipient) in [
            ("slack", "C0DEPLOYS1"),
            ("pagerduty", key),
            ("email", "dana@acme.example"),
        ] {
            acme.contact(channel, recipient).await?;
        }
        acme.due("stripe-live").await?;
        let mut hooks = vec![("nobody", "127.0.0.1:1".to_owned(), "transient")];
        for (name, end, outcome) in [
            ("gone", End::Gone, "transient"),
            ("rude", End::Rude, "transient"),
            ("plain", End::Plain, "transient"),
            ("half", End::Half, "transient"),
            ("silent", End::Silent, "timeout"),
        ] {
            hooks.push((name, listen(end).await?, outcome));
        }
        for (name, address, _) in &hooks {
            acme.contact_of(name, "webhook", &format!("https://{address}/"))
                .await?;
            acme.due_for(name, name).await?;
        }
        acme.tick().await?;
        for channel in ["slack", "pagerduty", "email"] {
            let (outcome, error) = first_attempt(&acme, "dana", channel, SOON).await?;
            ensure!(outcome == "transient", "{channel}: {outcome}, {error}");
        }
        for (name, _, expected) in hooks {
            let (outcome, error) = first_attempt(&acme, name, "webhook", SOON)
                .await
                .context(name)?;
            ensure!(outcome == expected, "{name}: {outcome}, {error}");
        }
    }
    Ok(())
}
