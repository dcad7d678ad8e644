//! Links that aren't good, and forms that aren't ours: a clear page, and nothing else happens.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::sidecar::http;

use crate::link_page::{get, post};
use crate::outbox::Desk;

#[tokio::test]
async fn forged_tokens_all_get_the_same_page() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let before = desk.acme.fingerprint().await?;
    let (real, last) = link.split_at(link.len() - 1);
    let forged = [
        desk.sidecar.url(&format!("/a/{}", "A".repeat(43))),
        format!("{real}{}", if last == "A" { "B" } else { "A" }),
        format!("{link}A"),
        real.to_owned(),
        desk.sidecar.url("/a/%00"),
        desk.sidecar.url("/a/'%20or%20true--"),
        desk.sidecar.url("/a/%ff%fe"),
    ];
    let (_, page) = get(&forged[0]).await?;
    ensure!(page.contains("This link is not known"), "{page}");
    for url in &forged {
        for (status, found) in [get(url).await?, post(url, "action=rotated").await?] {
            ensure!(status == 404 || url.contains("%ff"), "{url}: {status}");
            ensure!(
                (400..500).contains(&status) && !found.contains("stripe-live"),
                "{url}: {status} {found}"
            );
            ensure!(
                found == page || url.contains("%ff"),
                "one that is nearly right is like any other: {url}"
            );
        }
    }
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn an_expired_link_is_gone() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    desk.acme
        .db
        .admin
        .batch_execute(
            "update rotator_internal.delivery_attempt set started_at = now() - interval '90 days'",
        )
        .await?;
    let before = desk.acme.fingerprint().await?;
    for (status, page) in [
        get(&link).await?,
        post(&link, "action=acknowledge").await?,
        post(&link, "action=rotated").await?,
    ] {
        ensure!(
            status == 410 && page.contains("no longer valid"),
            "{status} {page}"
        );
        ensure!(
            !page.contains("stripe-live"),
            "whoever finds an old link learns nothing"
        );
    }
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn a_link_of_an_older_cycle_is_gone() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    desk.acme
        .operator
        .execute("select rotator.mark_rotated($1)", &[&secret])
        .await?;
    let before = desk.acme.fingerprint().await?;
    for (status, page) in [get(&link).await?, post(&link, "action=acknowledge").await?] {
        ensure!(
            status == 410 && page.contains("has been rotated since"),
            "{status} {page}"
        );
    }
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn a_link_to_a_retired_secret_is_gone() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    desk.acme
        .operator
        .execute("select rotator.retire_secret($1)", &[&secret])
        .await?;
    let before = desk.acme.fingerprint().await?;
    for (status, page) in [get(&link).await?, post(&link, "action=rotated").await?] {
        ensure!(
            status == 410 && !page.contains("stripe-live"),
            "{status} {page}"
        );
    }
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn a_form_that_another_site_sends_is_refused() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let before = desk.acme.fingerprint().await?;
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
    ] {
        let mut request = http()
            .post(&link)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("action=acknowledge");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let status = request.send().await?.status();
        ensure!(status == 403, "{headers:?}: {status}");
    }
    ensure!(desk.acme.fingerprint().await? == before);

    // What a browser sends with our own page's form.
    let answer = http()
        .post(&link)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", desk.sidecar.url(""))
        .header("sec-fetch-site", "same-origin")
        .body("action=acknowledge")
        .send()
        .await?;
    ensure!(answer.status() == 200);
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_no_form_are_refused() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let before = desk.acme.fingerprint().await?;
    for (kind, body, expected) in [
        (
            "application/json",
            "{\"action\":\"rotated\"}".to_owned(),
            415,
        ),
        ("text/plain", "action=rotated".to_owned(), 415),
        (
            "application/x-www-form-urlencoded",
            format!("action=rotated&note={}", "x".repeat(20_000)),
            413,
        ),
    ] {
        let answer = http()
            .post(&link)
            .header("content-type", kind)
            .body(body)
            .send()
            .await?;
        ensure!(answer.status() == expected, "{kind}: {}", answer.status());
    }
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn while_the_database_is_away_the_page_says_to_try_again() -> Result<()> {
    let cluster = std::sync::Arc::new(
        rotator_tests::Cluster::start(rotator_tests::Options::default()).await?,
    );
    let acme =
        crate::seed::Acme::on(rotator_tests::TestDb::in_cluster(cluster).await?, "UTC").await?;
    let desk = Desk::of(acme).await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    desk.acme.db.cluster.stop().await?;
    for (status, page) in [get(&link).await?, post(&link, "action=acknowledge").await?] {
        ensure!(
            status == 503 && page.contains("try again"),
            "{status} {page}"
        );
    }
    desk.acme.db.cluster.start_again().await?;
    rotator_tests::until(
        Duration::from_secs(20),
        "the page to come back",
        async || Ok(get(&link).await?.0 == 200),
    )
    .await?;
    let (status, _) = post(&link, "action=acknowledge").await?;
    ensure!(status == 200);
    Ok(())
}
