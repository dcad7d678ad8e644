//! What a person does about alerts at the command line: `secrets snooze|preview|explain|reassign|coverage` and
//! `notifications undeliverable`: what comes out, and what is refused to whom. Settings: `cli_alert_settings.rs`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cli, Role, scalar};
use serde_json::Value;

use crate::cli_secrets::refused as says;
use crate::seed::Acme;

pub async fn rows(acme: &Acme, role: &Role, arguments: &[&str]) -> Result<Vec<Value>> {
    let all = [arguments, &["--format", "json"]].concat();
    let printed = Cli::new(&acme.db, role, &all)?.ok().await?;
    match serde_json::from_str(&printed).with_context(|| printed.clone())? {
        Value::Array(rows) => Ok(rows),
        row => Ok(vec![row]),
    }
}

pub async fn ok(acme: &Acme, role: &Role, arguments: &[&str]) -> Result<String> {
    Cli::new(&acme.db, role, arguments)?.ok().await
}

pub async fn no(
    acme: &Acme,
    role: &Role,
    arguments: &[&str],
    message: &str,
    hint: &str,
) -> Result<()> {
    let printed = Cli::new(&acme.db, role, arguments)?.run().await?;
    says(&printed, 1, message, hint).with_context(|| arguments.join(" "))
}

pub fn fits(table: &str) -> Result<()> {
    let wide = table.lines().find(|line| line.chars().count() > 100);
    ensure!(wide.is_none(), "{wide:?}");
    Ok(())
}

#[tokio::test]
async fn a_secret_is_looked_at_and_snoozed() -> Result<()> {
    let acme = Acme::in_zone("America/New_York").await?;
    let editor = acme.db.member("acme", "editor").await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    let admin = acme.db.member("acme", "admin").await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    acme.due("Stripe live").await?;
    acme.register("far away", "expiry_date => now() + interval '1 year'")
        .await?;
    acme.tick().await?;

    let told = rows(&acme, &viewer, &["secrets", "explain", "stripe LIVE"]).await?;
    let queued = told
        .iter()
        .find(|row| row["outcome"] == "queued")
        .context("nothing is queued")?;
    ensure!(
        queued["rule"] == "lead:7" && queued["channel"] == "slack",
        "{queued}"
    );
    let table = ok(&acme, &viewer, &["secrets", "explain", "Stripe live"]).await?;
    fits(&table)?;
    let lines: Vec<&str> = table.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("queued"))
        .context("no such line")?;
    ensure!(
        lines[0].starts_with("AT") && lines[0].ends_with("RULE"),
        "{table}"
    );
    ensure!(lines[at + 1] == "    it waits for a worker", "{table}");
    let nothing = ok(&acme, &viewer, &["secrets", "explain", "far away"]).await?;
    ensure!(
        nothing.starts_with("nothing was due about it yet"),
        "{nothing}"
    );

    let csv = ok(
        &acme,
        &viewer,
        &["secrets", "preview", "Stripe live", "--format", "csv"],
    )
    .await?;
    ensure!(
        csv.starts_with("at,kind,channel,recipient_hint,rule\n"),
        "{csv}"
    );
    ensure!(csv.contains(",reminder,slack,C…YS1,lead:1"), "{csv}");
    let ahead = rows(
        &acme,
        &viewer,
        &["secrets", "preview", "Stripe live", "--until", "2026-01-01"],
    )
    .await?;
    ensure!(ahead.is_empty(), "{ahead:?}");
    fits(&ok(&acme, &viewer, &["secrets", "preview", "Stripe live"]).await?)?;

    // A day without a time is one of the tenant's.
    let days = async |days: i32| -> Result<String> {
        let sql = "select ((now() at time zone 'America/New_York')::date + $1::int4)::text";
        scalar(&acme.operator, sql, &[&days]).await
    };
    let (soon, late) = (days(2).await?, days(30).await?);
    fn until(day: &str) -> [&str; 7] {
        [
            "secrets",
            "snooze",
            "Stripe live",
            "--reason",
            "the vendor is down",
            "--until",
            day,
        ]
    }
    for (role, day, message, hint) in [
        (&viewer, soon.as_str(), "", ""),
        (&editor, "2020-01-01", "past", "time to come"),
        (&editor, late.as_str(), "past the expiry date", "admin"),
    ] {
        no(&acme, role, &until(day), message, hint).await?;
    }
    let done = ok(&acme, &editor, &until(&soon)).await?;
    ensure!(
        done == format!("snoozed until {soon} 00:00: Stripe live\n"),
        "{done}"
    );
    let row = rows(&acme, &admin, &until(&late)).await?.remove(0);
    ensure!(
        row["snoozed_until"]
            .as_str()
            .is_some_and(|at| at.starts_with(&late)),
        "{row}"
    );
    let told = ok(&acme, &viewer, &["secrets", "explain", "Stripe live"]).await?;
    ensure!(
        told.contains("cancelled") && told.contains("snoozed until"),
        "{told}"
    );
    let sql = "select string_agg(source || ' ' || (changes ->> 'reason'), ', ' order by id)
        from rotator.audit_log where action = 'secret.snoozed'";
    let events: String = scalar(&acme.operator, sql, &[]).await?;
    ensure!(
        events == "cli the vendor is down, cli the vendor is down",
        "{events}"
    );
    Ok(())
}

