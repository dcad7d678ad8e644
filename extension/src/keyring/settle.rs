//! Uses that no committed row counts are written down when their session ends: it rolled back what it had encrypted, or
//! encrypted where it might not write, and never came to reserve another block, which would have paid for them.
//!
//! In a transaction of its own, as PostgreSQL drops the temporary tables of a session. It waits for nobody: interrupts are
//! held off by then, so nothing could end the wait. What is owed by a backend that is killed, or ends on a standby, is lost.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

use pgrx::pg_sys;

use super::{load, native};

/// Once a process. A child of the postmaster begins without the callbacks that its parent registered.
pub fn at_exit() {
    static REGISTERED_IN: AtomicI32 = AtomicI32::new(0);
    // SAFETY: the function lives as long as the library, which is never unloaded.
    unsafe {
        if REGISTERED_IN.swap(pg_sys::MyProcPid, Ordering::Relaxed) != pg_sys::MyProcPid {
            pg_sys::before_shmem_exit(Some(settle), pg_sys::Datum::from(0));
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn settle(_code: c_int, _argument: pg_sys::Datum) {
    // SAFETY: what PostgreSQL's own callbacks at this point do; an ERROR ends the process at once, which it does anyway.
    unsafe {
        // Whoever leaves in the middle of a transaction owes what it used from now on.
        pg_sys::AbortOutOfAnyTransaction();
        let debts = native::debts();
        if debts.is_empty() || pg_sys::RecoveryInProgress() {
            return;
        }
        pg_sys::StartTransactionCommand();
        // Whatever this session's transactions begin with.
        pg_sys::XactReadOnly = false;
        pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as c_int;
        let schema = pg_sys::get_namespace_oid(c"rotator_internal".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"key_use".as_ptr(), schema);
        if table != pg_sys::InvalidOid
            && pg_sys::ConditionalLockRelationOid(
                table,
                pg_sys::RowExclusiveLock as pg_sys::LOCKMODE,
            )
        {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            for (id, tenant, uses) in &debts {
                // Used up, it has no room for more.
                let _ = load::reserve_uses(tenant, *id, *uses);
            }
            pg_sys::PopActiveSnapshot();
        }
        pg_sys::CommitTransactionCommand();
    }
}
