//! The keyring of this backend: finds the key for a field, loading and unwrapping it at first use.
//!
//! The hot path is [`with_key`] with a cached key: no SQL, no key schedule, no system call. What unwraps a data key is in
//! `masters` and `sources`, what makes one in `making`.

use std::cell::RefCell;
use std::ffi::c_void;

use pgrx::pg_sys;

use super::Purpose;
use super::cache::{Entry, KeyCache, Material};
use super::uses::Uses;
use super::{fence, load, settle, sources};
use crate::boundary::native_function;
use crate::crypto::TenantId;
use crate::crypto::nonce::{NoEntropy, RandomBlock};
use crate::errors::Failure;

#[derive(Default)]
struct Keyring {
    cache: KeyCache,
}

thread_local! {
    static KEYRING: RefCell<Keyring> = RefCell::new(Keyring::default());
    static RANDOM: RefCell<RandomBlock> = const { RefCell::new(RandomBlock::new()) };
}

/// Random bytes for nonces and ids, from this process's own block.
#[inline]
pub fn draw_random<const N: usize>() -> Result<[u8; N], NoEntropy> {
    // SAFETY: reads a variable that each process sets after its fork.
    let pid = unsafe { pg_sys::MyProcPid };
    RANDOM.with_borrow_mut(|random| random.draw(pid))
}

/// Counts this backend's transactions.
pub fn transaction_number() -> u64 {
    KEYRING.with_borrow(|keyring| keyring.cache.transaction())
}

/// The start of this transaction, in microseconds; constant inside it.
fn now() -> i64 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// Calls `then` with key `id`, which must be `tenant`'s and for `purpose`.
#[inline]
pub fn with_key<R>(
    id: i64,
    tenant: &TenantId,
    purpose: Purpose,
    then: impl FnOnce(&mut Entry) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let cached =
        KEYRING.with_borrow_mut(
            |keyring| match keyring.cache.find(id, tenant, purpose, now) {
                Some(entry) => Ok(then(entry)),
                None => Err(then),
            },
        );
    let then = match cached {
        Ok(result) => return result,
        Err(then) => then,
    };
    let material = fetch(id, tenant, purpose)?;
    KEYRING.with_borrow_mut(|keyring| {
        keyring.cache.insert(id, *tenant, material, now());
        match keyring.cache.find(id, tenant, purpose, now) {
            Some(entry) => then(entry),
            None => Err(Failure::Internal {
                what: "a key just loaded is not in the cache",
            }),
        }
    })
}

/// Id of the key that `tenant` writes with, looked up once a transaction. A data key is held from then on (`fence`).
#[inline]
pub fn active_key(tenant: &TenantId, purpose: Purpose) -> Result<i64, Failure> {
    match KEYRING.with_borrow(|keyring| keyring.cache.active(tenant, purpose)) {
        Some(id) => Ok(id),
        None => find_active_key(tenant, purpose),
    }
}

#[cold]
fn find_active_key(tenant: &TenantId, purpose: Purpose) -> Result<i64, Failure> {
    let table = fence::key_table();
    KEYRING.with_borrow_mut(|keyring| keyring.cache.belong_to(table.to_u32()));
    let look_up = || {
        load::active_key(tenant, purpose)?.ok_or(Failure::NoActiveKey {
            purpose: purpose.name(),
        })
    };
    let id = if purpose == Purpose::Data {
        let guess = KEYRING.with_borrow(|keyring| keyring.cache.guess(tenant));
        let id = fence::hold_active(table, guess, look_up)?;
        KEYRING.with_borrow_mut(|keyring| keyring.cache.remember_guess(*tenant, id));
        id
    } else {
        look_up()?
    };
    KEYRING.with_borrow_mut(|keyring| keyring.cache.remember_active(*tenant, purpose, id));
    Ok(id)
}

/// Makes room for at least one more use of key `id`: reserves a block, or borrows one where none can be written.
#[cold]
pub fn reserve_uses(id: i64, tenant: &TenantId) -> Result<(), Failure> {
    settle::at_exit();
    // SAFETY: both read variables of the backend.
    let may_write = unsafe { !pg_sys::XactReadOnly && !pg_sys::RecoveryInProgress() };
    let granted = if may_write {
        let wanted = with_uses(id, |uses| uses.wanted())?;
        load::reserve_uses(tenant, id, wanted)?
    } else {
        None
    };
    let Some(granted) = granted else {
        return match with_uses(id, Uses::lend)? {
            true => Ok(()),
            false => Err(Failure::UncountedUses { key_id: id }),
        };
    };
    // SAFETY: reads a variable of the backend.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match with_uses(id, |uses| uses.grant(granted, level))? {
        true => Ok(()),
        false => Err(Failure::KeyExhausted { key_id: id }),
    }
}

/// What this session has used and no committed row counts; nothing while the keys are being changed.
pub fn debts() -> Vec<(i64, TenantId, u64)> {
    let debts = |keyring: &RefCell<Keyring>| Some(keyring.try_borrow().ok()?.cache.debts());
    KEYRING.try_with(debts).ok().flatten().unwrap_or_default()
}

fn with_uses<R>(id: i64, change: impl FnOnce(&mut Uses) -> R) -> Result<R, Failure> {
    KEYRING
        .with_borrow_mut(|keyring| keyring.cache.unsettled_uses(id).map(change))
        .ok_or(Failure::Internal {
            what: "a key just used is not in the cache",
        })
}

/// Loads and unwraps a key. Whatever is wrong with it, no copy of it stays in the cache.
#[cold]
fn fetch(id: i64, tenant: &TenantId, purpose: Purpose) -> Result<Material, Failure> {
    let (row, table) = (load::key_by_id(id)?, fence::key_table());
    KEYRING.with_borrow_mut(|keyring| {
        keyring.cache.belong_to(table.to_u32());
        keyring.cache.remove(id);
        let row = row.ok_or(Failure::KeyUnknown { key_id: id })?;
        if row.tenant != *tenant || row.purpose != purpose.name() {
            return Err(Failure::NotAuthentic);
        }
        let key = sources::unwrap(id, &row)?;
        Ok(Material::new(purpose, key))
    })
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
    match event {
        XACT_EVENT_COMMIT | XACT_EVENT_PARALLEL_COMMIT => {
            with_idle_cache(|cache| cache.end_transaction(true));
        }
        // Nobody tells this backend what becomes of a prepared transaction: its blocks don't count here.
        XACT_EVENT_ABORT | XACT_EVENT_PARALLEL_ABORT | XACT_EVENT_PREPARE => {
            with_idle_cache(|cache| cache.end_transaction(false));
        }
        _ => (),
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    _subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    // SAFETY: reads a variable of the backend; the subtransaction is still the current one.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        SUBXACT_EVENT_COMMIT_SUB => with_idle_cache(|cache| cache.commit_subtransaction(level)),
        SUBXACT_EVENT_ABORT_SUB => with_idle_cache(|cache| cache.abort_subtransaction(level)),
        _ => (),
    }
}

/// Transactions don't end inside our functions, so the cache is never borrowed here; a callback must not panic anyway.
fn with_idle_cache(change: impl FnOnce(&mut KeyCache)) {
    let _ = KEYRING.try_with(|keyring| {
        if let Ok(mut keyring) = keyring.try_borrow_mut() {
            change(&mut keyring.cache);
        }
    });
}

// A trigger after every statement that changes keys: this transaction asks anew which one is active.
native_function!(forget_active_keys, |_call| {
    with_idle_cache(KeyCache::forget_active);
    Ok(Some(pg_sys::Datum::from(0)))
});
