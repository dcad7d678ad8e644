//! The link in a notification, as the sidecar redeems it for whoever holds the token.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, refused, scalar};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::seed::{Acme, Claim, rows};

/// A secret whose reminder a worker holds, and the claim with its link.
async fn reminded(with: &str) -> Result<(Acme, Claim)> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    acme.register("stripe", &format!("owner_id => 'priya', purpose => 'cards', expiry_date => now() + interval '5 days' {with}"))
        .await?;
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    Ok((acme, claim))
}

const INTERVAL: &str = ", rotation_interval => '90 days'";

async fn redeem(acme: &Acme, token: &str, action: &str) -> Result<Value, tokio_postgres::Error> {
    let row = acme
        .worker
        .query_one("select rotator.redeem_link($1, $2)", &[&token, &action])
        .await?;
    Ok(row.get(0))
}

#[tokio::test]
async fn showing_changes_nothing_and_tells_what_it_is_about() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    let before = acme.fingerprint().await?;
    for _ in 0..3 {
        let page = redeem(&acme, &claim.link_token, "show").await?;
        assert_eq!(
            (
                &page["state"],
                &page["needs_next_expiry_date"],
                &page["cycle"]
            ),
            (&json!("open"), &json!(false), &json!(1))
        );
        assert_eq!(page["secret"]["name"], "stripe");
        assert_eq!(page["tenant"]["time_zone"], "Europe/Berlin");
        ensure!(
            page["secret"]["provider_ref"].is_null(),
            "the page needs no reference: {page}"
        );
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn acknowledging_counts_once_a_cycle() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    let first = redeem(&acme, &claim.link_token, "acknowledge").await?;
    assert_eq!(
        (&first["action"], &first["by"]),
        (&json!("acknowledge"), &json!("priya"))
    );
    ensure!(first["at"].is_string(), "{first}");
    assert_eq!(
        acme.rows("select state, acknowledged_by from rotator.alerts")
            .await?,
        json!([{"state": "acknowledged", "acknowledged_by": "priya"}])
    );
    let before = acme.fingerprint().await?;
    let again = redeem(&acme, &claim.link_token, "acknowledge").await?;
    assert_eq!(
        (&again["already"], &again["by"]),
        (&json!(true), &json!("priya"))
    );
    ensure!(
        again["at"].is_string() && again.get("action").is_none(),
        "{again}"
    );
    assert_eq!(acme.fingerprint().await?, before);

    let page = redeem(&acme, &claim.link_token, "show").await?;
    assert_eq!(
        (&page["state"], &page["acknowledged"]["by"]),
        (&json!("acknowledged"), &json!("priya"))
    );
    let audited = rows(
        &acme.operator,
        "select actor, source from rotator.audit_log where action = 'alert.acknowledged'",
    )
    .await?;
    assert_eq!(audited, json!([{"actor": "priya", "source": "link"}]));
    Ok(())
}

