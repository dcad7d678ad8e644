//! What the parts of `serve` tell the probes. What the database knows (queue age, say) the probe asks for itself.

use std::sync::atomic::{AtomicBool, Ordering};

/// Flags that parts set and `/readyz` reads.
#[derive(Default)]
pub struct Health {
    draining: AtomicBool,
    listening: AtomicBool,
}

impl Health {
    /// From now on not ready: nothing new is begun.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether a connection waits for NOTIFY. Without it deliveries still go out, up to five seconds later.
    pub fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }

    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }
}
