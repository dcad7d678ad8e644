//! The master keys that this process holds, and when they are read again.
//!
//! They are read at preload, and inherited by every backend, or at first use. A backend that meets a master key id it
//! doesn't hold, or a data key that its master keys don't open, reads them again, at most every ten seconds; [`reload`]
//! always does. What was held before stays when that fails. A new data key is never made with keys that were read before
//! its transaction ([`Masters::proven`]).
//!
//! Where they come from, and how time passes, is `sources`' business.
//!
//! [`reload`]: Masters::reload

use std::time::{Duration, Instant};

use super::master_keys::{MasterKeys, Problem, Source};
use crate::crypto::wrap::{self, Binding};
use crate::crypto::{KeyBytes, TenantId};
use crate::errors::Failure;

/// How long keys that were just read are believed to be all there is.
pub const RELOAD_EVERY: Duration = Duration::from_secs(10);

/// What the process around the keys provides.
pub trait Surroundings {
    /// Reads the source.
    fn read(&self) -> Result<MasterKeys, Problem>;
    fn now(&self) -> Instant;
    /// Tells a process from the one it was forked from.
    fn process(&self) -> i32;
}

/// A wrapped data key.
pub struct Wrapped<'a> {
    pub binding: Binding<'a>,
    pub bytes: &'a [u8],
    pub check_value: &'a [u8],
}

/// The last time the source was read.
struct Reading {
    at: Instant,
    process: i32,
    problem: Option<Problem>,
}

/// See the module.
pub struct Masters<S> {
    surroundings: S,
    keys: Option<MasterKeys>,
    last: Option<Reading>,
    /// Since when the keys have been good for making new ones; until the transaction ends.
    proven: Option<Instant>,
}

impl<S: Surroundings> Masters<S> {
    pub const fn new(surroundings: S) -> Masters<S> {
        Masters {
            surroundings,
            keys: None,
            last: None,
            proven: None,
        }
    }

    /// Reads the source; what was held before stays only if that works.
    pub fn reload(&mut self) -> Result<&MasterKeys, Problem> {
        self.proven = None;
        let read = self.surroundings.read();
        self.last = Some(Reading {
            at: self.surroundings.now(),
            process: self.surroundings.process(),
            problem: read.as_ref().err().cloned(),
        });
        Ok(self.keys.insert(read?))
    }

    /// Reads the source if that may help: not when it was read a moment ago.
    fn reload_if_due(&mut self) -> Result<(), Problem> {
        match self.recent() {
            None => self.reload().map(|_| ()),
            Some(Reading { problem: None, .. }) => Ok(()),
            Some(Reading {
                problem: Some(problem),
                ..
            }) => {
                // A file is mended the moment it is mended; to ask a command costs a process, and perhaps ten seconds.
                if self.keys.is_none() && !problem.is_of_command() {
                    self.reload().map(|_| ())
                } else {
                    Err(problem.clone())
                }
            }
        }
    }

    /// The last reading of this process, unless it is too long ago to say what the source holds now.
    fn recent(&self) -> Option<&Reading> {
        self.last.as_ref().filter(|last| {
            last.process == self.surroundings.process()
                && self.surroundings.now().saturating_duration_since(last.at) < RELOAD_EVERY
        })
    }

    /// The data key, with the source read again if need be.
    pub fn unwrap(&mut self, key: &Wrapped<'_>) -> Result<KeyBytes, Failure> {
        if self.keys.is_some()
            && let Ok(opened) = self.open(key)
        {
            return Ok(opened);
        }
        self.reload_if_due()?;
        self.open(key)
    }

    /// The data key, with the master keys as they are held.
    pub fn open(&self, key: &Wrapped<'_>) -> Result<KeyBytes, Failure> {
        let keys = self.held()?;
        let (id, key_id) = (key.binding.master_key_id, key.binding.key_id);
        let unavailable = |problem: String| Failure::MasterKeyUnavailable {
            problem,
            hint: keys.source().hint(),
        };
        let master = keys.find(id).ok_or_else(|| {
            let source = keys.source().name();
            unavailable(format!(
                "{source} holds no key called {id}, which data key {key_id} is wrapped by"
            ))
        })?;
        wrap::unwrap(master, &key.binding, key.bytes, key.check_value).map_err(|_| {
            unavailable(format!(
                "the key called {id} does not open data key {key_id}"
            ))
        })
    }

    /// The keys held, which are read if there are none.
    pub fn held_or_read(&mut self) -> Result<&MasterKeys, Failure> {
        if self.keys.is_none() {
            self.reload_if_due()?;
        }
        self.held()
    }

    fn held(&self) -> Result<&MasterKeys, Failure> {
        let unread = || match &self.last {
            Some(Reading {
                problem: Some(problem),
                ..
            }) => problem.clone().into(),
            _ => Failure::Internal {
                what: "master keys were used before they were read",
            },
        };
        self.keys.as_ref().ok_or_else(unread)
    }

    /// The keys to make a data key with: read in this transaction, at most ten seconds ago, and found by `prove` to open
    /// what was made before.
    pub fn proven(&self) -> Option<&MasterKeys> {
        let since = self.proven?;
        let age = self.surroundings.now().saturating_duration_since(since);
        self.keys.as_ref().filter(|_| age < RELOAD_EVERY)
    }

    /// Begins to prove the keys: reads them. A command that just failed is not asked again.
    pub fn begin_to_prove(&mut self) -> Result<&MasterKeys, Problem> {
        match self.recent().and_then(|last| last.problem.as_ref()) {
            Some(problem) if problem.is_of_command() => Err(problem.clone()),
            _ => self.reload(),
        }
    }

    /// The keys as read open what they should.
    pub fn are_proven(&mut self) {
        self.proven = self.last.as_ref().map(|last| last.at);
    }

    /// A (sub)transaction ended: keys that the next one makes want keys read in it.
    pub fn end_transaction(&mut self) {
        self.proven = None;
    }

    /// Wraps `key` under the first of the keys held.
    pub fn wrap(
        &self,
        tenant: &TenantId,
        key_id: i64,
        purpose: &str,
        key: &KeyBytes,
    ) -> Result<(Vec<u8>, &str), Failure> {
        let (master_key_id, master) = self.held()?.wrapping();
        let binding = Binding {
            tenant,
            key_id,
            purpose,
            master_key_id,
        };
        Ok((wrap::wrap(master, &binding, key)?, master_key_id))
    }

    /// Ids of the keys held, with blanks between.
    pub fn ids(&self) -> Option<String> {
        let ids: Vec<&str> = self.keys.as_ref()?.ids().collect();
        Some(ids.join(" "))
    }

    /// The source of what is held.
    pub fn source(&self) -> Option<Source> {
        self.keys.as_ref().map(MasterKeys::source)
    }
}

#[cfg(test)]
mod tests;
