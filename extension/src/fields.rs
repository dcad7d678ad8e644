//! Encrypted fields for SQL: `seal_field`, `open_field`, `try_open_field`, `blind_index`. Thin: arguments in, `crypto`
//! and `keyring` do the work, results are written straight into the datum that PostgreSQL gets.

use crate::boundary::{Call, Outcome, bytea, bytea_filled, native_function, text_filled};
use crate::crypto::aead::{Envelope, NotAuthentic, OVERHEAD, Place, seal_into};
use crate::crypto::blind_index;
use crate::errors::Failure;
use crate::keyring::Purpose;
use crate::keyring::cache::Material;
use crate::keyring::native::{active_key, draw_random, with_key};

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
        tenant: call.uuid(0),
        label: call.utf8(1),
        row_id: call.uuid(2),
    }
}

#[inline]
fn open(call: &Call<'_>) -> Outcome {
    let place = place(call);
    let envelope = Envelope::parse(call.bytes(3))?;
    with_key(envelope.key_id(), place.tenant, Purpose::Data, |entry| {
        let Material::Data(cipher) = &entry.material else {
            return Err(WRONG_KIND);
        };
        text_filled(envelope.len(), |plaintext| {
            Ok(envelope.open_into(cipher, place, plaintext)?)
        })
    })
}

native_function!(open_field, open);

native_function!(try_open_field, |call| {
    match open(call) {
        Err(Failure::NotAuthentic | Failure::KeyUnknown { .. } | Failure::KeyDestroyed { .. }) => {
            Ok(None)
        }
        outcome => outcome,
    }
});

native_function!(seal_field, |call| {
    let place = place(call);
    let plaintext = call.utf8(3);
    let key_id = active_key(place.tenant, Purpose::Data)?;
    let nonce = draw_random()?;
    with_key(key_id, place.tenant, Purpose::Data, |entry| {
        if !entry.count_sealed() {
            return Err(Failure::KeyExhausted { key_id });
        }
        let Material::Data(cipher) = &entry.material else {
            return Err(WRONG_KIND);
        };
        bytea_filled(plaintext.len() + OVERHEAD, |envelope| {
            Ok(seal_into(
                cipher, key_id, &nonce, place, plaintext, envelope,
            )?)
        })
    })
});

native_function!(blind_index, |call| {
    let (tenant, label, value) = (call.uuid(0), call.utf8(1), call.text(2));
    let key_id = active_key(tenant, Purpose::Index)?;
    with_key(key_id, tenant, Purpose::Index, |entry| {
        let Material::Index(key) = &entry.material else {
            return Err(WRONG_KIND);
        };
        bytea(&blind_index::blind_index(key, label, &value))
    })
});
