-- What a notification says, in the clear: made when it is claimed, never stored. The same shapes feed the page behind a
-- link (api/link.sql); how they look is the sidecar's (sidecar/src/delivery/message.rs).
-- Functions of one expression, bound to their names when created: PostgreSQL inlines them into the claim, which else
-- would call half a dozen functions a row. Covered by tests/tests/behaviour/outbox.rs.

create or replace function rotator_internal.local_time(instant timestamptz, zone text) returns text
language sql stable
return to_char(instant at time zone zone, 'Dy FMDD Mon YYYY, HH24:MI') || ' (' || zone || ')';

comment on function rotator_internal.local_time(timestamptz, text) is 'An instant as people of that zone read it.';

create or replace function rotator_internal.counted(number double precision, unit text) returns text
language sql stable
return case when number = 1 then '1 ' || unit when number > 0 then number || ' ' || unit || 's' end;

comment on function rotator_internal.counted(double precision, text) is 'Like 1 year or 6 months; null for none.';

create or replace function rotator_internal.interval_text(step interval) returns text
language sql stable
return case
    when step is not null
    then concat_ws(' ',
        rotator_internal.counted(date_part('year', step), 'year'),
        rotator_internal.counted(date_part('month', step), 'month'),
        rotator_internal.counted(date_part('day', step), 'day'),
        nullif(step - date_trunc('day', step), interval '0')::text)
end;

comment on function rotator_internal.interval_text(interval) is 'An interval in words, like 1 year 6 months or 90 days.';

create or replace function rotator_internal.secret_in_message(s rotator_internal.secret) returns jsonb
language sql stable
return jsonb_build_object(
    'id', s.id,
    'name', rotator_internal.try_open_field(s.tenant_id, 'secret.name', s.id, s.name),
    'provider_type', s.provider_type,
    'environment', s.environment,
    'priority', s.priority,
    'owner_id', s.owner_id,
    'purpose', rotator_internal.try_open_field(s.tenant_id, 'secret.purpose', s.id, s.purpose),
    'provider_ref', rotator_internal.try_open_field(s.tenant_id, 'secret.provider_ref', s.id, s.provider_ref));

comment on function rotator_internal.secret_in_message(rotator_internal.secret) is 'A secret as messages and pages show it.';

create or replace function rotator_internal.tenant_in_message(t rotator_internal.tenant) returns jsonb
language sql stable
return jsonb_build_object('slug', t.slug, 'name', t.name, 'time_zone', t.time_zone);

comment on function rotator_internal.tenant_in_message(rotator_internal.tenant) is 'A tenant as messages and pages show it.';

create or replace function rotator_internal.days_until(expiry timestamptz, zone text) returns integer
language sql stable
return (expiry at time zone zone)::date - (now() at time zone zone)::date;

comment on function rotator_internal.days_until(timestamptz, text) is 'Whole days by the calendar of the zone; negative once past.';

create or replace function rotator_internal.situation(
    s rotator_internal.secret,
    t rotator_internal.tenant,
    a rotator_internal.alert,
    n rotator_internal.notification default null) returns jsonb
language sql stable
return jsonb_build_object(
    'kind', n.kind,
    'notification_id', n.id,
    'alert_id', n.alert_id,
    'lead_time_days', n.lead_time_days,
    'tenant', rotator_internal.tenant_in_message(t),
    'secret', rotator_internal.secret_in_message(s),
    'expiry_date', to_char(s.expiry_date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'expiry_local', rotator_internal.local_time(s.expiry_date, t.time_zone),
    'days_until_expiry', rotator_internal.days_until(s.expiry_date, t.time_zone),
    'overdue', s.expiry_date <= now(),
    'cycle', coalesce(n.cycle, s.cycle), -- a resolve is about the one that has ended
    'has_interval', s.rotation_interval is not null,
    'interval_text', rotator_internal.interval_text(s.rotation_interval),
    'acknowledged', case
        when a.state = 'acknowledged'
        then jsonb_build_object('by', a.acknowledged_by, 'at', rotator_internal.local_time(a.acknowledged_at, t.time_zone))
    end);

comment on function rotator_internal.situation(
    rotator_internal.secret, rotator_internal.tenant, rotator_internal.alert, rotator_internal.notification) is
    'How a secret stands, for messages and, without a notification, for pages; its alert may be null.';
