//! `guard(field, value)` and `refuse(code, message, hint)`: both raise errors whose statement stays out of the log.
//! `secret_rule(value)` and `random_tokens(value)` raise nothing: SQL decides by them.

use pgrx::pg_sys;

use super::{find, random};
use crate::boundary::{native_function, text};
use crate::errors::{Failure, SqlState};

native_function!(guard, |call| {
    if !call.is_null(1)
        && let Some(rule) = find(&call.text(1))
    {
        let field = if call.is_null(0) {
            "value".to_owned()
        } else {
            call.text(0).into_owned()
        };
        return Err(Failure::LooksLikeSecret { field, rule });
    }
    Ok(Some(pg_sys::Datum::from(0)))
});

native_function!(secret_rule, |call| {
    find(&call.text(0)).map_or(Ok(None), |rule| text(rule.as_bytes()))
});

native_function!(random_tokens, |call| {
    let value = call.text(0);
    let tokens = random::tokens(&value);
    if tokens.is_empty() {
        return Ok(None);
    }
    // No token has a blank in it.
    text(tokens.join(" ").as_bytes())
});

native_function!(refuse, |call| {
    let state = if call.is_null(0) {
        None
    } else {
        SqlState::parse(call.bytes(0))
    };
    let Some(state) = state else {
        return Err(Failure::BadArgument {
            problem: "refuse() needs the SQLSTATE of an error".into(),
            hint: "Five digits and upper-case letters, not of class 00, 01 or 02.",
        });
    };
    let message = if call.is_null(1) {
        b"refused".to_vec()
    } else {
        call.bytes(1).to_vec()
    };
    let hint = if call.is_null(2) {
        None
    } else {
        Some(call.bytes(2).to_vec())
    };
    Err(Failure::Refused {
        state,
        message,
        hint,
    })
});
