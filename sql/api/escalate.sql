-- What becomes of an alert that nobody ends: an acknowledgement that runs out opens it again, and while it is open its
-- ladder goes on, step by step. The tick calls both, in sets, after the reminders. Waiting counts while the alert is open:
-- an acknowledgement puts its anchors off; a snooze doesn't, and what was missed comes when it ends, each recipient once.
-- Which step is due when: api/ladder.sql. Covered by tests/tests/behaviour/{escalation,escalation_races,reopening}.rs.

create or replace function rotator_internal.reopen(
    as_of timestamptz,
    max_rows integer,
    out looked_at integer,
    out opened integer,
    out fresh tid[],
    out fresh_to uuid[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    places tid[]; -- nobody can move the rows: they are locked
begin
    select array_agg(l.place) into places
    from (
        select a.ctid as place
        from rotator_internal.alert as a
        where a.state = 'acknowledged' and a.acknowledged_until <= as_of
        order by a.acknowledged_until
        limit max_rows
        for update skip locked
    ) as l;
    looked_at := coalesce(cardinality(places), 0);
    opened := 0;
    if places is null then
        return;
    end if;

    with ended as materialized (
        select p.place, a.*
        from unnest(places) as p (place)
        cross join lateral (
            select
                x.tenant_id, x.id, x.secret_id, x.cycle, x.acknowledged_at, x.acknowledged_until, x.acknowledged_by,
                x.escalated_at, x as alert
            from rotator_internal.alert as x
            where x.ctid = p.place
            offset 0
        ) as a
    ),
    judged as materialized (
        select
            e.*, s.owner_id, s.expiry_date,
            case when s.snoozed_until > reopen.as_of then s.snoozed_until end as snoozed_until,
            s.cycle = e.cycle and s.retired_at is null and t.status = 'active' as is_live,
            l.reminder_step, l.overdue_step
        from ended as e
        left join lateral rotator_internal.steps_heard(
            e.alert, rotator_internal.steps_withdrawn_since(e.alert, coalesce(e.escalated_at, '-infinity'))) as l on true
        cross join lateral (
            select x.owner_id, x.expiry_date, x.snoozed_until, x.cycle, x.retired_at
            from rotator_internal.secret as x
            where x.tenant_id = e.tenant_id and x.id = e.secret_id
            offset 0
        ) as s
        cross join lateral (
            select x.status
            from rotator_internal.tenant as x
            where x.tenant_id = e.tenant_id
            offset 0
        ) as t
    ),
    changed as (
        update rotator_internal.alert as a
        set state = case when j.is_live and j.snoozed_until is null then 'open' else a.state end,
            -- Who had it stays on record. One that is snoozed opens when that ends.
            acknowledged_until = j.snoozed_until,
            reminded_at = rotator_internal.after_pause(a.reminded_at, a.acknowledged_at, reopen.as_of),
            overdue_from = case
                when coalesce(a.overdue_from, j.expiry_date) < reopen.as_of
                then rotator_internal.after_pause(
                    coalesce(a.overdue_from, j.expiry_date), a.acknowledged_at, reopen.as_of)
                else a.overdue_from
            end,
            -- What was being sent when somebody took it on may have come to nothing.
            escalation_step = coalesce(j.reminder_step, a.escalation_step),
            overdue_step = coalesce(j.overdue_step, a.overdue_step),
            escalated_at = reopen.as_of,
            reopened_at = case when j.is_live and j.snoozed_until is null then reopen.as_of else a.reopened_at end,
            -- The next step is worked out by the escalations of this tick.
            next_escalation_at = case
                when j.is_live and j.snoozed_until is null and a.reminded_at is not null then reopen.as_of
            end
        from judged as j
        where a.ctid = j.place and (j.is_live is not true or j.snoozed_until is null)
    ),
    snoozed as (
        update rotator_internal.alert as a
        set acknowledged_until = j.snoozed_until
        from judged as j
        where a.ctid = j.place and j.is_live and j.snoozed_until is not null
    ),
    reopened as materialized (
        select j.*
        from judged as j
        where j.is_live and j.snoozed_until is null
    ),
    -- Whoever had it has to take it again.
    forgotten as (
        delete from rotator_internal.link_action as la
        using reopened as r
        where la.tenant_id = r.tenant_id and la.secret_id = r.secret_id and la.cycle = r.cycle
          and la.action = 'acknowledge'
    ),
    queued_rows as (
        insert into rotator_internal.notification (
            tenant_id, secret_id, alert_id, cycle, kind, rule, due_at, channel, recipient_id, addressee, state)
        select
            r.tenant_id, r.secret_id, r.id, r.cycle, 'reminder', 'reopened', r.acknowledged_until,
            coalesce(c.channel, n.channel), coalesce(c.recipient_id, n.recipient_id), coalesce(n.addressee, r.owner_id),
            case
                -- A reminder that came due with it says it already.
                when exists (
                    select
                    from rotator_internal.notification as x
                    where x.tenant_id = r.tenant_id and x.secret_id = r.secret_id and x.cycle = r.cycle
                      and x.stage <> 'cancelled' and x.kind = 'reminder' and x.state = 'queued' and x.attempts = 0
                      and x.channel = coalesce(c.channel, n.channel) and x.recipient_id = coalesce(c.recipient_id, n.recipient_id))
                then 'suppressed'
                else 'queued'
            end
        from reopened as r
        left join rotator_internal.contact as c
            on c.tenant_id = r.tenant_id and c.owner_id = r.owner_id and c.gone_at is null
        left join lateral (
            select x.addressee, x.channel, x.recipient_id
            from rotator_internal.nobody_told(r.tenant_id, r.secret_id) as x
            where c.id is null
            offset 0
        ) as n on true
        on conflict (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id) where stage <> 'cancelled'
        do nothing
        returning ctid as place, tenant_id, id, secret_id, channel, recipient_id, rule, state
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            r.tenant_id, 'rotator', 'engine', 'alert.reopened', 'secret', r.secret_id::text,
            jsonb_build_object(
                'alert', r.id, 'cycle', r.cycle, 'acknowledged_by', r.acknowledged_by, 'until', r.acknowledged_until)
        from reopened as r
        union all
        select
            q.tenant_id, 'rotator', 'engine', 'reminder.' || q.state, 'secret', q.secret_id::text,
            jsonb_build_object('notification', q.id, 'channel', q.channel, 'rule', q.rule)
        from queued_rows as q
    )
    select
        (select count(*) from reopened),
        array_agg(q.place),
        array_agg(case when q.channel in ('slack', 'email', 'console') then q.recipient_id end)
    into opened, fresh, fresh_to
    from queued_rows as q
    where q.state = 'queued';
end
$$;

comment on function rotator_internal.reopen(timestamptz, integer) is
    'Opens alerts again whose acknowledgement has run out, and tells the owners. Gives how many it looked at, how many are '
    'open again, the places of the messages that are to be sent, and their recipients where people read them.';

create or replace function rotator_internal.escalate(
    as_of timestamptz,
    max_rows integer,
    out looked_at integer,
    out fresh tid[],
    out fresh_to uuid[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    places tid[]; -- nobody can move the rows: they are locked
    windows boolean;
begin
    -- Lock first, read in the next statement: a rotation that was committed in between is then seen.
    select array_agg(l.place) into places
    from (
        select a.ctid as place
        from rotator_internal.alert as a
        where a.next_escalation_at <= as_of
        order by a.next_escalation_at
        limit max_rows
        for update skip locked
    ) as l;
    looked_at := coalesce(cardinality(places), 0);
    if places is null then
        return;
    end if;
    windows := exists (select from rotator_internal.delivery_window);

    with standing as materialized (
        select
            p.place, a.*, s.secret,
            coalesce(l.reminder_step, a.escalation_step) as reminder_step,
            coalesce(l.overdue_step, a.overdue_step, 0) as expiry_step,
            coalesce(a.overdue_from, (s.secret).expiry_date) as expired_at,
            t.time_zone,
            a.state = 'open' and (s.secret).cycle = a.cycle and (s.secret).retired_at is null and t.status = 'active' as is_live,
            case when (s.secret).snoozed_until > escalate.as_of then (s.secret).snoozed_until end as snoozed_until
        from unnest(places) as p (place)
        cross join lateral (
            select
                x.tenant_id, x.id, x.secret_id, x.cycle, x.state, x.escalation_policy_id, x.reminded_at, x.overdue_from,
                x.escalation_step, x.overdue_step, x.escalated_at, x.reopened_at, coalesce(x.repeats_taken, '{}') as repeats_taken,
                x as alert
            from rotator_internal.alert as x
            where x.ctid = p.place
            offset 0
        ) as a
        left join lateral rotator_internal.steps_heard(
            a.alert, rotator_internal.steps_withdrawn_since(a.alert, coalesce(a.escalated_at, '-infinity'))) as l on true
        cross join lateral (
            select x as secret
            from rotator_internal.secret as x
            where x.tenant_id = a.tenant_id and x.id = a.secret_id
            offset 0
        ) as s
        cross join lateral (
            select x.time_zone, x.status
            from rotator_internal.tenant as x
            where x.tenant_id = a.tenant_id
            offset 0
        ) as t
    ),
    rung as materialized (
        select
            x.place, x.tenant_id, x.secret_id, x.id as alert_id, x.cycle, x.secret, x.time_zone, r.*,
            r.step > case r.anchor when 'reminder' then x.reminder_step else x.expiry_step end as is_untaken,
            k.repeats_taken, f.repeats_passed, f.repeated_at, f.next_repeat_at
        from standing as x
        cross join lateral rotator_internal.ladder_rungs(
            x.tenant_id, x.secret, x.escalation_policy_id, x.reminded_at, x.expired_at, x.time_zone, windows) as r
        cross join lateral (select coalesce((x.repeats_taken ->> r.step::text)::integer, 0) as repeats_taken) as k
        -- Counted, because hours that change move a step, and then its repeats would come once more, or be passed over.
        left join lateral (
            select
                max(g.number) filter (where g.repeat_at <= escalate.as_of) as repeats_passed,
                max(g.repeat_at) filter (where g.repeat_at <= escalate.as_of and g.number > k.repeats_taken
                    and (g.repeat_at <= x.reopened_at) is not true) as repeated_at,
                min(g.repeat_at) filter (where g.repeat_at > escalate.as_of and g.number > k.repeats_taken) as next_repeat_at
            from rotator_internal.ladder_repeats(r.due_at, r.repeat_every, r.repeats, x.time_zone) as g
            where r.repeats > 0
        ) as f on true
        where x.is_live and x.snoozed_until is null
    ),
    -- Repeats that were missed together are one; those of a step that is taken only now are left out.
    due as materialized (
        select r.*, case when r.is_untaken then r.due_at else r.repeated_at end as asked_at
        from rung as r
        where (r.is_untaken and r.due_at <= escalate.as_of) or (not r.is_untaken and r.repeated_at is not null)
    ),
    -- Whoever stands on several steps that are due together is told once, by the highest.
    told as (
        select distinct on (d.place, w.channel, w.recipient_id)
            d.tenant_id, d.secret_id, d.alert_id, d.cycle, d.rule, d.step, d.asked_at, w.channel, w.recipient_id, w.addressee
        from due as d
        cross join lateral rotator_internal.ladder_told(d.tenant_id, d.secret, d.target, d.channel, d.recipient_id) as w
        order by d.place, w.channel, w.recipient_id, d.step desc, w.addressee
    ),
    queued_rows as (
        insert into rotator_internal.notification (
            tenant_id, secret_id, alert_id, cycle, kind, rule, step, due_at, channel, recipient_id, addressee)
        select
            w.tenant_id, w.secret_id, w.alert_id, w.cycle, 'escalation', w.rule, w.step,
            -- Hours that are closed put a step off no further: it may be due when it was, and somebody had taken it on then.
            case
                when exists (
                    select
                    from rotator_internal.notification as n
                    where n.tenant_id = w.tenant_id and n.secret_id = w.secret_id and n.cycle = w.cycle and n.rule = w.rule
                      and n.step = w.step and n.due_at = w.asked_at and n.channel = w.channel
                      and n.recipient_id = w.recipient_id and n.stage <> 'cancelled' and n.state = 'suppressed')
                then escalate.as_of
                else w.asked_at
            end,
            w.channel, w.recipient_id, w.addressee
        from told as w
        on conflict (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id) where stage <> 'cancelled'
        do nothing
        returning ctid as place, tenant_id, id, secret_id, channel, recipient_id, rule
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            q.tenant_id, 'rotator', 'engine', 'escalation.queued', 'secret', q.secret_id::text,
            jsonb_build_object('notification', q.id, 'channel', q.channel, 'rule', q.rule)
        from queued_rows as q
        union all
        select
            d.tenant_id, 'rotator', 'engine', 'escalation.passed_over', 'secret', d.secret_id::text,
            jsonb_build_object('alert', d.alert_id, 'rule', d.rule)
        from due as d
        where d.is_untaken and not d.reaches
    ),
    outcome as materialized (
        select
            x.place, x.is_live, x.snoozed_until,
            coalesce(
                max(r.step) filter (where r.anchor = 'reminder' and r.is_untaken and r.due_at <= escalate.as_of),
                x.reminder_step) as reminder_step,
            coalesce(
                max(r.step) filter (where r.anchor = 'expiry' and r.is_untaken and r.due_at <= escalate.as_of),
                x.expiry_step) as expiry_step,
            min(r.due_at) filter (where r.is_untaken and r.due_at > escalate.as_of) as next_step_at,
            min(r.next_repeat_at) filter (where not r.is_untaken or r.due_at <= escalate.as_of) as next_repeat_at,
            jsonb_object_agg(r.step, r.repeats_passed) filter (
                where r.repeats_passed > r.repeats_taken and (not r.is_untaken or r.due_at <= escalate.as_of)) as repeats_passed
        from standing as x
        left join rung as r on r.place = x.place
        group by x.place, x.is_live, x.snoozed_until, x.reminder_step, x.expiry_step
    ),
    moved as (
        update rotator_internal.alert as a
        set escalation_step = o.reminder_step,
            overdue_step = o.expiry_step,
            repeats_taken = case
                when o.repeats_passed is null then a.repeats_taken
                else coalesce(a.repeats_taken, '{}') || o.repeats_passed
            end,
            escalated_at = case when o.is_live and o.snoozed_until is null then escalate.as_of else a.escalated_at end,
            next_escalation_at = case
                when o.is_live then coalesce(o.snoozed_until, least(o.next_step_at, o.next_repeat_at))
            end
        from outcome as o
        where a.ctid = o.place
    )
    select
        array_agg(q.place),
        array_agg(case when q.channel in ('slack', 'email', 'console') then q.recipient_id end)
    into fresh, fresh_to
    from queued_rows as q;
end
$$;

comment on function rotator_internal.escalate(timestamptz, integer) is
    'Takes the steps of open alerts that are due, and works out when each is to be looked at next. Gives how many it looked '
    'at, the places of the messages that are to be sent, and their recipients where people read them.';
