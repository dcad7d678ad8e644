-- Queues the reminders that are due, set by set: opens alerts, writes the audit, moves the calendar, and starts the ladder
-- with the last reminder before the expiry. Exactly once by the unique index notification_once, however often and however
-- concurrently it runs. Its cost follows what is due. What an alert does later is api/escalate.sql; who calls: api/tick.sql.
-- Covered by tests/tests/behaviour/{tick,reopening}.rs.

create or replace function rotator_internal.stand_ins(
    tenant uuid, secret uuid, out addressee text, out channel text, out recipient_id uuid)
returns setof record
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    s rotator_internal.secret;
begin
    select x.* into strict s
    from rotator_internal.secret as x
    where x.tenant_id = stand_ins.tenant and x.id = stand_ins.secret;

    return query
    with candidate as (
        select c.owner_id, c.channel::text as channel, c.recipient_id, who.rank
        from (values
            (s.owner_id, 1), (s.secondary_owner_id, 2), (s.team_lead_id, 3), ('manager', 4)) as who (subject, rank)
        join rotator_internal.contact as c
            on c.tenant_id = stand_ins.tenant and c.owner_id = who.subject and c.gone_at is null
        union all
        select c.owner_id, c.channel::text, c.recipient_id, 5
        from rotator_internal.member as m
        join rotator_internal.contact as c
            on c.tenant_id = m.tenant_id and c.owner_id = m.subject and c.gone_at is null
        where m.tenant_id = stand_ins.tenant and m.role = 'admin'
    )
    select c.owner_id, c.channel, c.recipient_id
    from candidate as c
    where c.rank = (select min(f.rank) from candidate as f);
end
$$;

comment on function rotator_internal.stand_ins(uuid, uuid) is
    'The contacts of the first of owner, secondary owner, team lead, manager and tenant admins who has one.';

create or replace function rotator_internal.nobody_told(tenant uuid, secret uuid, out addressee text, out channel text, out recipient_id uuid)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select x.addressee, x.channel, x.recipient_id
    from rotator_internal.stand_ins(tenant, secret) as x;
    if not found then
        return query
        select s.owner_id, 'console'::text, rotator_internal.intern_recipient(nobody_told.tenant, 'console', s.owner_id)
        from rotator_internal.secret as s
        where s.tenant_id = nobody_told.tenant and s.id = nobody_told.secret;
    end if;
end
$$;

comment on function rotator_internal.nobody_told(uuid, uuid) is
    'Who is told about a secret whose policies reach nobody: the first of secondary owner, team lead, manager and tenant '
    'admins who has a contact, else the operator''s console. Nothing registered is silently uncovered.';

