//! Values of the host application's own columns: `encrypt` and `decrypt` for its members; for the engine that
//! re-encrypts its columns `reseal_value`, `renew_value`, `renew_uuid_value`, `value_opens`, `ciphertext_key` and
//! `is_under_other_key`. The same envelope as rotator's fields in a domain of its own, bound to a label and a row key
//! that the host chooses. Tests: tests/tests/security/{values,reseal}.rs.

use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::boundary::{Call, boolean, int8, native_function};
use crate::crypto::TenantId;
use crate::crypto::aead::{Domain, Envelope, HEADER, OVERHEAD, Place, header_key_id};
use crate::errors::Failure;
use crate::fields::{open, open_here, opened_or_none, renew, reseal, seal};
use crate::session::known;

/// In bytes of UTF-8. What is longer is a mistake: both are repeated in the associated data of each value.
const LONGEST_LABEL: usize = 255;
const LONGEST_ROW_KEY: usize = 1024;

/// Where a member's value lives, from arguments 1 and 2.
#[inline]
fn place_for<'a>(call: &Call<'a>, tenant: &'a TenantId) -> Result<Place<'a>, Failure> {
    let (label, row) = (call.utf8(1), call.utf8(2));
    if !(1..=LONGEST_LABEL).contains(&label.len()) {
        return Err(Failure::BadArgument {
            problem: format!(
                "a label has 1 to {LONGEST_LABEL} bytes, not {}",
                label.len()
            ),
            hint: "A label is a constant that names the column, such as 'webhook.payload'.",
        });
    }
    if !(1..=LONGEST_ROW_KEY).contains(&row.len()) {
        return Err(Failure::BadArgument {
            problem: format!(
                "a row key has 1 to {LONGEST_ROW_KEY} bytes, not {}",
                row.len()
            ),
            hint: "A row key is the text of the row's key, such as id::text.",
        });
    }
    Ok(Place {
        domain: Domain::HOST,
        tenant,
        label,
        row,
    })
}

/// The first three arguments of the engine's functions. No value was ever sealed with a label or row key out of bounds,
/// so there's nothing to check.
fn place<'a>(call: &Call<'a>) -> Place<'a> {
    Place {
        domain: Domain::HOST,
        tenant: call.uuid(0),
        label: call.utf8(1),
        row: call.utf8(2),
    }
}

native_function!(encrypt, |call| {
    let tenant = known::current_tenant()?;
    seal(place_for(call, &tenant)?, call.utf8(0))
});

native_function!(decrypt, |call| {
    let tenant = known::current_tenant()?;
    open(place_for(call, &tenant)?, call.bytes(0))
});

native_function!(reseal_value, |call| reseal(place(call), call, 3));

native_function!(renew_value, |call| renew(place(call), call, 3));

// PostgreSQL takes as long to write a uuid as a text as we to seal the value.
native_function!(renew_uuid_value, |call| {
    let mut text = [0; Hyphenated::LENGTH];
    Uuid::from_bytes(*call.uuid(2))
        .hyphenated()
        .encode_lower(&mut text);
    let place = Place {
        domain: Domain::HOST,
        tenant: call.uuid(0),
        label: call.utf8(1),
        row: &text,
    };
    renew(place, call, 3)
});

native_function!(value_opens, |call| {
    let Ok(envelope) = Envelope::parse(call.bytes(3)) else {
        return boolean(false);
    };
    let opened = opened_or_none(open_here(place(call), &envelope))?;
    boolean(opened.is_some())
});

// Reads no more than the header, however long the value is.
fn named_key(call: &Call<'_>) -> Option<i64> {
    let (length, start) = call.start_of_bytes::<HEADER>(0);
    start
        .filter(|_| length >= OVERHEAD)
        .and_then(|start| header_key_id(&start))
}

native_function!(ciphertext_key, |call| match named_key(call) {
    Some(id) => int8(id),
    None => Ok(None),
});

native_function!(is_under_other_key, |call| boolean(
    named_key(call) != Some(call.int8(1))
));
