//! A button that somebody presses whom a vendor names: the same outcomes as by the link, as the linked subject, and only
//! for who may handle the secret.

use anyhow::{Context, Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::seed::{Acme, Claim, rows};

/// A secret of priya's, with sam as secondary owner and tess as team lead, and the claim of its reminder.
async fn reminded(with: &str) -> Result<(Acme, Claim)> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    acme.register(
        "stripe",
        &format!(
            "owner_id => 'priya', secondary_owner_id => 'sam', team_lead_id => 'tess', expiry_date => now() + interval '5 days' {with}"
        ),
    )
    .await?;
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    Ok((acme, claim))
}

const INTERVAL: &str = ", rotation_interval => '90 days'";

async fn link(acme: &Acme, subject: &str, id: &str) -> Result<()> {
    let sql = "select rotator.link_identity($1, 'slack', $2)";
    acme.operator.execute(sql, &[&subject, &id]).await?;
    Ok(())
}

async fn member(acme: &Acme, subject: &str, role: &str) -> Result<()> {
    let sql = "select rotator.add_member($1, $2)";
    acme.operator.execute(sql, &[&subject, &role]).await?;
    Ok(())
}

async fn press(
    acme: &Acme,
    claim: &Claim,
    action: &str,
    id: &str,
) -> Result<Value, tokio_postgres::Error> {
    let sql = "select rotator.press_button($1, $2, 'slack', $3)";
    let row = acme
        .worker
        .query_one(sql, &[&claim.link_token, &action, &id])
        .await?;
    Ok(row.get(0))
}

#[tokio::test]
async fn the_linked_owner_acknowledges_and_rotates_as_himself() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    // Owners need no role: the message is for them.
    link(&acme, "priya", "T1/U1").await?;
    let done = press(&acme, &claim, "acknowledge", "T1/U1").await?;
    assert_eq!(
        (&done["action"], &done["by"]),
        (&json!("acknowledge"), &json!("priya"))
    );
    assert_eq!(done["message"]["kind"], "acknowledge");
    assert_eq!(done["message"]["secret"]["name"], "stripe");
    let before = acme.fingerprint().await?;
    let again = press(&acme, &claim, "acknowledge", "T1/U1").await?;
    assert_eq!(
        (&again["already"], &again["by"]),
        (&json!(true), &json!("priya"))
    );
    assert_eq!(acme.fingerprint().await?, before);

    link(&acme, "sam", "T1/U2").await?;
    let done = press(&acme, &claim, "rotated", "T1/U2").await?;
    assert_eq!(
        (&done["action"], &done["by"]),
        (&json!("rotated"), &json!("sam"))
    );
    ensure!(
        done["next_expiry_local"]
            .as_str()
            .is_some_and(|date| date.contains("(Europe/Berlin)")),
        "{done}"
    );
    assert_eq!(
        (&done["message"]["kind"], &done["message"]["ended"]["by"]),
        (&json!("resolve"), &json!("sam"))
    );
    // The link in the same message knows of it.
    let by_link: Value = scalar(
        &acme.worker,
        "select rotator.redeem_link($1, 'rotated')",
        &[&claim.link_token],
    )
    .await?;
    assert_eq!(
        (&by_link["already"], &by_link["by"]),
        (&json!(true), &json!("sam"))
    );
    refused(press(&acme, &claim, "snooze", "T1/U2").await, "PT410")?;

    let audited = rows(
        &acme.operator,
        "select actor, source from rotator.audit_log where action in ('alert.acknowledged', 'secret.rotated') order by id",
    )
    .await?;
    assert_eq!(
        audited,
        json!([{"actor": "priya", "source": "slack"}, {"actor": "sam", "source": "slack"}])
    );
    Ok(())
}

