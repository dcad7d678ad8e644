//! A start that can't work ends with one message, one hint and its own exit code. A database that is merely away is
//! waited for: `startup_waits.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{Sidecar, TestDb};

/// It ends with this code and says so, once, with a hint; what it printed.
async fn ends_with(mut sidecar: Sidecar, code: i32, message: &str, hint: &str) -> Result<String> {
    let status = sidecar.ended(Duration::from_secs(20)).await?;
    let log = sidecar.log()?;
    ensure!(status.code() == Some(code), "{status}: {log}");
    let lines = |start: &str| {
        log.lines()
            .filter(|line| line.starts_with(start))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (errors, hints) = (lines("error: "), lines("hint: "));
    ensure!(
        errors.len() == 1 && errors[0].contains(message),
        "one clear message: {log}"
    );
    ensure!(
        hints.len() == 1 && hints[0].contains(hint),
        "and what to do: {log}"
    );
    ensure!(!log.contains("panicked"), "{log}");
    Ok(log)
}

/// As the operator of a sidecar would set it up, except for what the test changes.
async fn database() -> Result<(TestDb, String)> {
    let db = TestDb::new().await?;
    let role = db.login_role("sidecar", &["rotator_sidecar"]).await?;
    let url = db.url(&role);
    Ok((db, url))
}

#[tokio::test]
async fn a_url_that_is_none_is_a_wrong_setting() -> Result<()> {
    for url in [
        "",
        "not a url",
        "mysql://root:hunter2hunter2@localhost/x",
        "postgres://u:hunter2hunter2@host:port/x",
        "host=localhost user=u password=with hunter2hunter2=x",
    ] {
        let log = ends_with(
            Sidecar::spawn(url, &[]).await?,
            4,
            "ROTATOR_DATABASE_URL",
            "",
        )
        .await?;
        ensure!(!log.contains("hunter2"), "it may hold a password: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_not_waited_for() -> Result<()> {
    let db = TestDb::new().await?;
    let mut role = db.login_role("sidecar", &["rotator_sidecar"]).await?;
    role.password = "hunter2hunter2".to_owned();
    let log = ends_with(
        Sidecar::spawn(&db.url(&role), &[]).await?,
        4,
        "password authentication failed",
        "password",
    )
    .await?;
    ensure!(!log.contains("hunter2"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_not_waited_for() -> Result<()> {
    let (db, url) = database().await?;
    let url = url.replace(&db.name, "nosuch");
    ends_with(
        Sidecar::spawn(&url, &[]).await?,
        4,
        "\"nosuch\" does not exist",
        "ROTATOR_DATABASE_URL",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_has_its_own_code() -> Result<()> {
    let (_db, url) = database().await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let sidecar = Sidecar::spawn(&url, &[("ROTATOR_LISTEN", &address)]).await?;
    ends_with(sidecar, 5, &address, "ROTATOR_LISTEN").await?;
    Ok(())
}

#[tokio::test]
async fn without_the_extension_it_says_how_to_get_it() -> Result<()> {
    let db = TestDb::bare().await?;
    let role = db.login_role("sidecar", &[]).await?;
    let sidecar = Sidecar::spawn(&db.url(&role), &[]).await?;
    ends_with(
        sidecar,
        3,
        "extension rotator is not installed",
        "create extension rotator",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_older_or_newer_extension_is_named_as_such() -> Result<()> {
    let (db, url) = database().await?;
    for (version, relation, hint) in [
        ("0.0.9", "older", "alter extension rotator update"),
        ("9.0.0", "newer", "sidecar"),
    ] {
        db.admin
            .execute(
                "update pg_extension set extversion = $1 where extname = 'rotator'",
                &[&version],
            )
            .await?;
        let log = ends_with(Sidecar::spawn(&url, &[]).await?, 3, relation, hint).await?;
        ensure!(
            log.contains(version) && log.contains(env!("CARGO_PKG_VERSION")),
            "both versions: {log}"
        );
    }
    // Patch levels go together.
    let patched = format!(
        "{}.{}.99",
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR")
    );
    db.admin
        .execute(
            "update pg_extension set extversion = $1 where extname = 'rotator'",
            &[&patched],
        )
        .await?;
    Sidecar::spawn(&url, &[]).await?.ready().await
}

#[tokio::test]
async fn a_role_without_the_grant_is_told_which() -> Result<()> {
    let db = TestDb::new().await?;
    let role = db.login_role("stranger", &[]).await?;
    let sidecar = Sidecar::spawn(&db.url(&role), &[]).await?;
    ends_with(sidecar, 4, &role.name, "grant rotator_sidecar").await?;
    Ok(())
}

#[tokio::test]
async fn settings_that_can_not_be_used_are_named() -> Result<()> {
    let (_db, url) = database().await?;
    for (name, value) in [
        ("ROTATOR_LISTEN", "8080"),
        ("ROTATOR_PUBLIC_URL", "rotator.acme.example"),
        ("ROTATOR_SLACK_URL", "https://user:hunter2hunter2@slack.com"),
        (
            "ROTATOR_SMTP_URL",
            "http://mail:hunter2hunter2@mail.acme.example",
        ),
        ("ROTATOR_EMAIL_FROM", "nobody"),
        ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-hunter2 hunter2"),
        ("ROTATOR_EGRESS_ALLOW", "10.0.0.0/99"),
        ("ROTATOR_SLACK_BOT_TOKEN_FILE", "/nowhere/at/all"),
    ] {
        let log = ends_with(Sidecar::spawn(&url, &[(name, value)]).await?, 4, name, "").await?;
        ensure!(!log.contains("hunter2"), "{name}: {log}");
    }
    Ok(())
}
