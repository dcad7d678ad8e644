//! Mail through SendGrid: what it is sent, what its answers mean, and that its key stays where it is. The mail itself is
//! the one that goes by SMTP: `mail_look.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::vendor::{Answer, Reply, Vendor};
use rotator_tests::{Sidecar, scalar};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::{Acme, SOON};

const KEY: &str = "SG.kanarie-key.0123456789";

fn taken() -> Answer {
    Answer::with_header(202, "x-message-id", "s4Qx-1")
}

async fn start() -> Result<(Acme, Vendor, Sidecar)> {
    let (acme, sendgrid) = (Acme::new().await?, Vendor::start(taken()).await?);
    let sidecar = serve(&acme, &sendgrid).await?;
    acme.contact("email", "dana@acme.example").await?;
    Ok((acme, sendgrid, sidecar))
}

async fn serve(acme: &Acme, sendgrid: &Vendor) -> Result<Sidecar> {
    let url = sendgrid.url();
    let settings = [
        ("ROTATOR_SENDGRID_URL", url.as_str()),
        ("ROTATOR_SENDGRID_API_KEY", KEY),
        ("ROTATOR_EMAIL_FROM", "Über uns <rotator@acme.example>"),
    ];
    Sidecar::start(&acme.db, &settings).await
}

/// Dana's reminder, with SendGrid answering its first attempt so; the notification as soon as it is in that state.
async fn after(
    answer: Answer,
    state: &str,
) -> Result<(Acme, Vendor, Sidecar, Uuid, Option<String>)> {
    let (acme, sendgrid, sidecar) = start().await?;
    sendgrid.answer(answer);
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    let found = acme
        .becomes_within(secret, state, Duration::from_secs(40))
        .await?;
    ensure!(found.attempts == 1, "{found:?}");
    let error = found.last_error.clone();
    ensure!(!sidecar.log()?.contains("kanarie"), "the key is in the log");
    Ok((acme, sendgrid, sidecar, secret, error))
}

/// Final: dead after one attempt, for that reason, and nobody asks again.
async fn given_up(answer: Answer, error: &str) -> Result<()> {
    let (acme, sendgrid, _sidecar, secret, said) = after(answer, "dead").await?;
    ensure!(said.as_deref() == Some(error), "{said:?}");
    ensure!(acme.outcomes(secret).await? == ["permanent"]);
    ensure!(sendgrid.requests().len() == 1);
    Ok(())
}

/// For now: tried again under the same Message-ID, and then sent. How long it waits, in seconds.
async fn tried_again(answer: Answer, outcome: &str, error: &str) -> Result<f64> {
    let (acme, sendgrid, mut sidecar, secret, said) = after(answer, "retry").await?;
    ensure!(
        said.as_deref().is_some_and(|said| said.contains(error)),
        "{said:?}"
    );
    let wait = scalar(
        &acme.db.admin,
        "select extract(epoch from available_at - clock_timestamp())::float8
         from rotator_internal.notification where secret_id = $1",
        &[&secret],
    )
    .await?;
    // This one keeps to the pause that SendGrid asked for; another one knows nothing of it.
    ensure!(sidecar.terminate().await?.success());
    let _another = serve(&acme, &sendgrid).await?;
    acme.end_waiting().await?;
    acme.becomes(secret, "sent").await?;
    ensure!(acme.outcomes(secret).await? == [outcome, "sent"]);
    let requests = sendgrid.requests();
    ensure!(requests.len() == 2);
    let id =
        |i: usize| -> Result<Value> { Ok(requests[i].json()?["headers"]["Message-ID"].take()) };
    ensure!(id(0)? == id(1)?, "receivers drop repeats by it");
    Ok(wait)
}

#[tokio::test]
async fn a_reminder_is_one_request_with_all_that_machines_need() -> Result<()> {
    let (acme, sendgrid, sidecar) = start().await?;
    let secret = acme.due("Schlüssel <live> & more").await?;
    acme.tick().await?;
    let request = sendgrid.received(1, SOON).await?.remove(0);
    let sent = acme.becomes(secret, "sent").await?;

    ensure!(request.method == "POST" && request.path == "/v3/mail/send");
    ensure!(request.header("authorization") == Some(format!("Bearer {KEY}").as_str()));
    ensure!(request.header("content-type") == Some("application/json"));
    let body = request.json()?;
    ensure!(
        body["personalizations"] == json!([{"to": [{"email": "dana@acme.example"}]}]),
        "{body}"
    );
    ensure!(body["from"] == json!({"email": "rotator@acme.example", "name": "Über uns"}));
    ensure!(body["subject"] == "Schlüssel <live> & more expires in 5 days");
    let kinds: Vec<&Value> = (0..2).map(|i| &body["content"][i]["type"]).collect();
    ensure!(kinds == ["text/plain", "text/html"], "plain before HTML");
    ensure!(body["content"].as_array().map(Vec::len) == Some(2));

    let id = sent.id.to_string();
    ensure!(body["headers"]["Message-ID"] == format!("<{id}@acme.example>"));
    ensure!(
        body["headers"]["References"]
            .as_str()
            .is_some_and(|thread| thread.contains(&secret.to_string()))
    );
    ensure!(body["headers"]["Auto-Submitted"] == "auto-generated");
    ensure!(body["headers"]["X-Auto-Response-Suppress"] == "All");
    ensure!(body["custom_args"] == json!({"rotator_notification_id": id}));
    for tracking in ["click_tracking", "open_tracking", "subscription_tracking"] {
        ensure!(
            body["tracking_settings"][tracking]["enable"] == false,
            "{tracking} would rewrite links or tell who reads"
        );
    }
    ensure!(sent.provider_message_id.as_deref() == Some("s4Qx-1"));

    let link = body["content"][0]["value"]
        .as_str()
        .and_then(|text| text.lines().find(|line| line.starts_with("http")))
        .context("a link in the plain part")?;
    ensure!(link.starts_with(&sidecar.url("/a/")), "{link}");
    ensure!(http().get(link).send().await?.status() == 200);
    Ok(())
}

