//! What an admin sets about alerts at the command line: `escalation`, `window` and `identities`: what comes out, what is
//! wrong with the input, and what is refused to whom.

use anyhow::{Result, ensure};
use rotator_tests::{Cli, Role, scalar};

use crate::cli_alerts::{fits, no, ok, rows};
use crate::cli_secrets::refused as says;
use crate::seed::Acme;

#[tokio::test]
async fn ladders_are_set_from_json_chosen_and_removed() -> Result<()> {
    let acme = Acme::new().await?;
    let admin = acme.db.member("acme", "admin").await?;
    let editor = acme.db.member("acme", "editor").await?;
    let stripe = acme.due("Stripe live").await?;
    let built_in = ok(&acme, &editor, &["escalation", "list"]).await?;
    ensure!(
        built_in.starts_with("no ladder is set: 4 hours"),
        "{built_in}"
    );
    fits(&built_in)?;

    let steps = r#"[{"after": "2 hours", "target": "owner", "repeat_every": "30 minutes", "repeats": 3},
        {"after": "1 day", "target": "team_lead", "channel": "slack"},
        {"after": "1 hour", "from": "expiry", "recipient": "on-call@acme.example", "channel": "email"}]"#;
    let set = ["escalation", "set", "payments"];
    let from_input = [&set[..], &["-", "--priority", "p1,p2"]].concat();
    let cli = |role: &Role, arguments: &[&str], input: &str| -> Result<Cli> {
        Cli::new(&acme.db, role, arguments)?
            .input(input)
            .file("steps.json", input.as_bytes())
    };
    for (input, message, hint) in [
        ("[{\"after\": ", "standard input is no JSON", "--help"),
        ("[]", "1 to 50 steps", "4 hours"),
        (
            "[{\"after\": \"1 day\", \"target\": \"boss\"}]",
            "step 1: unknown target",
            "team_lead",
        ),
        (
            "[{\"after\": 5, \"target\": \"owner\"}]",
            "step 1: after is no time",
            "4 hours",
        ),
    ] {
        says(
            &cli(&admin, &from_input, input)?.run().await?,
            1,
            message,
            hint,
        )?;
    }
    says(&cli(&editor, &from_input, steps)?.run().await?, 1, "", "")?;
    let file = [&set[..], &["nothing.json"]].concat();
    no(
        &acme,
        &admin,
        &file,
        "can't read nothing.json",
        "standard input",
    )
    .await?;

    let done = cli(&admin, &from_input, steps)?.ok().await?;
    ensure!(done == "set: payments, revision 1, for P1,P2\n", "{done}");
    let file = [&set[..], &["steps.json"]].concat();
    let done = cli(&admin, &file, steps)?.ok().await?;
    ensure!(
        done == "set: payments, revision 2, for secrets that use it\n",
        "{done}"
    );
    let listed = rows(&acme, &editor, &["escalation", "list"]).await?;
    ensure!(
        listed.len() == 1
            && listed[0]["revision"] == 2
            && listed[0]["steps"]
                .as_array()
                .is_some_and(|steps| steps.len() == 3),
        "{listed:?}"
    );
    let table = ok(&acme, &editor, &["escalation", "list"]).await?;
    fits(&table)?;
    for line in [
        "    2 hours after the last reminder: owner, again every 30 minutes, 3 times",
        "    1 day after the last reminder: team lead by slack",
        "    1 hour after the expiry: …@acme.example by email",
    ] {
        ensure!(table.lines().any(|printed| printed == line), "{table}");
    }

    let choice = ["escalation", "use", "stripe live"];
    let used = ok(&acme, &admin, &[&choice[..], &["payments"]].concat()).await?;
    ensure!(used == "Stripe live uses payments\n", "{used}");
    let sql = "select count(*) from rotator.escalation_policies where secrets = 1";
    ensure!(scalar::<i64>(&acme.operator, sql, &[]).await? == 1);
    no(
        &acme,
        &admin,
        &[&choice[..], &["nobody"]].concat(),
        "no such escalation policy",
        "",
    )
    .await?;
    let back = rows(&acme, &admin, &[&choice[..], &["--default"]].concat())
        .await?
        .remove(0);
    ensure!(
        back["id"] == stripe.to_string() && back["ladder"].is_null(),
        "{back}"
    );
    let remove = ["escalation", "remove", "payments"];
    ensure!(ok(&acme, &admin, &remove).await? == "removed: payments\n");
    no(&acme, &admin, &remove, "no such escalation policy", "").await
}

#[tokio::test]
async fn hours_and_identities_are_set_and_shown() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    let admin = acme.db.member("acme", "admin").await?;
    let editor = acme.db.member("acme", "editor").await?;
    let always = "people are told at any time\n";
    ensure!(ok(&acme, &editor, &["window", "show"]).await? == always);
    let set = |from: &'static str, to: &'static str| {
        [
            "window",
            "set",
            "--days",
            "mon-wed,sat",
            "--from",
            from,
            "--to",
            to,
            "--holiday",
            "2026-12-25",
        ]
    };
    no(&acme, &editor, &set("9:00", "17:00"), "", "").await?;
    no(
        &acme,
        &admin,
        &set("09:60", "17:00"),
        "from is no time of day",
        "09:00",
    )
    .await?;
    no(
        &acme,
        &admin,
        &set("22:00", "06:00"),
        "from must be earlier than to",
        "24:00",
    )
    .await?;
    let shown = ok(&acme, &admin, &set("9:00", "24:00")).await?;
    ensure!(
        shown == "mon tue wed sat 09:00 to 24:00 Europe/Berlin, not on 2026-12-25\n",
        "{shown}"
    );
    let row = rows(&acme, &editor, &["window", "show"]).await?.remove(0);
    ensure!(row["closes"] == "24:00" && row["days"][3] == "sat", "{row}");
    ensure!(ok(&acme, &admin, &["window", "clear"]).await? == always);
    let row = rows(&acme, &editor, &["window", "show"]).await?.remove(0);
    ensure!(row["days"].is_null(), "{row}");

    let slack = ["identities", "link", "slack", "T024BE7LD/U012AB3CD"];
    let mail = [
        "identities",
        "link",
        "email",
        "Dana@acme.example",
        "--subject",
        "dana",
    ];
    let none = ok(&acme, &editor, &["identities", "list"]).await?;
    ensure!(none == "nobody is linked yet\n", "{none}");
    let done = ok(&acme, &editor, &slack).await?;
    let me = editor.subject();
    ensure!(
        done == format!("linked: {me} is slack T024BE7LD/U012AB3CD\n"),
        "{done}"
    );
    no(&acme, &editor, &mail, "", "").await?;
    let row = rows(&acme, &admin, &mail).await?.remove(0);
    ensure!(row["subject"] == "dana" && row["kind"] == "email", "{row}");
    no(
        &acme,
        &admin,
        &slack,
        "linked to somebody else",
        "unlink_identity",
    )
    .await?;
    no(
        &acme,
        &admin,
        &["identities", "link", "slack", "U012AB3CD"],
        "no slack identity",
        "T024BE7LD",
    )
    .await?;
    let table = ok(&acme, &editor, &["identities", "list"]).await?;
    fits(&table)?;
    ensure!(
        table.contains("…@acme.example") && !table.to_lowercase().contains("dana@acme"),
        "{table}"
    );
    let unlink = ["identities", "unlink", "email", "dana@ACME.example"];
    no(&acme, &editor, &unlink, "", "").await?;
    ok(&acme, &admin, &unlink).await?;
    no(
        &acme,
        &admin,
        &unlink,
        "nobody is linked",
        "identities list",
    )
    .await
}
