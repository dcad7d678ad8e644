//! What the guard refuses stays nowhere: a secret of each class goes into every kind of call, into a member's SQL, an
//! import and the page behind a link; then the server is stopped and its tables, WAL and log are searched, and the
//! sidecar's log and metrics with them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::sidecar::http;
use rotator_tests::{Cluster, Options, Sidecar, TestDb, until};
use tokio_postgres::Client;

use crate::fixture::{text, verdict};

const SOON: Duration = Duration::from_secs(30);

/// The value, and the part of it to search for.
fn secrets() -> Vec<(String, String)> {
    let mark = |class: &str| format!("Kq{class}7Lw9Vb4Nc2M");
    vec![
        (
            ["ghp_", &mark("v"), "Zx8Kq2Lw9Vb4Nc7MAb12xY"].concat(),
            mark("v"),
        ),
        (
            ["postgres://app:", &mark("u"), "@db.example.com/main"].concat(),
            mark("u"),
        ),
        (
            ["Server=db;Uid=app;Pwd=", &mark("c"), ";Encrypt=True"].concat(),
            mark("c"),
        ),
        (
            [
                "https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/",
                &mark("h"),
                "Zx8KqLw9",
            ]
            .concat(),
            mark("h"),
        ),
        (
            ["otpauth://totp/acme?secret=", &mark("o")].concat(),
            mark("o"),
        ),
        (
            ["db.example.com:5432:main:app:", &mark("p")].concat(),
            mark("p"),
        ),
        ([&mark("r"), "tR5yJ3hG6fD1sPa0eUoIx"].concat(), mark("r")),
        (
            [
                "-----BEGIN EC PRIVATE ",
                "KEY-----\nMHc",
                &mark("k"),
                "\n-----END",
            ]
            .concat(),
            mark("k"),
        ),
    ]
}

async fn refused(session: &Client, value: &str) -> Result<()> {
    let literal = value.replace('\'', "''");
    let json = serde_json::Value::from(value)
        .to_string()
        .replace('\'', "''");
    for statement in [
        format!(
            "select rotator.register_secret('x', rotation_interval => '1 day', purpose => 'use {literal} here')"
        ),
        format!("select rotator.register_secret('{literal}', rotation_interval => '1 day')"),
        format!(
            "select rotator.register_secret('x', 'own', rotation_interval => '1 day', provider_ref => '{literal}')"
        ),
        format!(
            "select rotator.register_secret('x', rotation_interval => '1 day', labels => '{{\"k\": {json}}}')"
        ),
        format!("insert into rotator.secrets (name, interval_days) values ('{literal}', 1)"),
        format!("update rotator.secrets set purpose = '{literal}'"),
        format!(
            "select rotator.mark_rotated((select id from rotator.secrets limit 1), note => '{literal}')"
        ),
        format!(
            "select rotator.mark_rotated((select id from rotator.secrets limit 1), evidence_url => 'https://x/?q={literal}')"
        ),
        format!(
            "select rotator.acknowledge((select id from rotator.secrets limit 1), '{literal}')"
        ),
        format!(
            "select rotator.retire_secret((select id from rotator.secrets limit 1), '{literal}')"
        ),
        format!("select rotator.rotate_key(reason => '{literal}')"),
        format!("select rotator.allow_value('note', 'x', '{literal}')"),
    ] {
        let verdict = verdict(session, &statement).await?;
        ensure!(verdict == "RT001", "{statement}: {verdict}");
    }
    let error = text(session, &format!("select error from rotator.import_secrets('[{{\"name\":\"x\",\"rotation_interval\":\"1 day\",\"purpose\":{json}}}]')")).await?;
    ensure!(error.contains("looks like a secret"), "{error}");
    // Bound, as programs do: it must not come back by log_parameter_max_length_on_error either.
    let answer = session
        .query(
            "select rotator.register_secret($1, rotation_interval => '1 day')",
            &[&value],
        )
        .await;
    ensure!(answer.is_err());
    Ok(())
}

/// Percent encoding of everything.
fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Gives the page behind a link a note with the secret in it, as the person who got the message would.
async fn refused_by_the_page(link: &str, value: &str) -> Result<()> {
    let answer = http()
        .post(link)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("action=acknowledge&note={}", encoded(value)))
        .send()
        .await?;
    let status = answer.status().as_u16();
    let body = answer.text().await?;
    ensure!((400..500).contains(&status), "{status}: {body}");
    ensure!(body.contains("secret"), "{body}");
    Ok(())
}

