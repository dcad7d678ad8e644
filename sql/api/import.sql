-- Bulk registration: one call for many items. Each is checked on its own, so that a bad row doesn't stop the rest; what
-- is new is written in sets. An item is the secret with its id, else with its external_id, else one of the same name that
-- it wouldn't change: so an import can be repeated, and an export be imported. What an item says: api/import_fields.sql;
-- core: api/secret.sql.
-- Covered by tests/tests/behaviour/import.rs.

create or replace function rotator_internal.match_items(tenant uuid, items jsonb)
returns table (place integer, item jsonb, known uuid, is_named boolean, repeated boolean, stored rotator_internal.secret_fields)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Planned each time (execute): see the note on indexes in schema/secret.sql. What is looked up is computed first:
    -- row security lets no index serve a condition that calls a function which might tell about rows.
    return query execute $sql$
        with given as materialized (
            select
                e.place::integer as place,
                e.item,
                case
                    when e.item ->> 'id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (e.item ->> 'id')::uuid
                end as id,
                btrim(e.item ->> 'external_id') as external_id,
                rotator_internal.blind_index($1, 'secret.name', e.item ->> 'name') as name_index
            from jsonb_array_elements($2) with ordinality as e (item, place)
        ),
        keyed as materialized (
            select
                g.*,
                coalesce(
                    (select s.id
                     from rotator_internal.secret as s
                     where s.tenant_id = $1 and s.id = g.id and s.retired_at is null),
                    (select s.id
                     from rotator_internal.secret as s
                     where s.tenant_id = $1 and s.external_id = g.external_id and s.retired_at is null)) as by_key
            from given as g
        ),
        named as materialized (
            select
                k.*,
                case
                    when k.by_key is null and k.external_id is null then (
                        select s.id
                        from rotator_internal.secret as s
                        where s.tenant_id = $1 and s.name_index = k.name_index and s.retired_at is null)
                end as by_name
            from keyed as k
        ),
        matched as materialized (
            select n.*, coalesce(n.by_key, n.by_name) as known
            from named as n
        )
        select
            m.place,
            m.item,
            m.known,
            m.by_name is not null,
            m.known is not null and row_number() over (partition by m.known order by m.place) > 1
                or m.external_id is not null and row_number() over (partition by m.external_id order by m.place) > 1,
            (select row(
                rotator_internal.open_field(s.tenant_id, 'secret.name', s.id, s.name), s.provider_type,
                rotator_internal.open_field(s.tenant_id, 'secret.provider_ref', s.id, s.provider_ref),
                rotator_internal.open_field(s.tenant_id, 'secret.purpose', s.id, s.purpose),
                s.environment, s.priority, s.labels, s.owner_id, s.secondary_owner_id, s.team_lead_id, s.expiry_date,
                s.rotation_interval, s.external_id)::rotator_internal.secret_fields
             from rotator_internal.secret as s
             where s.tenant_id = $1 and s.id = m.known)
        from matched as m
        order by m.place
    $sql$ using tenant, items;
end
$$;

comment on function rotator_internal.match_items(uuid, jsonb) is
    'Import items in their order, each with the secret it stands for (is_named: by its name alone) and what is stored. '
    'repeated: an earlier item of the list may have changed that.';

