//! A step of the ladder that an acknowledgement puts off has a line in `explain_notifications`: by whose, and when it is taken
//! after all, which is what `preview_schedule` says too. When steps are taken: `reopening.rs`.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::escalation::{staffed, steps, theirs, tick_in};
use crate::seed::Acme;

/// Of olga, its last reminder sent five hours ago.
async fn reminded() -> Result<(Acme, Uuid)> {
    let acme = staffed().await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    shift(&acme, "reminded_at", 5.0).await?;
    Ok((acme, id))
}

/// As if that had been so many hours ago.
async fn shift(acme: &Acme, column: &str, hours: f64) -> Result<()> {
    let sql = format!(
        "update rotator_internal.alert set {column} = clock_timestamp() - interval '{hours} hours'"
    );
    acme.db.admin.batch_execute(&sql).await?;
    Ok(())
}

/// Half an hour before the first step was due, for another ten hours; by whom.
async fn taken_on(acme: &Acme, id: &Uuid) -> Result<String> {
    let take = "select rotator.acknowledge($1, until => now() + interval '10 hours')";
    acme.editor.execute(take, &[id]).await?;
    shift(acme, "acknowledged_at", 1.5).await?;
    scalar(&acme.editor, "select rotator.current_actor()", &[]).await
}

/// Rule and detail of each step that was put off, and how many hours ago it was due.
async fn put_off(acme: &Acme, id: &Uuid) -> Result<Value> {
    let sql = "select coalesce(jsonb_agg(jsonb_build_array(
                   rule, kind, round(extract(epoch from now() - at) / 3600), detail) order by at), '[]')
               from rotator.explain_notifications($1) where outcome = 'acknowledged'";
    scalar(&acme.editor, sql, &[id]).await
}

/// When the preview says that this step comes, as explanations write it.
async fn previewed(acme: &Acme, id: &Uuid, step: &str) -> Result<String> {
    let sql = "select to_char(min(at) at time zone 'UTC', 'Dy FMDD Mon YYYY, HH24:MI') || ' (UTC)'
               from rotator.preview_schedule($1) where rule = 'escalation:' || $2";
    scalar(&acme.editor, sql, &[id, &step]).await
}

async fn alert_time(acme: &Acme, column: &str) -> Result<String> {
    let sql = format!(
        "select to_char({column} at time zone 'UTC', 'Dy FMDD Mon YYYY, HH24:MI') || ' (UTC)' from rotator_internal.alert"
    );
    scalar(&acme.db.admin, &sql, &[]).await
}

#[tokio::test]
async fn it_says_by_whose_and_when_the_step_is_taken_after_all() -> Result<()> {
    let (acme, id) = reminded().await?;
    shift(&acme, "reminded_at", 0.0).await?;
    let who = taken_on(&acme, &id).await?;
    assert_eq!(put_off(&acme, &id).await?, json!([]), "none is due");

    shift(&acme, "reminded_at", 5.0).await?;
    let until = alert_time(&acme, "acknowledged_until").await?;
    let then = previewed(&acme, &id, "built-in:1").await?;
    assert_eq!(
        put_off(&acme, &id).await?,
        json!([[
            "escalation:built-in:1",
            "escalation",
            1,
            format!(
                "put off by the acknowledgement of {who}, which holds until {until}; \
             if nobody has rotated by then, the step is taken {then}"
            )
        ]])
    );

    // One of 0.1.0, which had no end.
    let sql = "update rotator_internal.alert set acknowledged_until = null";
    acme.db.admin.batch_execute(sql).await?;
    let said = put_off(&acme, &id).await?;
    let end = format!("put off by the acknowledgement of {who}, which has no end");
    assert_eq!(said[0][3], json!(end), "{said}");
    Ok(())
}

#[tokio::test]
async fn after_the_acknowledgement_it_is_still_put_off_until_it_is_taken() -> Result<()> {
    let (acme, id) = reminded().await?;
    let who = taken_on(&acme, &id).await?;
    tick_in(&acme, 10.0).await?;
    let ended = alert_time(&acme, "reopened_at").await?;
    let then = previewed(&acme, &id, "built-in:1").await?;
    assert_eq!(
        put_off(&acme, &id).await?,
        json!([[
            "escalation:built-in:1",
            "escalation",
            1,
            format!(
                "put off by the acknowledgement of {who}, which ended {ended}; \
             if nobody acts by then, the step is taken {then}"
            )
        ]])
    );
    // Half of an hour of the wait was left when somebody took it on.
    assert_eq!(steps(&acme).await?, json!([]));
    tick_in(&acme, 10.6).await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:1 sam"]));
    assert_eq!(put_off(&acme, &id).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn a_step_whose_message_was_taken_back_says_that_it_comes() -> Result<()> {
    let (acme, id) = reminded().await?;
    let sql = "update rotator_internal.alert set next_escalation_at = now()";
    acme.db.admin.batch_execute(sql).await?;
    acme.tick().await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:1 sam"]));
    let take = "select rotator.acknowledge($1, until => now() + interval '10 hours')";
    acme.editor.execute(take, &[&id]).await?;
    assert_eq!(steps(&acme).await?, json!(["built-in:1 sam suppressed"]));
    let said = put_off(&acme, &id).await?;
    ensure!(
        said[0][0] == json!("escalation:built-in:1") && said[1] == Value::Null,
        "{said}"
    );
    // Whoever rotates ends that as well.
    acme.editor
        .execute("select rotator.mark_rotated($1)", &[&id])
        .await?;
    assert_eq!(put_off(&acme, &id).await?, json!([]));
    Ok(())
}
