-- The `secrets` view, its triggers for INSERT, UPDATE and DELETE, and the search over it. Names are decrypted in the
-- select list, so a page of fifty decrypts fifty. Core of the changes: api/secret.sql.
-- Covered by tests/tests/behaviour/{secrets_view,search}.rs.

create or replace view rotator.secrets
with (security_invoker = true)
as
select
    s.id,
    rotator_internal.open_field(s.tenant_id, 'secret.name', s.id, s.name) as name,
    s.provider_type,
    rotator_internal.open_field(s.tenant_id, 'secret.provider_ref', s.id, s.provider_ref) as provider_ref,
    rotator_internal.open_field(s.tenant_id, 'secret.purpose', s.id, s.purpose) as purpose,
    s.environment,
    s.priority,
    s.labels,
    s.owner_id,
    s.secondary_owner_id,
    s.team_lead_id,
    s.expiry_date,
    s.rotation_interval,
    case
        when extract(year from s.rotation_interval) = 0 and extract(month from s.rotation_interval) = 0
            and extract(hour from s.rotation_interval) = 0 and extract(minute from s.rotation_interval) = 0
            and extract(second from s.rotation_interval) = 0
        then extract(day from s.rotation_interval)::integer
    end as interval_days,
    s.last_rotated_at,
    s.cycle,
    case
        when s.retired_at is not null then 'retired'
        when s.expiry_date <= now() then 'overdue'
        when s.expiring_soon_at <= now() then 'expiring_soon'
        else 'healthy'
    end as status,
    (s.expiry_date at time zone (select rotator.current_time_zone()))::date
        - (now() at time zone (select rotator.current_time_zone()))::date as days_until_expiry,
    -- Look-ups, not a join: nobody pays for them who doesn't select them, and no plan can get them wrong.
    (select a.acknowledged_at
     from rotator_internal.alert as a
     where a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle) as acknowledged_at,
    (select a.acknowledged_by
     from rotator_internal.alert as a
     where a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle) as acknowledged_by,
    case when s.snoozed_until > now() then s.snoozed_until end as snoozed_until,
    s.verified_at,
    s.verified_expiry_date,
    s.external_id,
    s.created_at,
    s.updated_at
from rotator_internal.secret as s
where s.tenant_id = (select rotator.current_tenant());

comment on view rotator.secrets is
    'The credentials of the current tenant: metadata, never a value. INSERT registers, UPDATE changes, DELETE retires.';
comment on column rotator.secrets.provider_ref is 'Where the provider keeps it: an ARN, a path, an id.';
comment on column rotator.secrets.purpose is 'What it is for, and so what breaks when it expires.';
comment on column rotator.secrets.priority is 'P1 (most urgent) to P4.';
comment on column rotator.secrets.rotation_interval is 'How often it is rotated; the next expiry is the rotation plus this.';
comment on column rotator.secrets.interval_days is 'The interval in days when it is whole days, else null. Can be set instead.';
comment on column rotator.secrets.cycle is 'Counts rotations, from 1.';
comment on column rotator.secrets.status is 'healthy, expiring_soon (inside its longest lead time), overdue or retired.';
comment on column rotator.secrets.days_until_expiry is
    'Whole days in the tenant''s time zone, negative when overdue; for display. Filter by expiry_date.';
comment on column rotator.secrets.acknowledged_by is 'Who took on the rotation of this cycle.';
comment on column rotator.secrets.external_id is 'The caller''s own key; import_secrets updates by it.';

create or replace function rotator_internal.fields_of(s rotator.secrets) returns rotator_internal.secret_fields
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return row(
        s.name, s.provider_type, s.provider_ref, s.purpose, s.environment, s.priority, s.labels, s.owner_id,
        s.secondary_owner_id, s.team_lead_id, s.expiry_date, s.rotation_interval, s.external_id
    )::rotator_internal.secret_fields;
end
$$;

comment on function rotator_internal.fields_of(rotator.secrets) is 'The writable columns of a row of the view.';

create or replace function rotator_internal.read_only_columns(s rotator.secrets) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return to_jsonb(s) - array[
        'name', 'provider_type', 'provider_ref', 'purpose', 'environment', 'priority', 'labels', 'owner_id',
        'secondary_owner_id', 'team_lead_id', 'expiry_date', 'rotation_interval', 'interval_days', 'external_id'];
end
$$;

comment on function rotator_internal.read_only_columns(rotator.secrets) is 'The columns of the view that nobody sets.';

