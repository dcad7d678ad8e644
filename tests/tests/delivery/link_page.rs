//! The page behind a notification's link. Mail scanners and chat unfurlers fetch links: looking changes nothing.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Response};
use rotator_tests::sidecar::http;

use crate::outbox::Desk;

/// Sends the form of the page.
pub async fn post(link: &str, form: &str) -> Result<(u16, String)> {
    read(
        http()
            .post(link)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
            .send()
            .await?,
    )
    .await
}

pub async fn get(link: &str) -> Result<(u16, String)> {
    read(http().get(link).send().await?).await
}

async fn read(answer: Response) -> Result<(u16, String)> {
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn looking_at_it_changes_nothing() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    desk.acme.becomes(secret, "sent").await?;
    let before = desk.acme.fingerprint().await?;
    for method in [
        Method::GET,
        Method::HEAD,
        Method::GET,
        Method::OPTIONS,
        Method::PUT,
    ] {
        let answer = http().request(method.clone(), &link).send().await?;
        let status = answer.status().as_u16();
        let body = answer.text().await?;
        match method {
            Method::GET => ensure!(
                status == 200 && body.contains("stripe-live"),
                "{status} {body}"
            ),
            Method::HEAD => ensure!(status == 200 && body.is_empty(), "{status} {body}"),
            _ => ensure!(status == 405, "{method}: {status}"),
        }
    }
    // Some scanners try parameters, too.
    get(&format!("{link}?action=rotated&note=x")).await?;
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn it_says_what_when_and_who_and_preselects_nothing() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme
        .register(
            "<b>stripe</b> \"live\"",
            "expiry_date => now() + interval '5 days', rotation_interval => '90 days', owner_id => 'dana',
             provider_type => 'stripe', environment => 'production', priority => 'P1', purpose => 'takes money'",
        )
        .await?;
    let (status, page) = get(&desk.link().await?).await?;
    ensure!(status == 200);
    for text in [
        "dana",
        "stripe",
        "production",
        "P1",
        "takes money",
        "acme",
        "in 5 days",
    ] {
        ensure!(page.contains(text), "{text} is missing: {page}");
    }
    ensure!(!page.contains("<b>stripe"), "names are text, not markup");
    ensure!(
        page.matches("type=\"radio\" name=\"action\"").count() == 3,
        "{page}"
    );
    for action in ["acknowledge", "rotated", "snooze"] {
        ensure!(
            page.contains(&format!("value=\"{action}\"")),
            "{action}: {page}"
        );
    }
    for preselected in ["checked", "selected", "<script", "next_expiry_date"] {
        ensure!(!page.contains(preselected), "{preselected}: {page}");
    }
    ensure!(
        !page.contains("http://") && !page.contains("https://"),
        "it loads nothing from anywhere"
    );
    Ok(())
}

#[tokio::test]
async fn it_asks_for_the_next_date_where_there_is_no_interval() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme
        .register(
            "api.acme.com",
            "expiry_date => now() + interval '5 days', owner_id => 'dana'",
        )
        .await?;
    let (_, page) = get(&desk.link().await?).await?;
    ensure!(
        page.contains("name=\"next_expiry_date\"") && page.contains("type=\"date\""),
        "{page}"
    );
    Ok(())
}

#[tokio::test]
async fn browsers_are_told_to_keep_it_to_themselves() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    for url in [
        link,
        desk.sidecar.url("/a/unknown"),
        desk.sidecar.url("/healthz"),
    ] {
        let answer = http().get(&url).send().await?;
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-robots-tag", "noindex, nofollow"),
        ] {
            ensure!(header(name) == value, "{url}: {name} is {:?}", header(name));
        }
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            ensure!(policy.contains(part), "{url}: {policy}");
        }
        ensure!(answer.headers().get("set-cookie").is_none());
    }
    Ok(())
}

#[tokio::test]
async fn behind_https_browsers_are_told_to_stay_there() -> Result<()> {
    let acme = crate::seed::Acme::new().await?;
    let settings = [("ROTATOR_PUBLIC_URL", "https://rotator.acme.example/base/")];
    let outbox = crate::outbox::Outbox::new()?;
    let path = outbox.setting();
    let sidecar =
        rotator_tests::Sidecar::start(&acme.db, &[settings[0], ("ROTATOR_CONSOLE_OUTBOX", &path)])
            .await?;
    acme.contact("console", "desk").await?;
    acme.due("stripe-live").await?;
    acme.tick().await?;
    let message = outbox.received(1).await?.remove(0);
    let link = crate::outbox::link(&message)?;
    let token = link
        .strip_prefix("https://rotator.acme.example/base/a/")
        .context("links begin with the public URL")?;
    ensure!(token.len() == 43, "256 bits in base64url: {token}");
    let answer = http()
        .get(sidecar.url(&format!("/a/{token}")))
        .send()
        .await?;
    ensure!(answer.status() == 200);
    ensure!(answer.headers().contains_key("strict-transport-security"));
    Ok(())
}
