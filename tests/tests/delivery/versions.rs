//! Sidecar and extension are of one release, or the sidecar ends: also when the extension is updated under it. A start
//! with another version: `startup.rs`. The library is the server's business: said, and gone on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{Sidecar, eventually};
use serde_json::Value;

use crate::seed::{Acme, SOON};
use crate::slack::sidecar;

/// It looks every fifteen seconds.
const NOTICED: Duration = Duration::from_secs(40);

async fn set_version(acme: &Acme, version: &str) -> Result<()> {
    acme.db
        .admin
        .execute(
            "update pg_extension set extversion = $1 where extname = 'rotator'",
            &[&version],
        )
        .await?;
    Ok(())
}

/// This build's version with another minor release, or the same one with another patch level.
fn neighbour(step: i64, patch: u32) -> Result<String> {
    let mut parts = env!("CARGO_PKG_VERSION").split('.');
    let major = parts.next().context("major")?;
    let minor: i64 = parts.next().context("minor")?.parse()?;
    Ok(format!("{major}.{}.{patch}", minor + step))
}

#[tokio::test]
async fn an_extension_updated_under_it_ends_it_after_what_is_in_flight() -> Result<()> {
    ends_when_it_becomes(&neighbour(1, 0)?, "newer than this sidecar").await
}

#[tokio::test]
async fn an_extension_that_went_back_ends_it_too() -> Result<()> {
    ends_when_it_becomes(&neighbour(-1, 0)?, "older than this sidecar").await
}

async fn ends_when_it_becomes(version: &str, relation: &str) -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let mut sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    // In flight from now until after it has noticed; a delivery may take 20 seconds.
    slack.answer_always(Answer::After(Duration::from_secs(17), Box::new(Answer::Ok)));
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    slack.received(1, SOON).await?;
    set_version(&acme, version).await?;

    let status = sidecar.ended(NOTICED).await?;
    let log = sidecar.log()?;
    ensure!(status.code() == Some(3), "{status}: {log}");
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    ensure!(
        errors.len() == 1 && errors[0].contains(relation) && errors[0].contains(version),
        "{log}"
    );
    ensure!(
        errors[0].contains(env!("CARGO_PKG_VERSION")) && log.contains("\nhint: "),
        "{log}"
    );
    ensure!(
        acme.becomes(secret, "sent").await?.attempts == 1,
        "what was in flight is finished and reported"
    );
    Ok(())
}

#[tokio::test]
async fn a_patch_release_under_it_is_nothing_to_stop_for() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let patched = neighbour(0, 99)?;
    set_version(&acme, &patched).await?;
    // The next look is done when a figure of it shows.
    let url = sidecar.url("/metrics");
    let shown = format!("rotator_extension_info{{version=\"{patched}\"");
    eventually(NOTICED, "the new version to be seen", async || {
        Ok(http()
            .get(&url)
            .send()
            .await?
            .text()
            .await?
            .contains(&shown)
            .then_some(()))
    })
    .await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;
    Ok(())
}

async fn warnings(sidecar: &Sidecar) -> Result<(u16, String)> {
    let answer = http().get(sidecar.url("/readyz")).send().await?;
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    Ok((status, body["warnings"].to_string()))
}

#[tokio::test]
async fn a_library_of_another_release_is_said_and_gone_on_with() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    let (other, ours) = (neighbour(1, 0)?, env!("CARGO_PKG_VERSION"));
    let say = |version: &str| {
        format!(
            "create or replace function rotator_internal.library_version() returns text language sql
             as $$ select '{version}'::text $$"
        )
    };
    acme.db.admin.batch_execute(&say(&other)).await?;
    let sidecar = sidecar(&acme, &slack).await?;
    let line = sidecar.logged(SOON, "the server runs the library").await?;
    ensure!(
        line.contains(&other) && line.contains(ours) && line.contains("restart"),
        "{line}"
    );
    let (status, told) = warnings(&sidecar).await?;
    ensure!(
        status == 200 && told.contains("library: ") && told.contains(&other),
        "{status} {told}"
    );
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;

    acme.db.admin.batch_execute(&say(ours)).await?;
    sidecar.logged(NOTICED, "of one version again").await?;
    let (_, told) = warnings(&sidecar).await?;
    ensure!(told == "[]", "{told}");
    ensure!(
        sidecar
            .log()?
            .matches("the server runs the library")
            .count()
            == 1,
        "said once"
    );
    Ok(())
}
