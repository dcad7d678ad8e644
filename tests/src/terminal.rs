//! The command line tool as somebody at a terminal sees it: standard streams are a pseudo-terminal, 100 columns wide, so
//! that it draws bars and asks questions. What it showed is kept, control sequences and all.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::patience::until;
use crate::scratch::Scratch;

const COLUMNS: u16 = 100;

pub struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    _folder: Scratch,
}

impl Terminal {
    pub(crate) fn start(mut command: Command, folder: Scratch) -> Result<Self> {
        let (ours, theirs) = open()?;
        command
            .env("TERM", "xterm")
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs.try_clone()?))
            .stderr(Stdio::from(theirs));
        let child = command.spawn().context("starting rotator")?;
        // Its copies of the other end; with ours open, the end of the program would never be seen.
        drop(command);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, kept) = (ours.try_clone()?, shown.clone());
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // EIO when nobody has the other end open any more.
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&piece[..count]);
            }
        });
        Ok(Self {
            child,
            keyboard: ours,
            shown,
            reader,
            _folder: folder,
        })
    }

    /// All that was shown so far.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until this was shown.
    pub async fn shows(&self, limit: Duration, text: &str) -> Result<()> {
        let outcome = until(limit, &format!("{text:?} on the terminal"), async || {
            Ok(self.shown().contains(text))
        })
        .await;
        outcome.with_context(|| format!("it shows {:?}", self.shown()))
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) -> Result<()> {
        writeln!(self.keyboard, "{line}").context("typing")
    }

    /// What Ctrl-C sends.
    pub fn interrupt(&self) -> Result<()> {
        let Some(id) = self.child.id() else {
            bail!("rotator has ended: {}", self.shown())
        };
        // SAFETY: kill only sends a signal, to a child of ours that was not waited for yet, so its id is still its own.
        if unsafe { libc::kill(i32::try_from(id)?, libc::SIGINT) } != 0 {
            return Err(std::io::Error::last_os_error()).context("sending a signal to rotator");
        }
        Ok(())
    }

    /// Waits for its end, and until all it showed can be seen; gives how it ended.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let status = ended
            .with_context(|| format!("it did not end within {limit:?}: {:?}", self.shown()))?
            .context("waiting for rotator")?;
        until(limit, "the end of what it showed", async || {
            Ok(self.reader.is_finished())
        })
        .await?;
        Ok(status)
    }
}

/// Both ends of a new pseudo-terminal; ours first.
fn open() -> Result<(File, OwnedFd)> {
    let size = libc::winsize {
        ws_row: 40,
        ws_col: COLUMNS,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both numbers are written before a 0 is returned; the name and the attributes may be null; the size is read.
    let outcome = unsafe {
        libc::openpty(
            &mut ours,
            &mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            &size,
        )
    };
    if outcome != 0 {
        return Err(std::io::Error::last_os_error()).context("opening a pseudo-terminal");
    }
    // SAFETY: openpty just opened them, and nobody else knows them.
    let (ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    // Copies are closed in programs that are started, these are not.
    Ok((ours.try_clone()?, theirs.try_clone()?))
}
