//! The crossing between PostgreSQL and Rust: entry points, arguments, results and errors.
//!
//! pgrx's `#[pg_extern]` raises every failure as one of PostgreSQL's own SQLSTATEs and logs the statement with it. Ours
//! carry `RTnnn`, and their statement may hold plaintext, so [`native_function!`] makes the entry points instead:
//! `<name>_wrapper`, which catches every panic and every PostgreSQL error below it and, when no Rust value is left to
//! drop, raises them with the statement hidden (`report`). `value` reads arguments and builds results without copies.

mod report;
mod value;

pub use value::{
    Call, POSTGRES_EPOCH, boolean, bytea, bytea_filled, int8, record, text, text_array,
    text_filled, uuid, xid8,
};

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgrx::pg_sys;

use crate::errors::Failure;
use report::Report;

/// What a native function gives: a datum, SQL's NULL, or a failure.
pub type Outcome = Result<Option<pg_sys::Datum>, Failure>;

/// Runs `body` for one call from PostgreSQL.
///
/// # Safety
/// `fcinfo` is the one PostgreSQL passes to a version 1 function, and this is the only frame of Rust above it.
#[inline]
pub unsafe fn enter(
    fcinfo: pg_sys::FunctionCallInfo,
    body: impl Fn(&Call<'_>) -> Outcome,
) -> pg_sys::Datum {
    // SAFETY: the caller passes on what PostgreSQL gave it.
    let call = unsafe { Call::new(fcinfo) };
    let report = match catch_unwind(AssertUnwindSafe(|| body(&call))) {
        Ok(Ok(Some(datum))) => return datum,
        Ok(Ok(None)) => return call.null(),
        Ok(Err(failure)) => Report::of_failure(&failure),
        Err(payload) => Report::of_panic(payload),
    };
    // SAFETY: everything that owns memory is dropped by now; a report owns none, so jumping out of here leaks nothing.
    unsafe { report.raise() }
}

/// Exports `body`, a closure over [`Call`], as the version 1 function `<name>_wrapper`.
macro_rules! native_function {
    ($name:ident, $body:expr) => {
        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_", stringify!($name), "_wrapper"))]
            extern "C" fn information() -> *const pgrx::pg_sys::Pg_finfo_record {
                const RECORD: pgrx::pg_sys::Pg_finfo_record =
                    pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &RECORD
            }

            #[unsafe(export_name = concat!(stringify!($name), "_wrapper"))]
            unsafe extern "C-unwind" fn entry(
                fcinfo: pgrx::pg_sys::FunctionCallInfo,
            ) -> pgrx::pg_sys::Datum {
                fn body(call: &$crate::boundary::Call<'_>) -> $crate::boundary::Outcome {
                    let function: fn(&$crate::boundary::Call<'_>) -> $crate::boundary::Outcome =
                        $body;
                    function(call)
                }
                // SAFETY: PostgreSQL calls this with a valid fcinfo, and no Rust frame lies between.
                unsafe { $crate::boundary::enter(fcinfo, body) }
            }
        };
    };
}
pub(crate) use native_function;
