//! What the library knows about itself: its version, and whether the postmaster loaded it.
//!
//! Preloading matters: settings are hidden from other users and master keys are read before any session exists.
//! `rotator.doctor()` reports both.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;

use crate::boundary::{native_function, text};

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Remembers whether `shared_preload_libraries` is loading us; children of the postmaster inherit the answer.
pub fn note_loading() -> bool {
    // SAFETY: reads a variable that is set for the length of process_shared_preload_libraries().
    let preloaded = unsafe { pg_sys::process_shared_preload_libraries_in_progress };
    PRELOADED.store(preloaded, Ordering::Relaxed);
    preloaded
}

native_function!(library_version, |_call| text(
    env!("CARGO_PKG_VERSION").as_bytes()
));

native_function!(library_preloaded, |_call| Ok(Some(pg_sys::Datum::from(
    PRELOADED.load(Ordering::Relaxed)
))));
