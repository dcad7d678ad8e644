//! The keyring of this backend: finds the key for a field, loading and unwrapping it at first use.
//!
//! The hot path is [`with_key`] with a cached key: no SQL, no key schedule, no system call. Master keys are read at
//! preload or at first use; a backend that meets a master key id it doesn't hold reads the file again, at most every ten
//! seconds. A failure to read is never remembered: the next use tries again.

use std::cell::RefCell;
use std::ffi::c_void;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::Purpose;
use super::cache::{Entry, KeyCache, Material};
use super::load::{self, KeyRow};
use super::master_file::{MasterKeys, Problem};
use crate::boundary::{bytea, native_function, record, text};
use crate::crypto::nonce::{NoEntropy, RandomBlock};
use crate::crypto::wrap::{self, Binding};
use crate::crypto::{KeyBytes, TenantId};
use crate::errors::Failure;
use crate::gucs;

/// How long an unknown master key id has to wait before the file is read again for it.
const RELOAD_EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Keyring {
    masters: Option<MasterKeys>,
    reloaded: Option<Instant>,
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

/// Id of the key that `tenant` writes with, looked up once a transaction.
#[inline]
pub fn active_key(tenant: &TenantId, purpose: Purpose) -> Result<i64, Failure> {
    if let Some(id) = KEYRING.with_borrow(|keyring| keyring.cache.active(tenant, purpose)) {
        return Ok(id);
    }
    let id = load::active_key(tenant, purpose)?.ok_or(Failure::NoActiveKey {
        purpose: purpose.name(),
    })?;
    KEYRING.with_borrow_mut(|keyring| keyring.cache.remember_active(*tenant, purpose, id));
    Ok(id)
}

/// Loads and unwraps a key. Whatever is wrong with it, no copy of it stays in the cache.
#[cold]
fn fetch(id: i64, tenant: &TenantId, purpose: Purpose) -> Result<Material, Failure> {
    let row = load::key_by_id(id)?;
    KEYRING.with_borrow_mut(|keyring| {
        keyring.cache.remove(id);
        let row = row.ok_or(Failure::KeyUnknown { key_id: id })?;
        if row.tenant != *tenant || row.purpose != purpose.name() {
            return Err(Failure::NotAuthentic);
        }
        let key = keyring.unwrap(id, tenant, &row)?;
        Ok(Material::new(purpose, key))
    })
}

impl Keyring {
    fn unwrap(&mut self, id: i64, tenant: &TenantId, row: &KeyRow) -> Result<KeyBytes, Failure> {
        let (Some(wrapped_key), Some(master_key_id), Some(check_value), false) = (
            &row.wrapped_key,
            &row.master_key_id,
            &row.check_value,
            row.status == "destroyed",
        ) else {
            return Err(Failure::KeyDestroyed { key_id: id });
        };
        let binding = Binding {
            tenant,
            key_id: id,
            purpose: &row.purpose,
            master_key_id,
        };
        // If it doesn't open: perhaps the file has been put right since it was read, by the postmaster for all of us.
        for _ in 0..2 {
            let master = self.master(master_key_id)?;
            match wrap::unwrap(master, &binding, wrapped_key, check_value) {
                Ok(key) => return Ok(key),
                Err(_) => self.masters = None,
            }
        }
        Err(Failure::MasterKeyUnavailable {
            problem: format!("the key called {master_key_id} does not open data key {id}"),
        })
    }

    fn master(&mut self, master_key_id: &str) -> Result<&KeyBytes, Failure> {
        let known = self
            .masters
            .as_ref()
            .is_some_and(|masters| masters.find(master_key_id).is_some());
        let may_reload = self.masters.is_none()
            || self
                .reloaded
                .is_none_or(|last| last.elapsed() >= RELOAD_EVERY);
        if !known && may_reload {
            self.reload()?;
        }
        self.masters
            .as_ref()
            .and_then(|masters| masters.find(master_key_id))
            .ok_or_else(|| Failure::MasterKeyUnavailable {
                problem: format!("the master key file holds no key called {master_key_id}"),
            })
    }

    /// Reads the source of the master keys again; what was held before stays only if that works.
    fn reload(&mut self) -> Result<&MasterKeys, Failure> {
        self.reloaded = Some(Instant::now());
        Ok(self.masters.insert(read_masters()?))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::MasterKeyUnavailable {
            problem: problem.to_string(),
        }
    }
}

/// Where master keys come from. A command as source belongs here.
fn read_masters() -> Result<MasterKeys, Problem> {
    unsafe extern "C" {
        safe fn geteuid() -> u32;
    }
    MasterKeys::read(&gucs::value(&gucs::MASTER_KEY_FILE), geteuid())
}

/// Reads the master keys in the postmaster, so that backends inherit them. A problem is a warning in the log.
pub fn preload() {
    if gucs::value(&gucs::MASTER_KEY_FILE).is_empty() {
        return; // not set up yet: doctor() says so
    }
    if let Err(problem) = KEYRING.with_borrow_mut(|keyring| keyring.reload().map(|_| ())) {
        pgrx::warning!("rotator: {problem}");
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
    if let XACT_EVENT_COMMIT
    | XACT_EVENT_PARALLEL_COMMIT
    | XACT_EVENT_ABORT
    | XACT_EVENT_PARALLEL_ABORT
    | XACT_EVENT_PREPARE = event
    {
        with_idle_cache(KeyCache::end_transaction);
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
        with_idle_cache(KeyCache::end_subtransaction);
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

// A fresh key for (tenant, key_id, purpose) under the first key of the file as it is now. A file that can't open the
// key made last is the wrong file: what is made under it would be lost once the right one is back.
native_function!(make_key, |call| {
    let (tenant, key_id, purpose) = (call.uuid(0), call.int8(1), call.text(2));
    if purpose != Purpose::Data.name() && purpose != Purpose::Index.name() {
        return Err(Failure::BadArgument {
            problem: format!("there is no key purpose \"{purpose}\""),
            hint: "The purposes are data and index.",
        });
    }
    let latest = load::latest_key()?;
    let key = KeyBytes::generate()?;
    let (wrapped, master_key_id) = KEYRING.with_borrow_mut(|keyring| {
        if let Some((id, row)) = &latest {
            keyring.reload()?;
            keyring.unwrap(*id, &row.tenant, row)?;
        }
        let (master_key_id, master) = keyring.reload()?.wrapping();
        let binding = Binding {
            tenant,
            key_id,
            purpose: &purpose,
            master_key_id,
        };
        Ok::<_, Failure>((
            wrap::wrap(master, &binding, &key)?,
            master_key_id.to_owned(),
        ))
    })?;
    record(
        call,
        [
            bytea(&wrapped)?,
            text(master_key_id.as_bytes())?,
            bytea(&wrap::check_value(&key))?,
        ],
    )
});

// NULL when the master keys can be read now, else what is wrong.
native_function!(master_key_status, |_call| {
    match read_masters() {
        Ok(_) => Ok(None),
        Err(problem) => text(problem.to_string().as_bytes()),
    }
});

native_function!(wrapping_master_key_id, |_call| {
    let id = KEYRING
        .with_borrow_mut(|keyring| Ok::<_, Failure>(keyring.reload()?.wrapping().0.to_owned()))?;
    text(id.as_bytes())
});
