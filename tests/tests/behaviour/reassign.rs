//! Handing over: everything that somebody is responsible for goes to somebody else, and so does what is still to be sent.

use std::future::poll_fn;

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::escalation::{reach, staffed, theirs, tick_in};
use crate::seed::{Acme, rows};

async fn told(acme: &Acme) -> Result<Value> {
    scalar(
        &acme.db.admin,
        "select coalesce(jsonb_agg(split_part(rule, ':', 1) || ' ' || addressee || ' ' || state order by queued_at, id), '[]') from rotator_internal.notification",
        &[],
    )
    .await
}

async fn reassign(acme: &Acme, from: &str, to: &str) -> Result<i32> {
    scalar(
        &acme.editor,
        "select rotator.reassign_secrets($1, $2)",
        &[&from, &to],
    )
    .await
}

#[tokio::test]
async fn all_three_roles_go_over_and_retired_ones_stay() -> Result<()> {
    let acme = staffed().await?;
    for (name, owners) in [
        ("a", "owner_id => 'olga'"),
        ("b", "owner_id => 'x', secondary_owner_id => 'olga'"),
        (
            "c",
            "owner_id => 'x', team_lead_id => 'olga', secondary_owner_id => 'olga'",
        ),
        ("d", "owner_id => 'x'"),
        ("e", "owner_id => 'olga'"),
    ] {
        acme.register(
            name,
            &format!("{owners}, expiry_date => now() + interval '1 year'"),
        )
        .await?;
    }
    acme.editor
        .execute("delete from rotator.secrets where name = 'e'", &[])
        .await?;
    assert_eq!(reassign(&acme, "olga", "nina").await?, 3);
    assert_eq!(reassign(&acme, "olga", "nina").await?, 0);
    assert_eq!(
        acme.rows("select name, owner_id, secondary_owner_id as second, team_lead_id as lead from rotator.secrets order by name").await?,
        json!([
            {"name": "a", "owner_id": "nina", "second": null, "lead": null},
            {"name": "b", "owner_id": "x", "second": "nina", "lead": null},
            {"name": "c", "owner_id": "x", "second": "nina", "lead": "nina"},
            {"name": "d", "owner_id": "x", "second": null, "lead": null},
            {"name": "e", "owner_id": "olga", "second": null, "lead": null}
        ])
    );
    let audited = rows(
        &acme.operator,
        "select changes from rotator.audit_log where action = 'secret.reassigned' order by id desc limit 1",
    )
    .await?;
    let change = json!({"old": "olga", "new": "nina"});
    assert_eq!(
        audited,
        json!([{"changes": {"secondary_owner_id": change, "team_lead_id": change}}])
    );
    Ok(())
}