#[tokio::test]
async fn somebody_hands_over_and_what_nobody_hears_of_is_listed() -> Result<()> {
    let acme = Acme::new().await?;
    let editor = acme.db.member("acme", "editor").await?;
    let viewer = acme.db.member("acme", "viewer").await?;
    acme.contact("email", "dana@acme.example").await?;
    acme.contact_of("erin", "console", "erin").await?;
    let stripe = acme.due("Stripe live").await?;
    acme.register(
        "covered",
        "expiry_date => now() + interval '1 year', owner_id => 'erin', secondary_owner_id => 'dana'",
    )
    .await?;

    let lacks = rows(&acme, &viewer, &["secrets", "coverage"]).await?;
    ensure!(
        lacks.len() == 1
            && lacks[0]["name"] == "Stripe live"
            && lacks[0]["missing"] == "escalation",
        "{lacks:?}"
    );
    acme.operator
        .execute(
            "update rotator.secrets set secondary_owner_id = 'erin' where id = $1",
            &[&stripe],
        )
        .await?;
    let none = ok(&acme, &viewer, &["secrets", "coverage"]).await?;
    ensure!(
        none == "every secret has somebody who is told, and a ladder that reaches somebody\n",
        "{none}"
    );

    let list = ["notifications", "undeliverable"];
    let none = ok(&acme, &viewer, &list).await?;
    ensure!(
        none.starts_with("everything that was sent reached somebody"),
        "{none}"
    );
    acme.tick().await?;
    let fail = "select count(rotator.fail_notification(c.id, c.claim_id, 'the mailbox is closed', 'permanent'))
        from rotator.claim_notifications('worker') as c";
    while scalar::<i64>(&acme.db.admin, fail, &[]).await? > 0 {}
    let lost = rows(&acme, &viewer, &list).await?;
    ensure!(
        lost.len() == 1
            && lost[0]["secret_name"] == "Stripe live"
            && lost[0]["addressee"] == "dana",
        "{lost:?}"
    );
    let table = ok(&acme, &viewer, &list).await?;
    fits(&table)?;
    ensure!(
        table
            .lines()
            .nth(2)
            .is_some_and(|line| line.starts_with("    ") && line.contains("mailbox")),
        "{table}"
    );

    let hand_over = ["secrets", "reassign", "dana", "erin"];
    no(&acme, &viewer, &hand_over, "", "").await?;
    no(
        &acme,
        &editor,
        &["secrets", "reassign", "dana", " dana"],
        "the same",
        "who follows",
    )
    .await?;
    ensure!(ok(&acme, &editor, &hand_over).await? == "2\n");
    let row = rows(&acme, &editor, &hand_over).await?.remove(0);
    ensure!(row["secrets"] == 0, "{row}");
    let theirs = rows(&acme, &viewer, &["secrets", "list", "--owner", "erin"]).await?;
    ensure!(theirs.len() == 2, "{theirs:?}");
    let unknown = ["secrets", "reassign", "erin", "frank"];
    let done = Cli::new(&acme.db, &editor, &unknown)?.run().await?;
    ensure!(
        done.code == 0
            && done.stdout == "2\n"
            && done.stderr.starts_with("warning: to_owner is neither")
            && done.stderr.contains("\nhint: "),
        "{done:?}"
    );
    Ok(())
}
