//! Keys in the backend: master keys, and the data keys they unwrap.
//!
//! [`master_file`] reads and checks the master key file, [`cache`] keeps unwrapped keys and what a transaction has
//! decided about them; both are pure. `load` fetches one wrapped key through SPI, `native` ties all of it together and
//! exports `make_key`, `master_key_status` and `wrapping_master_key_id`.

pub mod cache;
pub mod master_file;

#[cfg(feature = "postgres")]
mod load;
#[cfg(feature = "postgres")]
pub mod native;

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
