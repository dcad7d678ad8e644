//! Who is who outside: each kind's grammar, who may link and unlink, one subject a name, and that no mail address is kept.

use anyhow::{Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};

use crate::seed::{Acme, rows};

const SHOWN: &str =
    "select subject, kind, external_hint, linked_by from rotator.identities order by kind, subject";

#[tokio::test]
async fn an_identity_is_linked_shown_as_a_hint_and_unlinked() -> Result<()> {
    let acme = Acme::new().await?;
    for (kind, id, hint) in [
        ("slack", "T024BE7LD/U012AB3CD", "T024BE7LD/U012AB3CD"),
        ("slack", "E0ENTERPRISE/W0PERSON1", "E0ENTERPRISE/W0PERSON1"),
        ("email", "Dana.Doe+x@Mail.Example.COM", "…@mail.example.com"),
        ("pagerduty", "PLH1HKV", "PLH1HKV"),
    ] {
        let link = "select rotator.link_identity('dana', $1, $2)";
        acme.operator.execute(link, &[&kind, &id]).await?;
        let before = acme.fingerprint().await?;
        acme.operator.execute(link, &[&kind, &id]).await?;
        ensure!(
            acme.fingerprint().await? == before,
            "again is no change, and no event"
        );
        let shown = acme.rows(&format!("select subject, external_hint from rotator.identities where external_hint = '{hint}'")).await?;
        assert_eq!(shown, json!([{"subject": "dana", "external_hint": hint}]));
        let unlink = "select rotator.unlink_identity($1, $2)";
        // A mail address is the same in any case.
        let other = if kind == "email" {
            id.to_uppercase()
        } else {
            id.to_owned()
        };
        ensure!(scalar::<bool>(&acme.operator, unlink, &[&kind, &other]).await?);
        ensure!(!scalar::<bool>(&acme.operator, unlink, &[&kind, &id]).await?);
    }
    assert_eq!(acme.rows(SHOWN).await?, json!([]));
    let events = rows(
        &acme.operator,
        "select distinct action, entity, entity_id from rotator.audit_log where entity = 'identity' order by action",
    )
    .await?;
    assert_eq!(
        events,
        json!([
            {"action": "identity.linked", "entity": "identity", "entity_id": "dana"},
            {"action": "identity.unlinked", "entity": "identity", "entity_id": "dana"},
        ])
    );
    Ok(())
}

#[tokio::test]
async fn what_no_identity_can_be_is_refused() -> Result<()> {
    let acme = Acme::new().await?;
    let before = acme.fingerprint().await?;
    let long = format!("T1/U{}", "1".repeat(40));
    for (subject, kind, id) in [
        (Some("dana"), Some("slack"), Some("U012AB3CD")),
        (Some("dana"), Some("slack"), Some("T024BE7LD/U012AB3CD/U1")),
        (Some("dana"), Some("slack"), Some("t024be7ld/u012ab3cd")),
        (Some("dana"), Some("slack"), Some("C024BE7LD/U012AB3CD")),
        (Some("dana"), Some("slack"), Some("T1/U1 ")),
        (Some("dana"), Some("slack"), Some(long.as_str())),
        (Some("dana"), Some("slack"), Some("")),
        (Some("dana"), Some("slack"), None),
        (Some("dana"), Some("email"), Some("dana")),
        (
            Some("dana"),
            Some("email"),
            Some("a@b.example\r\nbcc: c@d.example"),
        ),
        (
            Some("dana"),
            Some("email"),
            Some("Dana <dana@acme.example>"),
        ),
        (Some("dana"), Some("email"), None),
        (
            Some("dana"),
            Some("pagerduty"),
            Some("https://acme.pagerduty.com/users/PLH1HKV"),
        ),
        (Some("dana"), Some("pagerduty"), None),
        (Some("dana"), Some("teams"), Some("x")),
        (Some("dana"), None, Some("T1/U1")),
        (Some(""), Some("slack"), Some("T1/U1")),
        (Some("two\nlines"), Some("slack"), Some("T1/U1")),
        (None, Some("slack"), Some("T1/U1")),
    ] {
        let outcome = acme
            .operator
            .query(
                "select rotator.link_identity($1, $2, $3)",
                &[&subject, &kind, &id],
            )
            .await;
        let error = refused(outcome, "22023")
            .map_err(|error| error.context(format!("{subject:?} {kind:?} {id:?}")))?;
        ensure!(error.hint().is_some(), "{error:?}");
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn it_takes_the_subject_itself_or_an_admin() -> Result<()> {
    let acme = Acme::new().await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    let session = acme.db.connect_as(&viewer).await?;
    let link = "select rotator.link_identity($1, 'slack', $2)";
    session
        .execute(link, &[&viewer.subject(), &"T1/U1"])
        .await?;
    refused(session.query(link, &[&"dana", &"T1/U2"]).await, "42501")?;
    acme.operator.execute(link, &[&"dana", &"T1/U2"]).await?;

    // One name is one subject: not even an admin takes it over without taking it away first, and the error tells nobody whose.
    for (who, subject, id) in [
        (&session, viewer.subject(), "T1/U2"),
        (&acme.operator, "dana".to_owned(), "T1/U1"),
    ] {
        let error = refused(who.query(link, &[&subject, &id]).await, "23505")?;
        ensure!(
            !format!("{error:?}").contains("U2") && error.detail().is_none(),
            "{error:?}"
        );
    }
    let unlink = "select rotator.unlink_identity('slack', $1)";
    refused(session.query(unlink, &[&"T1/U2"]).await, "42501")?;
    ensure!(scalar::<bool>(&session, unlink, &[&"T1/U1"]).await?);
    ensure!(scalar::<bool>(&acme.operator, unlink, &[&"T1/U2"]).await?);
    Ok(())
}

#[tokio::test]
async fn two_tenants_may_link_the_same_name_and_see_their_own() -> Result<()> {
    let acme = Acme::new().await?;
    acme.db.tenant("beta").await?;
    let beta = acme.db.session("beta", "admin").await?;
    for (session, subject) in [(&acme.operator, "dana"), (&beta, "dan")] {
        session
            .execute(
                "select rotator.link_identity($1, 'slack', 'T1/U1')",
                &[&subject],
            )
            .await?;
        let shown: Value = rows(session, SHOWN).await?;
        assert_eq!(shown.as_array().map(Vec::len), Some(1));
        assert_eq!(shown[0]["subject"], subject);
    }
    Ok(())
}

#[tokio::test]
async fn no_mail_address_is_kept_and_who_leaves_takes_all_of_it_along() -> Result<()> {
    let acme = Acme::new().await?;
    acme.operator
        .execute(
            "select rotator.link_identity('dana', 'email', 'canary-7f3a@acme.example')",
            &[],
        )
        .await?;
    let kept: String = scalar(
        &acme.db.admin,
        "select concat((select jsonb_agg(to_jsonb(i)) from rotator_internal.identity_link as i),
            (select jsonb_agg(to_jsonb(e)) from rotator_internal.audit_event as e))",
        &[],
    )
    .await?;
    ensure!(
        kept.contains("acme.example") && !kept.contains("canary-7f3a"),
        "{kept}"
    );
    acme.operator
        .execute("select rotator.offboard_tenant('acme', 'acme')", &[])
        .await?;
    let left: i64 = scalar(
        &acme.db.admin,
        "select count(*) from rotator_internal.identity_link",
        &[],
    )
    .await?;
    assert_eq!(left, 0);
    Ok(())
}
