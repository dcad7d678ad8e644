//! When a channel fails for good, with the real sidecar: a revoked token, an archived channel, a vendor that breaks down or
//! stays silent until its time is over; and what nobody could be told. The rules: `behaviour/fallback.rs`, `budget.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::smtp::{Server, Stage};
use rotator_tests::{Sidecar, until};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed::{Acme, SOON};
use crate::slack::BOT_TOKEN;

/// A sidecar that takes the stand-ins for Slack and the mail server; ada is admin and has a mailbox.
struct Far {
    acme: Acme,
    slack: StandIn,
    mail: Server,
    sidecar: Sidecar,
}

impl Far {
    async fn new() -> Result<Self> {
        let (acme, slack, mail) = (
            Acme::new().await?,
            StandIn::start().await?,
            Server::start().await?,
        );
        let settings = [
            ("ROTATOR_SLACK_URL", slack.url()),
            ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN.to_owned()),
            ("ROTATOR_SMTP_URL", mail.url()),
            ("ROTATOR_EMAIL_FROM", "rotator@acme.example".to_owned()),
        ];
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let sidecar = Sidecar::start(&acme.db, &settings).await?;
        acme.operator
            .execute("select rotator.add_member('ada', 'admin')", &[])
            .await?;
        acme.contact_of("ada", "email", "ada@acme.example").await?;
        acme.contact("slack", "C0DEPLOYS1").await?;
        Ok(Self {
            acme,
            slack,
            mail,
            sidecar,
        })
    }

    /// A reminder to dana's Slack alone.
    async fn due(&self) -> Result<Uuid> {
        let secret = self.acme.due("stripe-live").await?;
        self.acme
            .operator
            .execute(
                "select rotator.add_notification_policy(7, 'slack', secret_id => $1)",
                &[&secret],
            )
            .await?;
        self.acme.tick().await?;
        Ok(secret)
    }

    /// Channel, state and by which channel the one went that it took over from, of all about this secret.
    async fn chain(&self, secret: Uuid) -> Result<Value> {
        let sql = "select coalesce(jsonb_agg(jsonb_build_array(n.channel, n.state, f.channel) order by n.id), '[]')
            from rotator.notifications as n left join rotator.notifications as f on f.id = n.fallback_of
            where n.secret_id = $1";
        rotator_tests::scalar(&self.acme.operator, sql, &[&secret]).await
    }

    async fn chain_becomes(&self, secret: Uuid, expected: Value) -> Result<()> {
        let mut last = Value::Null;
        let outcome = until(Duration::from_secs(40), "the chain to end", async || {
            last = self.chain(secret).await?;
            Ok(last == expected)
        })
        .await;
        outcome.with_context(|| format!("it is {last}, not {expected}"))
    }
}

#[tokio::test]
async fn a_revoked_token_is_followed_by_a_mail_to_the_same_person() -> Result<()> {
    let far = Far::new().await?;
    far.slack.answer_always(Answer::NotOk("token_revoked"));
    far.acme.contact("email", "dana@acme.example").await?;
    let secret = far.due().await?;
    let mail = far.mail.received(1, SOON).await?.remove(0);
    assert_eq!(mail.recipients, ["dana@acme.example"]);
    assert_eq!(mail.headers["subject"], "stripe-live expires in 5 days");
    far.chain_becomes(
        secret,
        json!([["slack", "dead", null], ["email", "sent", "slack"]]),
    )
    .await?;
    ensure!(far.slack.requests().len() == 1, "Slack isn't asked again");
    Ok(())
}

