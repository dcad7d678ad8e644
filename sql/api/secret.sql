-- Registering, changing and retiring secrets: one core for the functions, the view's triggers and the import. Every
-- caller hands over the whole set of fields; the core checks, encrypts, writes, plans and audits in one transaction.
-- Table: schema/secret.sql; the view: api/secrets_view.sql; rotating: api/rotation.sql.
-- Covered by tests/tests/behaviour/{registry,bad_input}.rs.

do $type$
begin
    if to_regtype('rotator_internal.secret_fields') is null then
        create type rotator_internal.secret_fields as (
            name text,
            provider_type text,
            provider_ref text,
            purpose text,
            environment text,
            priority text,
            labels jsonb,
            owner_id text,
            secondary_owner_id text,
            team_lead_id text,
            expiry_date timestamptz,
            rotation_interval interval,
            external_id text);
        comment on type rotator_internal.secret_fields is 'What callers may set of a secret, in the clear.';
    end if;
end
$type$;

create or replace function rotator_internal.check_fields(
    given rotator_internal.secret_fields, zone text, stored rotator_internal.secret_fields default null)
returns rotator_internal.secret_fields
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    f rotator_internal.secret_fields := given;
begin
    f.name := rotator_internal.check_line('name', f.name);
    if f.name is null then
        perform rotator_internal.refuse('22023', 'name is missing', 'Give the name people use for the credential.');
    elsif f.name !~ '[[:alnum:]]' then
        perform rotator_internal.refuse('22023', 'name must have a letter or a digit', 'Give the name people use for the credential.');
    end if;
    f.provider_type := lower(coalesce(rotator_internal.check_line('provider_type', f.provider_type, 63), 'manual'));
    if f.provider_type !~ '^[a-z0-9][a-z0-9_.-]*$' then
        perform rotator_internal.refuse(
            '22023', 'provider_type must be letters, digits, and _ . - between them', 'For example: stripe, aws_sm, vault.');
    end if;
    f.provider_ref := rotator_internal.check_line('provider_ref', f.provider_ref, 2048);
    -- What was stored before there were grammars may stay.
    if f.provider_ref is distinct from stored.provider_ref or f.provider_type is distinct from stored.provider_type then
        perform rotator_internal.check_provider_ref(f.provider_type, f.provider_ref);
    end if;
    f.purpose := rotator_internal.check_text('purpose', f.purpose);
    f.environment := rotator_internal.check_line('environment', f.environment, 63);
    perform rotator_internal.guard('priority', f.priority);
    f.priority := upper(coalesce(f.priority, 'P3'));
    if f.priority not in ('P1', 'P2', 'P3', 'P4') then
        perform rotator_internal.refuse('22023', 'priority must be P1, P2, P3 or P4', 'P1 is the most urgent; P3 is the default.');
    end if;
    f.labels := coalesce(f.labels, '{}');
    perform rotator_internal.refuse_secret('labels', f.labels::text);
    if jsonb_typeof(f.labels) <> 'object' or length(f.labels::text) > 10000 then
        perform rotator_internal.refuse(
            '22023', 'labels must be a JSON object of up to 10,000 characters', 'For example: {"team": "payments"}.');
    end if;
    f.owner_id := rotator_internal.check_line('owner_id', f.owner_id, 255);
    f.secondary_owner_id := rotator_internal.check_line('secondary_owner_id', f.secondary_owner_id, 255);
    f.team_lead_id := rotator_internal.check_line('team_lead_id', f.team_lead_id, 255);
    f.external_id := rotator_internal.check_line('external_id', f.external_id, 255);

    perform rotator_internal.check_interval(f.rotation_interval, coalesce(f.expiry_date, now()), zone);
    if f.expiry_date is null then
        if f.rotation_interval is null then
            perform rotator_internal.refuse(
                '22023', 'expiry_date and rotation_interval are both missing',
                'Give the date it expires, or how often it is rotated (then it expires one interval from now).');
        end if;
        f.expiry_date := rotator_internal.add_in_zone(now(), f.rotation_interval, zone);
    end if;
    perform rotator_internal.check_expiry('expiry_date', f.expiry_date);
    return f;
end
$$;

