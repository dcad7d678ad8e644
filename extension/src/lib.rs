//! rotator's native half: what SQL cannot do safely or fast enough, and nothing else.
//!
//! | module | owns |
//! |---|---|
//! | [`crypto`] | envelopes, key wrapping, blind indexes, random blocks (pure) |
//! | [`keyring`] | master keys, the cache of unwrapped data keys, loading a wrapped key |
//! | [`fields`] | `seal_field`, `open_field`, `try_open_field`, `reseal_field`, `renew_field`, `blind_index` |
//! | [`values`] | `encrypt`, `decrypt` and what re-encrypts the host's columns |
//! | [`restricted`] | writing into host tables, whose triggers may not leave anything behind |
//! | [`claims`] | verified claims of a request, read strictly |
//! | [`session`] | the tenant a backend is bound to |
//! | [`guard`] | refusing values that look like secrets |
//! | [`audit`] | hashes of audit events and blocks; the encoding itself is the crate `rotator_audit` |
//! | [`ids`] | time-ordered ids and link tokens |
//! | [`gucs`], [`errors`], [`boundary`] | settings, failures, the crossing between PostgreSQL and Rust |
//!
//! Business rules live in `sql/`; the declarations of the functions exported here in `sql/api`. Each exported symbol is
//! `<function>_wrapper`, made by `boundary::native_function!`. Without one of the `pgNN` features only the pure core is
//! compiled, so its unit tests need no PostgreSQL.

pub mod claims;
pub mod crypto;
pub mod errors;
pub mod guard;
pub mod ids;
pub mod keyring;
pub mod session;

#[cfg(feature = "postgres")]
mod audit;
#[cfg(feature = "postgres")]
mod boundary;
#[cfg(feature = "postgres")]
mod fields;
#[cfg(feature = "postgres")]
mod gucs;
#[cfg(feature = "postgres")]
mod library;
#[cfg(feature = "postgres")]
mod restricted;
#[cfg(feature = "postgres")]
mod values;

#[cfg(feature = "postgres")]
pgrx::pg_module_magic!();

/// Runs once when the library is loaded: in the postmaster when preloaded, else in the first backend that calls us.
///
/// It defines the settings, registers the transaction callbacks (inherited by every forked backend) and, when preloaded,
/// reads the master keys. Nothing here may stop the server: a missing master key is a warning in the log.
#[cfg(feature = "postgres")]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    gucs::define();
    keyring::native::register_transaction_callbacks();
    keyring::sources::register_transaction_callbacks();
    session::known::register_callbacks();
    if library::note_loading() {
        keyring::sources::preload();
    }
}
