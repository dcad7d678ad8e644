//! Importing what is there already: an item finds its secret by id, external_id or name, in its own tenant only.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};

use crate::seed::Acme;

async fn actions(acme: &Acme, items: Value) -> Result<Vec<String>> {
    let rows = acme
        .editor
        .query(
            "select action from rotator.import_secrets($1) order by item",
            &[&items],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn an_item_that_repeats_a_secret_of_its_name_is_unchanged_and_one_that_differs_is_refused()
-> Result<()> {
    let acme = Acme::new().await?;
    let item = |date: &str| json!({"name": "a", "expiry_date": date, "labels": {"n": 1}});
    assert_eq!(
        actions(&acme, json!([item("2031-01-31"), item("2031-01-31")])).await?,
        ["created", "unchanged"]
    );
    let before = acme.fingerprint().await?;
    assert_eq!(
        actions(&acme, json!([item("2031-01-31"), item("2031-02-01"), {"name": "A", "expiry_date": "2031-01-31"}])).await?,
        ["unchanged", "failed", "failed"]
    );
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn an_id_names_a_secret_of_this_tenant_and_no_other() -> Result<()> {
    let acme = Acme::new().await?;
    acme.db.tenant("beta").await?;
    let beta = acme.db.session("beta", "editor").await?;
    let theirs: uuid::Uuid = scalar(
        &beta,
        "select rotator.register_secret('theirs', expiry_date => '2031-01-31')",
        &[],
    )
    .await?;
    let ours = acme.register("ours", "expiry_date => '2031-01-31'").await?;
    let gone = acme.register("gone", "expiry_date => '2031-01-31'").await?;
    acme.editor
        .execute("select rotator.retire_secret($1)", &[&gone])
        .await?;
    let items = json!([
        {"id": ours.to_string(), "name": "ours, renamed"},
        {"id": theirs.to_string(), "name": "stolen", "expiry_date": "2031-01-31"},
        {"id": gone.to_string(), "name": "back", "expiry_date": "2031-01-31"},
        {"id": "42", "name": "own key", "expiry_date": "2031-01-31"},
        {"id": ours.to_string(), "external_id": "x-1"},
    ]);
    assert_eq!(
        actions(&acme, items).await?,
        ["updated", "created", "created", "failed", "updated"]
    );
    let kept: bool = scalar(
        &beta,
        "select count(*) = 1 and min(name) = 'theirs' from rotator.secrets",
        &[],
    )
    .await?;
    ensure!(kept, "the other tenant's secret is as it was");
    assert_eq!(
        acme.rows(
            "select name, external_id from rotator.secrets where status <> 'retired' order by name"
        )
        .await?,
        json!([{"name": "back", "external_id": null}, {"name": "ours, renamed", "external_id": "x-1"}, {"name": "stolen", "external_id": null}])
    );
    Ok(())
}

#[tokio::test]
async fn items_take_effect_in_their_order() -> Result<()> {
    let acme = Acme::new().await?;
    let items = json!([
        {"name": "first", "expiry_date": "2031-01-31", "external_id": "x-1"},
        {"name": "second", "expiry_date": "2031-01-31", "external_id": "x-2"},
        {"name": "free again", "external_id": "x-1"},
        {"name": "first", "expiry_date": "2031-01-31", "external_id": "x-3"},
        {"name": "second", "external_id": "x-3"},
        {"name": "third", "expiry_date": "2031-01-31", "external_id": "x-4"},
    ]);
    assert_eq!(
        actions(&acme, items).await?,
        [
            "created", "created", "updated", "created", "failed", "created"
        ]
    );
    Ok(())
}

#[tokio::test]
async fn one_call_takes_more_than_a_set() -> Result<()> {
    let acme = Acme::new().await?;
    let items: Vec<Value> = (0..1203)
        .map(|n| json!({"name": format!("n{}", n % 1200), "expiry_date": "2031-01-31", "purpose": format!("{n}")}))
        .collect();
    let done = actions(&acme, Value::from(items)).await?;
    ensure!(
        done[..1200].iter().all(|action| action == "created"),
        "{done:?}"
    );
    assert_eq!(done[1200..], ["failed", "failed", "failed"]);
    let whole: bool = scalar(
        &acme.operator,
        "select count(*) = 1200 and count(*) filter (where name = 'n' || purpose) = 1200 from rotator.secrets",
        &[],
    )
    .await?;
    ensure!(whole, "each with its own fields");
    let events: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.audit_event where action = 'secret.registered'",
        &[],
    )
    .await?;
    assert_eq!(events, 1200);
    Ok(())
}
