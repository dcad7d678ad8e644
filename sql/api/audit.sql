-- Writing and reading the audit log. Every change calls record_event in its own transaction; the tick writes its events
-- in bulk (api/tick.sql). Table and triggers: schema/audit.sql. Covered by tests/tests/security/audit.rs.

create or replace function rotator_internal.current_source() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case
            when rotator_internal.in_claims_mode() then 'api'
            when current_setting('application_name') = 'rotator-cli' then 'cli'
            else 'sql'
        end
    );
end
$$;

comment on function rotator_internal.current_source() is 'Through what a change came: api, cli or sql.';

create or replace function rotator_internal.current_request_id() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Not parsed as JSON: a malformed header must not fail the change that it came with.
    return (
        select case
            -- Nor may it carry in what the guard keeps out.
            when rotator_internal.in_claims_mode() and rotator_internal.secret_rule(h.request_id) is null
            then h.request_id
        end
        from (
            select substring(
                current_setting('request.headers', true)
                from '"x-request-id"[[:space:]]*:[[:space:]]*"([A-Za-z0-9._:-]{1,128})"') as request_id
        ) as h
    );
end
$$;

comment on function rotator_internal.current_request_id() is 'The X-Request-Id of a request through PostgREST or the REST API.';

create or replace function rotator_internal.record_event(
    tenant uuid,
    action text,
    entity text,
    entity_id text,
    changes jsonb default '{}',
    actor text default null,
    source text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes, request_id)
    values (
        record_event.tenant,
        coalesce(record_event.actor, rotator.current_actor()),
        coalesce(record_event.source, rotator_internal.current_source()),
        record_event.action,
        record_event.entity,
        record_event.entity_id,
        coalesce(record_event.changes, '{}'),
        rotator_internal.current_request_id());
end
$$;

comment on function rotator_internal.record_event(uuid, text, text, text, jsonb, text, text) is
    'Appends an audit event to this transaction; actor and source default to the caller''s.';

create or replace view rotator.audit_log
with (security_invoker = true)
as
select
    e.id,
    e.tenant_id,
    e.occurred_at,
    e.actor,
    e.source,
    e.action,
    e.entity,
    e.entity_id,
    e.changes,
    e.request_id,
    l.block_number as block_id,
    e.transaction_id::text as transaction_id
from rotator_internal.audit_event as e
left join rotator_internal.audit_leaf as l on l.tenant_id = e.tenant_id and l.event_id = e.id;

comment on view rotator.audit_log is
    'Every change, append only. Tenant auditors and admins see their tenant, rotator_auditor sees all.';
comment on column rotator.audit_log.actor is 'Subject of the claims, db: and a login role, or rotator for the engine.';
comment on column rotator.audit_log.changes is
    'Old and new values; of an encrypted field that it changed, and under "encrypted" keyed hashes of both. The values '
    'themselves: rotator.audit_values.';
comment on column rotator.audit_log.block_id is 'The block that it is sealed in, of its tenant; null while it is not sealed yet.';
comment on column rotator.audit_log.transaction_id is 'The transaction that wrote it, on the server that it was written on.';
