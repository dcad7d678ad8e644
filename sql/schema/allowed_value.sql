-- Values of the guard's heuristic class that a tenant's admin let through: not the value, but a hash of it under the
-- tenant's index key, so that nobody can try values against it. What may be allowed, and who asks: api/guard.sql.
-- Covered by tests/tests/security/guard_allow.rs.

create table rotator_internal.allowed_value (
    tenant_id uuid not null references rotator_internal.tenant,
    field text not null,
    value_index bytea not null check (octet_length(value_index) = 32),
    reason text not null,
    allowed_by text not null,
    allowed_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, field, value_index)
);

comment on table rotator_internal.allowed_value is
    'What looks random and is let through all the same, by field: keyed hashes, never a value.';
comment on column rotator_internal.allowed_value.value_index is 'Keyed hash of the token (blind index).';
comment on column rotator_internal.allowed_value.reason is 'Why it is no secret, in the words of who let it through.';
