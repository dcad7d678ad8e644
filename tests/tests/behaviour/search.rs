//! `search_secrets`: its filters, its pages, and what it refuses.

use anyhow::{Result, ensure};
use rotator_tests::refused;

use crate::seed::Acme;

#[tokio::test]
async fn search_filters_by_everything_it_offers() -> Result<()> {
    let acme = Acme::new().await?;
    for (name, provider, owner, days) in [
        ("Stripe live", "stripe", "priya", 3),
        ("stripe sandbox", "stripe", "tom", 40),
        ("Vault root", "vault", "tom", -2),
        ("Mail 100% relay", "manual", "mei", 100),
    ] {
        acme.register(
            name,
            &format!(
                "'{provider}', expiry_date => now() + interval '{days} days', owner_id => '{owner}'"
            ),
        )
        .await?;
    }
    let gone = acme
        .register(
            "Stripe old",
            "'stripe', expiry_date => now() + interval '1 day'",
        )
        .await?;
    acme.editor
        .execute("select rotator.retire_secret($1)", &[&gone])
        .await?;

    for (arguments, expected) in [
        (
            "",
            vec![
                "Vault root",
                "Stripe live",
                "stripe sandbox",
                "Mail 100% relay",
            ],
        ),
        ("query => 'STRIPE'", vec!["Stripe live", "stripe sandbox"]),
        ("query => '%'", vec!["Mail 100% relay"]),
        ("query => '_'", vec![]),
        ("owner => 'tom'", vec!["Vault root", "stripe sandbox"]),
        (
            "provider => 'Stripe'",
            vec!["Stripe live", "stripe sandbox"],
        ),
        (
            "expires_within_days => 14",
            vec!["Vault root", "Stripe live"],
        ),
        ("expires_within_days => 0", vec!["Vault root"]),
        ("status => 'overdue'", vec!["Vault root"]),
        ("status => 'expiring_soon'", vec!["Stripe live"]),
        (
            "status => 'healthy'",
            vec!["stripe sandbox", "Mail 100% relay"],
        ),
        ("status => 'retired'", vec!["Stripe old"]),
        (
            "query => 's', owner => 'tom', provider => 'stripe', status => 'healthy'",
            vec!["stripe sandbox"],
        ),
        ("max_rows => 2", vec!["Vault root", "Stripe live"]),
        ("owner => 'nobody'", vec![]),
    ] {
        assert_eq!(
            names(&acme, arguments).await?,
            expected,
            "search_secrets({arguments})"
        );
    }
    Ok(())
}

async fn names(acme: &Acme, arguments: &str) -> Result<Vec<String>> {
    let sql = format!("select name from rotator.search_secrets({arguments})");
    Ok(acme
        .editor
        .query(&sql, &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

#[tokio::test]
async fn pages_join_up_even_where_dates_are_equal() -> Result<()> {
    let acme = Acme::new().await?;
    for number in 0..7 {
        acme.register(
            &format!("cert {number}"),
            "expiry_date => '2031-01-01 00:00+00'",
        )
        .await?;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = acme
            .editor
            .query(
                "select id, name from rotator.search_secrets(max_rows => 3, after => $1)",
                &[&after],
            )
            .await?;
        let Some(last) = page.last() else { break };
        after = Some(last.get::<_, uuid::Uuid>(0));
        seen.extend(page.iter().map(|row| row.get::<_, String>(1)));
        ensure!(seen.len() <= 7, "a page came twice: {seen:?}");
    }
    seen.sort();
    assert_eq!(
        seen,
        (0..7)
            .map(|number| format!("cert {number}"))
            .collect::<Vec<_>>()
    );
    Ok(())
}

#[tokio::test]
async fn a_search_that_makes_no_sense_is_refused() -> Result<()> {
    let acme = Acme::new().await?;
    for arguments in [
        "status => 'late'",
        "max_rows => 0",
        "max_rows => -1",
        "max_rows => null",
        "max_rows => 1000000",
        "expires_within_days => 2147483647",
        "expires_within_days => -2147483648",
    ] {
        let sql = format!("select * from rotator.search_secrets({arguments})");
        refused(acme.editor.query(&sql, &[]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    Ok(())
}
