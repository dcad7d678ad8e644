//! What has ended is silent: whatever was under way about a secret when it is rotated or retired (queued, held, being sent,
//! failing, told in one message with others, on its way up a ladder) is sent to nobody any more, however it was about to go
//! on. Only PagerDuty is told that it is over.

use anyhow::{Context, Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};

use crate::escalation::{acme_with, tick_in};
use crate::seed::{Acme, Claim, rows};

const WAYS: [&str; 2] = [
    "select rotator.mark_rotated(id, next_expiry_date => now() + interval '5 years') from rotator.secrets",
    "select rotator.retire_secret(id, 'unused') from rotator.secrets",
];

/// Kind and state of what was queued, counted.
async fn states(acme: &Acme, of: &str) -> Result<Value> {
    let sql = format!(
        "select coalesce(jsonb_object_agg(q.what, q.count), '{{}}') from (
            select n.kind || ' ' || n.state as what, count(*) from rotator_internal.notification as n {of} group by 1) as q"
    );
    scalar(&acme.db.admin, &sql, &[]).await
}

fn of<'a>(claims: &'a [Claim], recipient: &str) -> Result<&'a Claim> {
    let mut found = claims
        .iter()
        .filter(|claim| claim.recipient.as_deref() == Some(recipient));
    found
        .next()
        .with_context(|| format!("a claim for {recipient} of {claims:?}"))
}

/// One secret in each situation, each of an owner who is named after it.
async fn everything_under_way() -> Result<(Acme, Vec<Claim>)> {
    let people = [
        "waits", "flies", "fails", "given", "lost", "taken", "quiet", "held", "climbs", "many",
    ];
    let mut reached: Vec<(&str, &str)> = people.iter().map(|owner| (*owner, "console")).collect();
    reached.extend([
        ("paged", "pagerduty"),
        ("above", "console"),
        ("boss", "email"),
    ]);
    let acme = acme_with(&reached).await?;
    let closed = "select rotator.add_member('boss', 'admin'),
        rotator.set_delivery_window(jsonb_build_object(
            'days', jsonb_build_array(lower(to_char(now() at time zone 'UTC' + interval '3 days', 'Dy'))), 'from', '00:00', 'to', '24:00'))";
    acme.operator.execute(closed, &[]).await?;
    for owner in people
        .iter()
        .chain(&["paged"])
        .filter(|owner| **owner != "waits")
    {
        let priority = if *owner == "held" { "P3" } else { "P1" };
        let hours = if *owner == "climbs" { 20 } else { 24 * 6 };
        let names: &[&str] = if *owner == "many" {
            &["many one", "many two"]
        } else {
            &[owner]
        };
        for name in names {
            let with = format!(
                "owner_id => '{owner}', secondary_owner_id => 'above', priority => '{priority}', rotation_interval => '5 years',
                 expiry_date => now() + interval '{hours} hours'"
            );
            acme.register(name, &with).await?;
        }
    }
    acme.tick().await?;
    let claims = acme.claim().await?;
    for (recipient, reason) in [
        ("fails", "timeout"),
        ("given", "permanent"),
        ("lost", "permanent"),
    ] {
        ensure!(acme.fail(of(&claims, recipient)?, reason).await?);
    }
    for claim in &claims {
        let told = ["taken", "quiet", "climbs"]
            .map(Some)
            .contains(&claim.recipient.as_deref());
        if told || claim.channel == "pagerduty" {
            ensure!(acme.complete(claim).await?);
        }
    }
    // What of "lost" went to the admin fails as well; what of "given" did still waits.
    let instead = "update rotator_internal.notification as n set available_at = now() + case when f.addressee = 'given' then interval '1 hour' else '0' end
        from rotator_internal.notification as f where n.fallback_of = f.id";
    acme.db.admin.batch_execute(instead).await?;
    let to_admin = acme.claim_one().await?;
    ensure!(acme.fail(&to_admin, "permanent").await?);
    acme.editor
        .batch_execute(
            "select rotator.acknowledge(id) from rotator.secrets where name = 'taken';
             select rotator.snooze(id, now() + interval '2 days', 'later') from rotator.secrets where name = 'quiet'",
        )
        .await?;
    tick_in(&acme, 4.1).await?;
    acme.register(
        "waits",
        "owner_id => 'waits', priority => 'P1', rotation_interval => '5 years', expiry_date => now() + interval '6 days'",
    )
    .await?;
    acme.tick().await?;
    assert_eq!(
        states(
            &acme,
            "where n.kind <> 'resolve' and n.kind <> 'acknowledge'"
        )
        .await?,
        json!({
            "reminder queued": 2, "reminder leased": 1, "reminder retry": 1, "reminder dead": 3, "reminder deferred": 1,
            "reminder merged": 2, "reminder sent": 4, "summary leased": 1, "escalation queued": 1,
        }),
        "the stage is set"
    );
    assert_eq!(
        acme.rows("select addressee from rotator.undeliverable")
            .await?,
        json!([{"addressee": "lost"}])
    );
    Ok((acme, claims))
}

