//! `mark_rotated`: what it gives, what it refuses, and everything that ends and begins with it.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::json;

use crate::seed::{Acme, rows};

const STATE: &str = "select cycle, status, last_rotated_at is not null as rotated, acknowledged_at is not null as acknowledged
    from rotator.secrets";

#[tokio::test]
async fn rotating_ends_the_alert_cancels_what_is_queued_and_begins_a_cycle() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.tick().await?;
    acme.editor
        .execute("select rotator.acknowledge($1)", &[&id])
        .await?;
    assert_eq!(
        acme.rows(STATE).await?,
        json!([{"cycle": 1, "status": "expiring_soon", "rotated": false, "acknowledged": true}])
    );

    let right: bool = scalar(
        &acme.editor,
        "select rotator.mark_rotated($1, evidence_url => 'https://tickets.acme.example/1', note => 'done') = now() + interval '90 days'",
        &[&id],
    )
    .await?;
    ensure!(right, "now plus the interval");
    assert_eq!(
        acme.rows(STATE).await?,
        json!([{"cycle": 2, "status": "healthy", "rotated": true, "acknowledged": false}])
    );
    assert_eq!(
        acme.rows("select cycle, state, resolved_at is not null as resolved from rotator.alerts")
            .await?,
        json!([{"cycle": 1, "state": "resolved", "resolved": true}])
    );
    assert_eq!(
        acme.rows("select state from rotator.notifications").await?,
        json!([{"state": "suppressed"}])
    );
    assert_eq!(
        acme.claim().await?.len(),
        0,
        "nothing of the old cycle can be claimed"
    );
    assert_eq!(
        acme.tick().await?["queued"],
        0,
        "and nothing of the new one is due"
    );

    // The new cycle reminds and alerts on its own.
    acme.tick_at("now() + interval '83 days'").await?;
    assert_eq!(
        acme.rows("select cycle, state from rotator.alerts order by cycle")
            .await?,
        json!([{"cycle": 1, "state": "resolved"}, {"cycle": 2, "state": "open"}])
    );
    Ok(())
}

#[tokio::test]
async fn the_same_rotation_told_twice_counts_once() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    let mark = "select rotator.mark_rotated($1, '2026-05-04 03:02:01+00', note => 'by hand')::text";
    let first: String = scalar(&acme.editor, mark, &[&id]).await?;
    let before = acme.fingerprint().await?;
    let second: String = scalar(&acme.editor, mark, &[&id]).await?;
    assert_eq!(first, second, "the same result");
    assert_eq!(
        acme.fingerprint().await?,
        before,
        "no new cycle, no audit event"
    );

    // In one transaction the default, now(), is one instant too.
    let twice = "begin; select rotator.mark_rotated(id) from rotator.secrets; select rotator.mark_rotated(id) from rotator.secrets; commit";
    acme.editor.batch_execute(twice).await?;
    assert_eq!(
        scalar::<i32>(&acme.editor, "select cycle from rotator.secrets", &[]).await?,
        3
    );
    Ok(())
}

#[tokio::test]
async fn impossible_times_are_refused() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.editor
        .execute(
            "select rotator.mark_rotated($1, now() - interval '10 days')",
            &[&id],
        )
        .await?;
    let before = acme.fingerprint().await?;
    for arguments in [
        "rotated_at => now() + interval '1 minute'",
        "rotated_at => 'infinity'",
        "rotated_at => null",
        "rotated_at => now() - interval '11 days'",
        "rotated_at => '-infinity'",
        "rotated_at => '-infinity', next_expiry_date => '2030-01-01'",
        "next_expiry_date => now()",
        "next_expiry_date => now() - interval '1 day'",
        "rotated_at => now() - interval '1 day', next_expiry_date => now() - interval '1 day'",
        "next_expiry_date => 'infinity'",
        "next_expiry_date => '10000-01-01'",
        "next_expiry_date => '99999-01-01'",
        "evidence_url => 'see the wiki'",
        "evidence_url => 'javascript:alert(1)'",
    ] {
        let sql = format!("select rotator.mark_rotated($1, {arguments})");
        refused(acme.editor.query(&sql, &[&id]).await, "22023")
            .map_err(|error| error.context(arguments))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_first_rotation_may_lie_anywhere_in_the_past_but_not_before_time() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    let infinite = "select rotator.mark_rotated($1, '-infinity', next_expiry_date => '2030-01-01')";
    refused(acme.editor.query(infinite, &[&id]).await, "22023")?;
    let next: String = scalar(
        &acme.editor,
        "select (rotator.mark_rotated($1, '2024-01-01 00:00+00') at time zone 'UTC')::text",
        &[&id],
    )
    .await?;
    assert_eq!(
        next, "2024-03-31 00:00:00",
        "before the registration is fine; and so it is overdue"
    );
    assert_eq!(
        scalar::<String>(&acme.editor, "select status from rotator.secrets", &[]).await?,
        "overdue"
    );
    Ok(())
}

