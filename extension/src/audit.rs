//! `audit_event_hash`, `audit_root`, `audit_block_hash` and `next_transaction_id`: what sealing and verifying the audit log
//! need from outside of SQL. The encoding itself is the crate `rotator_audit`, which the sidecar uses too.

use pgrx::pg_sys;
use rotator_audit::{Event, Hash, Header, leaf, root};

use crate::boundary::{Call, bytea, native_function, xid8};
use crate::errors::Failure;

native_function!(audit_event_hash, |call| {
    // Without a tenant, an id and the like there is no event.
    if [0, 1, 2, 3, 4, 5, 6, 7, 9]
        .iter()
        .any(|at| call.is_null(*at))
    {
        return Ok(None);
    }
    let [actor, source, action, entity, changes] = [4, 5, 6, 7, 9].map(|at| call.text(at));
    let [entity_id, request_id] = [8, 10].map(|at| (!call.is_null(at)).then(|| call.text(at)));
    let event = Event {
        tenant: *call.uuid(0),
        id: call.int8(1),
        occurred_at: call.unix_micros(2),
        transaction_id: call.xid8(3),
        actor: &actor,
        source: &source,
        action: &action,
        entity: &entity,
        entity_id: entity_id.as_deref(),
        changes: &changes,
        request_id: request_id.as_deref(),
    };
    let hash = leaf(&event).map_err(|_| Failure::Internal {
        what: "an audit event can't be hashed: what it changed is no JSON document",
    })?;
    bytea(&hash)
});

native_function!(audit_root, |call| {
    let (leaves, rest) = call.bytes(0).as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Failure::Internal {
            what: "a root is made of hashes of 32 bytes",
        });
    }
    bytea(&root(leaves))
});

native_function!(audit_block_hash, |call| {
    let header = Header {
        tenant: *call.uuid(0),
        number: call.int8(1).cast_unsigned(),
        events: call.int8(2).cast_unsigned(),
        root: hash(call, 3)?,
        previous: hash(call, 4)?,
        sealed_at: call.unix_micros(5),
        below: call.xid8(6),
        next: call.xid8(7),
    };
    bytea(&header.hash())
});

fn hash(call: &Call<'_>, index: usize) -> Result<Hash, Failure> {
    call.bytes(index).try_into().map_err(|_| Failure::Internal {
        what: "a hash of the audit log has 32 bytes",
    })
}

native_function!(next_transaction_id, |_call| {
    // SAFETY: reads a counter in shared memory under its lock; callable at any time.
    xid8(unsafe { pg_sys::ReadNextFullTransactionId() }.value)
});
