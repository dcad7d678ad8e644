//! Raising an ERROR: our failures with their own SQLSTATE, PostgreSQL's errors and Rust panics caught on the way out.
//!
//! The statement and the context are always kept out of the server log (`errhidestmt`, `errhidecontext`): the arguments
//! of these functions are plaintext. The client sees its error as usual. A Rust panic is reported without its message,
//! which may quote the data it stumbled over.

use std::any::Any;
use std::ffi::{c_char, c_int};

use pgrx::pg_sys::elog::PgLogLevel;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};

use crate::errors::{Failure, SqlState};

/// Longest message and longest hint, in bytes; more is cut off at a character.
const LONGEST: usize = 2047;

/// An error in plain memory on the stack, so that a `longjmp` past it leaks nothing.
pub struct Report {
    state: c_int,
    message: CText,
    hint: CText,
}

/// A C string of limited length; empty means absent.
struct CText([u8; LONGEST + 1]);

impl CText {
    fn new(text: &[u8]) -> CText {
        let mut bytes = [0; LONGEST + 1];
        let mut length = text
            .iter()
            .position(|c| *c == 0)
            .unwrap_or(text.len())
            .min(LONGEST);
        // Don't end in the middle of a UTF-8 character.
        while length < text.len() && length > 0 && text[length] & 0xc0 == 0x80 {
            length -= 1;
        }
        bytes[..length].copy_from_slice(&text[..length]);
        CText(bytes)
    }

    fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}

impl Report {
    pub fn of_failure(failure: &Failure) -> Report {
        let message = match failure {
            Failure::Refused { message, .. } => CText::new(message),
            other => CText::new(other.to_string().as_bytes()),
        };
        Report {
            state: failure.state().packed(),
            message,
            hint: CText::new(failure.hint().unwrap_or_default()),
        }
    }

    /// `payload` is what unwinding carried: an ERROR that PostgreSQL raised below us, or a Rust panic.
    pub fn of_panic(payload: Box<dyn Any + Send>) -> Report {
        match payload.downcast::<CaughtError>() {
            Ok(caught) => match *caught {
                CaughtError::PostgresError(error) | CaughtError::ErrorReport(error) => {
                    Report::of_postgres(&error)
                }
                CaughtError::RustPanic { .. } => Report::of_defect(),
            },
            Err(payload) => match payload.downcast::<ErrorReportWithLevel>() {
                Ok(error) => Report::of_postgres(&error),
                Err(_) => Report::of_defect(),
            },
        }
    }

    fn of_postgres(error: &ErrorReportWithLevel) -> Report {
        let hint = error.hint().unwrap_or("This happened while rotator read its keys; rotator.doctor() tells whether they are in order.");
        Report {
            state: error.sql_error_code() as c_int,
            message: CText::new(error.message().as_bytes()),
            hint: CText::new(hint.as_bytes()),
        }
    }

    fn of_defect() -> Report {
        Report {
            state: SqlState::INTERNAL_ERROR.packed(),
            ..Report::of_failure(&Failure::Internal {
                what: "rotator's native library failed unexpectedly",
            })
        }
    }

    /// Raises the error.
    ///
    /// # Safety
    /// Never returns: it jumps to PostgreSQL's error handler. No frame between there and here may own anything.
    #[cold]
    pub unsafe fn raise(self) -> ! {
        // pgrx leaves these out of its bindings so that nobody calls them by accident, below live Rust values.
        unsafe extern "C-unwind" {
            fn errstart(elevel: c_int, domain: *const c_char) -> bool;
            fn errcode(sqlerrcode: c_int) -> c_int;
            fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
            fn errhint(fmt: *const c_char, ...) -> c_int;
            fn errhidestmt(hide_stmt: bool) -> c_int;
            fn errhidecontext(hide_ctx: bool) -> c_int;
            fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
        }
        let format = c"%s".as_ptr();
        // SAFETY: the calls ereport(ERROR, …) makes, in its order; both texts end in NUL and are copied by elog.c. File
        // and function name are static. errfinish doesn't return for ERROR.
        unsafe {
            // No context lines for the client either: where in our SQL it was raised tells him nothing. Whoever catches
            // the error, an exception block or the main loop, restores or resets the stack.
            pgrx::pg_sys::error_context_stack = std::ptr::null_mut();
            errstart(PgLogLevel::ERROR as c_int, std::ptr::null());
            errcode(self.state);
            errmsg_internal(format, self.message.as_ptr());
            if !self.hint.is_empty() {
                errhint(format, self.hint.as_ptr());
            }
            errhidestmt(true);
            errhidecontext(true);
            errfinish(c"rotator".as_ptr(), 0, c"native".as_ptr());
        }
        unreachable!("errfinish returned from an ERROR")
    }
}