#[tokio::test]
async fn whatever_was_under_way_ends_with_the_secret() -> Result<()> {
    for way in WAYS {
        let (acme, claims) = everything_under_way().await?;
        acme.editor.batch_execute(way).await?;
        // Late news of what was being sent.
        for (recipient, reason) in [("flies", "timeout"), ("many", "permanent")] {
            ensure!(acme.fail(of(&claims, recipient)?, reason).await?, "{way}");
        }
        for days in [0, 1, 2, 4, 7, 30, 400] {
            tick_in(&acme, f64::from(days) * 24.0).await?;
        }
        acme.end_waiting().await?;
        let left = acme.claim().await?;
        ensure!(
            left.len() == 1
                && left[0].channel == "pagerduty"
                && left[0].message["kind"] == "resolve",
            "{way}: {left:?}"
        );
        let alive = states(&acme, "where n.state in ('queued', 'retry', 'deferred') or (n.state = 'merged' and n.merged_into is null)").await?;
        assert_eq!(alive, json!({}), "{way}");
        assert_eq!(
            acme.rows("select distinct state, next_escalation_at from rotator.alerts")
                .await?,
            json!([{"state": "resolved", "next_escalation_at": null}]),
            "{way}"
        );
        assert_eq!(
            acme.rows("select id from rotator.undeliverable").await?,
            json!([]),
            "{way}"
        );
        // None of its links acts any more.
        for claim in claims.iter().filter(|claim| !claim.link_token.is_empty()) {
            let act = "select rotator.redeem_link($1, $2, until => now() + interval '1 hour')";
            refused(
                acme.worker
                    .query(act, &[&claim.link_token, &"snooze"])
                    .await,
                "PT410",
            )?;
        }
        let to_come = rows(
            &acme.operator,
            "select s.name, p.rule from rotator.secrets as s cross join lateral rotator.preview_schedule(s.id, now() + interval '4 years') as p where p.kind <> 'resolve'",
        )
        .await?;
        assert_eq!(to_come, json!([]), "{way}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_only_put_off_comes_again_although_its_message_failed_meanwhile() -> Result<()> {
    let acme = acme_with(&[("olga", "console")]).await?;
    for name in ["one", "two"] {
        let with = "owner_id => 'olga', rotation_interval => '90 days', expiry_date => now() + interval '20 hours'";
        acme.register(name, with).await?;
    }
    acme.tick().await?;
    let told = acme.claim_one().await?;
    ensure!(told.message["kind"] == "summary", "{told:?}");
    let snooze =
        "select rotator.snooze(id, now() + interval '2 hours', 'later') from rotator.secrets";
    acme.editor.batch_execute(snooze).await?;
    ensure!(acme.fail(&told, "timeout").await?);
    assert_eq!(
        states(&acme, "").await?,
        json!({"reminder cancelled": 2, "summary cancelled": 1})
    );
    assert_eq!(
        tick_in(&acme, 2.0).await?["queued"],
        1,
        "both, in one message"
    );
    Ok(())
}
