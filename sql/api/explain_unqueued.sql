-- The part of "why was I (not) told?" that has no rows: reminders for which another spoke or a tick is still to come, and
-- steps of the ladder that reach nobody, or that an acknowledgement puts off. Called by rotator.explain_notifications
-- (api/explain.sql). Covered by tests/tests/behaviour/{explain,explain_truth,explain_put_off}.rs.

create or replace function rotator_internal.never_queued(s rotator_internal.secret, zone text)
returns table (at timestamptz, kind text, outcome text, rule text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A tick has still to look at what is due: the next one, or the one after a snooze.
    tick_to_come boolean := exists (
        select
        from rotator_internal.calendar as c
        where c.tenant_id = s.tenant_id and c.secret_id = s.id
          and c.next_event_at <= greatest(clock_timestamp(), s.snoozed_until));
begin
    return query
    with missed as (
        select
            r.due_at, 'lead:' || r.lead_time_days as rule,
            tick_to_come and row_number() over (order by r.due_at desc, r.lead_time_days) = 1 as is_awaited,
            exists (
                select
                from rotator_internal.notification as n
                where n.tenant_id = s.tenant_id and n.secret_id = s.id and n.cycle = s.cycle and n.stage <> 'cancelled'
                  and n.rule = 'lead:' || r.lead_time_days and n.due_at = r.due_at) as is_queued
        from (
            select distinct
                p.lead_time_days,
                rotator_internal.lead_instant(s.expiry_date, p.lead_time_days, s.rotation_interval, zone) as due_at
            from rotator_internal.policies_of(s.tenant_id, s.id) as p
        ) as r
        where r.due_at <= clock_timestamp()
    )
    select
        m.due_at, 'reminder'::text,
        case when not m.is_awaited then 'skipped' when s.snoozed_until > clock_timestamp() then 'snoozed' else 'due' end,
        m.rule,
        case
            when not m.is_awaited then 'a more urgent one, due as well by then, spoke for it'
            when s.snoozed_until > clock_timestamp()
            then 'the secret is snoozed until ' || rotator_internal.local_time(s.snoozed_until, zone)
                || '; the most urgent reminder comes when that ends'
            else concat('the next tick queues it', '; the last one was ' || rotator_internal.local_time(
                (select h.last_tick_at from rotator_internal.heartbeat as h), zone))
        end
    from missed as m
    where not m.is_queued
      and (m.is_awaited
        or exists (select from missed as x where x.is_awaited and not x.is_queued)
        or exists (
            select
            from rotator_internal.notification as n
            where n.tenant_id = s.tenant_id and n.secret_id = s.id and n.cycle = s.cycle and n.stage <> 'cancelled'
              and n.kind = 'reminder' and n.rule like 'lead:%' and n.due_at >= m.due_at));

    return query
    select
        l.due_at, 'escalation'::text, 'skipped'::text, l.rule,
        'it reaches nobody: ' || case
            when l.target = 'pagerduty' then 'owner, team lead, manager and admins have no PagerDuty contact'
            else 'no contact of ' || replace(l.target, '_', ' ') || coalesce(' over ' || l.channel, '')
        end || '; the next step, if there is one, takes its time'
    from rotator_internal.alert as a
    cross join lateral rotator_internal.ladder_rungs(
        s.tenant_id, s, a.escalation_policy_id, a.reminded_at, coalesce(a.overdue_from, s.expiry_date), zone,
        exists (select from rotator_internal.delivery_window as w where w.tenant_id = s.tenant_id)) as l
    where a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle and a.state = 'open'
      and a.reminded_at is not null and not l.reaches and l.due_at <= clock_timestamp()
      and not exists (
        select
        from rotator_internal.notification as n
        where n.tenant_id = s.tenant_id and n.secret_id = s.id and n.cycle = s.cycle and n.stage <> 'cancelled'
          and n.rule = l.rule);
end
$$;

comment on function rotator_internal.never_queued(rotator_internal.secret, text) is
    'What has no rows: reminders of this cycle for which a more urgent one spoke, or that the next tick, or the one after a '
    'snooze, will queue; and steps of the ladder that reach nobody.';

create or replace function rotator_internal.steps_put_off(s rotator_internal.secret, zone text)
returns table (at timestamptz, rule text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    a rotator_internal.alert;
    instant timestamptz := clock_timestamp();
    -- Until when somebody had it: what came due later was put off by nobody.
    held_until timestamptz := instant;
begin
    select x.* into a
    from rotator_internal.alert as x
    where x.tenant_id = s.tenant_id and x.secret_id = s.id and x.cycle = s.cycle and x.state <> 'resolved'
      and x.reminded_at is not null and x.acknowledged_at is not null
      -- Not a ladder that a moved date began anew since.
      and (x.state = 'acknowledged' or x.reopened_at >= coalesce(x.ladder_from, '-infinity'));
    if a.id is null then
        return;
    end if;
    a.overdue_from := coalesce(a.overdue_from, s.expiry_date);
    if a.state = 'open' then
        -- It is open again, and its anchors moved by then.
        held_until := least(a.reopened_at, instant);
        a.reminded_at := rotator_internal.before_pause(a.reminded_at, a.acknowledged_at, a.reopened_at);
        a.overdue_from := rotator_internal.before_pause(a.overdue_from, a.acknowledged_at, a.reopened_at);
    end if;
    return query
    select
        r.due_at, r.rule,
        concat(
            'put off by the acknowledgement of ', a.acknowledged_by,
            case
                when a.state = 'open'
                then ', which ended ' || rotator_internal.local_time(a.reopened_at, zone) || '; if nobody acts'
                when a.acknowledged_until is null then ', which has no end' -- given to 0.1.0
                else ', which holds until ' || rotator_internal.local_time(a.acknowledged_until, zone)
                    || '; if nobody has rotated'
            end || case
                when a.state = 'acknowledged' and a.acknowledged_until is null then ''
                when l.at <= instant then ', the next tick takes the step'
                else ' by then, the step is taken ' || rotator_internal.local_time(rotator_internal.opening_before(s, l.at), zone)
            end)
    from rotator_internal.ladder_rungs(
        s.tenant_id, s, a.escalation_policy_id, a.reminded_at, a.overdue_from, zone,
        exists (select from rotator_internal.delivery_window as w where w.tenant_id = s.tenant_id)) as r
    cross join lateral (
        select min(x.at) as at
        from rotator_internal.ladder_ahead(s.tenant_id, s.id, instant) as x
        where x.rule = r.rule
    ) as l
    where r.reaches and r.due_at <= held_until
      and r.step > case r.anchor when 'reminder' then a.escalation_step else coalesce(a.overdue_step, 0) end;
end
$$;

comment on function rotator_internal.steps_put_off(rotator_internal.secret, text) is
    'Steps of the ladder that came due while somebody had taken the secret on, and that are still to be taken: by whose '
    'acknowledgement, and when they are.';
