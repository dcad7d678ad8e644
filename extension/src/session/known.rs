//! `recall_identity`, `recall_tenant`, `remember_identity` and `forget_identity`, and the events that make a session
//! forget. What is compared and why that is enough: `memory`. Tests: tests/tests/security/identity_memory.rs.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};

use pgrx::pg_sys;

use super::memory::{Circumstances, Identity, Memory};
use crate::boundary::{native_function, record, text, uuid};
use crate::claims::LONGEST;
use crate::claims::native::session_user_is_trusted;
use crate::crypto::TenantId;
use crate::errors::Failure;
use crate::gucs;
use crate::keyring::load;

thread_local! {
    static MEMORY: RefCell<Memory> = const { RefCell::new(Memory::new()) };
    static NOW: RefCell<Circumstances> = RefCell::new(Circumstances::default());
    /// The last command of this transaction that changed tenants or members.
    static CHANGED_BY: Cell<Option<pg_sys::CommandId>> = const { Cell::new(None) };
}

/// Takes the circumstances of this moment; false when they can't be compared.
fn take(now: &mut Circumstances) -> bool {
    now.clear();
    // SAFETY: reads variables of the backend; the active snapshot and its arrays live at least as long as this call.
    unsafe {
        if !pg_sys::ActiveSnapshotSet() {
            return false;
        }
        let snapshot = &*pg_sys::GetActiveSnapshot();
        if snapshot.snapshot_type != pg_sys::SnapshotType::SNAPSHOT_MVCC {
            return false;
        }
        // An outer statement, or a cursor opened before, sees members as they were before this transaction changed them.
        if CHANGED_BY
            .get()
            .is_some_and(|command| snapshot.curcid <= command)
        {
            return false;
        }
        now.add_number(pg_sys::GetSessionUserId().to_u32());
        // Which transactions the snapshot sees as committed. Its command number only counts after a change of this
        // transaction's own, which triggers tell.
        now.add_number(snapshot.xmin.into_inner());
        now.add_number(snapshot.xmax.into_inner());
        now.add_number(
            u32::from(snapshot.suboverflowed) | u32::from(snapshot.takenDuringRecovery) << 1,
        );
        for (list, length) in [
            (snapshot.xip, snapshot.xcnt as usize),
            (
                snapshot.subxip,
                usize::try_from(snapshot.subxcnt).unwrap_or(0),
            ),
        ] {
            now.add(if length == 0 || list.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(
                    list.cast::<u8>(),
                    length * size_of::<pg_sys::TransactionId>(),
                )
            });
        }
        let claims = pg_sys::GetConfigOption(c"request.jwt.claims".as_ptr(), true, false);
        now.add_number(u32::from(claims.is_null()));
        let document = if claims.is_null() {
            &[]
        } else {
            CStr::from_ptr(claims).to_bytes()
        };
        // Anybody can set it, to up to a gigabyte; Rust ends the server when it can't have as much. Longer is no claim.
        if document.len() > LONGEST {
            return false;
        }
        now.add(document);
    }
    for setting in [
        &gucs::SESSION,
        &gucs::TRUSTED_AUTHENTICATORS,
        &gucs::TENANT_CLAIM,
        &gucs::ROLE_CLAIM,
    ] {
        now.add(setting.get().as_deref().map_or(&[], CStr::to_bytes));
    }
    true
}

fn recalled() -> Option<Identity> {
    NOW.with_borrow_mut(|now| {
        if !take(now) {
            return None;
        }
        MEMORY.with_borrow_mut(|memory| memory.recall(now).cloned())
    })
}

/// The tenant that the caller acts for, as `rotator.current_tenant()` says; that is asked only when it isn't known.
pub fn current_tenant() -> Result<TenantId, Failure> {
    if let Some(identity) = recalled() {
        return Ok(identity.tenant);
    }
    load::current_tenant()?.ok_or_else(|| Failure::NoTenant {
        in_claims_mode: session_user_is_trusted(),
    })
}

native_function!(recall_tenant, |_call| match recalled() {
    Some(identity) => uuid(&identity.tenant),
    None => Ok(None),
});

native_function!(recall_identity, |call| {
    let columns = match recalled() {
        Some(identity) => [
            uuid(&identity.tenant)?,
            text(identity.actor.as_bytes())?,
            text(identity.role.as_bytes())?,
        ],
        None => [None; 3],
    };
    record(call, columns)
});

native_function!(remember_identity, |call| {
    let identity = Identity {
        tenant: *call.uuid(0),
        actor: call.text(1).into_owned(),
        role: call.text(2).into_owned(),
    };
    NOW.with_borrow_mut(|now| {
        if take(now) {
            MEMORY.with_borrow_mut(|memory| memory.remember(now, identity));
        }
    });
    Ok(Some(pg_sys::Datum::from(0)))
});

// A trigger after every statement that changes tenants or members.
native_function!(forget_identity, |_call| {
    // SAFETY: reads a variable of the backend; the statements to come have a higher number.
    CHANGED_BY.set(Some(unsafe { pg_sys::GetCurrentCommandId(false) }));
    forget();
    Ok(Some(pg_sys::Datum::from(0)))
});

/// Our functions call nothing that ends a transaction, so the memory is never borrowed when an event comes; a callback
/// must not panic anyway.
pub fn forget() {
    let _ = MEMORY.try_with(|memory| {
        if let Ok(mut memory) = memory.try_borrow_mut() {
            memory.forget();
        }
    });
}

/// Called from `_PG_init`: children of the postmaster inherit the registration.
pub fn register_callbacks() {
    use pg_sys::SysCacheIdentifier::{AUTHMEMROLEMEM, AUTHOID};
    // SAFETY: the functions live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_event), std::ptr::null_mut());
        for cache in [AUTHOID, AUTHMEMROLEMEM] {
            pg_sys::CacheRegisterSyscacheCallback(
                cache as c_int,
                Some(at_role_change),
                pg_sys::Datum::from(0),
            );
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_transaction_event(
    _event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    let _ = CHANGED_BY.try_with(|command| command.set(None));
    forget();
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    _subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    // What the subtransaction changed of members, or learned after it did, is undone.
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        forget();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_role_change(_argument: pg_sys::Datum, _cache: c_int, _hash: u32) {
    forget();
}