#[tokio::test]
async fn an_archived_channel_is_followed_by_a_mail_to_the_admin_who_hears_that_it_is_gone()
-> Result<()> {
    let far = Far::new().await?;
    far.slack.answer_always(Answer::NotOk("is_archived"));
    let secret = far.due().await?;
    let mails = far.mail.received(2, SOON).await?;
    ensure!(
        mails
            .iter()
            .all(|mail| mail.recipients == ["ada@acme.example"]),
        "{mails:?}"
    );
    let mut subjects: Vec<_> = mails
        .iter()
        .map(|mail| mail.headers["subject"].as_str())
        .collect();
    subjects.sort_unstable();
    assert_eq!(
        subjects,
        [
            "The slack contact of dana is gone",
            "stripe-live expires in 5 days"
        ]
    );
    let news = mails
        .iter()
        .find(|mail| mail.headers["subject"].contains("gone"))
        .context("told")?;
    ensure!(
        news.text.contains("set_contact('dana', 'slack'"),
        "{}",
        news.text
    );
    ensure!(
        !news.text.contains("C0DEPLOYS1") && !news.text.contains("http"),
        "{}",
        news.text
    );
    far.chain_becomes(
        secret,
        json!([["slack", "dead", null], ["email", "sent", "slack"]]),
    )
    .await
}

/// As if its time were over.
async fn time_is_over(acme: &Acme) -> Result<()> {
    acme.db
        .admin
        .batch_execute("update rotator_internal.notification set queued_at = now() - interval '1 day' where fallback_of is null")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_vendor_that_breaks_down_until_its_time_is_over_is_followed_by_a_mail() -> Result<()> {
    let far = Far::new().await?;
    far.slack.answer_always(Answer::Status(503));
    let secret = far.due().await?;
    for attempt in 1..=2 {
        far.slack.received(attempt, SOON).await?;
        far.chain_becomes(secret, json!([["slack", "retry", null]]))
            .await?;
        far.acme.end_waiting().await?;
    }
    far.slack.received(3, SOON).await?;
    far.chain_becomes(secret, json!([["slack", "retry", null]]))
        .await?;
    time_is_over(&far.acme).await?;
    far.acme.end_waiting().await?;
    far.chain_becomes(
        secret,
        json!([["slack", "dead", null], ["email", "sent", "slack"]]),
    )
    .await?;
    ensure!(far.slack.requests().len() == 4);
    Ok(())
}

#[tokio::test]
async fn a_vendor_that_stays_silent_is_followed_by_a_mail() -> Result<()> {
    let far = Far::new().await?;
    far.slack.answer_always(Answer::Never);
    let secret = far.due().await?;
    far.slack.received(1, SOON).await?;
    far.acme
        .db
        .admin
        .batch_execute("update rotator_internal.notification set attempts = 3")
        .await?;
    time_is_over(&far.acme).await?;
    far.chain_becomes(
        secret,
        json!([["slack", "dead", null], ["email", "sent", "slack"]]),
    )
    .await?;
    assert_eq!(
        far.acme
            .outcomes(secret)
            .await?
            .iter()
            .filter(|outcome| *outcome == "timeout")
            .count(),
        1
    );
    Ok(())
}

#[tokio::test]
async fn what_nobody_could_be_told_is_in_the_view_the_doctor_the_metrics_and_the_log() -> Result<()>
{
    let far = Far::new().await?;
    far.slack.answer_always(Answer::NotOk("token_revoked"));
    far.mail
        .refuse("ada@acme.example", Stage::Recipient, Some("550 5.7.1 no"))?;
    let secret = far.due().await?;
    far.chain_becomes(
        secret,
        json!([["slack", "dead", null], ["email", "dead", "slack"]]),
    )
    .await?;
    let listed: Uuid = rotator_tests::scalar(
        &far.acme.operator,
        "select secret_id from rotator.undeliverable",
        &[],
    )
    .await?;
    assert_eq!(listed, secret);
    far.sidecar
        .logged(SOON, "notifications reached nobody by any contact")
        .await?;
    let log = far.sidecar.log()?;
    ensure!(
        log.lines()
            .any(|line| line.contains("reached nobody") && line.contains("ERROR")),
        "{log}"
    );
    let page = crate::metrics::scrape(&far.sidecar.address).await?;
    assert_eq!(page.get("rotator_notifications_undeliverable"), Some(1.0));
    let doctor = "select ok from rotator.doctor() where check_name = 'undeliverable'";
    ensure!(!rotator_tests::scalar::<bool>(&far.acme.operator, doctor, &[]).await?);
    Ok(())
}
