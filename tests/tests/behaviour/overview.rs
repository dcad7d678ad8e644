//! The one row that says how a tenant stands.

use anyhow::Result;
use serde_json::json;

use crate::seed::{Acme, rows};

#[tokio::test]
async fn an_empty_tenant_has_zeros_and_no_rates() -> Result<()> {
    let acme = Acme::new().await?;
    assert_eq!(
        acme.rows("select * from rotator.overview").await?,
        json!([{
            "total": 0, "healthy": 0, "expiring_soon": 0, "overdue": 0, "acknowledged": 0, "unacknowledged_alerts": 0,
            "mean_time_to_acknowledge": null, "on_time_rate": null
        }])
    );
    Ok(())
}

#[tokio::test]
async fn it_counts_what_is_in_use_as_the_list_does() -> Result<()> {
    let acme = Acme::new().await?;
    for (name, days) in [
        ("a", 100),
        ("b", 40),
        ("c", 13),
        ("d", 5),
        ("e", -1),
        ("f", -400),
        ("gone", -1),
    ] {
        acme.register(
            name,
            &format!("expiry_date => now() + interval '{days} days'"),
        )
        .await?;
    }
    acme.editor
        .execute("delete from rotator.secrets where name = 'gone'", &[])
        .await?;
    let counts = "select total, healthy, expiring_soon, overdue, acknowledged, unacknowledged_alerts from rotator.overview";
    let expect = |acknowledged: i32, open: i32| json!([{"total": 6, "healthy": 2, "expiring_soon": 2, "overdue": 2, "acknowledged": acknowledged, "unacknowledged_alerts": open}]);
    assert_eq!(acme.rows(counts).await?, expect(0, 0));
    acme.tick().await?;
    assert_eq!(acme.rows(counts).await?, expect(0, 4));
    acme.editor
        .execute(
            "select rotator.acknowledge(id) from rotator.secrets where name = 'e'",
            &[],
        )
        .await?;
    assert_eq!(acme.rows(counts).await?, expect(1, 3));
    acme.editor.execute("select rotator.mark_rotated(id, next_expiry_date => now() + interval '90 days') from rotator.secrets where name = 'd'", &[]).await?;
    assert_eq!(
        acme.rows(counts).await?,
        json!([{"total": 6, "healthy": 3, "expiring_soon": 1, "overdue": 2, "acknowledged": 1, "unacknowledged_alerts": 2}])
    );
    Ok(())
}

#[tokio::test]
async fn rates_are_of_the_last_ninety_days() -> Result<()> {
    let acme = Acme::new().await?;
    for (name, days) in [
        ("early", 10),
        ("also early", 3),
        ("in time", 1),
        ("late", -2),
    ] {
        acme.register(
            name,
            &format!("expiry_date => now() + interval '{days} days'"),
        )
        .await?;
    }
    acme.tick().await?;
    acme.db
        .admin
        .batch_execute("update rotator_internal.alert set opened_at = now() - interval '2 hours'")
        .await?;
    for name in ["early", "late"] {
        acme.editor
            .execute(
                "select rotator.acknowledge(id) from rotator.secrets where name = $1",
                &[&name],
            )
            .await?;
    }
    acme.editor
        .execute("select rotator.mark_rotated(id, next_expiry_date => now() + interval '1 year') from rotator.secrets", &[])
        .await?;
    let rates = "select on_time_rate, round(extract(epoch from mean_time_to_acknowledge) / 3600) as hours from rotator.overview";
    assert_eq!(
        acme.rows(rates).await?,
        json!([{"on_time_rate": 0.75, "hours": 2}])
    );
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.rotation set recorded_at = now() - interval '91 days';
             update rotator_internal.alert set opened_at = now() - interval '92 days', acknowledged_at = acknowledged_at - interval '91 days',
                first_acknowledged_at = first_acknowledged_at - interval '91 days'",
        )
        .await?;
    assert_eq!(
        acme.rows(rates).await?,
        json!([{"on_time_rate": null, "hours": null}])
    );
    Ok(())
}

#[tokio::test]
async fn every_tenant_has_its_own() -> Result<()> {
    let acme = Acme::new().await?;
    acme.due("stripe").await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "viewer").await?;
    assert_eq!(
        rows(&other, "select total from rotator.overview").await?,
        json!([{"total": 0}])
    );
    assert_eq!(
        rows(&acme.db.admin, "select total from rotator.overview").await?,
        json!([]),
        "no tenant, no row"
    );
    Ok(())
}
