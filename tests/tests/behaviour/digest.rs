//! Several reminders for one recipient in one tick are one message, with a row and a link each. How it looks and arrives is
//! in `delivery/digest.rs`; the message about an imported backlog, which is made alike, in `summary`.

use anyhow::{Context, Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};

use crate::seed::{Acme, Claim};

async fn contact(acme: &Acme, owner: &str, channel: &str, address: &str) -> Result<()> {
    acme.operator
        .execute(
            "select rotator.set_contact($1, $2, $3)",
            &[&owner, &channel, &address],
        )
        .await?;
    Ok(())
}

/// So many of that owner, all with their seven-day reminder due; the first ends first.
async fn due(acme: &Acme, owner: &str, count: i32) -> Result<()> {
    acme.editor
        .execute(
            "insert into rotator.secrets (name, owner_id, expiry_date, rotation_interval)
             select $1 || '-' || n, $1, now() + interval '5 days' + n * interval '1 minute', '90 days'
             from generate_series(1, $2::integer) as n",
            &[&owner, &count],
        )
        .await?;
    Ok(())
}

/// Three of priya's in one message, claimed.
async fn three() -> Result<(Acme, Claim)> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    contact(&acme, "priya", "email", "priya@acme.example").await?;
    due(&acme, "priya", 3).await?;
    assert_eq!(acme.tick().await?["queued"], 1);
    let claim = acme.claim_one().await?;
    Ok((acme, claim))
}

fn names(claim: &Claim) -> Vec<String> {
    let items = claim.message["items"].as_array();
    items
        .into_iter()
        .flatten()
        .filter_map(|item| item["secret"]["name"].as_str().map(str::to_owned))
        .collect()
}

async fn redeem(acme: &Acme, item: &Value, action: &str) -> Result<Value> {
    let token = item["link_token"].as_str().unwrap_or_default();
    scalar(
        &acme.worker,
        "select rotator.redeem_link($1, $2)",
        &[&token, &action],
    )
    .await
}

async fn states(acme: &Acme) -> Result<Value> {
    acme.rows("select kind, state, count(*) from rotator.notifications group by 1, 2 order by 1, 2")
        .await
}

#[tokio::test]
async fn several_due_for_one_recipient_are_one_message_with_a_link_each() -> Result<()> {
    let (acme, claim) = three().await?;
    assert_eq!(claim.message["kind"], "summary");
    assert_eq!(claim.message["rule"], "digest");
    assert_eq!(
        claim.message["counts"],
        json!({"total": 3, "overdue": 0, "expiring_soon": 3})
    );
    assert_eq!(names(&claim), ["priya-1", "priya-2", "priya-3"]);
    ensure!(claim.link_token.is_empty(), "its items have the links");
    let items = claim.message["items"].as_array().context("items")?;
    assert_eq!(items[0]["kind"], "reminder");
    assert_eq!(
        redeem(&acme, &items[0], "acknowledge").await?["by"],
        "priya"
    );
    assert_eq!(
        redeem(&acme, &items[2], "rotated").await?["action"],
        "rotated"
    );
    ensure!(acme.complete(&claim).await?);
    assert_eq!(
        states(&acme).await?,
        json!([{"kind": "reminder", "state": "merged", "count": 3}, {"kind": "summary", "state": "sent", "count": 1}])
    );
    assert_eq!(acme.tick().await?["queued"], 0, "and only once");
    Ok(())
}

#[tokio::test]
async fn one_alone_another_recipient_and_what_machines_read_stay_by_themselves() -> Result<()> {
    let acme = Acme::new().await?;
    acme.db.tenant("globex").await?;
    let other = acme.db.session("globex", "admin").await?;
    for session in [&acme.operator, &other] {
        for (owner, channel, address) in [
            ("priya", "email", "same@example.com"),
            ("tom", "slack", "C0TOM12345"),
            ("sam", "pagerduty", "0123456789abcdef0123456789abcdef"),
            ("web", "webhook", "https://hooks.example.com/x"),
        ] {
            session
                .execute(
                    "select rotator.set_contact($1, $2, $3)",
                    &[&owner, &channel, &address],
                )
                .await?;
        }
        // By the same address, but in two tenants: never in one message.
        crate::seed::register(
            session,
            "p",
            "owner_id => 'priya', expiry_date => now() + interval '5 days'",
        )
        .await?;
    }
    for (owner, count) in [("tom", 1), ("sam", 3), ("web", 2)] {
        due(&acme, owner, count).await?;
    }
    assert_eq!(acme.tick().await?["queued"], 8);
    for claim in acme.claim().await? {
        assert_eq!(claim.message["kind"], "reminder", "{claim:?}");
    }
    Ok(())
}

#[tokio::test]
async fn each_channel_of_an_owner_gets_one() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "priya", "email", "priya@acme.example").await?;
    contact(&acme, "priya", "slack", "C0PRIYA123").await?;
    contact(&acme, "priya", "webhook", "https://hooks.example.com/x").await?;
    due(&acme, "priya", 2).await?;
    assert_eq!(acme.tick().await?["queued"], 4);
    let mut told: Vec<(String, String)> = acme
        .claim()
        .await?
        .iter()
        .map(|claim| (claim.channel.clone(), claim.message["kind"].to_string()))
        .collect();
    told.sort();
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        told,
        [
            ("email", "\"summary\""),
            ("slack", "\"summary\""),
            ("webhook", "\"reminder\""),
            ("webhook", "\"reminder\"")
        ]
    );
    Ok(())
}

