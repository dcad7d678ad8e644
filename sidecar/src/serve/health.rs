//! What the parts of `serve` tell the probes and `/metrics`. What the database knows (queue age, say) those ask for
//! themselves.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use super::audit_health::AuditHealth;
use super::figures::Figures;

/// How we hear of new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Listening {
    /// No connection waits for NOTIFY.
    #[default]
    Down = 0,
    /// A connection has said LISTEN, but what is sent does not arrive: a pooler stands between.
    Deaf = 1,
    Up = 2,
}

/// Flags that parts set and probes read, and what they count.
#[derive(Default)]
pub struct Health {
    draining: AtomicBool,
    listening: AtomicU8,
    library: Mutex<Option<String>>,
    pub figures: Figures,
    pub audit: AuditHealth,
}

impl Health {
    /// From now on not ready: nothing new is begun.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether NOTIFY reaches us. Without it deliveries still go out, up to five seconds later.
    pub fn set_listening(&self, listening: Listening) {
        self.listening.store(listening as u8, Ordering::Relaxed);
    }

    pub fn listening(&self) -> Listening {
        match self.listening.load(Ordering::Relaxed) {
            0 => Listening::Down,
            1 => Listening::Deaf,
            _ => Listening::Up,
        }
    }

    /// What is wrong with the server's library, if anything; gives whether that is news.
    pub fn set_library_problem(&self, problem: Option<String>) -> bool {
        let mut kept = self.library.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *kept != problem;
        *kept = problem;
        news
    }

    pub fn library_problem(&self) -> Option<String> {
        self.library
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
