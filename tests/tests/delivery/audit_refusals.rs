//! An action by a link that is refused leaves an event: who held the link, what was wanted, and why not. Looking, and
//! tokens that nobody knows, leave none.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::link_page::{get, post};
use crate::outbox::Desk;

async fn refusals(desk: &Desk) -> Result<Vec<(String, String, Value)>> {
    let rows = desk
        .acme
        .operator
        .query(
            "select actor, source, changes from rotator.audit_log where action = 'link.refused' order by id",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

async fn only(desk: &Desk, action: &str, reason: &str) -> Result<()> {
    let all = refusals(desk).await?;
    let last = all.last().map(|(actor, source, changes)| {
        (
            actor.as_str(),
            source.as_str(),
            changes["action"].as_str(),
            changes["reason"].as_str(),
        )
    });
    ensure!(
        last == Some(("dana", "link", Some(action), Some(reason))),
        "{all:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_expired_link_and_one_of_another_cycle_are_told_apart() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let age = |days: i32| {
        format!(
            "update rotator_internal.delivery_attempt set started_at = now() - interval '{days} days'"
        )
    };
    desk.acme.db.admin.batch_execute(&age(91)).await?;
    ensure!(
        get(&link).await?.0 == 410 && refusals(&desk).await?.is_empty(),
        "looking is no action"
    );
    ensure!(post(&link, "action=acknowledge").await?.0 == 410);
    only(&desk, "acknowledge", "expired").await?;
    desk.acme.db.admin.batch_execute(&age(0)).await?;
    desk.acme
        .operator
        .execute("select rotator.mark_rotated($1)", &[&secret])
        .await?;
    ensure!(post(&link, "action=rotated").await?.0 == 410);
    only(&desk, "rotated", "cycle").await?;
    ensure!(refusals(&desk).await?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn refused_input_leaves_an_event_without_what_was_typed() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let token = concat!("sk_live_", "4eC39HqLyjWDarjtT1zdp7dc");
    ensure!(
        post(
            &link,
            &format!("action=acknowledge&note=the+key+is+{token}")
        )
        .await?
        .0 == 422
    );
    only(&desk, "acknowledge", "secret_value").await?;
    ensure!(
        post(&link, "action=rotated&next_expiry_date=2001-01-01")
            .await?
            .0
            == 422
    );
    only(&desk, "rotated", "input").await?;
    ensure!(post(&link, "action=rotated&next_expiry_date=soon").await?.0 == 422);
    let all = refusals(&desk).await?;
    ensure!(
        all.len() == 3 && !format!("{all:?}").contains(token),
        "{all:?}"
    );
    // Nothing was chosen: that is no action.
    ensure!(post(&link, "note=x").await?.0 == 422 && refusals(&desk).await?.len() == 3);
    Ok(())
}

#[tokio::test]
async fn a_program_that_presses_a_link_and_unknown_tokens_fill_no_log() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    for _ in 0..15 {
        post(&link, "action=rotated&next_expiry_date=2001-01-01").await?;
    }
    ensure!(refusals(&desk).await?.len() == 10);
    let unknown = desk.sidecar.url(&format!("/a/{}", "A".repeat(43)));
    ensure!(post(&unknown, "action=acknowledge").await?.0 == 404);
    ensure!(refusals(&desk).await?.len() == 10);
    desk.sidecar
        .logged(crate::seed::SOON, "refused again and again")
        .await?;
    Ok(())
}
