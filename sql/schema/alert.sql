-- One alert a secret and cycle: opened with the first reminder, acknowledged by a person, resolved by the rotation.
-- No foreign keys here and from the outbox to here: only the tick makes these rows, from rows it has just read, none is
-- ever deleted, and the checks would cost a fifth of queueing.
-- The key is natural: a second index that begins with tenant_id could be mistaken for it (see schema/secret.sql).
-- Behaviour: api/alert.sql, opened by api/tick.sql. Covered by tests/tests/behaviour/alert.rs.

create table rotator_internal.alert (
    tenant_id uuid not null,
    id uuid not null default rotator_internal.uuid_v7(),
    secret_id uuid not null,
    cycle integer not null,
    state text not null default 'open' check (state in ('open', 'acknowledged', 'resolved')),
    opened_at timestamptz not null default clock_timestamp(),
    acknowledged_at timestamptz,
    acknowledged_by text,
    acknowledged_until timestamptz,
    resolved_at timestamptz check ((state = 'resolved') = (resolved_at is not null)),
    escalation_step integer not null default 0,
    next_escalation_at timestamptz,
    primary key (tenant_id, secret_id, cycle),
    check (state <> 'acknowledged' or acknowledged_at is not null),
    check ((acknowledged_at is null) = (acknowledged_by is null))
);

comment on table rotator_internal.alert is 'One per secret and cycle: open, acknowledged, resolved.';
comment on column rotator_internal.alert.acknowledged_until is 'Until when the acknowledgement holds; then the alert reopens.';
comment on column rotator_internal.alert.escalation_step is 'How many steps of the ladder have been taken.';
