-- What a notification says, in the clear: made when it is claimed, never stored. The same shapes feed the page behind a
-- link (api/link.sql); how they look is the sidecar's (sidecar/src/delivery/message.rs).
-- Covered by tests/tests/behaviour/outbox.rs.

create or replace function rotator_internal.secret_in_message(s rotator_internal.secret) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_build_object(
            'id', s.id,
            'name', rotator_internal.try_open_field(s.tenant_id, 'secret.name', s.id, s.name),
            'provider_type', s.provider_type,
            'environment', s.environment,
            'priority', s.priority,
            'owner_id', s.owner_id,
            'purpose', rotator_internal.try_open_field(s.tenant_id, 'secret.purpose', s.id, s.purpose),
            'provider_ref', rotator_internal.try_open_field(s.tenant_id, 'secret.provider_ref', s.id, s.provider_ref))
    );
end
$$;

comment on function rotator_internal.secret_in_message(rotator_internal.secret) is 'A secret as messages and pages show it.';

create or replace function rotator_internal.local_time(instant timestamptz, zone text) returns text
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select to_char(instant at time zone zone, 'Dy FMDD Mon YYYY, HH24:MI') || ' (' || zone || ')'
    );
end
$$;

comment on function rotator_internal.local_time(timestamptz, text) is 'An instant as people of that zone read it.';

create or replace function rotator_internal.interval_text(step interval) returns text
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select concat_ws(' ',
            case when y.years > 0 then y.years || case when y.years = 1 then ' year' else ' years' end end,
            case when y.months > 0 then y.months || case when y.months = 1 then ' month' else ' months' end end,
            case when y.days > 0 then y.days || case when y.days = 1 then ' day' else ' days' end end,
            case when y.rest > interval '0' then y.rest::text end)
        from (
            select
                extract(year from step)::integer as years,
                extract(month from step)::integer as months,
                extract(day from step)::integer as days,
                make_interval(hours => extract(hour from step)::integer, mins => extract(minute from step)::integer,
                    secs => extract(second from step)::double precision) as rest
        ) as y
    );
end
$$;

comment on function rotator_internal.interval_text(interval) is 'An interval in words, like 1 year 6 months or 90 days.';

create or replace function rotator_internal.situation(
    s rotator_internal.secret, t rotator_internal.tenant, a rotator_internal.alert) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object(
        'tenant', jsonb_build_object('slug', t.slug, 'name', t.name, 'time_zone', t.time_zone),
        'secret', rotator_internal.secret_in_message(s),
        'expiry_date', to_char(s.expiry_date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'expiry_local', rotator_internal.local_time(s.expiry_date, t.time_zone),
        'days_until_expiry', (s.expiry_date at time zone t.time_zone)::date - (now() at time zone t.time_zone)::date,
        'cycle', s.cycle,
        'acknowledged', case
            when a.state = 'acknowledged'
            then jsonb_build_object('by', a.acknowledged_by, 'at', rotator_internal.local_time(a.acknowledged_at, t.time_zone))
        end);
end
$$;

comment on function rotator_internal.situation(rotator_internal.secret, rotator_internal.tenant, rotator_internal.alert) is
    'How a secret stands, for messages and pages; its alert may be null.';

create or replace function rotator_internal.message_of(n rotator_internal.notification) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select rotator_internal.situation(s, t, a) || jsonb_build_object(
            'kind', n.kind,
            'notification_id', n.id,
            'alert_id', n.alert_id,
            'lead_time_days', n.lead_time_days,
            'has_interval', s.rotation_interval is not null,
            'interval_text', rotator_internal.interval_text(s.rotation_interval))
        from rotator_internal.tenant as t
        join rotator_internal.secret as s on s.tenant_id = t.tenant_id and s.id = n.secret_id
        left join rotator_internal.alert as a
            on a.tenant_id = t.tenant_id and a.secret_id = s.id and a.cycle = s.cycle
        where t.tenant_id = n.tenant_id
    );
end
$$;

comment on function rotator_internal.message_of(rotator_internal.notification) is 'What a notification says, in the clear.';
