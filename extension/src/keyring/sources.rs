//! The master keys of this backend: which setting says where they come from, and what PostgreSQL must not be kept from
//! meanwhile: a query is cancelled and a session ended while a command runs, and no command outlives its backend.

use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use pgrx::pg_sys;

use super::load::KeyRow;
use super::master_command::{self, Interrupts};
use super::master_file::{self, Server};
use super::master_keys::{MasterKeys, Problem};
use super::masters::{Masters, Surroundings, Wrapped};
use crate::crypto::KeyBytes;
use crate::crypto::wrap::Binding;
use crate::errors::Failure;
use crate::gucs;

thread_local! {
    static MASTERS: RefCell<Masters<Backend>> = const { RefCell::new(Masters::new(Backend)) };
}

/// Calls `then` with this backend's master keys.
pub fn with<R>(then: impl FnOnce(&mut Masters<Backend>) -> R) -> R {
    MASTERS.with_borrow_mut(then)
}

/// The data key of this row.
pub fn unwrap(id: i64, row: &KeyRow) -> Result<KeyBytes, Failure> {
    let key = wrapped(id, row)?;
    with(|masters| masters.unwrap(&key))
}

/// What there is to unwrap in this row.
pub fn wrapped(id: i64, row: &KeyRow) -> Result<Wrapped<'_>, Failure> {
    match (&row.wrapped_key, &row.master_key_id, &row.check_value) {
        (Some(bytes), Some(master_key_id), Some(check_value)) if row.status != "destroyed" => {
            Ok(Wrapped {
                binding: Binding {
                    tenant: &row.tenant,
                    key_id: id,
                    purpose: &row.purpose,
                    master_key_id,
                },
                bytes,
                check_value,
            })
        }
        _ => Err(Failure::KeyDestroyed { key_id: id }),
    }
}

/// The process of PostgreSQL that we are in.
pub struct Backend;

impl Surroundings for Backend {
    fn read(&self) -> Result<MasterKeys, Problem> {
        let file = gucs::value(&gucs::MASTER_KEY_FILE);
        let command = gucs::value(&gucs::MASTER_KEY_COMMAND);
        match (file.is_empty(), command.is_empty()) {
            (true, true) => Err(Problem::NotSet),
            (false, false) => Err(Problem::BothSet),
            (false, true) => master_file::read(
                &file,
                &Server {
                    user: user(),
                    data_directory: data_directory(),
                },
            ),
            (true, false) => {
                kill_command_at_exit();
                master_command::read(&command, user(), self)
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn process(&self) -> i32 {
        // SAFETY: reads a variable that each process sets after its fork.
        unsafe { pg_sys::MyProcPid }
    }
}

impl Interrupts for Backend {
    fn is_pending(&self) -> bool {
        // SAFETY: reads variables of the process. The postmaster processes none: it blocks its signals.
        unsafe { pg_sys::InterruptPending != 0 && !is_preloading() }
    }

    fn process(&self) {
        // SAFETY: an ERROR unwinds through here; FATAL runs the exit callbacks, `kill_command` among them.
        unsafe { pg_sys::ProcessInterrupts() };
    }
}

fn is_preloading() -> bool {
    // SAFETY: reads a variable that is set for the length of process_shared_preload_libraries().
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

fn user() -> u32 {
    // SAFETY: a system call that can't fail.
    unsafe { libc::geteuid() }
}

fn data_directory() -> &'static Path {
    // SAFETY: set once, before any library is loaded, to an absolute path that is never freed.
    let name = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// Once a process. A child of the postmaster begins without the callbacks that its parent registered.
fn kill_command_at_exit() {
    static REGISTERED_IN: AtomicI32 = AtomicI32::new(0);
    // SAFETY: the function lives as long as the library, which is never unloaded.
    unsafe {
        if !is_preloading()
            && REGISTERED_IN.swap(pg_sys::MyProcPid, Ordering::Relaxed) != pg_sys::MyProcPid
        {
            pg_sys::on_proc_exit(Some(kill_command), pg_sys::Datum::from(0));
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn kill_command(_code: c_int, _argument: pg_sys::Datum) {
    master_command::kill_running();
}

/// Reads the master keys in the postmaster, so that backends inherit them. A problem is a warning in the log.
pub fn preload() {
    match with(|masters| masters.reload().map(|_| ())) {
        Ok(()) | Err(Problem::NotSet) => {} // not set up yet: doctor() says so
        Err(problem) => pgrx::warning!("rotator: {problem}"),
    }
}

/// Called from `_PG_init`: children of the postmaster inherit the registration.
pub fn register_transaction_callbacks() {
    // SAFETY: both functions live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_event), std::ptr::null_mut());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::*;
    if !matches!(
        event,
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PARALLEL_PRE_COMMIT | XACT_EVENT_PRE_PREPARE
    ) {
        end_transaction();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    _subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        // The lock that `make_key` took is gone as well.
        end_transaction();
    }
}

/// A callback must not panic: while a command runs, and its session is ended, the keys are borrowed.
fn end_transaction() {
    let _ = MASTERS.try_with(|masters| {
        if let Ok(mut masters) = masters.try_borrow_mut() {
            masters.end_transaction();
        }
    });
}
