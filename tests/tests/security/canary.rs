//! Invariant 2 from outside: marked names, purposes, references, recipients and refused secret values go through every
//! call, accepted and refused; then the server is stopped and its tables, WAL and log are searched for the marks.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, TestDb};
use tokio_postgres::Client;

use crate::fixture::{text, texts, verdict};

/// Marks of accepted plaintext, each of its own so that a hit tells where it came from.
const MARKS: &[&str] = &[
    "kanarienname",
    "kanarienneuname",
    "kanarienzweck",
    "kanarienpfad",
    "kanarienmail",
    "kanarienkanal",
    "kanarienhaken",
    "kanarienimport",
    "kanariensuche",
    "kanarienview",
    "kanarienparameter",
    "kanarienverweigert",
    "kanarienlang",
    "kanarienlink",
];
/// Values that must be refused as secrets, with the mark to look for.
const SECRETS: &[(&str, &str)] = &[
    (
        "ghp_k4n4r13nv0g3lk4n4r13nv0g3lk4n4r1abcd",
        "k4n4r13nv0g3lk4n4r13nv0g3l",
    ),
    ("AKIAKANAR7ENVOGELABC", "AKIAKANAR7ENVOGELABC"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nKanarienMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
        "KanarienMIIEow",
    ),
];

async fn accepted(session: &Client) -> Result<()> {
    let id = text(session, "select rotator.register_secret('kanarienname', expiry_date => now() + interval '3 days', purpose => 'kanarienzweck', provider_ref => 'kanarienpfad/x', owner_id => 'ordinary-owner')").await?;
    let long = "kanarienlang ".repeat(700);
    session
        .execute(
            "select rotator.register_secret($1, rotation_interval => '1 day', purpose => $2)",
            &[&"kanarienparameter", &long],
        )
        .await?;
    for statement in [
        format!("update rotator.secrets set name = 'kanarienneuname' where id = '{id}'"),
        format!("update rotator.secrets set purpose = 'kanarienview' where id = '{id}'"),
        "insert into rotator.secrets (name, interval_days, purpose) values ('kanarienview', 10, 'kanarienview')".to_owned(),
        "select rotator.set_contact('ordinary-owner', 'email', 'kanarienmail@example.com')".to_owned(),
        "select rotator.set_contact('ordinary-owner', 'slack', '#kanarienkanal')".to_owned(),
        "select rotator.add_notification_policy(3, 'webhook', 'https://kanarienhaken.example.com/kanarienhaken')".to_owned(),
        "select rotator.import_secrets('[{\"name\":\"kanarienimport\",\"purpose\":\"kanarienimport\",\"rotation_interval\":\"1 day\"}]')".to_owned(),
        "select rotator.import_secrets('[{\"name\":\"kanarienimport 2\",\"rotation_interval\":\"1 day\"}]', dry_run => true)".to_owned(),
        "select * from rotator.search_secrets(query => 'kanariensuche')".to_owned(),
        "select * from rotator.secrets where name like '%kanariensuche%' order by name".to_owned(),
        "begin; select rotator.register_secret('kanarienname undone', rotation_interval => '1 day'); rollback".to_owned(),
        "select rotator.rotate_key(); update rotator.secrets set name = name || ' kanarienneuname'".to_owned(),
    ] {
        session.batch_execute(&statement).await?;
    }
    Ok(())
}