create or replace function rotator_internal.queue_due(
    due rotator_internal.calendar[],
    places tid[],
    as_of timestamptz,
    out opened integer,
    out queued integer,
    out fresh tid[],
    out fresh_to uuid[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    moved_on integer;
    last_told uuid[];
    -- Mostly there are none, and then nobody needs to look for them secret by secret.
    own_policies boolean := exists (
        select from rotator_internal.notification_policy as p where p.secret_id is not null);
    ladders boolean := exists (select from rotator_internal.escalation_policy);
    -- Whoever has a ladder of their own, or hours, has its first step worked out by the escalations of this tick.
    planned_apart boolean := ladders or exists (select from rotator_internal.delivery_window);
begin
    -- Everything hangs off one row a due secret, by index look-ups. "offset 0" and places keep the planner
    -- from turning look-ups into joins: it can't know how many are due, and keeps its plan while tables grow.
    with event as materialized (
        select
            d.tenant_id, d.secret_id, d.place, s.cycle, s.owner_id, s.priority, s.expiry_date,
            a.id as alert_id, coalesce(a.id, rotator_internal.uuid_v7()) as new_alert_id, a.state as alert_state,
            d.backlog and (s.expiry_date <= queue_due.as_of or e.next_event_at is null) as in_summary,
            -- Somebody has taken it on. (An acknowledgement that has run out is ended by this tick, see api/escalate.sql.)
            a.state = 'acknowledged' and (a.acknowledged_until > queue_due.as_of) is not false as is_hushed,
            -- Reminders that are still to come are about what has expired: here the ladder begins.
            e.due_at is not null and (e.next_event_at > s.expiry_date) is not false and a.reminded_at is null as is_last,
            -- A moved date had ended the alert: what was announced before is announced once more.
            case when a.id is null then 0 else coalesce((
                select max(x.step)
                from rotator_internal.notification as x
                where x.tenant_id = d.tenant_id and x.secret_id = d.secret_id and x.cycle = s.cycle
                  and x.kind = 'reminder' and x.stage <> 'cancelled'
            ), 0) + case when a.state = 'resolved' then 1 else 0 end end as step,
            -- After a gap several have passed: the most urgent one speaks for all.
            e.leads[1] as lead_time_days, e.due_at, e.next_event_at, e.leads, e.channels, e.recipients
        from unnest(due, places) as d (tenant_id, secret_id, was_due_at, backlog, place)
        cross join lateral (
            select x.id, x.cycle, x.owner_id, x.priority, x.expiry_date, x.rotation_interval, x.retired_at
            from rotator_internal.secret as x
            where x.tenant_id = d.tenant_id and x.id = d.secret_id
            offset 0
        ) as s
        cross join lateral (
            select x.time_zone, x.status
            from rotator_internal.tenant as x
            where x.tenant_id = d.tenant_id
            offset 0
        ) as t
        left join lateral (
            select x.id, x.state, x.acknowledged_until, case when x.state <> 'resolved' then x.reminded_at end as reminded_at
            from rotator_internal.alert as x
            where x.tenant_id = d.tenant_id and x.secret_id = d.secret_id and x.cycle = s.cycle
            offset 0
        ) as a on true
        cross join lateral (
            select
                array_agg(r.lead_time_days) filter (where r.due_at <= queue_due.as_of) as leads,
                array_agg(r.channel) filter (where r.due_at <= queue_due.as_of) as channels,
                array_agg(r.recipient_id) filter (where r.due_at <= queue_due.as_of) as recipients,
                max(r.due_at) filter (where r.due_at <= queue_due.as_of) as due_at,
                min(r.due_at) filter (where r.due_at > queue_due.as_of) as next_event_at
            from (
                select
                    p.lead_time_days,
                    p.channel,
                    p.recipient_id,
                    rotator_internal.lead_instant(
                        s.expiry_date, p.lead_time_days, s.rotation_interval, t.time_zone) as due_at
                from rotator_internal.policies_of(d.tenant_id, case when own_policies then d.secret_id end) as p
                where s.retired_at is null and t.status = 'active'
                order by due_at desc, p.lead_time_days
            ) as r
        ) as e
    ),
    opened_alerts as (
        insert into rotator_internal.alert (
            tenant_id, id, secret_id, cycle, escalation_policy_id, reminded_at, overdue_from, next_escalation_at)
        select
            e.tenant_id, e.new_alert_id, e.secret_id, e.cycle,
            case when ladders then rotator_internal.ladder_of(e.tenant_id, e.secret_id, e.priority) end,
            case when e.is_last then queue_due.as_of end,
            case when e.in_summary and e.expiry_date < queue_due.as_of then queue_due.as_of end,
            case
                when e.is_last then rotator_internal.first_escalation(
                    queue_due.as_of, e.priority,
                    case when e.in_summary then greatest(e.expiry_date, queue_due.as_of) else e.expiry_date end,
                    planned_apart)
            end
        from event as e
        where e.alert_id is null and e.due_at is not null
        returning 1
    ),
    queued_rows as (
        insert into rotator_internal.notification (
            tenant_id, secret_id, alert_id, cycle, kind, rule, step, lead_time_days, due_at, channel, recipient_id, addressee,
            state)
        select
            e.tenant_id, e.secret_id, e.new_alert_id, e.cycle, 'reminder', 'lead:' || e.lead_time_days, e.step, e.lead_time_days,
            e.due_at, coalesce(o.channel, n.channel), coalesce(o.recipient_id, n.recipient_id),
            coalesce(n.addressee, e.owner_id),
            case when e.is_hushed then 'suppressed' when e.in_summary then 'merged' else 'queued' end
        from event as e
        left join lateral (
            select coalesce(p.channel, c.channel) as channel, coalesce(p.recipient_id, c.recipient_id) as recipient_id
            from unnest(e.leads, e.channels, e.recipients) as p (lead_time_days, channel, recipient_id)
            left join rotator_internal.contact as c
                on p.recipient_id is null and c.tenant_id = e.tenant_id and c.owner_id = e.owner_id
                and (p.channel is null or p.channel = c.channel) and c.gone_at is null
            where p.lead_time_days = e.lead_time_days and (p.recipient_id is not null or c.id is not null)
        ) as o on true
        -- Asked only for those whom their policies don't reach.
        left join lateral (
            select x.addressee, x.channel, x.recipient_id
            from rotator_internal.nobody_told(e.tenant_id, e.secret_id) as x
            where o.recipient_id is null
            offset 0
        ) as n on true
        where e.due_at is not null
        on conflict (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id) where stage <> 'cancelled'
        do nothing
        returning ctid as place, tenant_id, id, secret_id, channel, recipient_id, rule, state
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            q.tenant_id, 'rotator', 'engine', 'reminder.' || q.state, 'secret', q.secret_id::text,
            jsonb_build_object('notification', q.id, 'channel', q.channel, 'rule', q.rule)
        from queued_rows as q
    ),
    moved as (
        update rotator_internal.calendar as c
        set next_event_at = e.next_event_at, backlog = false
        from event as e
        where c.ctid = e.place and e.next_event_at is not null
    ),
    nothing_to_come as (
        delete from rotator_internal.calendar as c
        using event as e
        where c.ctid = e.place and e.next_event_at is null
    )
    -- In this order: what opens alerts goes through all events before what queues.
    select
        (select count(*) from opened_alerts),
        (select array_agg(q.place) from queued_rows as q where q.state = 'queued'),
        (
            select array_agg(case when q.channel in ('slack', 'email', 'console') then q.recipient_id end)
            from queued_rows as q
            where q.state = 'queued'
        ),
        (select count(*) from event as e where e.alert_state = 'resolved' and e.due_at is not null),
        (select array_agg(e.secret_id) from event as e where e.is_last and e.alert_id is not null)
    into opened, fresh, fresh_to, moved_on, last_told;
    queued := coalesce(cardinality(fresh), 0);

    if moved_on > 0 then
        opened := opened + rotator_internal.open_again(due);
    end if;
    if last_told is not null then
        -- Its alert was opened by an earlier reminder. Planned each time: half of a tick, or none.
        execute $sql$
            update rotator_internal.alert as a
            set reminded_at = $3,
                next_escalation_at = case
                    when a.state = 'open' then rotator_internal.first_escalation(
                        $3, s.priority, coalesce(a.overdue_from, s.expiry_date), $4)
                end
            from unnest($1) as d
            join rotator_internal.secret as s on s.tenant_id = d.tenant_id and s.id = d.secret_id
            where s.id = any ($2)
              and a.tenant_id = d.tenant_id and a.secret_id = d.secret_id and a.cycle = s.cycle
              and a.state <> 'resolved' and a.reminded_at is null
        $sql$ using due, last_told, as_of, planned_apart;
    end if;
end
$$;

comment on function rotator_internal.queue_due(rotator_internal.calendar[], tid[], timestamptz) is
    'Queues the reminders of secrets whose calendar rows the caller holds, and moves those rows to the next event. Gives how '
    'many alerts it opened, how many messages are to be sent, their places, and their recipients where people read them.';

create or replace function rotator_internal.open_again(due rotator_internal.calendar[]) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    opened integer;
begin
    execute $sql$
        with opened as (
            update rotator_internal.alert as a
            set state = 'open', opened_at = clock_timestamp(), resolved_at = null,
                acknowledged_at = null, acknowledged_by = null, acknowledged_until = null, first_acknowledged_at = null,
                escalation_policy_id = rotator_internal.ladder_of(a.tenant_id, a.secret_id, s.priority),
                reminded_at = null, overdue_from = null, escalation_step = 0, overdue_step = 0, escalated_at = null,
                repeats_taken = null,
                ladder_from = clock_timestamp(), next_escalation_at = null
            from unnest($1) as d
            join rotator_internal.secret as s on s.tenant_id = d.tenant_id and s.id = d.secret_id
            where a.tenant_id = d.tenant_id and a.secret_id = d.secret_id and a.cycle = s.cycle and a.state = 'resolved'
              and exists (
                select
                from rotator_internal.notification as n
                where n.tenant_id = a.tenant_id and n.secret_id = a.secret_id and n.cycle = a.cycle
                  and n.stage <> 'cancelled' and n.state in ('queued', 'merged') and n.kind not in ('acknowledge', 'resolve'))
            returning a.tenant_id, a.secret_id, a.cycle
        ),
        -- Whoever had it before has to take it again.
        forgotten as (
            delete from rotator_internal.link_action as la
            using opened as o
            where la.tenant_id = o.tenant_id and la.secret_id = o.secret_id and la.cycle = o.cycle
              and la.action = 'acknowledge'
        )
        select count(*) from opened
    $sql$ into opened using due;
    return opened;
end
$$;

comment on function rotator_internal.open_again(rotator_internal.calendar[]) is
    'Opens alerts again that a moved expiry date had ended, when the new date is due: with another beginning of their ladder. '
    'Returns how many.';
