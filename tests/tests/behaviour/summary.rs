//! A backlog that is imported makes one summary for each recipient, not a storm; what it lists can be acted on there.

use anyhow::{Context, Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};

use crate::seed::{Acme, Claim, claim};

/// Imports so many overdue secrets of each owner: the first for thirty days, each other one for a day less, on Berlin's calendar.
async fn import(acme: &Acme, owners: &[(&str, i32)]) -> Result<()> {
    for (owner, count) in owners {
        acme.operator
            .execute(
                "select rotator.set_contact($1, 'email', $1 || '@acme.example')",
                &[owner],
            )
            .await?;
        let imported: i64 = scalar(
            &acme.editor,
            "select count(*) from rotator.import_secrets((
                select jsonb_agg(jsonb_build_object(
                    'name', $1 || '-' || n, 'owner_id', $1, 'rotation_interval', '90 days',
                    'expiry_date', to_char(now() at time zone 'Europe/Berlin' + (n - 31) * interval '1 day', 'YYYY-MM-DD')))
                from generate_series(1, $2::integer) as n)) where action = 'created'",
            &[owner, count],
        )
        .await?;
        assert_eq!(imported, i64::from(*count));
    }
    Ok(())
}

async fn redeem(acme: &Acme, item: &Value, action: &str) -> Result<Value, tokio_postgres::Error> {
    let token = item["link_token"].as_str().unwrap_or_default();
    let row = acme
        .worker
        .query_one("select rotator.redeem_link($1, $2)", &[&token, &action])
        .await?;
    Ok(row.get(0))
}

async fn states(acme: &Acme) -> Result<Value> {
    acme.rows("select kind, state, count(*) from rotator.notifications group by 1, 2 order by 1, 2")
        .await
}

/// A summary of twenty-four to priya, claimed.
async fn summarised() -> Result<(Acme, Claim)> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    import(&acme, &[("priya", 24)]).await?;
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    Ok((acme, claim))
}

#[tokio::test]
async fn a_backlog_makes_one_summary_for_each_recipient_however_many_steps_it_takes() -> Result<()>
{
    let acme = Acme::new().await?;
    import(&acme, &[("priya", 24), ("tom", 5), ("mei", 1)]).await?;
    let mut queued = 0;
    for _ in 0..9 {
        let step: Value = scalar(&acme.operator, "select rotator.tick(max_rows => 4)", &[]).await?;
        queued += step["queued"].as_i64().context("a count")?;
    }
    assert_eq!(queued, 3);
    let mut claims = acme.claim().await?;
    claims.sort_by_key(|claim| claim.recipient.clone());
    let told: Vec<(&str, &Value)> = claims
        .iter()
        .map(|claim| {
            let recipient = claim.recipient.as_deref().unwrap_or_default();
            (recipient, &claim.message["kind"])
        })
        .collect();
    assert_eq!(
        told,
        [
            ("mei@acme.example", &json!("reminder")), // one alone is better said by itself
            ("priya@acme.example", &json!("summary")),
            ("tom@acme.example", &json!("summary")),
        ]
    );
    assert_eq!(acme.tick().await?["queued"], 0, "and only once");
    let alerts: i64 = scalar(&acme.editor, "select count(*) from rotator.alerts", &[]).await?;
    assert_eq!(alerts, 30, "each has its alert");
    Ok(())
}

#[tokio::test]
async fn it_counts_all_and_lists_the_most_urgent_first_with_a_link_each() -> Result<()> {
    let (acme, claim) = summarised().await?;
    assert_eq!(
        claim.message["counts"],
        json!({"total": 24, "overdue": 24, "expiring_soon": 0})
    );
    assert_eq!(claim.message["tenant"]["name"], "acme");
    ensure!(claim.link_token.is_empty(), "its items have the links");
    let items = claim.message["items"].as_array().context("items")?;
    assert_eq!(items.len(), 20);
    assert_eq!(items[0]["secret"]["name"], "priya-1");
    assert_eq!(items[0]["days_until_expiry"], -30);
    assert_eq!(items[19]["secret"]["name"], "priya-20");
    assert_eq!(
        redeem(&acme, &items[0], "acknowledge").await?["by"],
        "priya"
    );
    assert_eq!(
        redeem(&acme, &items[1], "rotated").await?["action"],
        "rotated"
    );
    let done = acme
        .rows("select acknowledged_by, cycle from rotator.secrets where name in ('priya-1', 'priya-2') order by name")
        .await?;
    assert_eq!(
        done,
        json!([{"acknowledged_by": "priya", "cycle": 1}, {"acknowledged_by": null, "cycle": 2}])
    );
    ensure!(acme.complete(&claim).await?);
    assert_eq!(
        states(&acme).await?,
        json!([{"kind": "reminder", "state": "merged", "count": 24}, {"kind": "summary", "state": "sent", "count": 1}])
    );
    Ok(())
}

