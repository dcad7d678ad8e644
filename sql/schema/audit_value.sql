-- What encrypted fields were before and after a change, one row an event: a ciphertext that only the tenant's auditors and
-- admins are shown. The event itself keeps keyed hashes of these values, so that its seal covers them. Rows are never
-- removed, and change only when re-encryption puts the same text under a new key (api/audit_value.sql has that trigger).
-- Behaviour: api/audit_value.sql. Covered by tests/tests/security/{audit_values,audit_values_kept}.rs.

create table rotator_internal.audit_value (
    tenant_id uuid not null,
    event_id bigint not null,
    changed bytea not null,
    primary key (tenant_id, event_id)
) with (fillfactor = 50);

comment on table rotator_internal.audit_value is
    'Old and new values of the encrypted fields that an audit event changed. Never removed; rewritten by re-encryption alone.';
comment on column rotator_internal.audit_value.changed is
    'Ciphertext, label audit_value.changed, of a JSON object: field, then old and new; and the channel, where these are addresses.';

create trigger never_removed
before delete or truncate on rotator_internal.audit_value
for each statement execute function rotator_internal.refuse_audit_change();

-- Logical replication fires triggers for each row alone.
create trigger never_removed_rows
before delete on rotator_internal.audit_value
for each row execute function rotator_internal.refuse_audit_change();

alter table rotator_internal.audit_value enable always trigger never_removed;
alter table rotator_internal.audit_value enable always trigger never_removed_rows;
