//! A file that can't be written: blocks wait, the log, the probes and the figures say so, the database works on, and what has
//! gathered is caught up. And what to do after a restore: a new file.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::exposition::Exposition;
use rotator_tests::sidecar::http;
use rotator_tests::{Sidecar, until};

use crate::audit_log::{Log, SEALED};

const NOTICED: Duration = Duration::from_secs(30);

async fn page(sidecar: &Sidecar, path: &str) -> Result<String> {
    Ok(http().get(sidecar.url(path)).send().await?.text().await?)
}

#[tokio::test]
async fn a_file_that_is_away_holds_up_signatures_and_nothing_else() -> Result<()> {
    let log = Log::new().await?;
    let (folder, away) = (log.folder.join("copies"), log.folder.join("away"));
    std::fs::create_dir(&folder)?;
    let file = folder.join("blocks.jsonl");
    let name = file.display().to_string();
    log.sealed(1, 1).await?;
    let sidecar = log.sidecar_with(&[("ROTATOR_AUDIT_FILE", &name)]).await?;
    log.all_signed().await?;
    let before = log.signed().await?;
    std::fs::rename(&folder, &away)?;
    let sealed = log.sealed(3, 1).await?;
    sidecar.logged(NOTICED, "audit log: can't write").await?;
    ensure!(
        log.signed().await? == before && sealed > before,
        "only what is copied is signed"
    );
    until(NOTICED, "the probes to say so", async || {
        let ready = page(&sidecar, "/readyz").await?;
        let figures = Exposition::read(&page(&sidecar, "/metrics").await?)?;
        Ok(ready.contains("audit: can't write")
            && ready.contains("\"ready\":true")
            && figures.get("rotator_audit_sink_up{sink=\"file\"}") == Some(0.0)
            && figures
                .get("rotator_audit_waiting")
                .is_some_and(|blocks| blocks > 0.0)
            && figures
                .get("rotator_audit_behind_seconds")
                .is_some_and(|seconds| seconds > 0.0))
    })
    .await?;
    std::fs::rename(&away, &folder)?;
    log.all_signed().await?;
    sidecar.logged(NOTICED, "signed and copied again").await?;
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.lines().count() as i64 == log.signed().await?);
    until(NOTICED, "the probes to be content", async || {
        Ok(!page(&sidecar, "/readyz").await?.contains("audit:"))
    })
    .await
}

#[tokio::test]
async fn a_restored_log_is_signed_again_once_the_copies_begin_anew() -> Result<()> {
    let log = Log::new().await?;
    log.finished(3, 2).await?;
    // As after a restore: signatures and the last block are gone, sealing looks at all events once, and events differ.
    log.tamper(
        "delete from rotator_internal.audit_signature where number > 1;
         delete from rotator_internal.audit_leaf where block_number > 1;
         delete from rotator_internal.audit_block where number > 1;
         delete from rotator_internal.audit_seal_state;",
    )
    .await?;
    log.events(2).await?;
    log.seal().await?;
    let mut stuck = log.sidecar().await?;
    stuck.logged(NOTICED, "is not signed: ").await?;
    ensure!(log.signed().await? < log.blocks().await?);
    stuck.terminate().await?;
    let other = log.folder.join("after-restore.jsonl").display().to_string();
    let _sidecar = log.sidecar_with(&[("ROTATOR_AUDIT_FILE", &other)]).await?;
    until(SEALED, "all blocks to be signed", async || {
        Ok(log.signed().await? == log.blocks().await?)
    })
    .await
}