/// The links that the sidecar has printed, once there are so many.
async fn links(page: &Sidecar, count: usize) -> Result<Vec<String>> {
    let found = || -> Result<Vec<String>> {
        let start = page.url("/a/");
        Ok(page
            .log()?
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(&start))
            .map(str::to_owned)
            .collect())
    };
    until(SOON, "the links to be printed", async || {
        Ok(found()?.len() >= count)
    })
    .await?;
    found()
}

#[tokio::test]
async fn nothing_of_a_refused_secret_stays_anywhere() -> Result<()> {
    let settings = vec!["log_parameter_max_length_on_error = 0".to_owned()];
    let options = Options {
        settings,
        ..Options::default()
    };
    let db = TestDb::in_cluster(Arc::new(Cluster::start(options).await?)).await?;
    db.tenant("acme").await?;
    let session = db.session("acme", "admin").await?;
    session
        .batch_execute(
            "select rotator.register_secret('due ' || n, expiry_date => now() + interval '3 days', rotation_interval => '90 days')
             from generate_series(1, 10) n",
        )
        .await?;
    let worker = db.login_role("worker", &["rotator_sidecar"]).await?;
    let worker = db.connect_as(&worker).await?;
    worker.batch_execute("select rotator.tick()").await?;
    let mut page = Sidecar::start(&db, &[("RUST_LOG", "trace")]).await?;
    let links = links(&page, 10).await?;
    for ((value, _), link) in secrets().iter().zip(&links) {
        refused(&session, value).await?;
        refused_by_the_page(link, value).await?;
    }
    let metrics = http()
        .get(page.url("/metrics"))
        .send()
        .await?
        .text()
        .await?;
    let log = page.log()?;
    page.terminate().await?;
    // What must be found, or the search finds nothing at all.
    session
        .batch_execute("select rotator.register_secret('x', rotation_interval => '1 day', environment => 'sichtbar-im-wal')")
        .await?;
    ensure!(verdict(&session, "select 'sichtbar-im-log', 1/0").await? == "22012");
    drop((session, worker));
    db.admin.batch_execute("checkpoint").await?;
    db.cluster.stop().await?;

    let server_log = db.cluster.log()?;
    ensure!(server_log.contains("sichtbar-im-log") && !log.is_empty() && !metrics.is_empty());
    ensure!(
        db.cluster.files_containing(b"sichtbar-im-wal")?.len() >= 2,
        "the search works"
    );
    for (_, mark) in secrets() {
        let files = db.cluster.files_containing(mark.as_bytes())?;
        ensure!(files.is_empty(), "{mark} is in {files:?}");
        for (name, text) in [
            ("server log", &server_log),
            ("sidecar log", &log),
            ("metrics", &metrics),
        ] {
            let line = text.lines().find(|line| line.contains(&mark));
            ensure!(line.is_none(), "the {name} has it: {line:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_vendors_error_is_kept_without_what_it_quotes() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    crate::fixture::populate(&db, "acme").await?;
    let worker = db.login_role("worker", &["rotator_sidecar"]).await?;
    let worker = db.connect_as(&worker).await?;
    let secret = secrets().swap_remove(0);
    let row = worker
        .query_one(
            "select id, claim_id from rotator.claim_notifications('w') limit 1",
            &[],
        )
        .await
        .context("a notification")?;
    let (id, claim): (uuid::Uuid, uuid::Uuid) = (row.get(0), row.get(1));
    worker
        .execute(
            "select rotator.fail_notification($1, $2, 'HTTP 401: bad token ' || $3::text, 'permanent')",
            &[&id, &claim, &secret.0],
        )
        .await?;
    let said = text(
        &db.admin,
        &format!("select last_error from rotator_internal.notification where id = '{id}'"),
    )
    .await?;
    ensure!(
        said == "it failed, with an error that looks like it quotes a secret",
        "{said}"
    );
    let found = text(
        &db.admin,
        &format!("select count(*) from rotator_internal.audit_event as e where position('{0}' in e::text) > 0", secret.1),
    )
    .await?;
    ensure!(found == "0");
    let named = worker
        .query(
            "select * from rotator.claim_notifications($1)",
            &[&secret.0],
        )
        .await;
    rotator_tests::refused(named, "RT001")?;
    Ok(())
}
