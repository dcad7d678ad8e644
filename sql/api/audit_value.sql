-- The values that an audit event is about, where the field is encrypted: stored encrypted beside the event, hashed under
-- the tenant's index key inside it. So the sealed event commits to values that re-encryption may still put under
-- another key, and who sees the log without the key (in an export, or as rotator_auditor) sees that a field changed,
-- and whether it is the value it was before. Table: schema/audit_value.sql; verifying: rotator.verify_audit.
-- Covered by tests/tests/security/{audit_values,audit_values_kept}.rs.

create or replace function rotator_internal.event_row(event_id bigint) returns uuid
language sql immutable strict parallel safe
return lpad(to_hex(event_id), 32, '0')::uuid;

comment on function rotator_internal.event_row(bigint) is
    'The row that the values of this event are sealed for: a ciphertext can''t be moved to another event.';

create or replace function rotator_internal.next_event_id() returns bigint
language sql
return case when pg_current_xact_id() is not null then nextval('rotator_internal.audit_event_id') end;

comment on function rotator_internal.next_event_id() is
    'The id of an event about to be written, as by its default: the transaction has an id of its own before its events have.';

create or replace function rotator_internal.hash_values(tenant uuid, hidden jsonb) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_object_agg(
            f.key,
            f.value || jsonb_strip_nulls(jsonb_build_object(
                'old', encode(rotator_internal.value_hash(tenant, 'audit_value.' || f.key, f.value ->> 'old'), 'hex'),
                'new', encode(rotator_internal.value_hash(tenant, 'audit_value.' || f.key, f.value ->> 'new'), 'hex'))))
        from jsonb_each(hidden) as f
    );
end
$$;

comment on function rotator_internal.hash_values(uuid, jsonb) is
    'The same object, with a keyed hash in place of each old and new: what an event keeps under "encrypted".';

