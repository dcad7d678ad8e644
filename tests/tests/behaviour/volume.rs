//! A hundred thousand secrets (a tenth of that unless soaking), loaded and ticked: everything due is queued exactly
//! once, in steps, and an idle tick doesn't look at them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rotator_tests::{scalar, scaled};
use serde_json::{Value, json};

use crate::seed::Acme;

#[tokio::test]
async fn a_hundred_thousand_secrets_are_loaded_and_ticked() -> Result<()> {
    let acme = Acme::new().await?;
    let total = scaled(100_000) as i32;
    acme.operator
        .execute(
            "select rotator.set_contact('owner 0', 'email', 'zero@acme.example')",
            &[],
        )
        .await?;
    // A tenth is inside its lead times, the rest years away.
    acme.editor
        .execute(
            "select rotator.register_secret(
                'credential ' || n, expiry_date => now() + case when n % 10 = 0 then interval '5 days' else interval '2 years' end
                    + n * interval '1 second',
                rotation_interval => '90 days', owner_id => 'owner ' || n % 100, provider_type => 'type' || n % 7)
             from generate_series(1, $1) as n",
            &[&total],
        )
        .await?;
    acme.db.admin.batch_execute("analyze").await?;
    let due = i64::from(total / 10);

    let mut looked_at = 0;
    loop {
        let result: Value =
            scalar(&acme.operator, "select rotator.tick(max_rows => 900)", &[]).await?;
        ensure!(
            result["due"].as_i64().is_some_and(|due| due <= 900),
            "{result}"
        );
        looked_at += result["due"].as_i64().unwrap_or_default();
        if result["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(looked_at, due);
    assert_eq!(
        acme.rows(
            "select count(*) as n, count(distinct secret_id) as secrets from rotator.notifications where kind = 'reminder'"
        )
        .await?,
        json!([{"n": due, "secrets": due}])
    );
    assert_eq!(
        acme.rows("select total, expiring_soon, unacknowledged_alerts from rotator.overview")
            .await?,
        json!([{"total": total, "expiring_soon": due, "unacknowledged_alerts": due}])
    );

    // Idle ticks and a page of the list: milliseconds each, where a scan of all that would take far longer.
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(acme.tick().await?["due"], 0);
    }
    ensure!(
        started.elapsed() < Duration::from_secs(4),
        "20 idle ticks took {:?}",
        started.elapsed()
    );
    let started = Instant::now();
    for owner in 0..20 {
        let owner = format!("owner {owner}");
        let page = acme
            .editor
            .query(
                "select name from rotator.search_secrets(owner => $1, max_rows => 50)",
                &[&owner],
            )
            .await?;
        assert_eq!(page.len(), 50.min(total as usize / 100));
    }
    ensure!(
        started.elapsed() < Duration::from_secs(10),
        "20 pages took {:?}",
        started.elapsed()
    );

    // Parallel workers don't know the tenant: every row must be there all the same.
    acme.editor
        .batch_execute(
            "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
             set min_parallel_index_scan_size = 0; set max_parallel_workers_per_gather = 4",
        )
        .await?;
    assert_eq!(
        acme.rows("select count(*) as n, count(name) as names, min(days_until_expiry) as days from rotator.secrets").await?,
        json!([{"n": total, "names": total, "days": 5}])
    );
    acme.editor.batch_execute("reset all").await?;

    // What is rotated has nothing left to be sent.
    acme.editor
        .execute("select rotator.mark_rotated(id) from rotator.search_secrets(status => 'expiring_soon', max_rows => 2000)", &[])
        .await?;
    let left: i64 = scalar(
        &acme.editor,
        "select count(*) from rotator.notifications where state <> 'cancelled'",
        &[],
    )
    .await?;
    assert_eq!(left, (due - 2000).max(0));
    Ok(())
}
