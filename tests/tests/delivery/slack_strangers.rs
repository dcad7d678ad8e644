//! Buttons in Slack, pressed by people whom the database doesn't know, or who may not: each is told so alone, the refusal
//! is in the audit log, and nothing changes. An address that Slack confirmed makes somebody known. Presses that count:
//! `slack_buttons.rs`.

use anyhow::{Result, ensure};
use rotator_tests::slack::Answer;
use rotator_tests::slack_sdk::RESPONSES;
use rotator_tests::vendor;
use serde_json::{Value, json};

use crate::slack_buttons::Bench;

#[tokio::test]
async fn a_stranger_is_told_how_to_link_and_nobody_else_sees_it() -> Result<()> {
    let bench = Bench::new().await?;
    bench.acme.db.tenant("beta").await?;
    let beta = bench.acme.db.session("beta", "admin").await?;
    beta.execute(
        "select rotator.link_identity('boss', 'slack', 'T024BE7LD/U0BETA')",
        &[],
    )
    .await?;
    bench.link("val", "slack", "T024BE7LD/U0VIEWER").await?;
    bench
        .acme
        .operator
        .execute("select rotator.add_member('val', 'viewer')", &[])
        .await?;
    let before = bench.acme.fingerprint().await?;
    for (identity, told) in [
        (
            "T024BE7LD/U0NOBODY",
            "link_identity('&lt;your subject&gt;', 'slack', 'T024BE7LD/U0NOBODY')",
        ),
        ("T024BE7LD/U0BETA", "link_identity("),
        // The same user id in another workspace is another user.
        ("T0OTHERS/U012AB3CD", "'T0OTHERS/U012AB3CD'"),
        ("T024BE7LD/U0VIEWER", "role viewer may not do this"),
    ] {
        let seen = bench.slack.requests().len();
        ensure!(
            bench.press(&bench.message, "acknowledge", identity).await? == 200,
            "{identity}"
        );
        let answer = bench.next(RESPONSES, seen).await?;
        ensure!(
            answer.header("authorization").is_none(),
            "no place for the bot's token"
        );
        let answer = answer.json()?;
        ensure!(
            answer["response_type"] == "ephemeral" && answer["replace_original"] == false,
            "{answer}"
        );
        let text = answer["text"].as_str().unwrap_or_default();
        ensure!(
            text.starts_with("Nothing was changed") && text.contains(told),
            "{identity}: {text}"
        );
    }
    ensure!(bench.acme.fingerprint().await? == before);
    let refusals = bench
        .acme
        .operator
        .query(
            "select actor, changes ->> 'reason' from rotator.audit_log where action = 'button.refused' order by id",
            &[],
        )
        .await?;
    let refusals: Vec<(String, String)> = refusals
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let expected = [
        ("slack:T024BE7LD/U0NOBODY", "stranger"),
        ("slack:T024BE7LD/U0BETA", "stranger"),
        ("slack:T0OTHERS/U012AB3CD", "stranger"),
        ("val", "role"),
    ];
    assert_eq!(
        refusals,
        expected.map(|(who, why)| (who.to_owned(), why.to_owned()))
    );
    Ok(())
}

#[tokio::test]
async fn an_address_that_slack_confirmed_is_as_good_as_a_link() -> Result<()> {
    let bench = Bench::new().await?;
    bench.link("dana", "email", "dana@acme.example").await?;
    let user = |changes: Value| {
        let mut user = json!({
            "id": "U0MAIL", "team_id": "T024BE7LD", "deleted": false, "is_bot": false, "is_restricted": false,
            "is_email_confirmed": true, "profile": {"email": "Dana@acme.example"}
        });
        for (name, value) in changes.as_object().into_iter().flatten() {
            user[name] = value.clone();
        }
        Answer::As(vendor::Answer::json(
            200,
            &json!({"ok": true, "user": user}),
        ))
    };
    let ours = |team: &str| {
        Answer::As(vendor::Answer::json(
            200,
            &json!({"ok": true, "team_id": team, "user_id": "U0BOT"}),
        ))
    };
    let before = bench.acme.fingerprint().await?;
    for (of_user, of_us) in [
        (
            user(json!({"is_email_confirmed": false})),
            ours("T024BE7LD"),
        ),
        (user(json!({"is_restricted": true})), ours("T024BE7LD")),
        (user(json!({"is_stranger": true})), ours("T024BE7LD")),
        (user(json!({"is_bot": true})), ours("T024BE7LD")),
        (user(json!({"deleted": true})), ours("T024BE7LD")),
        (user(json!({"id": "U0OTHER"})), ours("T024BE7LD")),
        (user(json!({"team_id": "T0OTHERS"})), ours("T024BE7LD")),
        (
            user(json!({"profile": {"email": "eve@acme.example"}})),
            ours("T024BE7LD"),
        ),
        (
            user(json!({"profile": {"email": "no address"}})),
            ours("T024BE7LD"),
        ),
        (user(json!({"profile": {}})), ours("T024BE7LD")),
        (user(json!({})), ours("T0OTHERS")),
        (user(json!({})), Answer::NotOk("invalid_auth")),
        (Answer::NotOk("missing_scope"), ours("T024BE7LD")),
        (Answer::Garbage, ours("T024BE7LD")),
    ] {
        bench.slack.answer(of_user);
        // Only asked where the user is good.
        bench.slack.answer(of_us);
        let seen = bench.slack.requests().len();
        ensure!(
            bench
                .press(&bench.message, "acknowledge", "T024BE7LD/U0MAIL")
                .await?
                == 200
        );
        let told = bench.next(RESPONSES, seen).await?;
        ensure!(told.text().contains("link_identity("), "{}", told.text());
        // What was scripted and not asked for must not answer the next one.
        while bench.slack.requests().len() < seen + 3 {
            rotator_tests::sidecar::http()
                .get(bench.slack.url())
                .send()
                .await?;
        }
    }
    ensure!(bench.acme.fingerprint().await? == before);
    bench.slack.answer(user(json!({})));
    bench.slack.answer(ours("T024BE7LD"));
    let seen = bench.slack.requests().len();
    ensure!(
        bench
            .press(&bench.message, "acknowledge", "T024BE7LD/U0MAIL")
            .await?
            == 200
    );
    bench.next("/api/chat.update", seen).await?;
    ensure!(bench.state().await? == ("acknowledged".to_owned(), Some("dana".to_owned())));
    Ok(())
}
