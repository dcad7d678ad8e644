//! A streaming standby of a test's own cluster, made as an administrator makes one: `pg_basebackup`, a signal file, start.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, Options};
use crate::patience::until;

/// How long a standby may take to catch up, or to become the primary.
const CAUGHT_UP: Duration = Duration::from_secs(60);

/// A running standby of `primary`, caught up. The master key is the primary's.
pub async fn standby_of(primary: &Cluster) -> Result<Cluster> {
    let hba = primary.data.join("pg_hba.conf");
    let lines = std::fs::read_to_string(&hba)?;
    std::fs::write(&hba, format!("local replication all trust\n{lines}"))?;
    primary.psql("postgres", "select pg_reload_conf()")?;

    let standby = Cluster::start(Options::default()).await?;
    standby.stop().await?;
    let own = std::fs::read(standby.data.join("rotator.conf"))?;
    replace_data(primary, &standby)?;
    std::fs::write(standby.data.join("rotator.conf"), own)?;
    give_to_owner(&standby)?;
    standby.write_master_key(&std::fs::read_to_string(&primary.master_key)?)?;
    standby.start_again().await?;
    until(CAUGHT_UP, "the standby to catch up", async || {
        let position = primary.psql("postgres", "select pg_current_wal_lsn()")?;
        let question = format!(
            "select pg_is_in_recovery() and pg_last_wal_replay_lsn() >= '{}'",
            position.trim()
        );
        Ok(standby.psql("postgres", &question)?.trim() == "t")
    })
    .await?;
    Ok(standby)
}

/// Makes it the primary, and waits until it is.
pub fn promote(standby: &Cluster) -> Result<()> {
    let promoted = standby.psql("postgres", "select pg_promote(true, 60)")?;
    ensure!(promoted.trim() == "t", "it was not promoted");
    Ok(())
}

fn replace_data(primary: &Cluster, standby: &Cluster) -> Result<()> {
    std::fs::remove_dir_all(&standby.data)?;
    let output = Command::new(primary.bindir.join("pg_basebackup"))
        .args([
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
            "-U",
            "postgres",
        ])
        .arg("-h")
        .arg(&primary.socket)
        .args(["-p", &primary.port.to_string()])
        .arg("-D")
        .arg(&standby.data)
        .output()
        .context("running pg_basebackup")?;
    ensure!(
        output.status.success(),
        "pg_basebackup: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The copy belongs to whoever made it; the server's user owns the folder above.
fn give_to_owner(standby: &Cluster) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, lchown};
    let above = standby.data.parent().context("the data lies in a folder")?;
    let owner = std::fs::metadata(above)?;
    let mut folders = vec![standby.data.clone()];
    let give = |path: &Path| lchown(path, Some(owner.uid()), Some(owner.gid()));
    give(&standby.data)?;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            give(&entry.path())?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
