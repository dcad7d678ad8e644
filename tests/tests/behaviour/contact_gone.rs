//! A contact whose vendor says that nobody is there any more: it is passed over from then on, until it is set again, and the
//! tenant's admins are told once. How the message looks: `delivery/contact_gone.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};

use crate::fallback::{contact, dana};
use crate::seed::{Acme, Claim};

const GONE: &str =
    "select owner_id, channel from rotator.contacts where gone_at is not null order by 1, 2";
const EMAIL: (&str, &str) = ("email", "dana@acme.example");
const SLACK: (&str, &str) = ("slack", "C0DEPLOYS1");

/// Dana's mailbox is gone; what is claimed after that.
async fn gone() -> Result<(Acme, Vec<Claim>)> {
    let (acme, _) = dana(&[EMAIL, SLACK]).await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.fail(&claim, "recipient_gone").await?);
    let claims = acme.claim().await?;
    Ok((acme, claims))
}

#[tokio::test]
async fn the_admins_are_told_whose_contact_is_gone_and_the_owner_is_told_otherwise() -> Result<()> {
    let (acme, claims) = gone().await?;
    assert_eq!(
        acme.rows(GONE).await?,
        json!([{"owner_id": "dana", "channel": "email"}])
    );
    let mut told: Vec<_> = claims
        .iter()
        .map(|claim| {
            (
                claim.message["kind"].as_str(),
                claim.channel.as_str(),
                claim.recipient.as_deref(),
            )
        })
        .collect();
    told.sort();
    let ada = (Some("contact_gone"), "email", Some("ada@acme.example"));
    let ben = (Some("contact_gone"), "email", Some("ben@acme.example"));
    assert_eq!(
        told,
        [ada, ben, (Some("reminder"), "slack", Some("C0DEPLOYS1"))]
    );
    let news = claims
        .iter()
        .find(|claim| claim.message["kind"] == "contact_gone")
        .context("the admins are told")?;
    ensure!(
        news.link_token.is_empty(),
        "there is nothing to act on by a link"
    );
    let (message, id) = (&news.message, news.id.to_string());
    let contact: String = scalar(&acme.db.admin, "select id::text from rotator_internal.contact where owner_id = 'dana' and channel = 'email'", &[]).await?;
    assert_eq!(
        message["contact"],
        json!({"id": contact, "channel": "email", "hint": "…@acme.example", "owners": ["dana"]})
    );
    assert_eq!(
        (&message["secrets"], &message["notification_id"]),
        (&json!(1), &json!(id))
    );
    ensure!(
        message["since_at"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z')),
        "{message}"
    );
    ensure!(
        !message.to_string().contains("dana@"),
        "the address itself is nobody's business"
    );
    assert_eq!(
        crate::seed::rows(
            &acme.db.admin,
            "select distinct rule, contact_id::text from rotator_internal.notification where kind = 'contact_gone'"
        )
        .await?,
        json!([{"rule": "contact:email", "contact_id": contact}])
    );
    let events: Value = scalar(
        &acme.db.admin,
        "select jsonb_agg(jsonb_build_object(action, changes) order by id) from rotator.audit_log where action = 'contact.gone'",
        &[],
    )
    .await?;
    assert_eq!(
        events,
        json!([{"contact.gone": {"owner_id": "dana", "channel": "email"}}])
    );
    Ok(())
}

#[tokio::test]
async fn it_is_passed_over_wherever_contacts_are_looked_up_until_it_is_set_again() -> Result<()> {
    let (acme, _) = gone().await?;
    // By the tenant's own default: each of the owner's contacts.
    acme.register(
        "another",
        "expiry_date => now() + interval '5 days', owner_id => 'dana'",
    )
    .await?;
    acme.tick().await?;
    let claims = acme.claim().await?;
    assert_eq!(claims.len(), 1, "{claims:?}");
    assert_eq!(claims[0].channel, "slack");
    // Without any other: as an owner without a contact.
    acme.db
        .admin
        .batch_execute(
            "update rotator_internal.contact set gone_at = now() where channel = 'slack'",
        )
        .await?;
    acme.register(
        "a third",
        "expiry_date => now() + interval '5 days', owner_id => 'dana'",
    )
    .await?;
    acme.tick().await?;
    let mut to: Vec<_> = acme
        .claim()
        .await?
        .into_iter()
        .map(|claim| claim.recipient)
        .collect();
    to.sort();
    assert_eq!(
        to,
        [
            Some("ada@acme.example".to_owned()),
            Some("ben@acme.example".to_owned())
        ]
    );
    let lacking: bool = scalar(
        &acme.operator,
        "select not ok from rotator.doctor() where check_name = 'owners with a contact'",
        &[],
    )
    .await?;
    ensure!(lacking);
    // The same address will do: somebody mended the mailbox.
    contact(&acme, "dana", EMAIL.0, EMAIL.1).await?;
    acme.register(
        "a fourth",
        "expiry_date => now() + interval '5 days', owner_id => 'dana'",
    )
    .await?;
    acme.tick().await?;
    assert_eq!(acme.claim_one().await?.recipient.as_deref(), Some(EMAIL.1));
    Ok(())
}

#[tokio::test]
async fn once_is_enough_whoever_shares_the_address() -> Result<()> {
    let (acme, _) = dana(&[EMAIL]).await?;
    contact(&acme, "erin", EMAIL.0, EMAIL.1).await?;
    acme.register(
        "another",
        "expiry_date => now() + interval '5 days', owner_id => 'erin'",
    )
    .await?;
    acme.tick().await?;
    let claims = acme.claim().await?;
    assert_eq!(claims.len(), 2);
    for claim in &claims {
        ensure!(acme.fail(claim, "recipient_gone").await?);
    }
    let gone =
        json!([{"owner_id": "dana", "channel": "email"}, {"owner_id": "erin", "channel": "email"}]);
    assert_eq!(acme.rows(GONE).await?, gone);
    let claims = acme.claim().await?;
    let news: Vec<_> = claims
        .iter()
        .filter(|claim| claim.message["kind"] == "contact_gone")
        .collect();
    assert_eq!(news.len(), 2, "one to each admin");
    assert_eq!(
        news[0].message["contact"]["owners"],
        json!(["dana", "erin"])
    );
    assert_eq!(news[0].message["secrets"], 2);
    Ok(())
}

#[tokio::test]
async fn an_admin_who_is_gone_is_not_told_that_way_and_the_chain_goes_on() -> Result<()> {
    let (acme, _) = dana(&[SLACK]).await?;
    let claim = acme.claim_one().await?;
    ensure!(acme.fail(&claim, "permanent").await?);
    let claims = acme.claim().await?;
    assert_eq!(claims.len(), 2, "both admins");
    ensure!(acme.fail(&claims[0], "recipient_gone").await?);
    let news = acme.claim_one().await?;
    assert_eq!(
        (&news.message["kind"], &news.recipient),
        (&json!("contact_gone"), &claims[1].recipient)
    );
    Ok(())
}

#[tokio::test]
async fn news_that_is_old_before_it_is_told_is_not_told() -> Result<()> {
    let (acme, _) = dana(&[EMAIL]).await?;
    ensure!(
        acme.fail(&acme.claim_one().await?, "recipient_gone")
            .await?
    );
    contact(&acme, "dana", "email", "dana@new.acme.example").await?;
    let claims = acme.claim().await?;
    ensure!(
        claims
            .iter()
            .all(|claim| claim.message["kind"] == "reminder"),
        "{claims:?}"
    );
    assert_eq!(acme.rows(GONE).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn only_the_claim_that_holds_it_says_who_is_gone() -> Result<()> {
    let (acme, _) = dana(&[EMAIL]).await?;
    let stale = acme.claim_one().await?;
    acme.end_waiting().await?;
    let claim = acme.claim_one().await?;
    ensure!(!acme.fail(&stale, "recipient_gone").await?);
    ensure!(acme.complete(&claim).await?);
    ensure!(
        acme.fail(&claim, "recipient_gone").await?,
        "a repeat, whatever it says"
    );
    assert_eq!(acme.rows(GONE).await?, json!([]));
    Ok(())
}
