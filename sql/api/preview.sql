-- What will be sent about a secret if nobody acts: reminders, the steps of its ladder, the end of an acknowledgement, each
-- at the time the delivery window leaves it. It asks the functions that the tick asks, and changes nothing. What was sent
-- is api/explain.sql. Covered by tests/tests/behaviour/preview.rs.

create or replace function rotator_internal.reminders_ahead(
    s rotator_internal.secret, zone text, looks_at timestamptz)
returns table (at timestamptz, due_at timestamptz, lead_time_days integer, is_last boolean)
language sql stable
begin atomic
    -- What has passed by then is one reminder, the most urgent; of those due at one instant later, the same.
    select e.at, e.due_at, e.lead_time_days, (lead(e.due_at) over (order by e.at) > s.expiry_date) is not false
    from (
        select distinct on (i.at) i.at, i.due_at, i.lead_time_days
        from (
            select greatest(l.due_at, looks_at) as at, l.due_at, l.lead_time_days
            from (
                select
                    p.lead_time_days,
                    rotator_internal.lead_instant(s.expiry_date, p.lead_time_days, s.rotation_interval, zone) as due_at
                from rotator_internal.policies_of(s.tenant_id, s.id) as p
            ) as l
        ) as i
        where looks_at is not null
        order by i.at, i.due_at desc, i.lead_time_days
    ) as e;
end;

comment on function rotator_internal.reminders_ahead(rotator_internal.secret, text, timestamptz) is
    'The reminders that ticks will queue, the first of which looks then; is_last: the ladder counts from it.';

