//! What is no ladder: refused with the step and the reason, before anything is stored.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::seed::Acme;

/// Steps, priorities, and what the message must say.
fn wrong() -> Vec<(Value, Option<Vec<&'static str>>, &'static str)> {
    let good = json!({"after": "4 hours", "target": "owner"});
    let with = |key: &str, value: Value| {
        let mut step = good.clone();
        step[key] = value;
        json!([good, step])
    };
    let mut cases = vec![
        (json!([]), None, "1 to 50 steps"),
        (json!({}), None, "1 to 50 steps"),
        (json!("4 hours"), None, "1 to 50 steps"),
        (Value::Null, None, "1 to 50 steps"),
        (Value::Array(vec![good.clone(); 51]), None, "1 to 50 steps"),
        (
            Value::Array(vec![good.clone(); 10_000]),
            None,
            "1 to 50 steps",
        ),
        (json!([good, "4 hours"]), None, "step 2 is no object"),
        (json!([good, null]), None, "step 2 is no object"),
        (json!([good, [good]]), None, "step 2 is no object"),
        (with("then", json!("x")), None, "step 2 has an unknown key"),
        (with("target", json!("cto")), None, "step 2: unknown target"),
        (
            with("target", json!("Owner")),
            None,
            "step 2: unknown target",
        ),
        (
            with("target", json!("policy:payments")),
            None,
            "step 2: unknown target",
        ),
        (
            with("target", json!("payments")),
            None,
            "step 2: unknown target",
        ),
        (
            with("target", json!("recipient")),
            None,
            "step 2: unknown target",
        ),
        (
            with("target", json!("pagerduty")),
            None,
            "step 2: unknown target",
        ),
        (
            with("target", json!(["owner"])),
            None,
            "step 2: unknown target",
        ),
        (with("target", Value::Null), None, "step 2 needs either"),
        (
            with("recipient", json!("a@b.example")),
            None,
            "step 2 needs either",
        ),
        (
            json!([{"after": "1 hour", "recipient": "a@b.example"}]),
            None,
            "a recipient needs its channel",
        ),
        (
            json!([{"after": "1 hour", "recipient": "a b", "channel": "email"}]),
            None,
            "step 1: that is no email recipient",
        ),
        (
            json!([{"after": "1 hour", "recipient": "a@b.example\r\nBcc: x@y.example", "channel": "email"}]),
            None,
            "step 1: that is no email recipient",
        ),
        (
            with("channel", json!("fax")),
            None,
            "step 2: unknown channel",
        ),
        (
            with("from", json!("birth")),
            None,
            "neither reminder nor expiry",
        ),
        (
            with("after", json!("3 hours")),
            None,
            "step 2 comes before an earlier step",
        ),
        (with("repeats", json!(3)), None, "repeat_every is no time"),
        (
            with("repeat_every", json!("1 hour")),
            None,
            "repeats must be a number",
        ),
    ];
    for after in [
        json!("-1 hour"),
        json!("1 month -40 days"),
        json!("3651 days"),
        json!("infinity"),
        json!("-infinity"),
        json!("soon"),
        json!(""),
        json!("4"),
        json!(4),
        json!(true),
        json!({"hours": 4}),
        json!("99999999999999 years"),
        json!("4 hours; drop"),
    ] {
        cases.push((with("after", after), None, "step 2: after is no time"));
    }
    for repeats in [
        json!(0),
        json!(101),
        json!(-1),
        json!(1.5),
        json!("3"),
        json!(1e99),
    ] {
        let mut step = good.clone();
        step["repeat_every"] = json!("1 hour");
        step["repeats"] = repeats;
        cases.push((json!([step]), None, "step 1: repeats must be a number"));
    }
    let mut hasty = good.clone();
    hasty["repeat_every"] = json!("1 second");
    hasty["repeats"] = json!(2);
    cases.push((json!([hasty]), None, "less than a minute"));
    for priorities in [vec!["P5"], vec![""], vec!["P1", "urgent"]] {
        cases.push((json!([good]), Some(priorities), "priorities must be"));
    }
    cases
}

#[tokio::test]
async fn each_is_refused_with_its_step_and_nothing_is_stored() -> Result<()> {
    let acme = Acme::new().await?;
    let before = acme.fingerprint().await?;
    let sql = "select rotator.set_escalation_policy('ours', $1, $2)";
    for (steps, priorities, reason) in wrong() {
        let outcome = acme.operator.query(sql, &[&steps, &priorities]).await;
        let shown = steps.to_string().chars().take(200).collect::<String>();
        let error = outcome
            .err()
            .with_context(|| format!("accepted: {shown}"))?;
        let error = error.as_db_error().context("an error of the database")?;
        ensure!(
            error.code().code() == "22023"
                && error.message().contains(reason)
                && error.hint().is_some(),
            "{shown} {priorities:?}: {error:?}, not {reason}"
        );
    }
    let name = "select rotator.set_escalation_policy($1, '[{\"after\": \"1 hour\", \"target\": \"owner\"}]')";
    let long = "x".repeat(64);
    for bad in [
        "",
        "  ",
        "built-in",
        "Built-In",
        "a:b",
        "a\nb",
        "ü",
        long.as_str(),
        "-x",
    ] {
        let outcome = acme.operator.query(name, &[&bad]).await;
        rotator_tests::refused(outcome, "22023").with_context(|| format!("{bad:?}"))?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_missing_is_asked_for() -> Result<()> {
    let acme = Acme::new().await?;
    let sql = "select rotator.set_escalation_policy($1, '[{\"after\": \"1 hour\", \"target\": \"owner\"}]')";
    for name in [None, Some(""), Some("  ")] {
        let refusal = rotator_tests::refused(acme.operator.query(sql, &[&name]).await, "22023")?;
        assert_eq!(refusal.message(), "name is missing", "{name:?}");
        let hint = refusal.hint().unwrap_or_default();
        ensure!(
            hint.starts_with("Give the policy a name, for example payments"),
            "{name:?}: {hint}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_limits_themselves_are_fine() -> Result<()> {
    let acme = Acme::new().await?;
    let step = json!({"after": "3650 days", "target": "admins", "repeat_every": "1 minute", "repeats": 100});
    let steps = Value::Array(vec![step; 50]);
    acme.operator
        .execute(
            "select rotator.set_escalation_policy($1, $2)",
            &[&"x".repeat(63), &steps],
        )
        .await?;
    acme.due("stripe").await?;
    acme.operator
        .execute(
            "select rotator.use_escalation_policy(id, repeat('x', 63)) from rotator.secrets",
            &[],
        )
        .await?;
    acme.tick().await?;
    acme.tick_at("now() + interval '4 days 12 hours'").await?;
    let next: bool = rotator_tests::scalar(
        &acme.editor,
        "select next_escalation_at > now() + interval '3653 days' from rotator.alerts",
        &[],
    )
    .await?;
    ensure!(next, "ten years after the last reminder");
    Ok(())
}

#[tokio::test]
async fn ladders_are_for_admins() -> Result<()> {
    let acme = Acme::new().await?;
    let sql = "select rotator.set_escalation_policy('ours', '[{\"after\": \"1 hour\", \"target\": \"owner\"}]')";
    rotator_tests::refused(acme.editor.query(sql, &[]).await, "42501")?;
    Ok(())
}