#[tokio::test]
async fn what_nobody_can_put_right_by_waiting_is_final_and_says_what_to_change() -> Result<()> {
    let complaint = json!({"errors": [{"message": "dana@acme.example is not verified", "field": "from.email"}]});
    let cases = [
        (
            Answer::json(400, &complaint),
            "SendGrid: HTTP 400 about from.email",
        ),
        (
            Answer::status(401),
            "SendGrid: HTTP 401: check ROTATOR_SENDGRID_API_KEY",
        ),
        (
            Answer::json(403, &complaint),
            "SendGrid: HTTP 403 about from.email: the key needs the permission Mail Send, and ROTATOR_EMAIL_FROM must be a verified sender",
        ),
        (Answer::status(404), "SendGrid: HTTP 404"),
        (Answer::status(413), "SendGrid: HTTP 413"),
    ];
    for (answer, error) in cases {
        given_up(answer, error).await?;
    }
    Ok(())
}

#[tokio::test]
async fn rate_limits_wait_as_long_as_asked_within_reason() -> Result<()> {
    let dated = Reply::status(429)
        .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("retry-after", "Sun, 06 Nov 1994 09:09:37 GMT");
    let asked = |seconds| Answer::with_header(429, "retry-after", seconds);
    for (answer, shortest, longest) in [
        (asked("1000"), 950.0, 1000.0),
        (Answer::Reply(dated), 1150.0, 1200.0),
        (asked("-5"), 0.0, 11.0),
        (asked("99999999999999999999"), 3500.0, 3600.0),
        (asked("soon"), 0.0, 11.0),
        (Answer::status(429), 0.0, 11.0),
    ] {
        let wait = tried_again(answer, "rate_limited", "SendGrid: HTTP 429").await?;
        ensure!(
            (shortest..=longest).contains(&wait.ceil()),
            "{wait} instead of {shortest} to {longest} s"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_may_pass_is_tried_again() -> Result<()> {
    let half = Reply::text(500, "text/plain", "0123456789");
    for (answer, error) in [
        (Answer::status(500), "SendGrid: HTTP 500"),
        (Answer::status(503), "SendGrid: HTTP 503"),
        (
            Answer::Reply(Reply::text(
                200,
                "text/html",
                "<h1>Log in to the Wi-Fi</h1>",
            )),
            "SendGrid: HTTP 200",
        ),
        (
            Answer::with_header(302, "location", "http://127.0.0.1:1/"),
            "SendGrid: HTTP 302",
        ),
        (Answer::CutInBody(half), "SendGrid: HTTP 500"),
        (Answer::CutBeforeHeaders, "the connection broke"),
        (Answer::CutInHeaders(202), "the connection broke"),
        (Answer::NotHttp, "the connection broke"),
        (Answer::Huge(502, 10 << 20), "SendGrid: HTTP 502"),
    ] {
        tried_again(answer, "transient", error).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_in_time_and_may_arrive_twice() -> Result<()> {
    tried_again(Answer::Never, "timeout", "no answer within 20 s").await?;
    Ok(())
}

#[tokio::test]
async fn once_it_is_taken_nothing_is_sent_again_whatever_becomes_of_the_receipt() -> Result<()> {
    let receipt = Reply::text(202, "text/plain", "0123456789").header("x-message-id", "s4Qx-2");
    let cases = [
        (Answer::CutInBody(receipt.clone()), Some("s4Qx-2")),
        (
            Answer::TrickleBody(Duration::from_secs(1), receipt),
            Some("s4Qx-2"),
        ),
        (Answer::Huge(202, 10 << 20), None),
        (Answer::with_header(202, "x-message-id", "two words"), None),
    ];
    for (answer, theirs) in cases {
        let (acme, sendgrid, _sidecar, secret, _) = after(answer, "sent").await?;
        let sent = acme.notification(secret).await?;
        let ours = format!("<{}@acme.example>", sent.id);
        ensure!(
            sent.provider_message_id.as_deref() == Some(theirs.unwrap_or(&ours)),
            "{sent:?}"
        );
        ensure!(sendgrid.requests().len() == 1);
    }
    Ok(())
}

#[tokio::test]
async fn two_ways_to_send_mail_are_one_too_many() -> Result<()> {
    let acme = Acme::new().await?;
    for (settings, error) in [
        (
            [
                ("ROTATOR_SMTP_URL", "smtp://127.0.0.1:1"),
                ("ROTATOR_SENDGRID_API_KEY", KEY),
            ],
            "ROTATOR_SENDGRID_API_KEY: ROTATOR_SMTP_URL is set, too",
        ),
        (
            [
                ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
                ("ROTATOR_SENDGRID_API_KEY", "SG.kanarie key"),
            ],
            "ROTATOR_SENDGRID_API_KEY: it is empty, or holds a blank",
        ),
    ] {
        let role = acme.db.login_role("sidecar", &["rotator_sidecar"]).await?;
        let mut sidecar = Sidecar::spawn(&acme.db.url(&role), &settings).await?;
        ensure!(sidecar.ended(SOON).await?.code() == Some(4));
        let log = sidecar.log()?;
        ensure!(log.contains(error) && !log.contains("kanarie"), "{log}");
    }
    Ok(())
}
