//! Making data keys and moving them to another master key, and what SQL asks about master keys: `make_key`,
//! `rewrap_key`, `load_master_keys`, `master_key_status`, `wrapping_master_key_id`, `master_key_source`.

use pgrx::pg_sys;

use super::master_keys::Problem;
use super::masters::Wrapped;
use super::{Purpose, load, sources};
use crate::boundary::{Call, Outcome, bytea, native_function, record, text};
use crate::crypto::KeyBytes;
use crate::crypto::wrap::{self, Binding};
use crate::errors::Failure;

/// Of how many tenants the newest keys are tried before the master keys are called wrong.
const TRIED: usize = 5;

// A fresh key for (tenant, key_id, purpose) under the first master key.
native_function!(make_key, |call| {
    let (tenant, key_id, purpose) = (call.uuid(0), call.int8(1), call.text(2));
    if purpose != Purpose::Data.name() && purpose != Purpose::Index.name() {
        return Err(Failure::BadArgument {
            problem: format!("there is no key purpose \"{purpose}\""),
            hint: "The purposes are data and index.",
        });
    }
    lock_against_rewrapping()?;
    prove_master_keys()?;
    let key = KeyBytes::generate()?;
    let (wrapped, master_key_id) = sources::with(|masters| {
        let (wrapped, id) = masters.wrap(tenant, key_id, &purpose, &key)?;
        Ok::<_, Failure>((wrapped, id.to_owned()))
    })?;
    key_columns(
        call,
        &wrapped,
        &master_key_id,
        Some(&wrap::check_value(&key)),
    )
});

/// The lock that inserting a key takes, before the master keys are read: `rotator.rewrap_keys()` waits for whoever makes
/// a key, and whoever waits for it reads the keys as they are then. Without it a key made at the same time could stay
/// under the old master key unseen.
fn lock_against_rewrapping() -> Result<(), Failure> {
    // SAFETY: look-ups in the system cache; an ERROR unwinds through here.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"rotator_internal".as_ptr(), false);
        let table = pg_sys::get_relname_relid(c"encryption_key".as_ptr(), schema);
        if table == pg_sys::InvalidOid {
            return Err(Failure::Internal {
                what: "rotator's key table is missing",
            });
        }
        pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
    }
    Ok(())
}

/// Reads the master keys, once a transaction or every ten seconds of it, and refuses keys that don't open what was made
/// before: what is made under them would be lost once the right ones are back.
///
/// Asked is the key that wraps, and while it has wrapped nothing, all of them. One data key that can't be opened is not
/// enough to refuse: it may itself be damaged, and nobody else's tenant must suffer for it.
fn prove_master_keys() -> Result<(), Failure> {
    if sources::with(|masters| masters.proven().is_some()) {
        return Ok(());
    }
    let wrapping = sources::with(|masters| {
        let keys = masters.begin_to_prove()?;
        Ok::<_, Failure>(keys.wrapping().0.to_owned())
    })?;
    open_what_was_made(&wrapping)?;
    sources::with(|masters| masters.are_proven());
    Ok(())
}

fn open_what_was_made(wrapping: &str) -> Result<(), Failure> {
    if !open_newest(wrapping)? {
        open_newest("")?;
    }
    Ok(())
}

/// Opens one of the newest keys under this master key, or under any if none is named. False when there is none.
fn open_newest(master_key_id: &str) -> Result<bool, Failure> {
    let mut refusal = None;
    let (mut before, mut tenants) = (i64::MAX, String::new());
    for _ in 0..TRIED {
        let Some((id, row)) = load::newest_key(before, &tenants, master_key_id)? else {
            break;
        };
        let key = sources::wrapped(id, &row)?;
        match sources::with(|masters| masters.open(&key)) {
            Ok(_) => return Ok(true),
            Err(failure) => refusal = refusal.or(Some(failure)),
        }
        before = id;
        tenants.extend(row.tenant.iter().map(|byte| format!("{byte:02x}")));
        tenants.push(' ');
    }
    refusal.map_or(Ok(false), Err)
}

// The same key under the first master key, with the master keys as `load_master_keys` found them.
native_function!(rewrap_key, |call| {
    let (tenant, key_id, purpose) = (call.uuid(0), call.int8(1), call.text(2));
    let old_master_key_id = call.text(4);
    let old = Wrapped {
        binding: Binding {
            tenant,
            key_id,
            purpose: &purpose,
            master_key_id: &old_master_key_id,
        },
        bytes: call.bytes(3),
        check_value: call.bytes(5),
    };
    let (wrapped, master_key_id) = sources::with(|masters| {
        let key = masters.open(&old)?;
        let (wrapped, id) = masters.wrap(tenant, key_id, &purpose, &key)?;
        Ok::<_, Failure>((wrapped, id.to_owned()))
    })?;
    key_columns(call, &wrapped, &master_key_id, None)
});

fn key_columns(
    call: &Call<'_>,
    wrapped: &[u8],
    master_key_id: &str,
    check_value: Option<&[u8]>,
) -> Outcome {
    let (wrapped, master_key_id) = (bytea(wrapped)?, text(master_key_id.as_bytes())?);
    match check_value {
        Some(check_value) => record(call, [wrapped, master_key_id, bytea(check_value)?]),
        None => record(call, [wrapped, master_key_id]),
    }
}

// Reads the source now, whenever it was read last; the id of the key that wraps.
native_function!(load_master_keys, |_call| {
    let id = sources::with(|masters| {
        let keys = masters.reload()?;
        Ok::<_, Failure>(keys.wrapping().0.to_owned())
    })?;
    text(id.as_bytes())
});

// NULL when the master keys can be read now and open what was made before, else what is wrong.
native_function!(master_key_status, |_call| {
    let wrapping = match sources::with(|masters| Ok(masters.reload()?.wrapping().0.to_owned())) {
        Ok(wrapping) => wrapping,
        Err::<_, Problem>(problem) => return text(problem.to_string().as_bytes()),
    };
    match open_what_was_made(&wrapping) {
        Ok(()) => Ok(None),
        Err(Failure::MasterKeyUnavailable { problem, .. }) => text(problem.as_bytes()),
        Err(failure) => Err(failure),
    }
});

// From the keys held, which are read if there are none.
native_function!(wrapping_master_key_id, |_call| {
    let id = sources::with(|masters| {
        let keys = masters.held_or_read()?;
        Ok::<_, Failure>(keys.wrapping().0.to_owned())
    })?;
    text(id.as_bytes())
});

// Ids of the keys held, the one that wraps first, with blanks between; NULL while none are held.
native_function!(master_key_ids, |_call| {
    match sources::with(|masters| masters.ids()) {
        Some(ids) => text(ids.as_bytes()),
        None => Ok(None),
    }
});

// `file` or `command`; NULL while no keys are held.
native_function!(master_key_source, |_call| {
    match sources::with(|masters| masters.source()) {
        Some(source) => text(source.kind().as_bytes()),
        None => Ok(None),
    }
});