create or replace function rotator_internal.is_error_of_item(code text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return code ~ '^(22|23|42501|PT4|RT001)';
end
$$;

comment on function rotator_internal.is_error_of_item(text) is
    'Whether an SQLSTATE says that a row is wrong. Anything else is wrong with us (no key, no memory) and stops the import.';

create or replace function rotator_internal.import_item(
    tenant uuid, zone text, item jsonb, out id uuid, out action text, out error text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    given record;
    fields rotator_internal.secret_fields;
    code text;
begin
    for attempt in 1 .. 2 loop
        begin
            error := null;
            select m.* into strict given from rotator_internal.match_items(tenant, jsonb_build_array(item)) as m;
            fields := rotator_internal.fields_from_item(item, given.stored, zone);
            if given.known is null then
                id := rotator_internal.insert_secret(tenant, fields);
                action := 'created';
                return;
            end if;
            fields := rotator_internal.check_fields(fields, zone, given.stored);
            fields.owner_id := coalesce(fields.owner_id, (given.stored).owner_id);
            id := given.known;
            action := 'updated';
            -- As JSON, because a month equals 30 days as an interval.
            if to_jsonb(fields) = to_jsonb(given.stored) then
                action := 'unchanged';
            elsif given.is_named then
                perform rotator_internal.refuse_duplicate();
            else
                perform rotator_internal.update_secret(tenant, id, given.stored, fields);
            end if;
            return;
        exception
            when others then
                get stacked diagnostics code = returned_sqlstate, error = message_text;
                if not rotator_internal.is_error_of_item(code) then
                    raise;
                end if;
                id := null;
                action := 'failed';
        end;
        exit when code <> '23505'; -- else somebody may have registered the same since it was looked for
    end loop;
end
$$;

comment on function rotator_internal.import_item(uuid, text, jsonb) is
    'Registers one item, or changes the secret it stands for at this moment; a bad one is failed, with its error.';

create or replace function rotator_internal.import_new(
    tenant uuid, zone text, places integer[], items jsonb[], fields rotator_internal.secret_fields[])
returns table (place integer, id uuid, action text, error text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    made uuid[] := array_fill(null::uuid, array[cardinality(items)]);
    code text;
begin
    begin
        made := rotator_internal.insert_secrets(tenant, zone, fields);
    exception
        when others then
            get stacked diagnostics code = returned_sqlstate;
            if not rotator_internal.is_error_of_item(code) then
                raise;
            end if;
    end;
    for number in 1 .. cardinality(items) loop
        place := places[number];
        id := made[number];
        action := 'created';
        error := null;
        if id is null then
            -- What couldn't go in with the rest goes alone: its name is taken, perhaps by somebody who was faster.
            select i.id, i.action, i.error into id, action, error
            from rotator_internal.import_item(tenant, zone, items[number]) as i;
        end if;
        return next;
    end loop;
end
$$;

comment on function rotator_internal.import_new(uuid, text, integer[], jsonb[], rotator_internal.secret_fields[]) is
    'Registers items that were new when they were checked, all at once where that is possible.';

create or replace function rotator_internal.import_items(tenant uuid, zone text, items jsonb)
returns table (place integer, id uuid, action text, error text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    given record;
    f rotator_internal.secret_fields;
    is_good boolean;
    -- Items that are new, were checked, and wait to be written together.
    places integer[] := '{}';
    waiting jsonb[] := '{}';
    checked rotator_internal.secret_fields[] := '{}';
begin
    for given in select m.* from rotator_internal.match_items(tenant, items) as m loop
        is_good := true;
        begin
            if not given.repeated then
                f := rotator_internal.check_fields(
                    rotator_internal.fields_from_item(given.item, given.stored, zone), zone, given.stored);
                if given.known is null and cardinality(places) < 500 then
                    places := places || given.place;
                    waiting := waiting || given.item;
                    checked := checked || f;
                    continue;
                end if;
                f.owner_id := coalesce(f.owner_id, (given.stored).owner_id);
                -- As JSON, because a month equals 30 days as an interval.
                if to_jsonb(f) = to_jsonb(given.stored) then
                    place := given.place;
                    id := given.known;
                    action := 'unchanged';
                    error := null;
                    return next;
                    continue;
                end if;
            end if;
        exception
            when others then
                is_good := false;  -- import_item fails for the same reason, and reports it
        end;
        -- By itself, and after what stands before it.
        if is_good and places <> '{}' then
            return query select n.* from rotator_internal.import_new(tenant, zone, places, waiting, checked) as n;
            places := '{}';
            waiting := '{}';
            checked := '{}';
        end if;
        return query
            select given.place, i.id, i.action, i.error
            from rotator_internal.import_item(tenant, zone, given.item) as i;
    end loop;
    if places <> '{}' then
        return query select n.* from rotator_internal.import_new(tenant, zone, places, waiting, checked) as n;
    end if;
end
$$;

comment on function rotator_internal.import_items(uuid, text, jsonb) is
    'What became of each item. New ones are written in sets of up to 500, others one by one, as if all came in their order.';

create or replace function rotator.import_secrets(items jsonb, dry_run boolean default false)
returns table (item integer, id uuid, action text, error text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    tenant uuid := rotator_internal.require_role('editor', 'admin');
    zone text := rotator_internal.zone_of(tenant);
    outcome record;
begin
    if items is null or jsonb_typeof(items) <> 'array' then
        perform rotator_internal.refuse('22023', 'items must be a JSON array', 'For example: [{"name": "…", "expiry_date": "2027-01-31"}].');
    end if;
    -- Before any secret is locked, as a change of policies does: else the two could deadlock.
    perform from rotator_internal.tenant as t where t.tenant_id = tenant for share;
    begin
        select
            array_agg(o.id order by o.place) as ids,
            array_agg(o.action order by o.place) as actions,
            array_agg(o.error order by o.place) as errors
        into outcome
        from rotator_internal.import_items(tenant, zone, items) as o;
        -- What is overdue, or past all its lead times, is announced by one summary: see api/summary.sql.
        update rotator_internal.calendar as c
        set backlog = true
        where c.tenant_id = tenant and c.next_event_at <= clock_timestamp()
          and c.secret_id in (
            select u.id from unnest(outcome.ids, outcome.actions) as u (id, action) where u.action in ('created', 'updated'));
        if dry_run then
            -- Undo it all, and say what it would have been. (A code that ends in 000 would catch a whole class.)
            raise exception using errcode = 'RT0DR';
        end if;
    exception
        when sqlstate 'RT0DR' then
            null;
    end;
    return query
        select
            u.place::integer,
            case when dry_run then (select s.id from rotator_internal.secret as s where s.tenant_id = tenant and s.id = u.id) else u.id end,
            u.action,
            u.error
        from rows from (unnest(outcome.ids), unnest(outcome.actions), unnest(outcome.errors)) with ordinality as u (id, action, error, place)
        order by u.place;
end
$$;

comment on function rotator.import_secrets(jsonb, boolean) is
    'Registers many: an array of objects with the argument names of register_secret. An item changes the secret whose id, '
    'else whose external_id, it carries; one without a known id or external_id that repeats what a secret of its name '
    'holds is unchanged; others are registered. A bad item is reported as failed and doesn''t stop the rest; item counts '
    'from 1. dry_run reports and keeps nothing. Dates without a zone are in the tenant''s. For editors and admins.';