#[tokio::test]
async fn owners_who_share_a_channel_share_a_message_and_act_as_themselves() -> Result<()> {
    let acme = Acme::new().await?;
    for owner in ["priya", "tom"] {
        contact(&acme, owner, "slack", "C0DEPLOYS1").await?;
        due(&acme, owner, 1).await?;
    }
    acme.tick().await?;
    let claim = acme.claim_one().await?;
    for item in claim.message["items"].as_array().context("items")? {
        let owner = item["secret"]["owner_id"].clone();
        assert_eq!(redeem(&acme, item, "acknowledge").await?["by"], owner);
    }
    Ok(())
}

#[tokio::test]
async fn twenty_fill_one_and_a_rest_of_one_goes_by_itself() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "priya", "email", "priya@acme.example").await?;
    due(&acme, "priya", 41).await?;
    assert_eq!(acme.tick().await?["queued"], 3);
    let mut claims = acme.claim().await?;
    claims.sort_by_key(|claim| claim.id);
    let mut sizes: Vec<usize> = claims.iter().map(|claim| names(claim).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 20, 20]);
    let alone = claims
        .iter()
        .find(|claim| claim.message["kind"] == "reminder")
        .context("one by itself")?;
    assert_eq!(
        alone.message["secret"]["name"], "priya-41",
        "the least urgent"
    );
    let all: std::collections::BTreeSet<String> = claims.iter().flat_map(names).collect();
    assert_eq!(all.len(), 40);
    Ok(())
}

#[tokio::test]
async fn what_is_done_or_taken_on_before_it_is_sent_is_left_out() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "priya", "email", "priya@acme.example").await?;
    due(&acme, "priya", 4).await?;
    acme.tick().await?;
    let each = async |sql: &str, name: &str| {
        let sql = format!("select {sql} from rotator.secrets where name = $1");
        acme.editor.execute(&sql, &[&name]).await
    };
    each("rotator.mark_rotated(id)", "priya-1").await?;
    each("rotator.acknowledge(id)", "priya-2").await?;
    let claim = acme.claim_one().await?;
    assert_eq!(names(&claim), ["priya-3", "priya-4"]);
    assert_eq!(claim.message["counts"]["total"], 2);
    ensure!(acme.fail(&claim, "transient").await?);
    acme.end_waiting().await?;
    each("rotator.acknowledge(id)", "priya-3").await?;
    each(
        "rotator.snooze(id, now() + interval '2 days', 'in good hands')",
        "priya-4",
    )
    .await?;
    assert_eq!(acme.claim().await?.len(), 0);
    let digests = acme
        .rows("select state from rotator.notifications where kind = 'summary'")
        .await?;
    assert_eq!(
        digests,
        json!([{"state": "cancelled"}]),
        "nothing is left to say"
    );
    Ok(())
}

#[tokio::test]
async fn a_repeated_attempt_has_links_of_its_own_and_the_first_ones_stay_good() -> Result<()> {
    let (acme, first) = three().await?;
    ensure!(acme.fail(&first, "timeout").await?);
    acme.end_waiting().await?;
    let second = acme.claim_one().await?;
    assert_eq!((second.id, second.attempt), (first.id, 2));
    let (first, second) = (&first.message["items"][0], &second.message["items"][0]);
    assert_ne!(first["link_token"], second["link_token"]);
    for item in [first, second] {
        assert_eq!(
            redeem(&acme, item, "show").await?["secret"]["name"],
            "priya-1"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_waited_for_the_same_opening_comes_as_one_with_what_is_due_then() -> Result<()> {
    let acme = Acme::new().await?;
    contact(&acme, "priya", "email", "priya@acme.example").await?;
    let hours =
        json!({"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"});
    acme.operator
        .execute("select rotator.set_delivery_window($1)", &[&hours])
        .await?;
    // Seven days before, it is Saturday, 1 February 2031, Sunday, and Monday, as the hours begin.
    for (name, date) in [
        ("saturday", "2031-02-08 12:00+00"),
        ("sunday", "2031-02-09 12:00+00"),
        ("monday", "2031-02-10 09:00+00"),
    ] {
        let with = format!("owner_id => 'priya', expiry_date => '{date}'");
        let id = acme.register(name, &with).await?;
        acme.operator
            .execute(
                "select rotator.add_notification_policy(7, secret_id => $1)",
                &[&id],
            )
            .await?;
    }
    for (time, queued) in [("02-01 12:01", 0), ("02-02 12:01", 0), ("02-03 09:00", 1)] {
        let tick = acme.tick_at(&format!("'2031-{time}+00'")).await?;
        assert_eq!(tick["queued"], queued, "{time}");
    }
    let claim = acme.claim_one().await?;
    assert_eq!(names(&claim), ["saturday", "sunday", "monday"]);
    Ok(())
}