#[tokio::test]
async fn acknowledging_leaves_rotated_usable_and_rotated_ends_the_cycle() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    redeem(&acme, &claim.link_token, "acknowledge").await?;
    let done = redeem(&acme, &claim.link_token, "rotated").await?;
    assert_eq!(
        (&done["action"], &done["by"]),
        (&json!("rotated"), &json!("priya"))
    );
    ensure!(
        done["next_expiry_date"]
            .as_str()
            .is_some_and(|date| date.ends_with('Z')),
        "{done}"
    );
    ensure!(
        done["next_expiry_local"]
            .as_str()
            .is_some_and(|date| date.contains("(Europe/Berlin)")),
        "{done}"
    );
    assert_eq!(
        acme.rows(
            "select cycle, status, last_rotated_at is not null as rotated from rotator.secrets"
        )
        .await?,
        json!([{"cycle": 2, "status": "healthy", "rotated": true}])
    );
    let before = acme.fingerprint().await?;
    let again = redeem(&acme, &claim.link_token, "rotated").await?;
    assert_eq!(
        (&again["already"], &again["by"]),
        (&json!(true), &json!("priya")),
        "a second press of the same button"
    );
    refused(redeem(&acme, &claim.link_token, "show").await, "PT410")?;
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn rotated_asks_for_the_next_date_where_there_is_no_interval() -> Result<()> {
    let (acme, claim) = reminded("").await?;
    assert_eq!(
        redeem(&acme, &claim.link_token, "show").await?["needs_next_expiry_date"],
        true
    );
    let before = acme.fingerprint().await?;
    refused(redeem(&acme, &claim.link_token, "rotated").await, "22023")?;
    for date in ["now() - interval '1 day'", "'infinity'", "'99999-01-01'"] {
        let sql = format!("select rotator.redeem_link($1, 'rotated', next_expiry_date => {date})");
        refused(acme.worker.query(&sql, &[&claim.link_token]).await, "22023")?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    let done: Value = scalar(
        &acme.worker,
        "select rotator.redeem_link($1, 'rotated', note => 'renewed', via => 'email', next_expiry_date => '2028-02-29 11:00+00')",
        &[&claim.link_token],
    )
    .await?;
    assert_eq!(done["next_expiry_date"], "2028-02-29T11:00:00Z");
    Ok(())
}

#[tokio::test]
async fn unknown_tokens_and_actions_are_told_apart_and_do_nothing() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    let before = acme.fingerprint().await?;
    let forged = format!("{}A", &claim.link_token[..claim.link_token.len() - 1]);
    let forged = if forged == claim.link_token {
        forged.replace('A', "B")
    } else {
        forged
    };
    let lower = claim.link_token.to_lowercase();
    for token in [
        "",
        "x",
        &forged,
        &lower,
        &claim.id.to_string(),
        &"A".repeat(43),
        &"x".repeat(100_000),
    ] {
        for action in ["show", "acknowledge", "rotated"] {
            refused(redeem(&acme, token, action).await, "PT404")?;
        }
    }
    refused(
        acme.worker
            .query("select rotator.redeem_link(null, 'show')", &[])
            .await,
        "PT404",
    )?;
    for action in ["delete", "", "SHOW"] {
        refused(redeem(&acme, &claim.link_token, action).await, "22023")?;
    }
    for arguments in [
        "null",
        "'acknowledge', via => 'fax'",
        "'acknowledge', via => null",
        "'acknowledge', until => now() - interval '1 day'",
        "'acknowledge', note => repeat('x', 10001)",
    ] {
        let sql = format!("select rotator.redeem_link($1, {arguments})");
        refused(acme.worker.query(&sql, &[&claim.link_token]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn links_of_every_attempt_stay_good_until_the_cycle_ends() -> Result<()> {
    let (acme, first) = reminded(INTERVAL).await?;
    acme.fail(&first, "timeout").await?;
    acme.end_waiting().await?;
    let second = acme.claim_one().await?;
    acme.complete(&second).await?;
    assert_eq!(
        acme.tick_at("now() + interval '4 days 1 hour'").await?["queued"],
        1
    );
    let third = acme.claim_one().await?;

    redeem(&acme, &first.link_token, "acknowledge").await?;
    for claim in [&second, &third] {
        assert_eq!(
            redeem(&acme, &claim.link_token, "show").await?["state"],
            "acknowledged"
        );
        assert_eq!(
            redeem(&acme, &claim.link_token, "acknowledge").await?["already"],
            true
        );
    }
    redeem(&acme, &second.link_token, "rotated").await?;
    assert_eq!(
        redeem(&acme, &third.link_token, "rotated").await?["already"],
        true
    );
    for claim in [&first, &second, &third] {
        refused(redeem(&acme, &claim.link_token, "show").await, "PT410")?;
        assert_eq!(
            redeem(&acme, &claim.link_token, "acknowledge").await?["already"],
            true,
            "told, and nothing else"
        );
    }
    assert_eq!(
        scalar::<i32>(&acme.editor, "select cycle from rotator.secrets", &[]).await?,
        2
    );
    Ok(())
}

#[tokio::test]
async fn a_link_of_an_older_cycle_or_past_its_time_is_gone() -> Result<()> {
    for end in [
        "select rotator.mark_rotated(id) from rotator.secrets",
        "select rotator.retire_secret(id) from rotator.secrets",
    ] {
        let (acme, claim) = reminded(INTERVAL).await?;
        acme.editor.execute(end, &[]).await?;
        let before = acme.fingerprint().await?;
        for action in ["show", "acknowledge", "rotated"] {
            refused(redeem(&acme, &claim.link_token, action).await, "PT410")
                .map_err(|error| error.context(end))?;
        }
        assert_eq!(acme.fingerprint().await?, before);
    }
    let (acme, claim) = reminded(INTERVAL).await?;
    let age =
        "update rotator_internal.delivery_attempt set started_at = now() - $1::text::interval";
    acme.db.admin.execute(age, &[&"89 days"]).await?;
    redeem(&acme, &claim.link_token, "show").await?;
    acme.db.admin.execute(age, &[&"90 days"]).await?;
    for action in ["show", "acknowledge", "rotated"] {
        refused(redeem(&acme, &claim.link_token, action).await, "PT410")?;
    }
    Ok(())
}

#[tokio::test]
async fn redeemed_by_many_at_once_it_has_one_effect() -> Result<()> {
    for action in ["acknowledge", "rotated"] {
        let (acme, claim) = reminded(INTERVAL).await?;
        let mut presses = JoinSet::new();
        for number in 0..6 {
            let session = worker(&acme.db, number).await?;
            let token = claim.link_token.clone();
            presses.spawn(async move {
                scalar::<Value>(
                    &session,
                    &format!("select rotator.redeem_link($1, '{action}')"),
                    &[&token],
                )
                .await
            });
        }
        let mut first = 0;
        while let Some(outcome) = presses.join_next().await {
            first += usize::from(outcome??.get("already").is_none());
        }
        assert_eq!(first, 1, "{action}");
        let events = rows(
            &acme.operator,
            "select count(*) as n from rotator.audit_log where action in ('alert.acknowledged', 'secret.rotated')",
        )
        .await?;
        assert_eq!(events, json!([{"n": 1}]), "{action}");
    }
    Ok(())
}

async fn worker(db: &TestDb, number: usize) -> Result<tokio_postgres::Client> {
    let role = db
        .login_role(&format!("presser{number}"), &["rotator_sidecar"])
        .await?;
    db.connect_as(&role).await
}

#[tokio::test]
async fn a_member_s_acknowledgement_counts_for_the_link_too() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    acme.editor
        .execute("select rotator.acknowledge(id) from rotator.secrets", &[])
        .await?;
    let again = redeem(&acme, &claim.link_token, "acknowledge").await?;
    assert_eq!(again["already"], true);
    ensure!(
        again["by"]
            .as_str()
            .is_some_and(|by| by.starts_with("db:editor")),
        "{again}"
    );
    Ok(())
}

#[tokio::test]
async fn only_a_hash_of_the_token_is_stored() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    redeem(&acme, &claim.link_token, "rotated").await?;
    let tables = acme
        .db
        .admin
        .query("select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'rotator_internal'::regnamespace", &[])
        .await?;
    for table in tables {
        let table: String = table.get(0);
        let sql = format!(
            "select count(*) from {table} as t where position($1 in t::text) > 0 or position(encode($1::bytea, 'hex') in t::text) > 0"
        );
        let found: i64 = scalar(
            &acme.db.admin,
            &sql.replace("$1::bytea", "convert_to($1, 'UTF8')"),
            &[&claim.link_token],
        )
        .await?;
        assert_eq!(found, 0, "{table}");
    }
    Ok(())
}
