//! kill -9 of a server that is at work, of the postmaster, of one backend or of all its processes, and the wait until it
//! works again. An administrator's ways to stop one are in `cluster`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::cluster::Cluster;
use crate::patience::{eventually, until};

/// Orphans end at their next wait, which a statement may put off; recovery replays what came since the last checkpoint.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

impl Cluster {
    /// The process id of the postmaster, from its lock file.
    pub fn postmaster(&self) -> Result<i32> {
        let file = self.data.join("postmaster.pid");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let first = text.lines().next().context("the lock file is empty")?;
        Ok(first.trim().parse()?)
    }

    /// kill -9 of the postmaster and, if `everyone`, of all its processes at the same instant; then starts the server
    /// again. Processes that are left alone notice at their next wait: a statement, even a commit, may still end.
    pub async fn kill_server(&self, everyone: bool) -> Result<()> {
        let postmaster = self.postmaster()?;
        // Stopped first: it makes no new process while they are listed.
        ensure!(stop(postmaster).await?, "the postmaster is gone already");
        let family = children(postmaster)?;
        signal(postmaster, libc::SIGKILL)?;
        if everyone {
            for process in &family {
                // Some may have ended since.
                let _ = signal(*process, libc::SIGKILL);
            }
        }
        // A server refuses to start while a process of the one before holds its shared memory, or its postmaster, dead,
        // still waits to be buried by whoever adopted it.
        until(PATIENCE, "the server's processes to end", async || {
            let working = family.iter().any(|process| is_running(*process));
            Ok(!working && state(postmaster).is_none())
        })
        .await
        .with_context(|| left_over(postmaster, &family))?;
        self.start_again().await?;
        self.works_again().await
    }

    /// kill -9 of one backend. The postmaster then ends all sessions and recovers; this returns when that is done. Or
    /// false, and nothing happened: it had just ended by itself.
    pub async fn kill_backend(&self, backend: i32) -> Result<bool> {
        let witness = self.connect("postgres", "postgres").await?;
        let postmaster = self.postmaster()?;
        let is_there = state(backend).is_some_and(|(_, above)| above == postmaster);
        // Stopped first: what is stopped can't end meanwhile.
        if !is_there || !stop(backend).await? {
            return Ok(false);
        }
        signal(backend, libc::SIGKILL)?;
        until(PATIENCE, "the other sessions to end", async || {
            Ok(witness.simple_query("select 1").await.is_err())
        })
        .await?;
        self.works_again().await?;
        Ok(true)
    }

    /// A session, as soon as the server takes one. (A plain loop: what `eventually` makes can't be spawned.)
    pub async fn connect_when_it_works(&self, user: &str, database: &str) -> Result<Client> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.connect(user, database).await {
                Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    async fn works_again(&self) -> Result<()> {
        let session = self.connect_when_it_works("postgres", "postgres").await?;
        let answer = session.simple_query("select 1").await;
        if let Err(error) = answer {
            bail!("the server took a connection and ended it: {error}");
        }
        Ok(())
    }
}

fn signal(process: i32, signal: i32) -> Result<()> {
    // SAFETY: kill only sends a signal. The process is a postmaster named by its lock file, which is stopped or running,
    // or was its child a moment ago: the id can't have gone to another process so soon.
    if unsafe { libc::kill(process, signal) } != 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("sending signal {signal} to {process}"));
    }
    Ok(())
}

/// Stops a process, which takes effect a moment later. False if it ended instead.
async fn stop(process: i32) -> Result<bool> {
    // One that has ended since is found out below.
    let _ = signal(process, libc::SIGSTOP);
    eventually(PATIENCE, "a process to stop", async || {
        Ok(match state(process) {
            None | Some(('Z', _)) => Some(false),
            Some(('T', _)) => Some(true),
            Some(_) => None,
        })
    })
    .await
}

/// State and parent of a process, from the kernel; none if there is no such process.
fn state(process: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may contain anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_running(process: i32) -> bool {
    state(process).is_some_and(|(state, _)| state != 'Z')
}

/// For the report of a test: which of them are still there, as what.
fn left_over(postmaster: i32, family: &[i32]) -> String {
    let there = |process: &i32| {
        let (state, parent) = state(*process)?;
        let named = std::fs::read_to_string(format!("/proc/{process}/cmdline")).ok()?;
        let named = named.replace('\0', " ");
        Some(format!("{process} {state} of {parent}: {named}"))
    };
    let left: Vec<String> = [postmaster]
        .iter()
        .chain(family)
        .filter_map(there)
        .collect();
    format!("still there: {left:?}")
}

fn children(parent: i32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Ok(process) = name.to_string_lossy().parse()
            && state(process).is_some_and(|(_, above)| above == parent)
        {
            found.push(process);
        }
    }
    Ok(found)
}