#[tokio::test]
async fn without_an_interval_the_next_date_must_be_given() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme
        .register("certificate", "expiry_date => now() + interval '3 days'")
        .await?;
    let before = acme.fingerprint().await?;
    refused(
        acme.editor
            .query("select rotator.mark_rotated($1)", &[&id])
            .await,
        "22023",
    )?;
    assert_eq!(acme.fingerprint().await?, before);
    let next: String = scalar(
        &acme.editor,
        "select (rotator.mark_rotated($1, next_expiry_date => '2027-06-01 12:00+00') at time zone 'UTC')::text",
        &[&id],
    )
    .await?;
    assert_eq!(next, "2027-06-01 12:00:00");
    Ok(())
}

#[tokio::test]
async fn a_given_next_date_wins_over_the_interval() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.editor
        .execute(
            "select rotator.mark_rotated($1, next_expiry_date => '2028-01-01 00:00+00')",
            &[&id],
        )
        .await?;
    assert_eq!(
        acme.rows("select expiry_date = '2028-01-01 00:00+00' as given, interval_days from rotator.secrets").await?,
        json!([{"given": true, "interval_days": 90}])
    );
    Ok(())
}

#[tokio::test]
async fn owners_may_rotate_their_own_and_nobody_else_s() -> Result<()> {
    let acme = Acme::new().await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    let session = acme.db.connect_as(&viewer).await?;
    let strange = acme.due("somebody else's").await?;
    refused(
        session
            .query("select rotator.mark_rotated($1)", &[&strange])
            .await,
        "42501",
    )?;
    for column in ["owner_id", "secondary_owner_id", "team_lead_id"] {
        let id = acme
            .register(
                column,
                &format!(
                    "rotation_interval => '90 days', {column} => '{}'",
                    viewer.subject()
                ),
            )
            .await?;
        session
            .query("select rotator.mark_rotated($1)", &[&id])
            .await?;
    }
    assert_eq!(
        rows(
            &session,
            "select count(*) as n from rotator.secrets where cycle = 2"
        )
        .await?,
        json!([{"n": 3}])
    );
    Ok(())
}

#[tokio::test]
async fn unknown_and_foreign_ids_are_the_same_not_found() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "admin").await?;
    let before = acme.fingerprint().await?;
    let foreign = refused(
        other.query("select rotator.mark_rotated($1)", &[&id]).await,
        "PT404",
    )?;
    let unknown = refused(
        other
            .query("select rotator.mark_rotated(gen_random_uuid())", &[])
            .await,
        "PT404",
    )?;
    assert_eq!(
        foreign.message(),
        unknown.message(),
        "nothing tells them apart"
    );
    refused(
        other.query("select rotator.mark_rotated(null)", &[]).await,
        "PT404",
    )?;
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn every_rotation_is_audited_with_its_reason_and_evidence() -> Result<()> {
    let acme = Acme::new().await?;
    let id = acme.due("stripe").await?;
    acme.editor
        .execute(
            "select rotator.mark_rotated($1, evidence_url => 'https://tickets.acme.example/1', note => 'rolled in the console')",
            &[&id],
        )
        .await?;
    let audited = rows(
        &acme.operator,
        "select actor like 'db:editor%' as by_editor, source, changes ->> 'note' as note, changes ->> 'evidence_url' as url
         from rotator.audit_log where action = 'secret.rotated'",
    )
    .await?;
    assert_eq!(
        audited,
        json!([{"by_editor": true, "source": "sql", "note": "rolled in the console", "url": "https://tickets.acme.example/1"}])
    );
    Ok(())
}
