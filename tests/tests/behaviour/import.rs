//! `import_secrets`: good rows are kept and bad ones named, again and again with the same outcome.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::seed::Acme;

/// Item, action and error of each row.
async fn import(
    session: &Client,
    items: &Value,
    dry_run: bool,
) -> Result<Vec<(i32, String, Option<String>)>> {
    let rows = session
        .query(
            "select item, action, error, id from rotator.import_secrets($1, $2) order by item",
            &[items, &dry_run],
        )
        .await?;
    for row in &rows {
        let (action, id): (String, Option<uuid::Uuid>) = (row.get(1), row.get(3));
        let has_id = match action.as_str() {
            "failed" => false,
            "created" => !dry_run,
            _ => true,
        };
        assert_eq!(id.is_some(), has_id, "{action}");
    }
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

fn actions(outcome: &[(i32, String, Option<String>)]) -> Vec<&str> {
    outcome.iter().map(|row| row.1.as_str()).collect()
}

#[tokio::test]
async fn a_bad_row_is_named_and_does_not_stop_the_rest() -> Result<()> {
    let acme = Acme::new().await?;
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    let items = json!([
        {"name": "good one", "expiry_date": "2027-01-31"},
        {"name": "no dates"},
        {"name": "unknown", "expiry_date": "2027-01-31", "colour": "red"},
        {"name": token, "expiry_date": "2027-01-31"},
        {"name": "not a date", "expiry_date": "next Tuesday"},
        {"name": "not an interval", "rotation_interval": "often"},
        {"name": "zero", "rotation_interval": "0 days"},
        {"name": "GOOD one", "expiry_date": "2027-01-31"},
        {"name": "labels", "expiry_date": "2027-01-31", "labels": ["a"]},
        {"name": ["a"], "expiry_date": "2027-01-31"},
        {"name": "", "expiry_date": "2027-01-31"},
        "just text",
        null,
        {"expiry_date": "2027-01-31"},
        {"name": "another good one", "rotation_interval": "3 months", "provider_type": "Vault", "labels": {"a": "b"}, "priority": "p2"},
    ]);
    let outcome = import(&acme.editor, &items, false).await?;
    assert_eq!(
        outcome
            .iter()
            .filter(|row| row.1 == "created")
            .map(|row| row.0)
            .collect::<Vec<_>>(),
        [1, 15],
        "{outcome:#?}"
    );
    for (item, action, error) in &outcome {
        ensure!((action == "created") == error.is_none(), "{item}: {action}");
        ensure!(
            error.as_ref().is_none_or(|error| !error.contains("a1B2c3")),
            "{item} quotes the secret"
        );
    }
    let error = |item: usize| outcome[item - 1].2.clone().unwrap_or_default();
    for (item, part) in [
        (2, "missing"),
        (3, "colour"),
        (4, "looks like a secret value"),
        (5, "expiry_date"),
        (6, "rotation_interval"),
        (7, "longer than zero"),
        (8, "exists already"),
        (9, "labels"),
        (10, "name"),
        (11, "name"),
        (12, "object"),
        (13, "object"),
        (14, "name"),
    ] {
        ensure!(error(item).contains(part), "item {item}: {}", error(item));
    }
    assert_eq!(
        acme.rows(
            "select name, provider_type, priority, labels from rotator.secrets order by name"
        )
        .await?,
        json!([
            {"name": "another good one", "provider_type": "vault", "priority": "P2", "labels": {"a": "b"}},
            {"name": "good one", "provider_type": "manual", "priority": "P3", "labels": {}}
        ])
    );
    Ok(())
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_a_changed_row_changes_one_secret() -> Result<()> {
    let acme = Acme::new().await?;
    let mut items = json!([
        {"name": "a", "expiry_date": "2027-01-31", "external_id": "x-1", "purpose": "cards", "owner_id": "priya"},
        {"name": "b", "rotation_interval": "90 days", "expiry_date": "2027-01-31T09:00:00Z", "external_id": "x-2"},
    ]);
    assert_eq!(
        actions(&import(&acme.editor, &items, false).await?),
        ["created", "created"]
    );
    let before = acme.fingerprint().await?;
    assert_eq!(
        actions(&import(&acme.editor, &items, false).await?),
        ["unchanged", "unchanged"]
    );
    assert_eq!(acme.fingerprint().await?, before);

    items[0] = json!({"name": "a renamed", "external_id": "x-1", "purpose": null});
    assert_eq!(
        actions(&import(&acme.editor, &items, false).await?),
        ["updated", "unchanged"]
    );
    assert_eq!(
        acme.rows("select name, purpose, owner_id, expiry_date = '2027-01-31 00:00+00' as kept from rotator.secrets where external_id = 'x-1'").await?,
        json!([{"name": "a renamed", "purpose": null, "owner_id": "priya", "kept": true}]),
        "a key that is not given stays as it is"
    );

    // Once retired, the external_id stands for a new secret.
    acme.editor
        .execute("delete from rotator.secrets where external_id = 'x-2'", &[])
        .await?;
    assert_eq!(
        actions(&import(&acme.editor, &items, false).await?),
        ["unchanged", "created"]
    );
    Ok(())
}

#[tokio::test]
async fn the_same_external_id_twice_in_one_file_is_one_secret() -> Result<()> {
    let acme = Acme::new().await?;
    let items = json!([
        {"name": "a", "expiry_date": "2027-01-31", "external_id": "x-1"},
        {"name": "b", "expiry_date": "2027-01-31", "external_id": "x-1"},
    ]);
    assert_eq!(
        actions(&import(&acme.editor, &items, false).await?),
        ["created", "updated"]
    );
    assert_eq!(
        acme.rows("select name from rotator.secrets").await?,
        json!([{"name": "b"}])
    );
    Ok(())
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_keeps_nothing() -> Result<()> {
    let acme = Acme::new().await?;
    import(
        &acme.editor,
        &json!([{"name": "old", "expiry_date": "2027-01-31", "external_id": "x-1"}]),
        false,
    )
    .await?;
    let items = json!([
        {"name": "new", "expiry_date": "2027-01-31"},
        {"name": "old renamed", "external_id": "x-1"},
        {"name": "bad"},
        {"name": "old", "expiry_date": "2027-01-31", "external_id": "x-1"},
    ]);
    let before = acme.fingerprint().await?;
    let outcome = import(&acme.editor, &items, true).await?;
    assert_eq!(
        actions(&outcome),
        ["created", "updated", "failed", "updated"],
        "the last names it back, as it would after the second"
    );
    ensure!(outcome[2].2.is_some());
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn dates_without_a_zone_are_the_tenant_s_and_nothing_is_guessed() -> Result<()> {
    let acme = Acme::in_zone("America/New_York").await?;
    acme.editor
        .batch_execute("set timezone = 'Asia/Tokyo'; set datestyle = 'ISO, DMY'")
        .await?;
    for (number, (date, utc)) in [
        ("2027-01-31", Some("2027-01-31 05:00:00")),
        ("2027-07-31", Some("2027-07-31 04:00:00")),
        ("2027-01-31 10:30", Some("2027-01-31 15:30:00")),
        ("2027-01-31T10:30:15", Some("2027-01-31 15:30:15")),
        ("2027-01-31T10:30:00Z", Some("2027-01-31 10:30:00")),
        ("2027-01-31T10:30:00.5z", Some("2027-01-31 10:30:00.5")),
        ("2027-01-31 10:30:00+01", Some("2027-01-31 09:30:00")),
        ("2027-01-31T10:30:00-05:30", Some("2027-01-31 16:00:00")),
        ("2027-01-31 10:30:00 +0100", Some("2027-01-31 09:30:00")),
        ("01/02/2027", None),
        ("31.01.2027", None),
        ("2027-02-30", None),
        ("2027-13-01", None),
        ("2027-01-31 25:00", None),
        ("2027-01-31 10:30 Europe/Berlin", None),
        ("99999-01-01", None),
        ("infinity", None),
        ("tomorrow", None),
        ("now", None),
        ("", None),
        ("1801353600", None),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("date {number}");
        let outcome = import(
            &acme.editor,
            &json!([{"name": name, "expiry_date": date}]),
            false,
        )
        .await?;
        match utc {
            None => assert_eq!(actions(&outcome), ["failed"], "{date}"),
            Some(utc) => {
                assert_eq!(actions(&outcome), ["created"], "{date}: {outcome:?}");
                let stored: String = scalar(
                    &acme.editor,
                    "select (expiry_date at time zone 'UTC')::text from rotator.secrets where name = $1",
                    &[&name],
                )
                .await?;
                assert_eq!(stored, *utc, "{date}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_interval_needs_its_unit() -> Result<()> {
    let acme = Acme::new().await?;
    // PostgreSQL would take these for seconds, which nobody who writes 90 means.
    let items = json!([{"name": "a", "rotation_interval": 90}, {"name": "b", "rotation_interval": "90"}, {"name": "c", "rotation_interval": "P90D"}]);
    assert_eq!(
        actions(&import(&acme.editor, &items, false).await?),
        ["failed", "failed", "created"]
    );
    Ok(())
}

#[tokio::test]
async fn two_thousand_rows_come_in_within_seconds() -> Result<()> {
    let acme = Acme::new().await?;
    let items: Vec<Value> = (0..2000)
        .map(|number| match number % 100 {
            99 => json!({"name": format!("row {number}")}),
            _ => json!({"name": format!("row {number}"), "expiry_date": "2028-01-31", "rotation_interval": "90 days",
                "owner_id": format!("owner {}", number % 50), "external_id": format!("x-{number}"), "labels": {"n": number}}),
        })
        .collect();
    let items = Value::from(items);
    let started = Instant::now();
    let first = import(&acme.editor, &items, false).await?;
    let second = import(&acme.editor, &items, false).await?;
    // Twenty times what it takes here: a quadratic import would be far beyond.
    ensure!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    let count = |outcome: &[(i32, String, Option<String>)], action: &str| {
        outcome.iter().filter(|row| row.1 == action).count()
    };
    assert_eq!(
        (count(&first, "created"), count(&first, "failed")),
        (1980, 20)
    );
    assert_eq!(
        (count(&second, "unchanged"), count(&second, "failed")),
        (1980, 20)
    );
    ensure!(
        first
            .iter()
            .enumerate()
            .all(|(index, row)| row.0 as usize == index + 1),
        "items are numbered from 1"
    );
    assert_eq!(
        scalar::<i64>(&acme.editor, "select count(*) from rotator.secrets", &[]).await?,
        1980
    );
    Ok(())
}

#[tokio::test]
async fn what_is_no_list_is_refused() -> Result<()> {
    let acme = Acme::new().await?;
    for items in ["null", "'{}'", "'\"x\"'", "'3'"] {
        let sql = format!("select * from rotator.import_secrets({items})");
        refused(acme.editor.query(&sql, &[]).await, "22023")?;
    }
    ensure!(import(&acme.editor, &json!([]), false).await?.is_empty());
    Ok(())
}