#[tokio::test]
async fn who_may_press_is_who_may_handle_the_secret() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    acme.db.tenant("beta").await?;
    let beta = acme.db.session("beta", "admin").await?;
    beta.execute(
        "select rotator.link_identity('beta-boss', 'slack', 'T1/U90')",
        &[],
    )
    .await?;
    beta.execute("select rotator.add_member('beta-boss', 'admin')", &[])
        .await?;
    for (subject, role, id) in [
        ("val", Some("viewer"), "T1/U10"),
        ("aud", Some("auditor"), "T1/U11"),
        ("nobody", None, "T1/U12"),
        ("gone", Some("admin"), "T1/U13"),
        ("tess", Some("viewer"), "T1/U14"),
        ("sam", Some("editor"), "T1/U15"),
        ("eddi", Some("editor"), "T1/U20"),
        ("ada", Some("admin"), "T1/U21"),
    ] {
        if let Some(role) = role {
            member(&acme, subject, role).await?;
        }
        link(&acme, subject, id).await?;
    }
    // A removed member may not, whatever else they are: here an owner, too.
    for subject in ["gone", "sam"] {
        acme.operator
            .execute("select rotator.remove_member($1)", &[&subject])
            .await?;
    }
    let before = acme.fingerprint().await?;
    for id in [
        "T1/U10", "T1/U11", "T1/U12", "T1/U13", "T1/U15", "T1/U90", "T1/U99", "T2/U21",
    ] {
        for action in ["acknowledge", "rotated"] {
            let error = refused(press(&acme, &claim, action, id).await, "42501")?;
            ensure!(
                error.hint().is_some_and(|hint| hint.contains("rotator.")),
                "{id}: {error:?}"
            );
            let stranger = error.message().contains("linked to nobody");
            ensure!(
                stranger == ["T1/U90", "T1/U99", "T2/U21"].contains(&id),
                "{id}: {error:?}"
            );
        }
    }
    assert_eq!(acme.fingerprint().await?, before);
    for id in ["T1/U14", "T1/U20", "T1/U21"] {
        press(&acme, &claim, "acknowledge", id)
            .await
            .with_context(|| id.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_mail_address_that_a_member_linked_is_that_member() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    acme.operator
        .execute(
            "select rotator.link_identity('priya', 'email', 'priya@acme.example')",
            &[],
        )
        .await?;
    let sql = "select rotator.press_button($1, 'acknowledge', 'email', $2, via => 'slack')";
    refused(
        acme.worker
            .query(sql, &[&claim.link_token, &"eve@acme.example"])
            .await,
        "42501",
    )?;
    let done: Value = scalar(
        &acme.worker,
        sql,
        &[&claim.link_token, &"Priya@ACME.example"],
    )
    .await?;
    assert_eq!(done["by"], "priya");
    let source: String = scalar(
        &acme.operator,
        "select source from rotator.audit_log where action = 'alert.acknowledged'",
        &[],
    )
    .await?;
    assert_eq!(source, "slack");
    Ok(())
}

#[tokio::test]
async fn what_no_press_can_be_is_told_apart_and_does_nothing() -> Result<()> {
    let (acme, claim) = reminded("").await?;
    link(&acme, "priya", "T1/U1").await?;
    let before = acme.fingerprint().await?;
    for (arguments, sqlstate) in [
        ("'x', 'acknowledge', 'slack', 'T1/U1'", "PT404"),
        ("null, 'acknowledge', 'slack', 'T1/U1'", "PT404"),
        ("$1, 'show', 'slack', 'T1/U1'", "22023"),
        ("$1, null, 'slack', 'T1/U1'", "22023"),
        ("$1, 'acknowledge', 'teams', 'T1/U1'", "22023"),
        ("$1, 'acknowledge', null, 'T1/U1'", "22023"),
        ("$1, 'acknowledge', 'slack', 'U1'", "22023"),
        ("$1, 'acknowledge', 'slack', null", "22023"),
        ("$1, 'acknowledge', 'slack', 'T1/U1', via => 'sql'", "22023"),
        (
            "$1, 'acknowledge', 'slack', 'T1/U1', note => repeat('x', 10001)",
            "22023",
        ),
        (
            "$1, 'acknowledge', 'slack', 'T1/U1', until => now() - interval '1 day'",
            "22023",
        ),
        ("$1, 'snooze', 'slack', 'T1/U1'", "22023"),
        // It has no interval.
        ("$1, 'rotated', 'slack', 'T1/U1'", "22023"),
    ] {
        let sql = format!(
            "select rotator.press_button({})",
            arguments.replace("$1", &format!("'{}'", claim.link_token))
        );
        refused(acme.worker.query(&sql, &[]).await, sqlstate)
            .map_err(|error| error.context(arguments))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn pressed_by_many_at_once_it_has_one_effect() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    for number in 0..6 {
        link(&acme, "priya", &format!("T1/U{number}")).await?;
    }
    let mut presses = JoinSet::new();
    for number in 0..6 {
        let role = acme
            .db
            .login_role(&format!("presser{number}"), &["rotator_sidecar"])
            .await?;
        let session = acme.db.connect_as(&role).await?;
        let token = claim.link_token.clone();
        presses.spawn(async move {
            let sql = "select rotator.press_button($1, 'rotated', 'slack', $2)";
            scalar::<Value>(&session, sql, &[&token, &format!("T1/U{number}")]).await
        });
    }
    let mut first = 0;
    while let Some(outcome) = presses.join_next().await {
        first += usize::from(outcome??.get("already").is_none());
    }
    assert_eq!(first, 1);
    assert_eq!(
        scalar::<i32>(&acme.editor, "select cycle from rotator.secrets", &[]).await?,
        2
    );
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_recorded_with_who_it_was() -> Result<()> {
    let (acme, claim) = reminded(INTERVAL).await?;
    member(&acme, "val", "viewer").await?;
    link(&acme, "val", "T1/U10").await?;
    let record = "select rotator.record_press_refusal($1, 'acknowledge', $2, $3, $4, 'slack')";
    for (reason, kind, id) in [
        ("stranger", "slack", "T1/U99"),
        ("role", "slack", "T1/U10"),
        ("stranger", "email", "eve-canary@acme.example"),
    ] {
        ensure!(
            scalar::<bool>(
                &acme.worker,
                record,
                &[&claim.link_token, &reason, &kind, &id]
            )
            .await?
        );
    }
    ensure!(
        !scalar::<bool>(
            &acme.worker,
            record,
            &[&"unknown", &"stranger", &"slack", &"T1/U99"]
        )
        .await?
    );
    refused(
        acme.worker
            .query(record, &[&claim.link_token, &"bored", &"slack", &"T1/U99"])
            .await,
        "22023",
    )?;
    let events = rows(
        &acme.operator,
        "select actor, source, changes ->> 'reason' as reason, changes ->> 'external_id' as id
         from rotator.audit_log where action = 'button.refused' order by rotator.audit_log.id",
    )
    .await?;
    assert_eq!(
        events,
        json!([
            {"actor": "slack:T1/U99", "source": "slack", "reason": "stranger", "id": "T1/U99"},
            {"actor": "val", "source": "slack", "reason": "role", "id": "T1/U10"},
            {"actor": "email:…@acme.example", "source": "slack", "reason": "stranger", "id": "…@acme.example"},
        ])
    );
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_from_pagerduty_acknowledges_its_alert() -> Result<()> {
    let acme = Acme::new().await?;
    let sql = "select rotator.set_contact($1, 'pagerduty', '0123456789abcdef0123456789abcdef')";
    acme.operator.execute(sql, &[&"priya"]).await?;
    let with = "owner_id => 'priya', expiry_date => now() + interval '5 days', rotation_interval => '90 days'";
    let secret = acme.register("stripe", with).await?;
    acme.tick().await?;
    let call = "select rotator.acknowledge_incident($1, $2)";
    let key = format!("rotator.{secret}.1");
    let outcome = async |key: &str, id: Option<&str>| -> Result<Value> {
        scalar(&acme.worker, call, &[&key, &id]).await
    };
    assert_eq!(
        outcome(&key, None).await?["outcome"],
        "unknown",
        "PagerDuty wasn't told yet"
    );
    acme.claim_one().await?;
    let before = acme.fingerprint().await?;
    for other in [
        "",
        "x",
        "rotator.x.1",
        &format!("rotator.{secret}.2"),
        &format!("rotator.{secret}.01x"),
        "rotator.summary.1",
    ] {
        assert_eq!(
            outcome(other, Some("PX1")).await?["outcome"],
            "unknown",
            "{other}"
        );
    }
    refused(acme.worker.query(call, &[&key, &"<script>"]).await, "22023")?;
    assert_eq!(acme.fingerprint().await?, before);

    acme.operator
        .execute(
            "select rotator.link_identity('priya', 'pagerduty', 'PLH1HKV')",
            &[],
        )
        .await?;
    assert_eq!(
        outcome(&key, Some("PLH1HKV")).await?,
        json!({"outcome": "acknowledged", "by": "priya"})
    );
    assert_eq!(outcome(&key, Some("PX1")).await?["outcome"], "already");
    let events = rows(
        &acme.operator,
        "select actor, source from rotator.audit_log where action = 'alert.acknowledged'",
    )
    .await?;
    assert_eq!(events, json!([{"actor": "priya", "source": "pagerduty"}]));
    acme.editor
        .execute("select rotator.mark_rotated($1)", &[&secret])
        .await?;
    assert_eq!(outcome(&key, Some("PX1")).await?["outcome"], "over");

    // Who isn't linked, or was removed, is named by PagerDuty's id.
    let other = acme.register("adyen", with).await?;
    acme.tick().await?;
    acme.claim().await?;
    acme.operator
        .execute("select rotator.remove_member('priya')", &[])
        .await?;
    assert_eq!(
        outcome(&format!("rotator.{other}.1"), Some("PLH1HKV")).await?["by"],
        "pagerduty:PLH1HKV"
    );
    Ok(())
}