create or replace function rotator_internal.write_secrets_view() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    tenant uuid := rotator_internal.require_role('editor', 'admin');
    read_only jsonb := case when tg_op = 'UPDATE' then rotator_internal.read_only_columns(old) end;
    misused text;
    written uuid;
begin
    if tg_op = 'DELETE' then
        perform rotator_internal.retire(tenant, old.id, null);
        return old;
    end if;

    select string_agg(k.key, ', ' order by k.key) into misused
    from jsonb_each(rotator_internal.read_only_columns(new)) as k
    where k.value is distinct from coalesce(read_only -> k.key, 'null');
    if misused is not null then
        perform rotator_internal.refuse(
            '22023', format('%s can''t be set', misused),
            'Rotations go through rotator.mark_rotated, acknowledgements through rotator.acknowledge, snoozes through '
            'rotator.snooze.');
    end if;

    if tg_op = 'INSERT' then
        if new.interval_days is not null then
            if new.rotation_interval is not null then
                perform rotator_internal.refuse(
                    '22023', 'interval_days and rotation_interval are both given', 'Give one of them.');
            end if;
            new.rotation_interval := make_interval(days => new.interval_days);
        end if;
        written := rotator_internal.insert_secret(tenant, rotator_internal.fields_of(new));
    else
        if new.interval_days is distinct from old.interval_days then
            if new.rotation_interval is distinct from old.rotation_interval
                and new.rotation_interval is distinct from make_interval(days => new.interval_days) then
                perform rotator_internal.refuse(
                    '22023', 'interval_days and rotation_interval contradict each other', 'Change one of them.');
            end if;
            new.rotation_interval := case when new.interval_days is not null then make_interval(days => new.interval_days) end;
        end if;
        if new.owner_id is null then
            perform rotator_internal.refuse(
                '22023', 'owner_id can''t be null: somebody has to be told',
                'Give another owner; what is not needed any more is retired with rotator.retire_secret.');
        end if;
        perform rotator_internal.update_secret(
            tenant, old.id, rotator_internal.fields_of(old), rotator_internal.fields_of(new));
        written := old.id;
    end if;

    select s.* into new from rotator.secrets as s where s.id = written;
    return new;
end
$$;

comment on function rotator_internal.write_secrets_view() is
    'Registers, changes or retires through the view; only columns that differ are written, RETURNING gives the stored row.';

create or replace trigger write
instead of insert or update or delete on rotator.secrets
for each row execute function rotator_internal.write_secrets_view();

create or replace function rotator.search_secrets(
    query text default null,
    owner text default null,
    provider text default null,
    expires_within_days integer default null,
    status text default null,
    max_rows integer default 100,
    after uuid default null) returns setof rotator.secrets
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
    if status is not null and status not in ('healthy', 'expiring_soon', 'overdue', 'retired') then
        perform rotator_internal.refuse('22023', 'unknown status', 'It is healthy, expiring_soon, overdue or retired.');
    elsif max_rows is null or max_rows not between 1 and 10000 then
        perform rotator_internal.refuse(
            '22023', 'max_rows must be between 1 and 10000', 'Page with after => the last id.');
    elsif expires_within_days not between -1000000 and 1000000 then
        perform rotator_internal.refuse(
            '22023', 'expires_within_days must be between -1000000 and 1000000', 'For example 30; leave it out for all.');
    end if;

    -- Only the conditions that were given, so that the planner can use the index of each.
    return query execute concat(
        'select s.* from rotator.secrets as s where true',
        case when owner is not null then ' and s.owner_id = $2' end,
        case when provider is not null then ' and s.provider_type = lower($3)' end,
        case when expires_within_days is not null then ' and s.expiry_date <= now() + make_interval(days => $4)' end,
        case when status is not null then ' and s.status = $5' else ' and s.status <> ''retired''' end,
        case when after is not null then
            ' and (s.expiry_date, s.id) > (select p.expiry_date, p.id from rotator.secrets as p where p.id = $7)' end,
        case when query is not null then ' and position(lower($1) in lower(s.name)) > 0' end,
        ' order by s.expiry_date, s.id limit $6')
    using query, owner, provider, expires_within_days, status, max_rows, after;
end
$$;

comment on function rotator.search_secrets(text, text, text, integer, text, integer, uuid) is
    'Credentials, soonest expiry first: query is text in the name, expires_within_days includes what is overdue, retired '
    'ones come only with status retired. At most max_rows (1 to 10000); the next page starts after the last id.';
