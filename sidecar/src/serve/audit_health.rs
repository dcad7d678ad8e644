//! What signing of the audit log tells the probes and `/metrics`: how much was signed, what waits and since when, which
//! sink takes nothing, and what is wrong. Said by `audit.rs`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where copies go, as labels.
pub const SINKS: [&str; 2] = ["file", "s3"];

/// Set by whoever signs; nothing in it is set where nobody does.
#[derive(Default)]
pub struct AuditHealth {
    signed: AtomicU64,
    waiting: AtomicU64,
    contradicted: AtomicU64,
    used: [AtomicBool; SINKS.len()],
    up: [AtomicBool; SINKS.len()],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when blocks wait that were not signed at the first attempt.
    behind_since: Option<Instant>,
    trouble: Option<String>,
}

impl AuditHealth {
    pub fn add_signed(&self, blocks: u64) {
        self.signed.fetch_add(blocks, Ordering::Relaxed);
    }

    /// So many of the blocks that were asked for are not signed: 0 if it has caught up.
    pub fn set_waiting(&self, blocks: usize) {
        self.waiting.store(blocks as u64, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (blocks, state.behind_since) {
            (0, _) => state.behind_since = None,
            (_, None) => state.behind_since = Some(Instant::now()),
            _ => {}
        }
    }

    pub fn set_contradicted(&self, blocks: u64) {
        self.contradicted.store(blocks, Ordering::Relaxed);
    }

    /// Which sinks are set up, and which of them took nothing.
    pub fn set_sinks(&self, used: &[&str], down: &[&str]) {
        for (position, sink) in SINKS.iter().enumerate() {
            self.used[position].store(used.contains(sink), Ordering::Relaxed);
            self.up[position].store(!down.contains(sink), Ordering::Relaxed);
        }
    }

    pub fn set_trouble(&self, trouble: Option<String>) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .trouble = trouble;
    }

    pub fn signed(&self) -> u64 {
        self.signed.load(Ordering::Relaxed)
    }

    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn contradicted(&self) -> u64 {
        self.contradicted.load(Ordering::Relaxed)
    }

    /// Of each sink that is set up, whether it takes copies.
    pub fn sinks(&self) -> impl Iterator<Item = (&'static str, bool)> {
        SINKS
            .iter()
            .enumerate()
            .filter(|(position, _)| self.used[*position].load(Ordering::Relaxed))
            .map(|(position, sink)| (*sink, self.up[position].load(Ordering::Relaxed)))
    }

    /// For how long blocks have waited; nothing when none does.
    pub fn behind(&self) -> Option<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.behind_since.map(|since| since.elapsed())
    }

    /// One sentence for the probes, if something is wrong.
    pub fn problem(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = state.trouble.as_ref()?;
        Some(match state.behind_since {
            Some(since) => {
                let (blocks, seconds) = (self.waiting(), since.elapsed().as_secs());
                format!("{trouble} (blocks waiting: at least {blocks}, for {seconds} s)")
            }
            None => trouble.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_while_it_lasts() {
        let health = AuditHealth::default();
        assert!(health.problem().is_none() && health.behind().is_none());
        assert_eq!(health.sinks().count(), 0, "nobody signs");
        health.set_sinks(&["file", "s3"], &["s3"]);
        health.set_waiting(3);
        health.set_trouble(Some("S3 is away".to_owned()));
        let all: Vec<_> = health.sinks().collect();
        assert_eq!(all, [("file", true), ("s3", false)]);
        let problem = health.problem().unwrap();
        assert!(
            problem.starts_with("S3 is away (blocks waiting: at least 3, for 0 s"),
            "{problem}"
        );
        health.set_waiting(0);
        health.set_trouble(None);
        assert!(health.problem().is_none() && health.behind().is_none());
    }
}