async fn refused(session: &Client) -> Result<()> {
    let call = |arguments: &str| format!("select rotator.register_secret({arguments})");
    for (statement, expected) in [
        (call("'KANARIENPARAMETER kanarienneuname', purpose => 'kanarienverweigert', rotation_interval => '1 day'"), "23505"),
        (call("E'kanarienverweigert\\n', rotation_interval => '1 day'"), "22023"),
        (call(&format!("'{}', rotation_interval => '1 day'", "kanarienverweigert".repeat(20))), "22023"),
        (call("'kanarienverweigert'"), "22023"),
        (call("'kanarienverweigert', rotation_interval => '-1 day'"), "22023"),
        (call("'kanarienverweigert', 'no provider!', rotation_interval => '1 day'"), "22023"),
        (call("'kanarienverweigert', expiry_date => '99999-01-01'"), "22023"),
        (call("'kanarienverweigert', expiry_date => 'infinity'"), "22023"),
        ("update rotator.secrets set name = 'kanarienverweigert', cycle = 7".to_owned(), "22023"),
        ("update rotator.secrets set name = 'kanarienverweigert'".to_owned(), "23505"),
        ("insert into rotator.secrets (name, purpose) values ('kanarienverweigert', 'kanarienverweigert')".to_owned(), "22023"),
        ("select rotator.set_contact('x', 'email', 'kanarienverweigert')".to_owned(), "22023"),
        ("select rotator.set_contact('x', 'webhook', 'http://kanarienverweigert')".to_owned(), "22023"),
        ("select rotator.add_notification_policy(3, 'slack', 'kanarienverweigert')".to_owned(), "22023"),
        ("select rotator.import_secrets('[{\"name\":\"kanarienverweigert\"},{\"name\":\"x\",\"kanarienverweigert\":1}]')".to_owned(), "ok"),
        ("select rotator.import_secrets('{\"name\":\"kanarienverweigert\"}')".to_owned(), "22023"),
        ("select rotator.search_secrets(query => 'kanarienverweigert', max_rows => 0)".to_owned(), "22023"),
        ("set row_security = off".to_owned(), "ok"),
        ("reset row_security".to_owned(), "ok"),
    ] {
        let verdict = verdict(session, &statement).await?;
        ensure!(verdict == expected, "{statement}: {verdict}");
    }
    for (value, _) in SECRETS {
        let json = serde_json::Value::from(*value)
            .to_string()
            .replace('\'', "''");
        for statement in [
            call(&format!("'{value}', rotation_interval => '1 day'")),
            call(&format!("'x', '{value}', rotation_interval => '1 day'")),
            call(&format!(
                "'x', rotation_interval => '1 day', purpose => 'use {value} here'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', provider_ref => 'key={value}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', environment => '{value}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', priority => '{value}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', owner_id => '{value}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', secondary_owner_id => '{value}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', team_lead_id => '{value}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', external_id => '{value}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', labels => '{{\"k\": {json}}}'"
            )),
            call(&format!(
                "'x', rotation_interval => '1 day', labels => '{{{json}: 1}}'"
            )),
            format!("insert into rotator.secrets (name, interval_days) values ('{value}', 1)"),
            format!("update rotator.secrets set purpose = '{value}'"),
            format!(
                "select rotator.retire_secret((select id from rotator.secrets limit 1), '{value}')"
            ),
            format!(
                "select rotator.mark_rotated((select id from rotator.secrets limit 1), note => '{value}')"
            ),
            format!(
                "select rotator.mark_rotated((select id from rotator.secrets limit 1), evidence_url => 'https://x/{value}')"
            ),
            format!(
                "select rotator.acknowledge((select id from rotator.secrets limit 1), '{value}')"
            ),
            format!("select rotator.rotate_key(reason => '{value}')"),
            format!("select rotator.add_member('{value}')"),
            format!("select rotator.set_contact('{value}', 'console', 'x')"),
        ] {
            let verdict = verdict(session, &statement).await?;
            ensure!(verdict == "RT001", "{statement}: {verdict}");
        }
        let errors = texts(session, &format!("select error from rotator.import_secrets('[{{\"name\":{json}}},{{\"name\":\"x\",\"expiry_date\":{json}}},{{{json}:1}},{{\"name\":\"y\",\"rotation_interval\":\"1 day\",\"labels\":{{\"a\":[{json}]}}}}]')")).await?;
        ensure!(
            errors.len() == 4
                && errors
                    .iter()
                    .all(|error| error.contains("looks like a secret")),
            "{errors:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_plaintext_reaches_tables_wal_or_log() -> Result<()> {
    let db = TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "admin").await?;
    accepted(&session).await?;
    refused(&session).await?;
    let sidecar = db
        .connect_as(&db.login_role("sidecar", &["rotator_sidecar"]).await?)
        .await?;
    sidecar.batch_execute("select rotator.tick()").await?;
    let claimed = texts(&sidecar, "select concat_ws('|', id, claim_id, link_token, message) from rotator.claim_notifications('w')").await?;
    ensure!(
        claimed
            .iter()
            .any(|claim| claim.contains("kanarienneuname")),
        "the sidecar gets the names: {claimed:?}"
    );
    let mut tokens = Vec::new();
    for (count, claim) in claimed.iter().enumerate() {
        let [id, claim, token, _] = claim.splitn(4, '|').collect::<Vec<_>>()[..] else {
            anyhow::bail!("{claim}")
        };
        let end = if count % 2 == 0 {
            format!("complete_notification('{id}', '{claim}', 'vendor-id')")
        } else {
            format!("fail_notification('{id}', '{claim}', 'HTTP 500', 'transient')")
        };
        sidecar
            .batch_execute(&format!(
                "select rotator.{end}; select rotator.redeem_link('{token}', 'show')"
            ))
            .await?;
        let refused = verdict(
            &sidecar,
            &format!("select rotator.redeem_link('{token}', 'kanarienlink')"),
        )
        .await?;
        ensure!(refused == "22023" || refused == "RT001", "{refused}");
        tokens.push(token.to_owned());
    }
    // What must be found, or the search finds nothing at all.
    session.batch_execute("select rotator.register_secret('x', rotation_interval => '1 day', environment => 'sichtbar-im-wal')").await?;
    ensure!(verdict(&session, "select 'sichtbar-im-log', 1/0").await? == "22012");
    drop((session, sidecar));
    db.admin.batch_execute("checkpoint").await?;
    db.cluster.stop().await?;

    let log = db.cluster.log()?;
    ensure!(
        log.contains("sichtbar-im-log")
            && db.cluster.files_containing(b"sichtbar-im-wal")?.len() >= 2,
        "the search works"
    );
    for mark in MARKS
        .iter()
        .copied()
        .chain(SECRETS.iter().map(|(_, mark)| *mark))
        .chain(tokens.iter().map(String::as_str))
    {
        let files = db.cluster.files_containing(mark.as_bytes())?;
        ensure!(files.is_empty(), "{mark} is in {files:?}");
        let line = log
            .lines()
            .find(|line| line.contains(mark) || line.contains(&mark.to_uppercase()));
        ensure!(line.is_none(), "the log has it: {line:?}");
    }
    Ok(())
}
