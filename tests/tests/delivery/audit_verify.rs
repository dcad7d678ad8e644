//! `rotator audit verify` on logs that are clean, whatever happened to them honestly, and on what isn't a whole log.

use anyhow::{Context, Result, ensure};
use rotator_tests::Cli;

use crate::audit_log::Log;

#[tokio::test]
async fn a_late_commit_and_unsealed_events_raise_no_alarm() -> Result<()> {
    let log = Log::new().await?;
    // Begins first, commits last: its event has an old id and an old time.
    let late = log.db().connect_as(&log.acme.operator_role).await?;
    late.batch_execute("select rotator.use_tenant('acme'); begin; select rotator.set_contact('late', 'console', 'x')").await?;
    for _ in 0..3 {
        log.events(2).await?;
        log.acme.tick().await?;
    }
    late.batch_execute("commit").await?;
    let _sidecar = log.sidecar().await?;
    log.sealed(2, 2).await?;
    log.all_signed().await?;
    log.events(2).await?;
    let export = log.export().await?;
    let verdict = log.verify(&export, true).await?;
    verdict.is_clean()?;
    ensure!(
        verdict.count("unsealed") >= 2 && verdict.count("checked") >= 11,
        "{:#}",
        verdict.found
    );
    log.verify_database(true).await?.is_clean()?;
    // Copies that go on after the export are no fault of the export.
    log.sealed(2, 1).await?;
    log.all_signed().await?;
    let verdict = log.verify(&export, true).await?;
    ensure!(
        verdict.is_clean()?.found["notes"]
            .to_string()
            .contains("were signed after this log was read"),
        "{:#}",
        verdict.found
    );
    Ok(())
}

#[tokio::test]
async fn an_older_state_is_told_by_the_copies() -> Result<()> {
    let log = Log::new().await?;
    log.finished(3, 2).await?;
    // The log as it was, claimed to be as of now: what a restore of an older dump looks like.
    let older = log.export().await?;
    log.sealed(2, 1).await?;
    let mut sidecar = log.sidecar().await?;
    log.all_signed().await?;
    sidecar.terminate().await?;
    let moment = |export: &str| -> Option<String> {
        let (_, rest) = export.split_once("\"as_of\":\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let now = log.export().await?;
    let (then, now) = moment(&older).zip(moment(&now)).context("as of when")?;
    let restored = older.replacen(&then, &now, 1);
    log.verify(&restored, true)
        .await?
        .names(None, "an older dump was restored")?;
    // Without the copy it is a good log: that is why there are copies.
    log.verify(&older, false).await?.is_clean()?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_whole_export_is_refused() -> Result<()> {
    let log = Log::new().await?;
    log.finished(1, 2).await?;
    let export = log.export().await?;
    for (text, said) in [
        (export[..export.len() - 5].to_owned(), "it was cut off"),
        (
            export
                .lines()
                .take(3)
                .map(|line| format!("{line}\n"))
                .collect(),
            "it was cut off",
        ),
        ("hello\n".to_owned(), "line 1 is no line of an export"),
        (String::new(), "it was cut off"),
    ] {
        let arguments = ["audit", "verify", "-", "--key", &log.public];
        let printed = Cli::offline(&arguments)?.input(&text).run().await?;
        ensure!(
            printed.code == 1 && printed.stderr.contains(said),
            "{printed:?}"
        );
    }
    for (key, said) in [
        (log.private.as_str(), "it is a private key"),
        ("nowhere.pub", "--key is no public key"),
    ] {
        let printed = Cli::offline(&["audit", "verify", "-", "--key", key])?
            .input(&export)
            .run()
            .await?;
        ensure!(
            printed.code == 2
                && printed.stderr.contains(said)
                && !printed.stderr.contains(&log.private),
            "{printed:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn without_a_key_it_says_that_signatures_are_not_checked() -> Result<()> {
    let log = Log::new().await?;
    log.finished(2, 2).await?;
    let export = log.export().await?;
    let said = Cli::offline(&["audit", "verify", "-"])?
        .input(&export)
        .ok()
        .await?;
    ensure!(
        said.starts_with("ok: ") && said.contains("not checked without --key"),
        "{said}"
    );
    // Keys from a file, the old and the new one together.
    let (_, another) = crate::audit_log::new_key().await?;
    let both = format!("# keys\n{another}\n{}\n", log.public);
    let said = Cli::offline(&["audit", "verify", "-", "--key", "keys"])?
        .file("keys", both.as_bytes())?
        .input(&export)
        .ok()
        .await?;
    ensure!(
        said.contains(" signed; ") && !said.contains(" 0 signed"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_block_that_nobody_signed_for_a_day_is_a_fault_unless_put_up_with() -> Result<()> {
    let log = Log::new().await?;
    log.sealed(2, 1).await?;
    let export = log.export().await?;
    log.verify(&export, false).await?.is_clean()?;
    let (first, rest) = export.split_once('\n').unwrap_or_default();
    let year = &first[first.find("\"as_of\":\"").unwrap_or_default() + 9..][..4];
    let later = first.replacen(&format!("\"as_of\":\"{year}"), "\"as_of\":\"2999", 1);
    let later = format!("{later}\n{rest}");
    log.verify(&later, false)
        .await?
        .names(None, "has no signature")?;
    let arguments = [
        "audit",
        "verify",
        "-",
        "--key",
        &log.public,
        "--allow-unsigned",
    ];
    Cli::offline(&arguments)?.input(&later).ok().await?;
    Ok(())
}

#[tokio::test]
async fn new_key_writes_the_private_line_where_nobody_else_reads_it() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = rotator_tests::scratch::Scratch::new("key")?;
    let path = folder.join("audit.key");
    let name = path.display().to_string();
    let arguments = ["audit", "new-key", "--name", "acme/audit", "--out", &name];
    let public = Cli::offline(&arguments)?.ok().await?;
    ensure!(
        public.starts_with("acme/audit+") && public.lines().count() == 1,
        "{public}"
    );
    let private = std::fs::read_to_string(&path)?;
    ensure!(private.starts_with("PRIVATE+KEY+acme/audit+"));
    ensure!(std::fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600);
    let printed = Cli::offline(&arguments)?.run().await?;
    ensure!(
        printed.code == 1 && std::fs::read_to_string(&path)? == private,
        "{printed:?}"
    );
    let printed = Cli::offline(&["audit", "new-key", "--name", "a b"])?
        .run()
        .await?;
    ensure!(printed.code == 2, "{printed:?}");
    Ok(())
}
