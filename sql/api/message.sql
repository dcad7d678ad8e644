-- What a notification says, in the clear: made when it is claimed, never stored. The same shapes feed the page behind a
-- link (api/link.sql), and messages that are changed in place; how they look is the sidecar's
-- (sidecar/src/delivery/message.rs).
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
    -- Why it is sent, and why to them: the rule, whom it is for, and whether another message had failed.
    'rule', n.rule,
    'addressee', n.addressee,
    'is_fallback', n.fallback_of is not null,
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
    end,
    -- Whose acknowledgement ran out.
    'acknowledged_last', case when a.state = 'open' then a.acknowledged_by end);

comment on function rotator_internal.situation(
    rotator_internal.secret, rotator_internal.tenant, rotator_internal.alert, rotator_internal.notification) is
    'How a secret stands, for messages and, without a notification, for pages; its alert may be null.';

create or replace function rotator_internal.item_in_message(
    n rotator_internal.notification, s rotator_internal.secret, t rotator_internal.tenant) returns jsonb
language sql stable
return jsonb_build_object(
    'kind', n.kind,
    'notification_id', n.id,
    'secret', rotator_internal.secret_in_message(s) - '{purpose,provider_ref}'::text[],
    'expiry_date', to_char(s.expiry_date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'expiry_local', rotator_internal.local_time(s.expiry_date, t.time_zone),
    'days_until_expiry', rotator_internal.days_until(s.expiry_date, t.time_zone),
    'overdue', s.expiry_date <= now(),
    'cycle', n.cycle,
    'has_interval', s.rotation_interval is not null);

comment on function rotator_internal.item_in_message(
    rotator_internal.notification, rotator_internal.secret, rotator_internal.tenant) is
    'One secret of a summary, as the message lists it; the notification is its own, that the summary speaks for.';

create or replace function rotator_internal.turn_in_message(s rotator_internal.secret, zone text, of_cycle integer) returns jsonb
language sql stable
return jsonb_strip_nulls(jsonb_build_object(
    'snoozed', case
        when s.cycle = of_cycle and s.retired_at is null and s.snoozed_until > now()
        then jsonb_build_object(
            'until', rotator_internal.local_time(s.snoozed_until, zone),
            'by', (
                select l.actor
                from rotator_internal.link_action as l
                where l.tenant_id = s.tenant_id and l.secret_id = s.id and l.cycle = of_cycle and l.action = 'snooze'))
    end,
    'ended', case
        when s.cycle <> of_cycle
        then (
            select jsonb_build_object(
                'how', 'rotated', 'by', r.actor, 'at', rotator_internal.local_time(r.recorded_at, zone))
            from rotator_internal.rotation as r
            where r.tenant_id = s.tenant_id and r.secret_id = s.id and r.cycle = of_cycle)
        when s.retired_at is not null
        then jsonb_build_object('how', 'retired', 'at', rotator_internal.local_time(s.retired_at, zone))
    end));

comment on function rotator_internal.turn_in_message(rotator_internal.secret, text, integer) is
    'What became of a cycle since somebody was told of it: snoozed until when, or ended how, by whom and when.';

create or replace function rotator_internal.message_after(
    tenant uuid, secret uuid, cycle integer, notification uuid) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select rotator_internal.situation(s, t, a, n)
            || rotator_internal.turn_in_message(s, t.time_zone, message_after.cycle)
            || jsonb_build_object('kind', case
                when s.cycle <> message_after.cycle or s.retired_at is not null then 'resolve'
                when a.state = 'acknowledged' then 'acknowledge'
                else 'reminder'
            end)
        from rotator_internal.tenant as t
        join rotator_internal.secret as s on s.tenant_id = t.tenant_id and s.id = message_after.secret
        join rotator_internal.notification as n on n.id = message_after.notification and n.tenant_id = s.tenant_id
        left join rotator_internal.alert as a
            on a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = message_after.cycle
        where t.tenant_id = message_after.tenant
    );
end
$$;

comment on function rotator_internal.message_after(uuid, uuid, integer, uuid) is
    'What the message of a notification says now, after somebody acted by it.';

create or replace function rotator_internal.thread_in_message(n rotator_internal.notification) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case n.kind when 'resolve' then jsonb_build_object('ended', jsonb_build_object('how', 'moved')) else '{}' end
            || rotator_internal.turn_in_message(s, rotator_internal.zone_of(s.tenant_id), n.cycle) || coalesce((
            select jsonb_build_object('thread', jsonb_build_object(
                'provider_message_id', (array_agg(o.provider_message_id order by o.id))[1],
                'messages', jsonb_agg(o.provider_message_id order by o.id)))
            from rotator_internal.notification as o
            where o.tenant_id = n.tenant_id and o.secret_id = n.secret_id and o.cycle = n.cycle and o.stage = 'settled'
              and o.channel = n.channel and o.recipient_id = n.recipient_id and o.kind in ('reminder', 'escalation')
              and rotator_internal.is_thread(o)
            having count(*) > 0
        ), '{}')
        from rotator_internal.secret as s
        where s.tenant_id = n.tenant_id and s.id = n.secret_id
    );
end
$$;

comment on function rotator_internal.thread_in_message(rotator_internal.notification) is
    'For a later step of an alert: the messages about it that the same recipient has, oldest first, and what became of it.';

create or replace function rotator_internal.is_thread(n rotator_internal.notification) returns boolean
language sql immutable
return n.channel = 'slack' and n.state = 'sent' and n.provider_message_id ~ '^([CDG][A-Z0-9]+/)?[0-9]+[.][0-9]+$';

comment on function rotator_internal.is_thread(rotator_internal.notification) is
    'Whether it is a message that can be replied to and changed: Slack''s timestamp of it, with the conversation where that '
    'isn''t the recipient. By an incoming webhook there is none.';
