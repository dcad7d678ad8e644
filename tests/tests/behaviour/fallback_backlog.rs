//! A backlog of many that can't be told: the report of its failure is as quick as any other, and the tick hands it on in
//! steps, past whatever somebody else has in hand, until it has arrived as one message again. A few: `fallback`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{scalar, scaled};
use serde_json::{Value, json};

use crate::fallback::contact;
use crate::seed::Acme;

const STEP: i64 = 500;

async fn dead(acme: &Acme) -> Result<i64> {
    let sql =
        "select count(*) from rotator.notifications where kind = 'reminder' and state = 'dead'";
    scalar(&acme.editor, sql, &[]).await
}

/// Ticks until nothing more is to be done.
async fn tick_on(acme: &Acme) -> Result<()> {
    loop {
        let step: Value = scalar(&acme.operator, "select rotator.tick()", &[]).await?;
        if step["more"] == false {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_backlog_that_fails_is_handed_on_in_steps_and_arrives_as_one_message() -> Result<()> {
    let count = i64::try_from(scaled(10_000))?;
    let acme = Acme::new().await?;
    acme.operator
        .batch_execute(
            "set lock_timeout = '5s';
             select rotator.remove_notification_policy(id) from rotator.notification_policies;
             select rotator.add_notification_policy(7, 'slack');
             select rotator.add_member('ada', 'admin');",
        )
        .await?;
    contact(&acme, "ada", "email", "ada@acme.example").await?;
    contact(&acme, "dana", "slack", "C0DEPLOYS1").await?;
    for first in (1..=count).step_by(1000) {
        let sql = "select count(*) from rotator.import_secrets((
            select jsonb_agg(jsonb_build_object('name', 'old-' || n, 'owner_id', 'dana', 'rotation_interval', '90 days',
                'expiry_date', (now() - interval '1 day' - n * interval '1 minute')::text))
            from generate_series($1::bigint, $2::bigint) as n)) where action = 'created'";
        let last = count.min(first + 999);
        let made: i64 = scalar(&acme.editor, sql, &[&first, &last]).await?;
        assert_eq!(made, last - first + 1);
    }
    tick_on(&acme).await?;
    let summary = acme.claim_one().await?;
    assert_eq!(summary.message["counts"]["total"], count);

    // Its report holds none of them, however many they are.
    ensure!(acme.fail(&summary, "permanent").await?);
    assert_eq!(dead(&acme).await?, 0);
    acme.tick().await?;
    assert_eq!(dead(&acme).await?, STEP);

    // Somebody who is at work on one of them is in nobody's way, nor is anybody in theirs.
    let free = "select name from rotator.secrets as s where exists (
        select from rotator.notifications as n where n.secret_id = s.id and n.state = 'merged') order by name limit 2";
    let names = acme.editor.query(free, &[]).await?;
    let [held, snoozed] = [names[0].get::<_, String>(0), names[1].get(0)];
    let mut other = acme.db.session("acme", "editor").await?;
    let at_work = other.transaction().await?;
    let rotate = "select rotator.mark_rotated(id) from rotator.secrets where name = $1";
    at_work.execute(rotate, &[&held]).await?;
    let snooze = "select rotator.snooze(id, now() + interval '1 day', 'later') from rotator.secrets where name = $1";
    acme.db
        .session("acme", "admin")
        .await?
        .execute(snooze, &[&snoozed])
        .await?;
    tick_on(&acme).await?;
    assert_eq!(dead(&acme).await?, count - 2);
    ensure!(acme.claim().await?.is_empty(), "not all of it has come");
    at_work.commit().await?;
    tick_on(&acme).await?;

    let again = acme.claim_one().await?;
    assert_eq!(
        (
            again.channel.as_str(),
            &again.message["kind"],
            &again.message["rule"]
        ),
        ("email", &json!("summary"), &json!("backlog"))
    );
    assert_eq!(again.recipient.as_deref(), Some("ada@acme.example"));
    assert_eq!(again.message["counts"]["total"], count - 2);
    let states = "select n.state, f.state as was, count(*) from rotator.notifications as n
        left join (select id as of, state from rotator.notifications) as f on f.of = n.fallback_of
        where kind = 'reminder' group by 1, 2 order by 1, 2";
    assert_eq!(
        acme.rows(states).await?,
        json!([
            {"state": "cancelled", "was": null, "count": 2},
            {"state": "dead", "was": null, "count": count - 2},
            {"state": "merged", "was": "dead", "count": count - 2},
        ])
    );
    // That one fails as well: nobody is left.
    ensure!(acme.fail(&again, "permanent").await?);
    tick_on(&acme).await?;
    let lost: Option<i64> = scalar(
        &acme.editor,
        "select count(*) from rotator.undeliverable",
        &[],
    )
    .await?;
    assert_eq!(lost.context("a count")?, count - 2);
    let falling: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.notification where falls_back",
        &[],
    )
    .await?;
    assert_eq!(falling, 0);
    Ok(())
}

#[tokio::test]
async fn of_a_tenant_that_left_nothing_is_handed_on() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "dana", "slack", "C0DEPLOYS1").await?;
    acme.operator
        .execute("select rotator.add_member('ada', 'admin')", &[])
        .await?;
    contact(&acme, "ada", "email", "ada@acme.example").await?;
    let sql = "select count(*) from rotator.import_secrets((
        select jsonb_agg(jsonb_build_object('name', 'old-' || n, 'owner_id', 'dana', 'expiry_date', now() - interval '1 day'))
        from generate_series(1, 3) as n)) where action = 'created'";
    assert_eq!(scalar::<i64>(&acme.editor, sql, &[]).await?, 3);
    tick_on(&acme).await?;
    let summary = acme.claim_one().await?;
    ensure!(acme.fail(&summary, "permanent").await?);
    acme.operator
        .execute("select rotator.offboard_tenant('acme', 'acme')", &[])
        .await?;
    tick_on(&acme).await?;
    ensure!(
        acme.claim().await?.is_empty(),
        "nobody can read it any more"
    );
    Ok(())
}
