//! What nobody would be told about, or only a stand-in: one row a secret and lack, and none where all is well.

use anyhow::Result;
use serde_json::{Value, json};

use crate::escalation::{acme_with, reach, staffed, theirs};
use crate::escalation_policy::set;
use crate::seed::{Acme, rows};

async fn gaps(acme: &Acme) -> Result<Value> {
    acme.rows("select name, missing from rotator.coverage order by name, missing")
        .await
}

#[tokio::test]
async fn where_everybody_can_be_reached_there_is_no_row() -> Result<()> {
    let acme = staffed().await?;
    theirs(&acme, "stripe", 2000, "").await?;
    assert_eq!(gaps(&acme).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn an_owner_without_contact_and_a_ladder_to_nowhere_are_listed() -> Result<()> {
    let acme = acme_with(&[("olga", "console")]).await?;
    acme.register(
        "a",
        "owner_id => 'olga', expiry_date => now() + interval '1 year'",
    )
    .await?;
    acme.register(
        "b",
        "owner_id => 'who', expiry_date => now() + interval '1 year'",
    )
    .await?;
    let lacks = json!([
        {"name": "a", "missing": "escalation"}, {"name": "b", "missing": "contact"}, {"name": "b", "missing": "escalation"}
    ]);
    assert_eq!(gaps(&acme).await?, lacks);
    reach(&acme, "who", "email").await?;
    acme.editor
        .execute(
            "update rotator.secrets set team_lead_id = 'who' where name = 'a'",
            &[],
        )
        .await?;
    set(
        &acme,
        "to owners",
        json!([{"after": "1 hour", "target": "owner"}]),
        &["P3"],
    )
    .await?;
    assert_eq!(
        gaps(&acme).await?,
        json!([]),
        "a policy that reaches somebody will do"
    );
    acme.editor
        .execute("delete from rotator.secrets where name = 'b'", &[])
        .await?;
    acme.operator
        .execute("select rotator.remove_escalation_policy('to owners')", &[])
        .await?;
    assert_eq!(gaps(&acme).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn without_any_reminder_it_says_so_unless_the_secret_has_one_of_its_own() -> Result<()> {
    let acme = staffed().await?;
    let id = theirs(&acme, "a", 2000, "").await?;
    theirs(&acme, "b", 2000, "").await?;
    acme.operator
        .execute(
            "select rotator.remove_notification_policy(id) from rotator.notification_policies",
            &[],
        )
        .await?;
    acme.operator
        .execute(
            "select rotator.add_notification_policy(3, secret_id => $1)",
            &[&id],
        )
        .await?;
    assert_eq!(
        gaps(&acme).await?,
        json!([{"name": "b", "missing": "policy"}])
    );
    Ok(())
}

#[tokio::test]
async fn an_owner_who_left_is_listed_and_one_who_never_was_a_member_is_not() -> Result<()> {
    let acme = staffed().await?;
    theirs(&acme, "stripe", 2000, "").await?;
    acme.operator
        .execute("select rotator.add_member('olga', 'viewer')", &[])
        .await?;
    assert_eq!(gaps(&acme).await?, json!([]));
    acme.operator
        .execute("select rotator.remove_member('olga')", &[])
        .await?;
    assert_eq!(
        gaps(&acme).await?,
        json!([{"name": "stripe", "missing": "owner"}])
    );
    Ok(())
}

#[tokio::test]
async fn every_tenant_sees_its_own_and_without_one_there_is_nothing() -> Result<()> {
    let acme = acme_with(&[]).await?;
    acme.due("stripe").await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "viewer").await?;
    assert_eq!(
        rows(&other, "select * from rotator.coverage").await?,
        json!([])
    );
    assert_eq!(
        rows(&acme.db.admin, "select * from rotator.coverage").await?,
        json!([])
    );
    let viewer = acme.db.session("acme", "viewer").await?;
    assert_eq!(
        rows(&viewer, "select name from rotator.coverage limit 1").await?,
        json!([{"name": "stripe"}])
    );
    Ok(())
}
