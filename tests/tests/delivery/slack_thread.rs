//! Later steps of an alert in Slack: an escalation replies to the first message, its end changes all of them, and what is
//! done elsewhere is seen there. The first message: `slack.rs`; buttons: `slack_buttons.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::slack::Answer;
use rotator_tests::{eventually, until};
use serde_json::{Value, json};

use crate::seed::SOON;
use crate::slack_buttons::Bench;

/// Another message about the same alert, as a step of the ladder queues it, to whom the first went.
async fn escalate(bench: &Bench) -> Result<()> {
    bench
        .acme
        .db
        .admin
        .execute(
            "insert into rotator_internal.notification (
                 tenant_id, secret_id, alert_id, cycle, kind, rule, step, due_at, channel, recipient_id, addressee)
             select tenant_id, secret_id, alert_id, cycle, 'escalation', 'escalation:built-in:1', 1, now(), channel,
                 recipient_id, 'sam'
             from rotator_internal.notification where secret_id = $1 and kind = 'reminder'",
            &[&bench.secret],
        )
        .await?;
    bench
        .acme
        .db
        .admin
        .batch_execute("notify rotator_outbox")
        .await?;
    Ok(())
}

async fn sent(bench: &Bench, kind: &str) -> Result<Option<String>> {
    eventually(SOON, &format!("{kind} to be sent"), async || {
        let sql = "select provider_message_id from rotator.notifications where secret_id = $1 and kind = $2 and state = 'sent'";
        let row = bench.acme.operator.query_opt(sql, &[&bench.secret, &kind]).await?;
        Ok(row.map(|row| row.get::<_, Option<String>>(0)))
    })
    .await
}

async fn wake(bench: &Bench) -> Result<()> {
    Ok(bench
        .acme
        .db
        .admin
        .batch_execute("notify rotator_outbox")
        .await?)
}

#[tokio::test]
async fn an_escalation_replies_in_the_thread_and_the_channel_sees_it() -> Result<()> {
    let bench = Bench::new().await?;
    escalate(&bench).await?;
    let reply = bench.next("/api/chat.postMessage", 1).await?.json()?;
    ensure!(
        reply["thread_ts"] == "1700000000.000001" && reply["reply_broadcast"] == true,
        "{reply}"
    );
    let text = reply["blocks"][0]["text"]["text"]
        .as_str()
        .unwrap_or_default();
    ensure!(text.contains("Nobody has taken it on."), "{text}");
    ensure!(
        reply.to_string().contains("\"acknowledge\""),
        "with buttons of its own: {reply}"
    );
    bench.sdk.blocks(&reply["blocks"]).await?;
    ensure!(sent(&bench, "escalation").await?.as_deref() == Some("1700000000.000002"));
    Ok(())
}

#[tokio::test]
async fn without_its_first_message_an_escalation_stands_for_itself() -> Result<()> {
    let bench = Bench::new().await?;
    bench.slack.answer(Answer::NotOk("thread_not_found"));
    escalate(&bench).await?;
    let last = eventually(SOON, "a message of its own", async || {
        Ok(bench.slack.requests().into_iter().nth(2))
    })
    .await?
    .json()?;
    ensure!(
        last["thread_ts"].is_null() && last["channel"] == "C0DEPLOYS1",
        "{last}"
    );
    sent(&bench, "escalation").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_done_elsewhere_is_seen_in_slack() -> Result<()> {
    let bench = Bench::new().await?;
    escalate(&bench).await?;
    sent(&bench, "escalation").await?;
    bench
        .acme
        .operator
        .execute("select rotator.acknowledge($1)", &[&bench.secret])
        .await?;
    wake(&bench).await?;
    sent(&bench, "acknowledge").await?;
    let all = bench.slack.requests();
    let changed: Vec<Value> = all[2..]
        .iter()
        .map(|request| request.json())
        .collect::<Result<_>>()?;
    ensure!(
        all[2..]
            .iter()
            .all(|request| request.path == "/api/chat.update"),
        "no message, only changes"
    );
    let places: Vec<&Value> = changed.iter().map(|body| &body["ts"]).collect();
    ensure!(
        places == [&json!("1700000000.000001"), &json!("1700000000.000002")],
        "{places:?}"
    );
    for body in &changed {
        bench.sdk.blocks(&body["blocks"]).await?;
        ensure!(
            body["blocks"][0]["text"]["text"]
                .as_str()
                .is_some_and(|text| text.contains("is acknowledged by db:operator")),
            "{body}"
        );
    }
    // The button that is left has a token of its own, and works.
    ensure!(
        bench
            .press(&changed[0], "rotated", "T024BE7LD/U012AB3CD")
            .await?
            == 200
    );
    ensure!(bench.state().await?.0 == "resolved");
    wake(&bench).await?;
    sent(&bench, "resolve").await?;
    let all = bench.slack.requests();
    let last = all.last().context("a reply")?;
    let reply = last.json()?;
    ensure!(
        last.path == "/api/chat.postMessage" && reply["thread_ts"] == "1700000000.000001",
        "{reply}"
    );
    ensure!(
        reply["reply_broadcast"] == false,
        "who follows the thread is told: {reply}"
    );
    ensure!(
        reply["text"]
            .as_str()
            .is_some_and(|text| text.contains("was rotated by dana")),
        "{reply}"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_deleted_there_holds_nothing_up() -> Result<()> {
    let bench = Bench::new().await?;
    bench
        .slack
        .answer_when("/api/chat.update", Answer::NotOk("message_not_found"));
    bench
        .slack
        .answer_when("thread_ts", Answer::NotOk("thread_not_found"));
    bench
        .acme
        .operator
        .execute("select rotator.retire_secret($1)", &[&bench.secret])
        .await?;
    wake(&bench).await?;
    sent(&bench, "resolve").await?;
    let last = bench.slack.requests().pop().context("a request")?;
    ensure!(last.text().contains("is retired"), "{}", last.text());
    Ok(())
}

#[tokio::test]
async fn by_name_or_to_a_person_the_place_is_kept_with_the_message() -> Result<()> {
    for recipient in ["#deploys", "U0123ABCDEF"] {
        let bench = Bench::new().await?;
        bench.acme.contact_of("erin", "slack", recipient).await?;
        let secret = bench.acme.due_for("erin", "another").await?;
        bench.acme.tick().await?;
        let sent = bench.acme.becomes(secret, "sent").await?;
        ensure!(
            sent.provider_message_id.as_deref() == Some("C0STANDIN/1700000000.000002"),
            "{sent:?}"
        );
        bench
            .acme
            .operator
            .execute("select rotator.mark_rotated($1)", &[&secret])
            .await?;
        wake(&bench).await?;
        let update = bench.next("/api/chat.update", 2).await?.json()?;
        ensure!(
            (&update["channel"], &update["ts"])
                == (&json!("C0STANDIN"), &json!("1700000000.000002")),
            "{update}"
        );
        let reply = bench.next("/api/chat.postMessage", 2).await?.json()?;
        ensure!(
            reply["channel"] == recipient && reply["thread_ts"] == "1700000000.000002",
            "{reply}"
        );
        until(SOON, "it to be recorded", async || {
            Ok(bench.acme.count("leased").await? == 0)
        })
        .await?;
    }
    Ok(())
}
