-- The audit log. Append only: nobody is granted more than INSERT and SELECT, and triggers refuse the rest for everyone
-- but a superuser who disables them; they fire for replicated changes too (enable always). Each event keeps the id of
-- its transaction, so that sealing can tell which events are older than every open transaction.
-- Behaviour: api/audit.sql. Covered by tests/tests/security/audit.rs.

create sequence rotator_internal.audit_event_id as bigint;

create table rotator_internal.audit_event (
    tenant_id uuid not null,
    id bigint not null default nextval('rotator_internal.audit_event_id'),
    occurred_at timestamptz not null default clock_timestamp(),
    transaction_id xid8 not null default pg_current_xact_id(),
    actor text not null,
    source text not null check (source in ('sql', 'api', 'cli', 'slack', 'link', 'email', 'pagerduty', 'engine')),
    action text not null,
    entity text not null,
    entity_id text,
    changes jsonb not null default '{}',
    request_id text,
    primary key (tenant_id, id)
);

comment on table rotator_internal.audit_event is 'Every change: who, through what, when, what. Append only.';
comment on column rotator_internal.audit_event.source is 'Through what: sql, api, cli, slack, link, email, pagerduty or engine.';
comment on column rotator_internal.audit_event.changes is
    'What changed, old and new; for an encrypted field only that it changed.';

create function rotator_internal.refuse_audit_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = '42501',
        message = 'the audit log is append only',
        hint = 'Audit events are never changed or removed; record a new event instead.';
end
$$;

comment on function rotator_internal.refuse_audit_change() is 'Refuses UPDATE, DELETE and TRUNCATE of the audit log.';

create trigger append_only
before update or delete or truncate on rotator_internal.audit_event
for each statement execute function rotator_internal.refuse_audit_change();

alter table rotator_internal.audit_event enable always trigger append_only;
