//! The fence between writers and the retirement of a key: whoever encrypts holds the key's lock to the end of his
//! transaction, and a key is active only if it still is once its lock is held.
//!
//! The lock is one of PostgreSQL's own on an object, so it needs no row, is seen in `pg_locks`, follows savepoints, and
//! stays with a prepared transaction: class is the oid of `rotator_internal.encryption_key`, the object the low 32 bits of
//! the key id, its sub-object the next 16. Nobody ever asks for a mode that conflicts, so nobody waits. After a rotation
//! has committed, either a writer's lock on the old key is there to be seen, or he looks after it and finds the new one.

use pgrx::pg_sys;

use crate::errors::Failure;

/// The active key, held. `guess` is what it probably is: right, it spares a look-up. `table` is that of the keys.
pub fn hold_active(
    table: pg_sys::Oid,
    guess: Option<i64>,
    look_up: impl Fn() -> Result<i64, Failure>,
) -> Result<i64, Failure> {
    let mut candidate = match guess {
        Some(id) => id,
        None => look_up()?,
    };
    loop {
        let tag = tag(table, candidate);
        // SAFETY: a lock of this transaction; raises when there is no memory for it, or when a standby refuses.
        unsafe { pg_sys::LockAcquire(&tag, pg_sys::AccessShareLock as i32, false, false) };
        let active = look_up()?;
        if active == candidate {
            return Ok(active);
        }
        // Others need not wait for a key that isn't used. It may be held from before all the same: locks are counted.
        // SAFETY: gives back what was just taken.
        unsafe { pg_sys::LockRelease(&tag, pg_sys::AccessShareLock as i32, false) };
        candidate = active;
    }
}

/// The table of keys, `rotator_internal.encryption_key`; zero when there is none.
pub fn key_table() -> pg_sys::Oid {
    // SAFETY: look-ups in the catalog's cache by static names; a missing one gives zero.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"rotator_internal".as_ptr(), true);
        pg_sys::get_relname_relid(c"encryption_key".as_ptr(), schema)
    }
}

fn tag(table: pg_sys::Oid, key_id: i64) -> pg_sys::LOCKTAG {
    // SAFETY: reads a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    pg_sys::LOCKTAG {
        locktag_field1: database.to_u32(),
        locktag_field2: table.to_u32(),
        locktag_field3: key_id as u32,
        locktag_field4: (key_id >> 32) as u16,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}
