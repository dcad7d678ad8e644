//! The settings. None holds a secret; those that say where secrets are, and whom to trust, are for superusers only.
//!
//! They are set in the configuration file and take effect on reload. Until the library is loaded PostgreSQL treats them
//! as unknown placeholders that every login can read, which is why the set-up guide asks for preloading.
//! `rotator.session` is no setting for people: `session` explains it.

use std::ffi::CString;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::session::native as session;

pub static MASTER_KEY_FILE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
pub static MASTER_KEY_COMMAND: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
pub static TRUSTED_AUTHENTICATORS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
pub static TENANT_CLAIM: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"tenant_id"));
pub static ROLE_CLAIM: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"rotator_role"));
pub static SESSION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// A setting's value; unset counts as empty.
pub fn value(setting: &GucSetting<Option<CString>>) -> String {
    setting
        .get()
        .map(|value| value.to_string_lossy().into_owned())
        .unwrap_or_default()
}

pub fn define() {
    let hidden = GucFlags::SUPERUSER_ONLY;
    GucRegistry::define_string_guc(
        c"rotator.master_key_file",
        c"File with the master keys: lines \"id:base64 of 32 bytes\".",
        c"The first line wraps new data keys, all lines unwrap. Only the server's user may be able to read it.",
        &MASTER_KEY_FILE,
        GucContext::Sighup,
        hidden,
    );
    GucRegistry::define_string_guc(
        c"rotator.master_key_command",
        c"Command that prints the master keys, instead of a file: an absolute path and its arguments.",
        c"Run without a shell, for at most 10 seconds; its output is like the file's.",
        &MASTER_KEY_COMMAND,
        GucContext::Sighup,
        hidden,
    );
    GucRegistry::define_string_guc(
        c"rotator.trusted_authenticators",
        c"Login roles whose request.jwt.claims are believed, separated by commas.",
        c"List only roles that nobody can send SQL through, like PostgREST's authenticator.",
        &TRUSTED_AUTHENTICATORS,
        GucContext::Sighup,
        hidden,
    );
    GucRegistry::define_string_guc(
        c"rotator.tenant_claim",
        c"Claim that names the tenant; dots lead into nested objects.",
        c"",
        &TENANT_CLAIM,
        GucContext::Sighup,
        hidden,
    );
    GucRegistry::define_string_guc(
        c"rotator.role_claim",
        c"Claim that names the member's role; dots lead into nested objects.",
        c"",
        &ROLE_CLAIM,
        GucContext::Sighup,
        hidden,
    );
    // SAFETY: the hook calls nothing that can panic or raise.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"rotator.session",
            c"Set by rotator.use_tenant() only; any other value is discarded.",
            c"",
            &SESSION,
            GucContext::Userset,
            GucFlags::NO_SHOW_ALL | GucFlags::DISALLOW_IN_FILE,
            Some(session::discard_foreign_value),
            None,
            None,
        );
    }
}
