//! `in_claims_mode()` and `claims()`: believed only when the session user is a trusted authenticator.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::{LONGEST, is_listed, read};
use crate::boundary::{native_function, text_array};
use crate::gucs;

/// The login, not the role it has taken by `set role`.
pub fn session_user_is_trusted() -> bool {
    let names = gucs::value(&gucs::TRUSTED_AUTHENTICATORS);
    if names.is_empty() {
        return false;
    }
    // SAFETY: a catalog look-up that gives a palloc'd C string, or null for a role just dropped.
    let name = unsafe { pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true) };
    // SAFETY: see above.
    !name.is_null() && is_listed(&unsafe { CStr::from_ptr(name) }.to_string_lossy(), &names)
}

/// `request.jwt.claims`, copied; `None` when nobody has set it.
fn document() -> Option<String> {
    // SAFETY: a C string that lives until the setting changes, or null.
    unsafe {
        let value = pg_sys::GetConfigOption(c"request.jwt.claims".as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        let document = CStr::from_ptr(value);
        // Not copied before that is known: see session/known.rs.
        if document.count_bytes() > LONGEST {
            return None;
        }
        document.to_str().ok().map(str::to_owned)
    }
}

native_function!(in_claims_mode, |_call| Ok(Some(pg_sys::Datum::from(
    session_user_is_trusted()
))));

native_function!(claims, |_call| {
    if !session_user_is_trusted() {
        return Ok(None);
    }
    let claims = document().and_then(|document| {
        read(
            &document,
            &gucs::value(&gucs::TENANT_CLAIM),
            &gucs::value(&gucs::ROLE_CLAIM),
        )
    });
    claims.map_or(Ok(None), |claims| {
        text_array([
            claims.tenant.as_deref(),
            claims.subject.as_deref(),
            claims.role.as_deref(),
        ])
    })
});
