-- What an item of an import says: dates and intervals from text, nothing guessed, laid over what is stored. What becomes
-- of the item is api/import.sql. Errors name the field and what to write; what looks like a secret value is refused as
-- such first. Covered by tests/tests/behaviour/import.rs.

create or replace function rotator_internal.instant_from_text(field text, value text, zone text) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Nothing is guessed: 01/02 is two days, a zone's name would be ignored, and tomorrow is no date of a calendar.
    if value !~ ('^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?'
        || '( ?([zZ]|[+-][0-9]{2}(:?[0-9]{2}(:[0-9]{2})?)?))?)?$') then
        raise data_exception;
    end if;
    -- A date without a zone means midnight where the tenant is, whatever the session's TimeZone.
    if value ~ ':[0-9]{2}.*([zZ]|[+-][0-9]{2}(:?[0-9]{2}(:[0-9]{2})?)?)$' then
        return value::timestamptz;
    end if;
    return value::timestamp at time zone zone;
exception
    when data_exception then
        perform rotator_internal.guard(field, value);
        perform rotator_internal.refuse('22023', format('%s is not a date', field), 'Write YYYY-MM-DD, or RFC 3339 with a time.');
end
$$;

comment on function rotator_internal.instant_from_text(text, text, text) is
    'A date, or a date and time, in the tenant''s zone unless it has an offset; else 22023.';

create or replace function rotator_internal.interval_from_text(field text, value text) returns interval
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- PostgreSQL takes a bare number for seconds; whoever writes 90 means days.
    if value ~ '^[+-]?[0-9.]+$' then
        raise data_exception;
    end if;
    return value::interval;
exception
    when data_exception then
        perform rotator_internal.guard(field, value);
        perform rotator_internal.refuse('22023', format('%s is not an interval', field), 'For example: 90 days, 1 month, 1 year.');
end
$$;

comment on function rotator_internal.interval_from_text(text, text) is 'An interval in PostgreSQL''s notation, with its unit; else 22023.';

create or replace function rotator_internal.fields_from_item(
    item jsonb, base rotator_internal.secret_fields, zone text) returns rotator_internal.secret_fields
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    f rotator_internal.secret_fields := base;
    misfit text;
begin
    if jsonb_typeof(item) <> 'object' then
        perform rotator_internal.refuse('22023', 'the item is not an object', 'Each item is {"name": …, "expiry_date": …}.');
    end if;
    select k.key into misfit
    from jsonb_each(item) as k
    where k.key <> all (array[
        'name', 'provider_type', 'expiry_date', 'rotation_interval', 'owner_id', 'purpose', 'provider_ref', 'environment',
        'priority', 'secondary_owner_id', 'team_lead_id', 'labels', 'external_id', 'id'])
    limit 1;
    if misfit is not null then
        perform rotator_internal.refuse_secret('key', misfit);
        perform rotator_internal.refuse(
            '22023', format('unknown key %s', to_json(left(misfit, 63))), 'Keys are the argument names of rotator.register_secret, and id.');
    end if;
    select k.key into misfit
    from jsonb_each(item) as k
    where k.key <> 'labels' and jsonb_typeof(k.value) in ('object', 'array', 'boolean')
    limit 1;
    if misfit is not null then
        perform rotator_internal.refuse('22023', format('%s must be text', misfit), 'Only labels is an object.');
    end if;

    if item ->> 'id' !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        perform rotator_internal.guard('id', item ->> 'id');
        perform rotator_internal.refuse('22023', 'id is not the id of a secret', 'Your own key for it belongs in external_id.');
    end if;

    f.name := case when item ? 'name' then item ->> 'name' else f.name end;
    f.provider_type := case when item ? 'provider_type' then item ->> 'provider_type' else f.provider_type end;
    f.provider_ref := case when item ? 'provider_ref' then item ->> 'provider_ref' else f.provider_ref end;
    f.purpose := case when item ? 'purpose' then item ->> 'purpose' else f.purpose end;
    f.environment := case when item ? 'environment' then item ->> 'environment' else f.environment end;
    f.priority := case when item ? 'priority' then item ->> 'priority' else f.priority end;
    f.labels := case when item ? 'labels' then nullif(item -> 'labels', 'null') else f.labels end;
    f.owner_id := case when item ? 'owner_id' then item ->> 'owner_id' else f.owner_id end;
    f.secondary_owner_id :=
        case when item ? 'secondary_owner_id' then item ->> 'secondary_owner_id' else f.secondary_owner_id end;
    f.team_lead_id := case when item ? 'team_lead_id' then item ->> 'team_lead_id' else f.team_lead_id end;
    f.external_id := case when item ? 'external_id' then item ->> 'external_id' else f.external_id end;
    f.rotation_interval := case
        when item ? 'rotation_interval'
        then rotator_internal.interval_from_text('rotation_interval', item ->> 'rotation_interval')
        else f.rotation_interval
    end;
    f.expiry_date := case
        when item ? 'expiry_date' then rotator_internal.instant_from_text('expiry_date', item ->> 'expiry_date', zone)
        else f.expiry_date
    end;
    return f;
end
$$;

comment on function rotator_internal.fields_from_item(jsonb, rotator_internal.secret_fields, text) is
    'An import item laid over what is stored; keys it doesn''t carry stay as they are. 22023 for an unknown key.';
