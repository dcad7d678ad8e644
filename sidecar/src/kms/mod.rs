//! AWS KMS around master keys: `rotator kms wrap` and `rotator kms unwrap`, the latter as `rotator.master_key_command`.
//!
//! - `lines`: master keys as text, in the clear and wrapped
//! - `arn`: naming a KMS key; which region and which host answers for it
//! - `credentials`: who we are to AWS, from the usual places
//! - `api`: `Encrypt` and `Decrypt`, one attempt; `answer` what KMS may say
//! - `patience`: trying again within one limit of time
//! - `web`: how AWS is spoken to: TLS, no redirects, limits
//! - `error`: what can go wrong, and what to do about it
//!
//! Key bytes are in buffers of ours that are wiped, never in an argument, a log or an error. What the TLS library and
//! the allocator copied is gone with the process, which ends right after. S3 is spoken to with the same `credentials` and
//! `web` (`crate::audit`). Tests: `tests/tests/delivery/kms*.rs`.

mod answer;
mod api;
mod arn;
pub(crate) mod credentials;
mod error;
mod lines;
mod patience;
pub(crate) mod web;

use futures_util::{StreamExt, TryStreamExt, stream};
use url::Url;
use zeroize::Zeroizing;

pub use arn::{KeyName, Place};
pub use error::KmsError;
pub use lines::{
    LARGEST, MasterKey, Wrapped, parse_plain, parse_wrapped, print_plain, print_wrapped,
};
pub use patience::Patience;

/// Keys in flight at once: few enough for the request quota of a new account.
const AT_ONCE: usize = 8;

/// Wraps master keys by one KMS key, in their order.
///
/// # Errors
/// The first that KMS refused, or that could not be sent in time.
pub async fn wrap(
    keys: &[MasterKey],
    by: &KeyName,
    place: &Place,
    stand_in: Option<&Url>,
    patience: &Patience,
) -> Result<Vec<Wrapped>, KmsError> {
    let api = api::Api::open(place, stand_in, patience).await?;
    stream::iter(keys)
        .map(|key| api.encrypt(key, by))
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// Unwraps them again, in their order: all of them or none. Each line says which KMS key, and so which region.
///
/// # Errors
/// As [`wrap`].
pub async fn unwrap(
    wrapped: &[Wrapped],
    stand_in: Option<&Url>,
    patience: &Patience,
) -> Result<Zeroizing<String>, KmsError> {
    let mut apis: Vec<api::Api<'_>> = Vec::new();
    for line in wrapped {
        let place = line.key.place();
        if !apis.iter().any(|api| *api.place() == place) {
            apis.push(api::Api::open(&place, stand_in, patience).await?);
        }
    }
    let opened: Vec<MasterKey> = stream::iter(wrapped)
        .map(|line| async {
            let place = line.key.place();
            let api = apis.iter().find(|api| *api.place() == place);
            api.ok_or(KmsError::NoRegion)?.decrypt(line).await
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(print_plain(&opened))
}
