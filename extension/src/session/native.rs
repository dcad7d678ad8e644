//! `bind_tenant`, `bound_tenant`, and the setting that ties the binding to PostgreSQL's transactions.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;

use super::Bindings;
use crate::boundary::{native_function, uuid};
use crate::crypto::nonce;
use crate::errors::Failure;
use crate::gucs;
use crate::keyring;

thread_local! {
    static BINDINGS: RefCell<Bindings> = const { RefCell::new(Bindings::new()) };
    /// Number of the transaction that bound last.
    static BOUND_IN: Cell<u64> = const { Cell::new(0) };
}

/// True while `bind_tenant` itself sets the setting.
static BINDING: AtomicBool = AtomicBool::new(false);

struct WhileBinding;

impl WhileBinding {
    fn start() -> WhileBinding {
        BINDING.store(true, Ordering::Relaxed);
        WhileBinding
    }
}

impl Drop for WhileBinding {
    fn drop(&mut self) {
        BINDING.store(false, Ordering::Relaxed);
    }
}

/// Check hook of `rotator.session`: whatever `set`, `set_config`, `alter role … set` or a connection option gives
/// becomes the empty string. Parallel workers get their leader's value.
///
/// # Safety
/// A check hook: PostgreSQL passes a private copy of the new value, which may be changed in place.
pub unsafe extern "C-unwind" fn discard_foreign_value(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: see above; both variables are the backend's own.
    unsafe {
        let ours = BINDING.load(Ordering::Relaxed) || pg_sys::InitializingParallelWorker;
        if !ours && !(*value).is_null() {
            **value = 0;
        }
    }
    true
}

fn session_user() -> u32 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetSessionUserId() }.to_u32()
}

native_function!(bind_tenant, |call| {
    let (tenant, is_local) = (*call.uuid(0), call.boolean(1));
    let mut random = [0; 16];
    nonce::fill(&mut random)?;
    let current = gucs::value(&gucs::SESSION);
    let transaction = keyring::native::transaction_number();
    let in_new_transaction = BOUND_IN.replace(transaction) != transaction;
    let mark = BINDINGS.with_borrow_mut(|bindings| {
        bindings.add(
            tenant,
            session_user(),
            random,
            current.as_bytes(),
            in_new_transaction,
        )
    });
    let action = if is_local {
        pg_sys::GucAction::GUC_ACTION_LOCAL
    } else {
        pg_sys::GucAction::GUC_ACTION_SET
    };
    super::known::forget(); // older bindings may be gone
    let _guard = WhileBinding::start();
    // SAFETY: both strings end in NUL and are copied; level 0 means that a refusal raises.
    let set = unsafe {
        pg_sys::set_config_option(
            c"rotator.session".as_ptr(),
            mark.as_ptr().cast(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        )
    };
    if set > 0 {
        Ok(Some(pg_sys::Datum::from(0)))
    } else {
        Err(Failure::Internal {
            what: "rotator.session could not be set",
        })
    }
});

native_function!(bound_tenant, |_call| {
    let current = gucs::value(&gucs::SESSION);
    let tenant = BINDINGS.with_borrow(|bindings| bindings.find(session_user(), current.as_bytes()));
    tenant.map_or(Ok(None), |tenant| uuid(&tenant))
});
