//! A master key command that doesn't end: it is killed with everything it started, when its ten seconds are over and when
//! the query or the session that waits for it is ended; and nobody waits for it twice in a row.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rotator_tests::{scalar, until};

use crate::fixture::{refusal, verdict};
use crate::master_command::Commanded;
use crate::master_key::{expect_unavailable, expect_well};

/// Notes itself and what it started, and never ends.
const HANGS: &str = "sleep 600 & echo $$ $! >>$key.running; echo 'still waiting' >&2; wait";

impl Commanded {
    fn running(&self) -> Result<Vec<String>> {
        let file = self
            .kept
            .db
            .cluster
            .master_key
            .with_extension("key.running");
        let ids = std::fs::read_to_string(file).unwrap_or_default();
        let lives = |id: &&str| {
            std::fs::read_to_string(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| line.contains("sleep") || line.contains("master-key-command"))
        };
        Ok(ids
            .split_whitespace()
            .filter(lives)
            .map(str::to_owned)
            .collect())
    }

    async fn none_running(&self, after: &str) -> Result<()> {
        until(
            Duration::from_secs(5),
            &format!("{after}: the command to be gone"),
            async || Ok(self.running()?.is_empty()),
        )
        .await
    }
}

#[tokio::test]
async fn one_that_hangs_is_killed_after_ten_seconds() -> Result<()> {
    let mut commanded = Commanded::new().await?;
    commanded.program_does(HANGS)?;
    let begin = Instant::now();
    commanded.kept.restart().await?;
    ensure!(
        begin.elapsed() > Duration::from_secs(10),
        "the postmaster ran it"
    );
    commanded.none_running("the start").await?;
    expect_unavailable(
        &commanded.kept,
        "hang",
        "did not end within 10 seconds: still waiting",
    )
    .await?;
    commanded.none_running("the refusals").await?;

    let open = commanded
        .kept
        .db
        .connect_as(&commanded.kept.member_of_acme)
        .await?;
    ensure!(verdict(&open, "select name from rotator.secrets").await? == "RT010");
    let begin = Instant::now();
    let said = refusal(&open, "select name from rotator.secrets").await?;
    ensure!(
        said.starts_with("RT010") && begin.elapsed() < Duration::from_secs(2),
        "asked again at once: {said} after {:?}",
        begin.elapsed()
    );
    commanded.mend().await?;
    until(
        Duration::from_secs(20),
        "an open session to get the key",
        async || Ok(verdict(&open, "select name from rotator.secrets").await? == "ok"),
    )
    .await?;
    expect_well(&commanded.kept, "the hang").await
}

#[tokio::test]
async fn whoever_waits_for_it_can_be_cancelled_and_ended() -> Result<()> {
    let commanded = Commanded::new().await?;
    commanded.program_does(HANGS)?;
    let admin = commanded.admin();
    for (after, end) in [
        ("statement_timeout", None),
        ("pg_cancel_backend", Some("select pg_cancel_backend($1)")),
        (
            "pg_terminate_backend",
            Some("select pg_terminate_backend($1)"),
        ),
    ] {
        let session = commanded.kept.db.superuser().await?;
        let pid: i32 = scalar(&session, "select pg_backend_pid()", &[]).await?;
        let waiting = tokio::spawn(async move {
            if end.is_none() {
                session
                    .batch_execute("set statement_timeout = '300ms'")
                    .await?;
            }
            let begin = Instant::now();
            let verdict = session
                .batch_execute("select rotator.reload_master_key()")
                .await;
            anyhow::Ok((
                verdict
                    .err()
                    .and_then(|error| Some(error.code()?.code().to_owned())),
                begin.elapsed(),
            ))
        });
        until(
            Duration::from_secs(5),
            &format!("{after}: the command to run"),
            async || Ok(!commanded.running()?.is_empty() || waiting.is_finished()),
        )
        .await?;
        let begin = Instant::now();
        if let Some(end) = end {
            ensure!(scalar::<bool>(admin, end, &[&pid]).await?);
        }
        let (state, took) = waiting.await??;
        let expected = if after == "pg_terminate_backend" {
            "57P01"
        } else {
            "57014"
        };
        ensure!(state.as_deref() == Some(expected), "{after}: {state:?}");
        ensure!(
            took < Duration::from_secs(5) && begin.elapsed() < Duration::from_secs(1),
            "{after}: {took:?}, {:?} after the signal",
            begin.elapsed()
        );
        commanded.none_running(after).await?;
    }
    // The session that is killed outright takes it along too, and the server comes back.
    let session = commanded.kept.db.superuser().await?;
    let pid: i32 = scalar(&session, "select pg_backend_pid()", &[]).await?;
    let waiting = tokio::spawn(async move {
        session
            .batch_execute("select rotator.reload_master_key()")
            .await
    });
    until(Duration::from_secs(5), "the command to run", async || {
        Ok(!commanded.running()?.is_empty())
    })
    .await?;
    let program = commanded.running()?.remove(0);
    ensure!(
        std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()?
            .success()
    );
    ensure!(waiting.await?.is_err());
    until(
        Duration::from_secs(5),
        "the program to be gone",
        async || Ok(!commanded.running()?.contains(&program)),
    )
    .await?;
    for rest in commanded.running()? {
        std::process::Command::new("kill").arg(&rest).status()?;
    }
    Ok(())
}