create or replace function rotator_internal.reminded_by(s rotator_internal.secret, lead_time_days integer)
returns table (channel text, recipient_id uuid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct coalesce(p.channel, c.channel::text), coalesce(p.recipient_id, c.recipient_id)
    from rotator_internal.policies_of(s.tenant_id, s.id) as p
    left join rotator_internal.contact as c
        on p.recipient_id is null and c.tenant_id = s.tenant_id and c.owner_id = s.owner_id
        and (p.channel is null or p.channel = c.channel) and c.gone_at is null
    where p.lead_time_days = reminded_by.lead_time_days and (p.recipient_id is not null or c.id is not null);
    if found then
        return;
    end if;
    return query
    select x.channel, x.recipient_id
    from rotator_internal.stand_ins(s.tenant_id, s.id) as x;
    if not found then
        -- The operator's console.
        return query
        select 'console'::text, null::uuid;
    end if;
end
$$;

comment on function rotator_internal.reminded_by(rotator_internal.secret, integer) is
    'Whom the reminder of a lead time reaches now; without a recipient: the console.';

create or replace function rotator_internal.opening_before(s rotator_internal.secret, instant timestamptz) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    opens_at timestamptz;
begin
    if s.priority <> 'P1' then
        opens_at := rotator_internal.next_opening(instant, s.tenant_id);
    end if;
    return case when opens_at < s.expiry_date then opens_at else instant end;
end
$$;

comment on function rotator_internal.opening_before(rotator_internal.secret, timestamptz) is
    'When something goes that is due then: at once, or when the hours begin, as in rotator_internal.defer_queued.';

create or replace function rotator.preview_schedule(secret_id uuid, until timestamptz default null)
returns table (
    at timestamptz,
    kind text,
    channel text,
    recipient_hint text,
    rule text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    tenant uuid := rotator_internal.require_role('viewer', 'editor', 'auditor', 'admin');
    zone text := rotator_internal.zone_of(tenant);
    instant timestamptz := clock_timestamp();
    s rotator_internal.secret;
    a rotator_internal.alert;
    looks_at timestamptz;  -- when a tick looks at it next; null: never
    hushed_until timestamptz := '-infinity';
    reopens_at timestamptz;
    reminded timestamptz;
begin
    s := rotator_internal.known_secret(tenant, secret_id);
    if s.retired_at is not null then
        return;
    end if;
    select greatest(c.next_event_at, instant, s.snoozed_until) into looks_at
    from rotator_internal.calendar as c
    where c.tenant_id = s.tenant_id and c.secret_id = s.id;
    select x.* into a
    from rotator_internal.alert as x
    where x.tenant_id = s.tenant_id and x.secret_id = s.id and x.cycle = s.cycle;
    if a.state = 'acknowledged' then
        hushed_until := coalesce(a.acknowledged_until, 'infinity');
        reopens_at := greatest(a.acknowledged_until, instant, s.snoozed_until);
    end if;
    select min(r.at) into reminded
    from rotator_internal.reminders_ahead(s, zone, looks_at) as r
    where r.is_last;

    return query
    with ahead as materialized (
        -- What is queued or waits for the hours already.
        select
            greatest(n.available_at, instant) as at, n.kind, n.rule, n.channel::text as channel, n.recipient_id, n.due_at,
            n.state = 'deferred' as is_for_hours
        from rotator_internal.notification as n
        where n.tenant_id = s.tenant_id and n.secret_id = s.id and n.stage <> 'cancelled' and n.stage = 'pending'
          and n.withdrawn_at is null
        union all
        -- In a message about many that is still to be sent.
        select greatest(m.available_at, instant), n.kind, n.rule, n.channel::text, n.recipient_id, n.due_at, false
        from rotator_internal.notification as n
        join rotator_internal.notification as m on m.id = n.merged_into and m.tenant_id = n.tenant_id and m.stage = 'pending'
        where n.tenant_id = s.tenant_id and n.secret_id = s.id and n.cycle = s.cycle and n.stage <> 'cancelled'
          and n.state = 'merged'
        union all
        select r.at, 'reminder', 'lead:' || r.lead_time_days, t.channel, t.recipient_id, r.due_at, true
        from rotator_internal.reminders_ahead(s, zone, looks_at) as r
        cross join lateral rotator_internal.reminded_by(s, r.lead_time_days) as t
        where r.at >= hushed_until
          and not exists (
            select
            from rotator_internal.notification as n
            where n.tenant_id = s.tenant_id and n.secret_id = s.id and n.cycle = s.cycle and n.stage <> 'cancelled'
              and n.rule = 'lead:' || r.lead_time_days and n.due_at = r.due_at and (a.state = 'resolved') is not true)
        union all
        select reopens_at, 'reminder', 'reopened', t.channel, t.recipient_id, a.acknowledged_until, true
        from (
            select c.channel::text as channel, c.recipient_id
            from rotator_internal.contact as c
            where c.tenant_id = s.tenant_id and c.owner_id = s.owner_id and c.gone_at is null
            union all
            select x.channel, x.recipient_id
            from rotator_internal.stand_ins(s.tenant_id, s.id) as x
            where not exists (
                select
                from rotator_internal.contact as c
                where c.tenant_id = s.tenant_id and c.owner_id = s.owner_id and c.gone_at is null)
        ) as t
        where reopens_at is not null
        union all
        select greatest(l.at, instant), 'escalation', l.rule, t.channel, t.recipient_id, l.at, true
        from rotator_internal.ladder_ahead(s.tenant_id, s.id, instant, reminded) as l
        cross join lateral rotator_internal.ladder_told(s.tenant_id, s, l.target, l.channel, l.recipient_id) as t
    ),
    timed as (
        select
            case when e.is_for_hours then rotator_internal.opening_before(s, e.at) else e.at end as at,
            e.kind, e.rule, e.channel, e.recipient_id, e.due_at
        from ahead as e
    )
    select
        f.at, f.kind, f.channel,
        case
            when f.recipient_id is null then s.owner_id
            else rotator_internal.hint_of(s.tenant_id, f.channel, f.recipient_id)
        end,
        f.rule
    from (
        -- Of several reminders that wait for the same opening the last speaks for all; so with steps.
        select distinct on (t.at, t.kind, t.channel, t.recipient_id) t.*
        from timed as t
        where t.at <= coalesce(until, 'infinity')
        order by t.at, t.kind, t.channel, t.recipient_id, t.due_at desc, t.rule desc
    ) as f
    order by f.at, f.kind, f.rule, f.channel, 4;
end
$$;

comment on function rotator.preview_schedule(uuid, timestamptz) is
    'What will be sent about a secret if nobody acts, until then or at all: reminders, steps of its ladder, the end of an '
    'acknowledgement; with the delivery window, snoozes and acknowledgements taken into account. Errors: PT404.';