#[tokio::test]
async fn a_repeated_attempt_has_links_of_its_own_and_the_first_ones_stay_good() -> Result<()> {
    let (acme, first) = summarised().await?;
    ensure!(acme.fail(&first, "transient").await?);
    acme.end_waiting().await?;
    let second = acme.claim_one().await?;
    assert_eq!((second.id, second.attempt), (first.id, 2));
    let (first, second) = (&first.message["items"][0], &second.message["items"][0]);
    assert_ne!(first["link_token"], second["link_token"]);
    for item in [first, second] {
        assert_eq!(
            redeem(&acme, item, "show").await?["secret"]["name"],
            "priya-1"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_done_before_it_is_sent_is_not_in_it_and_an_empty_one_is_not_sent() -> Result<()> {
    let acme = Acme::new().await?;
    import(&acme, &[("priya", 3)]).await?;
    acme.tick().await?;
    let rotate = "select rotator.mark_rotated(id) from rotator.secrets where name = $1";
    acme.editor.execute(rotate, &[&"priya-1"]).await?;
    let claim = acme.claim_one().await?;
    assert_eq!(claim.message["counts"]["total"], 2);
    assert_eq!(claim.message["items"][0]["secret"]["name"], "priya-2");
    ensure!(acme.fail(&claim, "transient").await?);
    acme.end_waiting().await?;
    acme.editor.execute(rotate, &[&"priya-2"]).await?;
    acme.editor
        .execute(
            "select rotator.retire_secret(id) from rotator.secrets where name = 'priya-3'",
            &[],
        )
        .await?;
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        states(&acme).await?,
        json!([{"kind": "reminder", "state": "cancelled", "count": 3}, {"kind": "summary", "state": "cancelled", "count": 1}])
    );
    Ok(())
}

#[tokio::test]
async fn what_has_lead_times_to_come_or_is_registered_one_by_one_gets_its_own_reminder()
-> Result<()> {
    let acme = Acme::new().await?;
    import(&acme, &[("priya", 3)]).await?;
    let items = json!([
        {"name": "soon 1", "owner_id": "priya", "expiry_date": "in 5 days"},
        {"name": "soon 2", "owner_id": "priya", "expiry_date": "in 5 days"},
        {"name": "tomorrow", "owner_id": "priya", "expiry_date": "in 12 hours"}
    ]);
    let import = "select count(*) from rotator.import_secrets((
        select jsonb_agg(jsonb_set(i, '{expiry_date}', to_jsonb((now() + replace(i ->> 'expiry_date', 'in ', '')::interval)::text)))
        from jsonb_array_elements($1) as i)) where action = 'created'";
    assert_eq!(scalar::<i64>(&acme.editor, import, &[&items]).await?, 3);
    acme.register(
        "single",
        "owner_id => 'priya', expiry_date => now() - interval '5 days'",
    )
    .await?;
    acme.tick().await?;
    let claims = acme.claim().await?;
    let told = |rule: &str| {
        let claim = claims.iter().find(|claim| claim.message["rule"] == rule);
        claim.context("one of each")
    };
    let mut names: Vec<&Value> = told("digest")?.message["items"]
        .as_array()
        .context("items")?
        .iter()
        .map(|item| &item["secret"]["name"])
        .collect();
    names.sort_unstable_by_key(|name| name.as_str());
    assert_eq!(names, ["single", "soon 1", "soon 2"]);
    assert_eq!(
        told("backlog")?.message["counts"],
        json!({"total": 4, "overdue": 3, "expiring_soon": 1})
    );
    Ok(())
}

#[tokio::test]
async fn a_dry_run_or_a_second_import_of_the_same_announces_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    let items = json!([
        {"name": "a", "external_id": "1", "expiry_date": "2026-01-01"},
        {"name": "b", "external_id": "2", "expiry_date": "2026-01-01"}
    ]);
    let import = "select count(*) from rotator.import_secrets($1, $2)";
    scalar::<i64>(&acme.editor, import, &[&items, &true]).await?;
    assert_eq!(acme.tick().await?["queued"], 0);
    scalar::<i64>(&acme.editor, import, &[&items, &false]).await?;
    assert_eq!(acme.tick().await?["queued"], 1);
    scalar::<i64>(&acme.editor, import, &[&items, &false]).await?;
    assert_eq!(acme.tick().await?["queued"], 0);
    Ok(())
}

#[tokio::test]
async fn summaries_never_mix_tenants() -> Result<()> {
    let acme = Acme::new().await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "admin").await?;
    let items = json!([{"name": "theirs 1", "expiry_date": "2026-01-01"}, {"name": "theirs 2", "expiry_date": "2026-01-01"}]);
    // The same address in both.
    for (session, item) in [(&other, "theirs"), (&acme.operator, "ours")] {
        session
            .execute(
                "select rotator.set_contact('manager', 'email', 'boss@example.com')",
                &[],
            )
            .await?;
        let text = items.to_string().replace("theirs", item);
        let items: Value = serde_json::from_str(&text)?;
        scalar::<i64>(
            session,
            "select count(*) from rotator.import_secrets($1)",
            &[&items],
        )
        .await?;
    }
    acme.tick().await?;
    let claims = claim(&acme.worker, 100, "1 minute").await?;
    assert_eq!(claims.len(), 2);
    for claim in claims {
        let tenant = claim.message["tenant"]["slug"].as_str().context("slug")?;
        let prefix = if tenant == "acme" { "ours" } else { "theirs" };
        assert_eq!(claim.message["counts"]["total"], 2);
        for item in claim.message["items"].as_array().context("items")? {
            let name = item["secret"]["name"].as_str().context("name")?;
            ensure!(name.starts_with(prefix), "{name} told to {tenant}");
        }
    }
    Ok(())
}

/// Each of two sessions sees the other's secret still in the summary, so neither cancels it.
#[tokio::test]
async fn one_that_two_people_emptied_at_the_same_time_is_not_sent() -> Result<()> {
    let acme = Acme::new().await?;
    import(&acme, &[("priya", 2)]).await?;
    acme.tick().await?;
    let rotate = "select rotator.mark_rotated(id) from rotator.secrets where name = $1";
    let mut other = acme.db.session("acme", "editor").await?;
    let transaction = other.transaction().await?;
    transaction.execute(rotate, &[&"priya-1"]).await?;
    acme.editor.execute(rotate, &[&"priya-2"]).await?;
    transaction.commit().await?;
    assert_eq!(acme.claim().await?.len(), 0);
    assert_eq!(
        acme.rows("select state from rotator.notifications where kind = 'summary'")
            .await?,
        json!([{"state": "cancelled"}])
    );
    Ok(())
}
