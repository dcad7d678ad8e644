//! Sealed blocks are signed, copied, and only then recorded: killed in between nothing is lost or doubled, and several
//! sidecars get along.

use anyhow::{Result, ensure};
use rotator_tests::exposition::Exposition;
use rotator_tests::sidecar::http;
use rotator_tests::{Cli, Sidecar, until};

use crate::audit_log::{Log, SEALED};
use crate::seed::SOON;

async fn figure(sidecar: &Sidecar, name: &str) -> Result<Option<f64>> {
    let answer = http().get(sidecar.url("/metrics")).send().await?;
    Ok(Exposition::read(&answer.text().await?)?.get(name))
}

#[tokio::test]
async fn blocks_are_signed_and_copied_and_the_whole_verifies() -> Result<()> {
    let log = Log::new().await?;
    log.sealed(3, 2).await?;
    let sidecar = log.sidecar().await?;
    log.all_signed().await?;
    let signed = log.signed().await?;
    until(SOON, "the figures", async || {
        Ok(
            figure(&sidecar, "rotator_audit_signed_total").await? == Some(signed as f64)
                && figure(&sidecar, "rotator_audit_waiting").await? == Some(0.0)
                && figure(&sidecar, "rotator_audit_sink_up{sink=\"file\"}").await? == Some(1.0),
        )
    })
    .await?;
    ensure!(log.copied()?.len() as i64 == signed, "one line a block");
    let row = log
        .db()
        .admin
        .query_one(
            "select note, copies from rotator.audit_blocks order by block_id limit 1",
            &[],
        )
        .await?;
    let (note, copies): (String, Vec<String>) = (row.get(0), row.get(1));
    ensure!(
        note.starts_with("rotator/audit/") && note.contains("\n\u{2014} rotator/audit/20"),
        "{note}"
    );
    ensure!(copies == [format!("file:{}", log.file_name())]);
    // New ones are signed as they come.
    log.sealed(1, 1).await?;
    log.all_signed().await?;
    for verdict in [
        log.verify(&log.export().await?, true).await?,
        log.verify(&log.export().await?, false).await?,
        log.verify_database(true).await?,
    ] {
        verdict.is_clean()?;
        ensure!(
            verdict.count("signed") >= signed && verdict.count("checked") >= 7,
            "{:#}",
            verdict.found
        );
    }
    ensure!(
        !sidecar.log()?.contains("PRIVATE+KEY"),
        "the key is nowhere"
    );
    Ok(())
}

#[tokio::test]
async fn killed_between_copy_and_record_it_goes_on_without_a_second_copy() -> Result<()> {
    let log = Log::new().await?;
    let blocks = log.sealed(4, 1).await?;
    let grant = |verb: &str, to: &str| {
        format!(
            "{verb} execute on function rotator.record_audit_signature(uuid, bigint, text, text, text[]) {to} rotator_sidecar"
        )
    };
    log.db()
        .admin
        .batch_execute(&grant("revoke", "from"))
        .await?;
    let mut first = log.sidecar().await?;
    until(SEALED, "the copies", async || {
        Ok(log.copied()?.len() as i64 >= blocks)
    })
    .await?;
    first.kill().await?;
    ensure!(log.signed().await? == 0);
    // As if it had been killed in the middle of writing, too.
    let text = std::fs::read(log.file())?;
    std::fs::write(log.file(), &text[..text.len() - 100])?;
    log.db().admin.batch_execute(&grant("grant", "to")).await?;
    let _second = log.sidecar().await?;
    log.all_signed().await?;
    let (signed, copied) = (log.signed().await?, log.copied()?);
    ensure!(
        copied.len() as i64 == signed,
        "each once, and the torn one again: {signed} of {copied:#?}"
    );
    let verdict = log.verify(&log.export().await?, true).await?;
    let notes = verdict.is_clean()?.found["notes"].to_string();
    ensure!(notes.contains("1 torn lines"), "{notes}");
    Ok(())
}

#[tokio::test]
async fn two_at_once_share_a_file_or_have_one_each() -> Result<()> {
    let log = Log::new().await?;
    log.sealed(6, 1).await?;
    let (_one, _other) = tokio::try_join!(log.sidecar(), log.sidecar())?;
    log.sealed(4, 1).await?;
    log.all_signed().await?;
    let mut numbers: Vec<String> = log
        .copied()?
        .iter()
        .map(|line| format!("{}/{}", line["tenant_id"], line["number"]))
        .collect();
    let all = numbers.len();
    numbers.sort();
    numbers.dedup();
    ensure!(numbers.len() == all, "each block is in the file once");
    log.verify(&log.export().await?, true).await?.is_clean()?;
    Ok(())
}

#[tokio::test]
async fn files_of_several_sidecars_are_verified_together() -> Result<()> {
    let log = Log::new().await?;
    let other = log.folder.join("other.jsonl");
    let other = other.display().to_string();
    let mut turns = Vec::new();
    for file in [log.file_name(), other.clone(), log.file_name()] {
        log.sealed(2, 1).await?;
        let mut sidecar = log.sidecar_with(&[("ROTATOR_AUDIT_FILE", &file)]).await?;
        log.all_signed().await?;
        sidecar.terminate().await?;
        turns.push(file);
    }
    let export = log.export().await?;
    let both = [
        "audit",
        "verify",
        "-",
        "--key",
        &log.public,
        "--copy",
        &turns[0],
        "--copy",
        &other,
    ];
    let said = Cli::offline(&both)?.input(&export).ok().await?;
    ensure!(said.starts_with("ok: "), "{said}");
    log.verify(&export, true)
        .await?
        .names(None, "is missing in the signed copy")
}

#[tokio::test]
async fn a_key_that_is_none_ends_the_start() -> Result<()> {
    let log = Log::new().await?;
    let role = log.db().login_role("sidecar", &["rotator_sidecar"]).await?;
    let damaged = log.private.replacen("+rotator", "+rotato", 1);
    let file = log.file_name();
    for (settings, expected) in [
        (
            vec![("ROTATOR_AUDIT_KEY", damaged.as_str())],
            "ROTATOR_AUDIT_KEY: it is damaged",
        ),
        (
            vec![("ROTATOR_AUDIT_FILE", file.as_str())],
            "ROTATOR_AUDIT_KEY is not",
        ),
        (
            vec![
                ("ROTATOR_AUDIT_KEY", log.private.as_str()),
                ("ROTATOR_AUDIT_FILE", "/nonexistent/blocks"),
            ],
            "can't write /nonexistent/blocks",
        ),
        (
            vec![
                ("ROTATOR_AUDIT_KEY", log.private.as_str()),
                ("ROTATOR_AUDIT_S3_URL", "s3://acme-audit/x"),
            ],
            "ROTATOR_AUDIT_S3_RETENTION_DAYS is not set",
        ),
    ] {
        let mut sidecar = Sidecar::spawn(&log.db().url(&role), &settings).await?;
        let ended = sidecar.ended(SOON).await?;
        let said = sidecar.log()?;
        ensure!(
            ended.code() == Some(4) && said.contains(expected),
            "{ended} {said}"
        );
        ensure!(
            !said.contains(&damaged) && !said.contains(&log.private),
            "{said}"
        );
    }
    Ok(())
}