create or replace function rotator_internal.record_event_with_values(
    tenant uuid, action text, entity text, entity_id text, changes jsonb, hidden jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    event bigint;
begin
    if hidden is null then
        perform rotator_internal.record_event(tenant, action, entity, entity_id, changes);
        return;
    end if;
    event := rotator_internal.next_event_id();
    insert into rotator_internal.audit_event (tenant_id, id, actor, source, action, entity, entity_id, changes, request_id)
    values (
        tenant, event, rotator.current_actor(), rotator_internal.current_source(), record_event_with_values.action,
        record_event_with_values.entity, record_event_with_values.entity_id,
        changes || jsonb_build_object('encrypted', rotator_internal.hash_values(tenant, hidden)),
        rotator_internal.current_request_id());
    insert into rotator_internal.audit_value (tenant_id, event_id, changed)
    values (
        tenant, event,
        rotator_internal.seal_field(tenant, 'audit_value.changed', rotator_internal.event_row(event), hidden::text));
end
$$;

comment on function rotator_internal.record_event_with_values(uuid, text, text, text, jsonb, jsonb) is
    'Appends an audit event about encrypted fields. hidden: an object of {"field": {"old": …, "new": …}}, without the one '
    'that there isn''t; with a "channel" the values are addresses, of which only hints are ever shown. Null: about none.';

create or replace function rotator_internal.recipient_of(tenant uuid, recipient uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- What can't be opened any more must not keep it from being replaced.
    return (
        select rotator_internal.try_open_field(r.tenant_id, 'recipient.address', r.id, r.address)
        from rotator_internal.recipient as r
        where r.tenant_id = tenant and r.id = recipient
    );
end
$$;

comment on function rotator_internal.recipient_of(uuid, uuid) is
    'The address of a recipient, for the audit log; null when there is none, or it can''t be opened.';

create or replace function rotator_internal.refuse_value_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if new.tenant_id = old.tenant_id and new.event_id = old.event_id then
        -- Where rows are replicated to without the master key nobody can compare; verify_audit does so elsewhere.
        if current_setting('session_replication_role') = 'replica' and rotator_internal.master_key_status() is not null then
            return new;
        elsif rotator_internal.try_open_field(
                old.tenant_id, 'audit_value.changed', rotator_internal.event_row(old.event_id), old.changed)
            = rotator_internal.try_open_field(
                old.tenant_id, 'audit_value.changed', rotator_internal.event_row(old.event_id), new.changed) then
            return new;
        end if;
    end if;
    raise exception using
        errcode = '42501',
        message = 'the audit log is append only',
        hint = 'Values of audit events are never changed; only re-encryption puts the same text under another key.';
end
$$;

comment on function rotator_internal.refuse_value_change() is
    'A trigger: refuses every change of an audit event''s values but the same text under another key.';

create or replace trigger only_resealed
before update on rotator_internal.audit_value
for each row execute function rotator_internal.refuse_value_change();

alter table rotator_internal.audit_value enable always trigger only_resealed;

create or replace function rotator_internal.values_match(tenant uuid, event_id bigint, changed bytea, hashed jsonb)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        rotator_internal.hash_values(
            tenant,
            rotator_internal.try_open_field(
                tenant, 'audit_value.changed', rotator_internal.event_row(event_id), changed)::jsonb) = hashed,
        false);
exception
    when data_exception then
        return false; -- it opens, and is no such object
end
$$;

comment on function rotator_internal.values_match(uuid, bigint, bytea, jsonb) is
    'Whether these are the values that the event has the hashes of.';

create or replace function rotator_internal.check_audit_values(scope uuid,
    out compared boolean, out tenant_id uuid, out bad_id bigint, out problem text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
    -- A log can be verified where there is no master key; and of a tenant that has left, whose keys are destroyed.
    compared := rotator_internal.master_key_status() is null;
    select coalesce(e.tenant_id, v.tenant_id), coalesce(e.id, v.event_id),
        case
            when v.event_id is null then format('the values of event %s were removed', e.id)
            when e.id is null then format('values were added to event %s, which is about none', v.event_id)
            else format('the values of event %s were changed', e.id)
        end
    into tenant_id, bad_id, problem
    from (
        select x.tenant_id, x.id, x.changes -> 'encrypted' as hashed
        from rotator_internal.audit_event as x
        where (scope is null or x.tenant_id = scope) and x.changes ? 'encrypted'
    ) as e
    full join (
        select x.* from rotator_internal.audit_value as x where scope is null or x.tenant_id = scope
    ) as v on v.tenant_id = e.tenant_id and v.event_id = e.id
    where e.id is null or v.event_id is null
        or (compared
            and exists (
                select
                from rotator_internal.encryption_key as k
                where k.tenant_id = e.tenant_id and k.purpose = 'index' and k.status = 'active')
            and not rotator_internal.values_match(e.tenant_id, e.id, v.changed, e.hashed))
    order by coalesce(e.id, v.event_id)
    limit 1;
end
$$;

comment on function rotator_internal.check_audit_values(uuid) is
    'The event with the lowest id whose stored values aren''t those that it has the hashes of; compared: whether there was a '
    'master key to look at more than whether they are there.';

create or replace view rotator.audit_values
with (security_invoker = true)
as
select
    v.tenant_id,
    v.event_id,
    f.key as field,
    case
        when f.value ? 'channel' then rotator_internal.recipient_hint(f.value ->> 'channel', f.value ->> 'old')
        else f.value ->> 'old'
    end as old_value,
    case
        when f.value ? 'channel' then rotator_internal.recipient_hint(f.value ->> 'channel', f.value ->> 'new')
        else f.value ->> 'new'
    end as new_value
from rotator_internal.audit_value as v
cross join lateral jsonb_each(
    rotator_internal.open_field(
        v.tenant_id, 'audit_value.changed', rotator_internal.event_row(v.event_id), v.changed)::jsonb) as f
where v.tenant_id = (select rotator.current_tenant())
  and (select rotator.current_member_role()) in ('auditor', 'admin');

comment on view rotator.audit_values is
    'What encrypted fields were before and after, of the current tenant''s audit events: for its auditors and admins. '
    'rotator_auditor, who sees every tenant''s events, sees only hashes there. Of addresses hints are shown.';
comment on column rotator.audit_values.event_id is 'The event in rotator.audit_log; its changes have hashes of these values.';
comment on column rotator.audit_values.field is 'name, provider_ref, purpose or recipient.';
comment on column rotator.audit_values.old_value is 'What it was; null when it is new. Of an address a hint.';
comment on column rotator.audit_values.new_value is 'What it became; null when it is gone. Of an address a hint.';
