//! Keys in the backend: master keys, and the data keys they unwrap.
//!
//! [`master_file`] reads and checks the master key file, [`cache`] keeps unwrapped keys and what a transaction has
//! decided about them; both are pure. `load` fetches one wrapped key through SPI, `sources` holds this backend's master
//! keys, `native` finds the key for a field, `settle` counts what a session that ends has used, and `making` makes new keys.

pub mod cache;
pub mod master_command;
pub mod master_file;
pub mod master_keys;
pub mod masters;
pub mod uses;

#[cfg(feature = "postgres")]
mod fence;
#[cfg(feature = "postgres")]
pub mod load;
#[cfg(feature = "postgres")]
mod making;
#[cfg(feature = "postgres")]
pub mod native;
#[cfg(feature = "postgres")]
mod settle;
#[cfg(feature = "postgres")]
pub mod sources;

/// What a data key is for. A key opens nothing of the other purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Encrypts fields.
    Data,
    /// Derives blind indexes.
    Index,
}

impl Purpose {
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Data => "data",
            Purpose::Index => "index",
        }
    }
}