comment on function rotator_internal.check_fields(rotator_internal.secret_fields, text, rotator_internal.secret_fields) is
    'The fields, trimmed and with defaults; RT001 for a secret value, 22023 for anything else that can''t be. stored: what '
    'they replace.';

create or replace function rotator_internal.check_expiry(field text, expiry timestamptz) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if expiry not between '1970-01-01 00:00+00' and '9999-12-31 23:59:59+00' then
        perform rotator_internal.refuse(
            '22023', format('%s must lie between the years 1970 and 9999', field), 'Check the year; dates are YYYY-MM-DD.');
    end if;
end
$$;

comment on function rotator_internal.check_expiry(text, timestamptz) is 'Raises 22023 for a date outside 1970 to 9999.';

create or replace function rotator_internal.check_interval(step interval, start timestamptz, zone text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if step is null then
        return;
    end if;
    -- A mixed one, like a month minus 31 days, could step backwards from some dates.
    if step <= interval '0'
        or extract(year from step) < 0 or extract(month from step) < 0
        or extract(day from step) < 0 or extract(hour from step) < 0
        or extract(minute from step) < 0 or extract(second from step) < 0 then
        perform rotator_internal.refuse(
            '22023', 'rotation_interval must be longer than zero', 'For example: ''90 days'', ''1 month'', ''1 year''.');
    elsif step > interval '100 years' then
        perform rotator_internal.refuse(
            '22023', 'rotation_interval must be at most 100 years', 'For what never rotates, give an expiry_date alone.');
    end if;
end
$$;

comment on function rotator_internal.check_interval(interval, timestamptz, text) is
    'Raises 22023 unless the interval steps forward, by at most 100 years.';

create or replace function rotator_internal.zone_of(tenant uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select t.time_zone from rotator_internal.tenant as t where t.tenant_id = zone_of.tenant
    );
end
$$;

comment on function rotator_internal.zone_of(uuid) is 'The tenant''s IANA time zone.';

create or replace function rotator_internal.refuse_retired(secret rotator_internal.secret) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if secret.retired_at is not null then
        perform rotator_internal.refuse('PT409', 'the secret is retired', 'Register it anew if it is in use again.');
    end if;
end
$$;

comment on function rotator_internal.refuse_retired(rotator_internal.secret) is 'Raises PT409 for a retired secret.';

create or replace function rotator_internal.insert_secrets(
    tenant uuid, zone text, given rotator_internal.secret_fields[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    me text := rotator.current_actor();
    leads integer[];
    fresh uuid[];
    made uuid[];
    next_made integer := 1;
begin
    -- Policies stay as they are until this is committed and their change can see it: see lock_policies.
    perform from rotator_internal.tenant as t where t.tenant_id = insert_secrets.tenant for share;
    -- A new secret has no policies of its own.
    leads := array(
        select p.lead_time_days
        from rotator_internal.notification_policy as p
        where p.tenant_id = insert_secrets.tenant and p.secret_id is null);
    fresh := array(select rotator_internal.uuid_v7() from unnest(given));

    with written as (
        insert into rotator_internal.secret as s (
            tenant_id, id, name, name_index, provider_ref, purpose, provider_type, environment, priority, labels,
            owner_id, secondary_owner_id, team_lead_id, expiry_date, expiring_soon_at, rotation_interval, external_id)
        select
            tenant,
            f.id,
            rotator_internal.seal_field(tenant, 'secret.name', f.id, f.name),
            rotator_internal.blind_index(tenant, 'secret.name', f.name),
            rotator_internal.seal_field(tenant, 'secret.provider_ref', f.id, f.provider_ref),
            rotator_internal.seal_field(tenant, 'secret.purpose', f.id, f.purpose),
            f.provider_type, f.environment, f.priority, f.labels,
            coalesce(f.owner_id, me), f.secondary_owner_id, f.team_lead_id,
            f.expiry_date, u.soon_at, f.rotation_interval, f.external_id
        from rows from (unnest(given), unnest(fresh)) with ordinality as f (
            name, provider_type, provider_ref, purpose, environment, priority, labels, owner_id, secondary_owner_id,
            team_lead_id, expiry_date, rotation_interval, external_id, id, place)
        cross join lateral rotator_internal.upcoming_by(leads, f.expiry_date, f.rotation_interval, zone) as u
        order by f.place
        on conflict do nothing
        returning
            s.id, s.provider_ref, s.purpose, s.provider_type, s.environment, s.priority, s.labels, s.owner_id,
            s.secondary_owner_id, s.team_lead_id, s.expiry_date, s.rotation_interval, s.external_id
    ),
    planned as (
        insert into rotator_internal.calendar (tenant_id, secret_id, next_event_at)
        select tenant, w.id, u.next_event_at
        from written as w
        cross join lateral rotator_internal.upcoming_by(leads, w.expiry_date, w.rotation_interval, zone) as u
        where u.next_event_at is not null
    ),
    numbered as materialized (
        select w.*, rotator_internal.next_event_id() as event_id, h.hidden
        from written as w
        join rows from (unnest(given), unnest(fresh)) as g (
            name, provider_type, provider_ref, purpose, environment, priority, labels, owner_id, secondary_owner_id,
            team_lead_id, expiry_date, rotation_interval, external_id, id) on g.id = w.id
        cross join lateral (
            select jsonb_strip_nulls(jsonb_build_object(
                'name', jsonb_build_object('new', g.name),
                'provider_ref', case when g.provider_ref is not null then jsonb_build_object('new', g.provider_ref) end,
                'purpose', case when g.purpose is not null then jsonb_build_object('new', g.purpose) end)) as hidden
        ) as h
    ),
    kept as (
        insert into rotator_internal.audit_value (tenant_id, event_id, changed)
        select tenant, w.event_id, rotator_internal.seal_field(
            tenant, 'audit_value.changed', rotator_internal.event_row(w.event_id), w.hidden::text)
        from numbered as w
    ),
    recorded as (
        insert into rotator_internal.audit_event (tenant_id, id, actor, source, action, entity, entity_id, changes, request_id)
        select
            tenant, w.event_id, me, rotator_internal.current_source(), 'secret.registered', 'secret', w.id::text,
            jsonb_strip_nulls(jsonb_build_object(
                'name', 'set',
                'provider_ref', case when w.provider_ref is not null then 'set' end,
                'purpose', case when w.purpose is not null then 'set' end,
                'provider_type', w.provider_type, 'environment', w.environment, 'priority', w.priority,
                'labels', w.labels, 'owner_id', w.owner_id, 'secondary_owner_id', w.secondary_owner_id,
                'team_lead_id', w.team_lead_id, 'expiry_date', w.expiry_date,
                'rotation_interval', w.rotation_interval, 'external_id', w.external_id,
                'encrypted', rotator_internal.hash_values(tenant, w.hidden))),
            rotator_internal.current_request_id()
        from numbered as w
    )
    select array_agg(w.id order by w.id) into made
    from written as w;

    -- Ids of one session rise, so what was written comes in the order of what was given.
    for place in 1 .. cardinality(fresh) loop
        if fresh[place] = made[next_made] then
            next_made := next_made + 1;
        else
            fresh[place] := null;
        end if;
    end loop;
    return fresh;
end
$$;

comment on function rotator_internal.insert_secrets(uuid, text, rotator_internal.secret_fields[]) is
    'Encrypts, stores, plans and audits new secrets in one statement. The fields are checked already (check_fields). Gives '
    'the ids, in their order, and null for one whose name or external_id is taken.';

create or replace function rotator_internal.insert_secret(
    tenant uuid, given rotator_internal.secret_fields) returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    zone text := rotator_internal.zone_of(tenant);
    made uuid[] := rotator_internal.insert_secrets(tenant, zone, array[rotator_internal.check_fields(given, zone)]);
begin
    if made[1] is null then
        perform rotator_internal.refuse_duplicate();
    end if;
    return made[1];
end
$$;

comment on function rotator_internal.insert_secret(uuid, rotator_internal.secret_fields) is
    'Checks, encrypts, stores, plans and audits a new secret; 23505 when its name or external_id is taken.';

create or replace function rotator_internal.refuse_duplicate() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.refuse(
        '23505', 'a secret with this name or external_id exists already',
        'Names differ by more than case and spaces. Change the one that exists, or retire it first.');
end
$$;

comment on function rotator_internal.refuse_duplicate() is 'Raises 23505, without the bytes of the index.';

create or replace function rotator_internal.update_secret(
    tenant uuid,
    secret uuid,
    old_fields rotator_internal.secret_fields,
    new_fields rotator_internal.secret_fields) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    locked rotator_internal.secret := rotator_internal.lock_secret(tenant, secret);
    f rotator_internal.secret_fields;
    was jsonb := to_jsonb(old_fields);
    becomes jsonb;
    changed text[];
    shown jsonb;
    hidden jsonb;
begin
    perform rotator_internal.refuse_retired(locked);
    f := rotator_internal.check_fields(new_fields, rotator_internal.zone_of(tenant), old_fields);
    f.owner_id := coalesce(f.owner_id, old_fields.owner_id);
    becomes := to_jsonb(f);
    -- Only what this caller changed: somebody else may just have changed another column.
    select coalesce(array_agg(k.key), '{}') into changed
    from jsonb_object_keys(becomes) as k (key)
    where becomes -> k.key is distinct from was -> k.key;
    if changed = '{}' then
        return false;
    end if;

    begin
        update rotator_internal.secret as s
        set name = case when 'name' = any (changed)
                then rotator_internal.seal_field(tenant, 'secret.name', s.id, f.name) else s.name end,
            name_index = case when 'name' = any (changed)
                then rotator_internal.blind_index(tenant, 'secret.name', f.name) else s.name_index end,
            provider_ref = case when 'provider_ref' = any (changed)
                then rotator_internal.seal_field(tenant, 'secret.provider_ref', s.id, f.provider_ref) else s.provider_ref end,
            purpose = case when 'purpose' = any (changed)
                then rotator_internal.seal_field(tenant, 'secret.purpose', s.id, f.purpose) else s.purpose end,
            provider_type = case when 'provider_type' = any (changed) then f.provider_type else s.provider_type end,
            environment = case when 'environment' = any (changed) then f.environment else s.environment end,
            priority = case when 'priority' = any (changed) then f.priority else s.priority end,
            labels = case when 'labels' = any (changed) then f.labels else s.labels end,
            owner_id = case when 'owner_id' = any (changed) then f.owner_id else s.owner_id end,
            secondary_owner_id =
                case when 'secondary_owner_id' = any (changed) then f.secondary_owner_id else s.secondary_owner_id end,
            team_lead_id = case when 'team_lead_id' = any (changed) then f.team_lead_id else s.team_lead_id end,
            expiry_date = case when 'expiry_date' = any (changed) then f.expiry_date else s.expiry_date end,
            rotation_interval =
                case when 'rotation_interval' = any (changed) then f.rotation_interval else s.rotation_interval end,
            external_id = case when 'external_id' = any (changed) then f.external_id else s.external_id end,
            snoozed_at = case when 'expiry_date' = any (changed) then null else s.snoozed_at end,
            snoozed_until = case when 'expiry_date' = any (changed) then null else s.snoozed_until end,
            updated_at = clock_timestamp()
        where s.tenant_id = tenant and s.id = secret;
    exception
        when unique_violation then
            perform rotator_internal.refuse_duplicate();
    end;

    perform rotator_internal.follow_change(locked, changed);
    select
        jsonb_object_agg(k.key, case when k.is_hidden then '"changed"'::jsonb else k.both end),
        jsonb_object_agg(k.key, jsonb_strip_nulls(k.both)) filter (where k.is_hidden)
    into shown, hidden
    from (
        select c.key, c.key in ('name', 'provider_ref', 'purpose') as is_hidden,
            jsonb_build_object('old', was -> c.key, 'new', becomes -> c.key) as both
        from unnest(changed) as c (key)
    ) as k;
    perform rotator_internal.record_event_with_values(
        tenant, 'secret.updated', 'secret', secret::text, shown, hidden);
    return true;
end
$$;

comment on function rotator_internal.update_secret(
    uuid, uuid, rotator_internal.secret_fields, rotator_internal.secret_fields) is
    'Changes the fields in which new differs from old, and only those; whether there were any. A moved expiry date cancels '
    'what is queued and plans anew.';
