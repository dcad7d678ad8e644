//! What the engine does to host tables beyond SQL's means. `lock_for_writing` takes the lock of an UPDATE, so that no trigger
//! or check comes to the table between looking and writing. `write_restricted` runs what writes into it as a
//! security-restricted operation, as PostgreSQL itself does when it runs code of a table's owner (REINDEX, REFRESH
//! MATERIALIZED VIEW).
//!
//! A trigger over there gets the rights of `rotator_host_writer`, who may read nothing. It must not put off work to a
//! moment when the session's own rights are back: a deferred trigger and a held cursor run at commit, a setting and a
//! temporary table outlive the statement. Settings are put back as they were.
//! Tests: tests/tests/behaviour/key_attacks.rs.

use std::ffi::c_int;
use std::ptr;

use pgrx::pg_sys;

use crate::boundary::{int8, native_function};
use crate::errors::Failure;

native_function!(write_restricted, |call| {
    let mut types = [
        pg_sys::REGCLASSOID,
        pg_sys::NAMEOID,
        pg_sys::OIDARRAYOID,
        pg_sys::TIDARRAYOID,
        pg_sys::BYTEAARRAYOID,
        pg_sys::BOOLOID,
    ];
    let mut values = [0, 1, 2, 3, 4, 5].map(|index| call.datum(index));
    let (mut user, mut context): (pg_sys::Oid, c_int) = (pg_sys::InvalidOid, 0);
    // SAFETY: SPI's own order of calls, with as many types and values as it is told. An ERROR unwinds through here; the
    // abort of the (sub)transaction that has to follow it puts back user, context and settings, and closes SPI.
    let written = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(
            user,
            context | pg_sys::SECURITY_RESTRICTED_OPERATION as c_int,
        );
        let settings = pg_sys::NewGUCNestLevel();
        let done = pg_sys::SPI_connect() == pg_sys::SPI_OK_CONNECT as c_int
            && pg_sys::SPI_execute_with_args(
                c"select rotator_internal.write_host_column($1, $2, $3, $4, $5, $6)".as_ptr(),
                types.len() as c_int,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                ptr::null(),
                false,
                1,
            ) == pg_sys::SPI_OK_SELECT as c_int
            && pg_sys::SPI_processed == 1;
        let mut is_null = true;
        let written = done.then(|| {
            let table = &*pg_sys::SPI_tuptable;
            pg_sys::SPI_getbinval(*table.vals, table.tupdesc, 1, &mut is_null).value() as i64
        });
        pg_sys::SPI_finish();
        pg_sys::AtEOXact_GUC(false, settings);
        pg_sys::SetUserIdAndSecContext(user, context);
        written.filter(|_| !is_null)
    };
    match written {
        Some(rows) => int8(rows),
        None => Err(Failure::Internal {
            what: "rotator could not write re-encrypted values",
        }),
    }
});

native_function!(lock_for_writing, |call| {
    let table = pg_sys::Oid::from(call.datum(0).value() as u32);
    // SAFETY: a plain call; an ERROR (lock_timeout) unwinds through here, and nothing is held but what it frees itself.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
    Ok(Some(pg_sys::Datum::from(0)))
});
