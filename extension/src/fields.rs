//! Encrypted fields for SQL: `seal_field`, `open_field`, `try_open_field`, `reseal_field`, `renew_field`,
//! `blind_index`, `value_hash`. Thin: arguments in, `crypto` and `keyring` do the work, results are written straight into
//! the datum that PostgreSQL gets. [`seal`], [`open`], [`reseal`] and [`renew`] serve the host's values (`values`) as well.

use zeroize::Zeroizing;

use crate::boundary::{Call, Outcome, bytea, bytea_filled, native_function, text_filled};
use crate::crypto::aead::{Domain, Envelope, NotAuthentic, OVERHEAD, Place, seal_into};
use crate::crypto::{KeyBytes, blind_index};
use crate::errors::Failure;
use crate::keyring::Purpose;
use crate::keyring::cache::Material;
use crate::keyring::native::{active_key, draw_random, reserve_uses, with_key};

impl From<NotAuthentic> for Failure {
    fn from(_: NotAuthentic) -> Failure {
        Failure::NotAuthentic
    }
}

const WRONG_KIND: Failure = Failure::Internal {
    what: "a key in the cache has another purpose than asked for",
};

/// The first three arguments that all field functions share.
#[inline]
fn place<'a>(call: &Call<'a>) -> Place<'a> {
    Place {
        domain: Domain::FIELD,
        tenant: call.uuid(0),
        label: call.utf8(1),
        row: call.uuid(2),
    }
}

/// The plaintext as `text`.
#[inline]
pub fn open(place: Place<'_>, ciphertext: &[u8]) -> Outcome {
    let envelope = Envelope::parse(ciphertext)?;
    with_key(envelope.key_id(), place.tenant, Purpose::Data, |entry| {
        let Material::Data(cipher) = &entry.material else {
            return Err(WRONG_KIND);
        };
        text_filled(envelope.len(), |plaintext| {
            Ok(envelope.open_into(cipher, place, plaintext)?)
        })
    })
}

/// The plaintext in memory of ours, which is wiped when dropped.
pub fn open_here(place: Place<'_>, envelope: &Envelope<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut plaintext = Zeroizing::new(Vec::new());
    plaintext
        .try_reserve_exact(envelope.len())
        .map_err(|_| Failure::OutOfMemory)?;
    plaintext.resize(envelope.len(), 0);
    with_key(envelope.key_id(), place.tenant, Purpose::Data, |entry| {
        let Material::Data(cipher) = &entry.material else {
            return Err(WRONG_KIND);
        };
        Ok(envelope.open_into(cipher, place, &mut plaintext)?)
    })?;
    Ok(plaintext)
}

/// A new ciphertext under the tenant's active key.
#[inline]
pub fn seal(place: Place<'_>, plaintext: &[u8]) -> Outcome {
    let key_id = active_key(place.tenant, Purpose::Data)?;
    let nonce = draw_random()?;
    loop {
        let sealed = with_key(key_id, place.tenant, Purpose::Data, |entry| {
            if !entry.uses.count() {
                return Ok(None);
            }
            let Material::Data(cipher) = &entry.material else {
                return Err(WRONG_KIND);
            };
            bytea_filled(plaintext.len() + OVERHEAD, |envelope| {
                Ok(seal_into(
                    cipher, key_id, &nonce, place, plaintext, envelope,
                )?)
            })
        })?;
        if sealed.is_some() {
            return Ok(sealed);
        }
        reserve_uses(key_id, place.tenant)?;
    }
}

/// The same plaintext under the active key. What is under it already is given back as it is; NULL when it can't be
/// opened, so that one ciphertext doesn't hold up a batch.
pub fn reseal(place: Place<'_>, call: &Call<'_>, argument: usize) -> Outcome {
    let Ok(envelope) = Envelope::parse(call.bytes(argument)) else {
        return Ok(None);
    };
    if envelope.key_id() == active_key(place.tenant, Purpose::Data)? {
        return Ok(Some(call.datum(argument)));
    }
    match opened_or_none(open_here(place, &envelope))? {
        Some(plaintext) => seal(place, &plaintext),
        None => Ok(None),
    }
}

/// As [`reseal`], but what can't be opened is an error, for a statement that is to change all its rows or none.
#[inline]
pub fn renew(place: Place<'_>, call: &Call<'_>, argument: usize) -> Outcome {
    match reseal(place, call, argument)? {
        Some(sealed) => Ok(Some(sealed)),
        None => Err(Failure::NotAuthentic),
    }
}

/// `None` instead of the failures that are the ciphertext's own.
pub fn opened_or_none<T>(opened: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(Failure::NotAuthentic | Failure::KeyUnknown { .. } | Failure::KeyDestroyed { .. }) => {
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

native_function!(open_field, |call| open(place(call), call.bytes(3)));

native_function!(try_open_field, |call| {
    Ok(opened_or_none(open(place(call), call.bytes(3)))?.flatten())
});

native_function!(seal_field, |call| seal(place(call), call.utf8(3)));

native_function!(reseal_field, |call| reseal(place(call), call, 3));

native_function!(renew_field, |call| renew(place(call), call, 3));

/// What `hash` makes of the tenant's index key.
fn hashed(call: &Call<'_>, hash: impl FnOnce(&KeyBytes) -> [u8; 32]) -> Outcome {
    let tenant = call.uuid(0);
    let key_id = active_key(tenant, Purpose::Index)?;
    with_key(key_id, tenant, Purpose::Index, |entry| {
        let Material::Index(key) = &entry.material else {
            return Err(WRONG_KIND);
        };
        bytea(&hash(key))
    })
}

native_function!(blind_index, |call| {
    let (label, value) = (call.utf8(1), call.text(2));
    hashed(call, |key| blind_index::blind_index(key, label, &value))
});

native_function!(value_hash, |call| {
    let (label, value) = (call.utf8(1), call.utf8(2));
    hashed(call, |key| blind_index::keyed_hash(key, label, value))
});