#[tokio::test]
async fn what_is_queued_goes_to_whoever_follows_and_what_was_sent_stays_sent() -> Result<()> {
    let acme = staffed().await?;
    reach(&acme, "nina", "console").await?;
    theirs(&acme, "sent", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    theirs(&acme, "waiting", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    reassign(&acme, "olga", "nina").await?;
    tick_in(&acme, 0.1).await?;
    assert_eq!(
        told(&acme).await?,
        json!(["lead olga sent", "lead olga cancelled", "lead nina queued"])
    );
    let claim = acme.claim_one().await?;
    assert_eq!(claim.recipient.as_deref(), Some("nina"));
    Ok(())
}

#[tokio::test]
async fn a_step_on_its_way_goes_to_whoever_follows() -> Result<()> {
    let acme = staffed().await?;
    reach(&acme, "nina", "console").await?;
    let id = theirs(&acme, "stripe", 20, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    tick_in(&acme, 4.1).await?;
    acme.editor
        .execute(
            "update rotator.secrets set secondary_owner_id = 'nina' where id = $1",
            &[&id],
        )
        .await?;
    tick_in(&acme, 4.2).await?;
    assert_eq!(
        told(&acme).await?,
        json!([
            "lead olga sent",
            "escalation sam cancelled",
            "escalation nina queued"
        ])
    );
    Ok(())
}

#[tokio::test]
async fn a_message_that_it_opened_again_goes_to_whoever_follows() -> Result<()> {
    let acme = staffed().await?;
    reach(&acme, "nina", "console").await?;
    let id = theirs(&acme, "stripe", 100, "").await?;
    tick_in(&acme, 0.0).await?;
    acme.complete(&acme.claim_one().await?).await?;
    acme.editor
        .execute(
            "select rotator.acknowledge($1, until => now() + interval '1 hour')",
            &[&id],
        )
        .await?;
    tick_in(&acme, 1.0).await?;
    reassign(&acme, "olga", "nina").await?;
    assert_eq!(
        told(&acme).await?,
        json!([
            "lead olga sent",
            "reopened olga cancelled",
            "reopened nina queued"
        ])
    );
    Ok(())
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() -> Result<()> {
    let acme = staffed().await?;
    let sql = "select rotator.reassign_secrets($1, $2)";
    for (from, to) in [
        (Some("a"), None),
        (None, Some("a")),
        (Some("a"), Some("a")),
        (Some(" "), Some("a")),
        (Some("a"), Some("b\u{200b}")),
    ] {
        refused(acme.editor.query(sql, &[&from, &to]).await, "22023")
            .map_err(|error| error.context(format!("{from:?} {to:?}")))?;
    }
    let viewer = acme.db.session("acme", "viewer").await?;
    refused(viewer.query(sql, &[&"a", &"b"]).await, "42501")?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "editor").await?;
    theirs(&acme, "stripe", 20, "").await?;
    let changed: i32 = scalar(&other, sql, &[&"olga", &"nina"]).await?;
    assert_eq!(changed, 0);
    Ok(())
}

/// What the server warned of while an editor ran this.
async fn warnings(acme: &Acme, sql: &str) -> Result<Vec<DbError>> {
    let editor = acme.db.member("acme", "editor").await?;
    let (client, mut connection) = tokio_postgres::connect(&acme.db.url(&editor), NoTls).await?;
    let heard = tokio::spawn(async move {
        let mut warned = Vec::new();
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message? {
                warned.push(notice);
            }
        }
        anyhow::Ok(warned)
    });
    client.batch_execute(sql).await?;
    drop(client);
    heard.await?
}

#[tokio::test]
async fn it_warns_when_nobody_is_known_by_the_name_and_hands_over_all_the_same() -> Result<()> {
    let acme = staffed().await?;
    theirs(&acme, "stripe", 20, "").await?;
    acme.db.tenant("globex").await?;
    acme.db
        .admin
        .batch_execute(
            "select rotator.add_member('elsewhere', 'editor', 'globex');
             select rotator.add_member('mia', 'viewer', 'acme');
             select rotator.add_member('gone', 'viewer', 'acme');
             select rotator.remove_member('gone', 'acme')",
        )
        .await?;
    let mut from = "olga";
    for (to, is_known) in [
        ("typo", false),
        ("elsewhere", false),
        ("gone", false),
        ("mia", true), // a member
        ("sam", true), // with a contact
    ] {
        let sql = format!("select rotator.reassign_secrets('{from}', '{to}')");
        let warned = warnings(&acme, &sql).await?;
        assert_eq!(warned.is_empty(), is_known, "{to}: {warned:?}");
        for warning in warned {
            ensure!(
                warning.severity() == "WARNING"
                    && warning
                        .hint()
                        .is_some_and(|hint| hint.contains("rotator.set_contact"))
                    && !warning.message().contains(to),
                "{warning:?}"
            );
        }
        assert_eq!(
            acme.rows("select owner_id from rotator.secrets").await?,
            json!([{"owner_id": to}])
        );
        from = to;
    }
    Ok(())
}

#[tokio::test]
async fn what_waits_in_a_message_about_many_goes_over_too() -> Result<()> {
    let acme = staffed().await?;
    for name in ["a", "b"] {
        theirs(&acme, name, 100, "").await?;
    }
    tick_in(&acme, 0.0).await?;
    assert_eq!(reassign(&acme, "olga", "sam").await?, 2);
    tick_in(&acme, 0.0).await?;
    let claim = acme.claim_one().await?;
    assert_eq!(
        (
            claim.recipient.as_deref(),
            claim.message["items"].as_array().map(Vec::len)
        ),
        (Some("sam"), Some(2))
    );
    Ok(())
}
