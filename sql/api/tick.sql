-- The engine's heart: finds what is due, opens alerts, queues notifications, writes the audit, moves the calendar. Cost
-- follows what is due, not what is registered, and everything is set-based. Exactly once by the unique index
-- notification_once, however often and however concurrently it runs. Sending is api/outbox.sql.
-- Covered by tests/tests/behaviour/tick.rs.

create or replace function rotator_internal.nobody_told(tenant uuid, secret uuid, out addressee text, out channel text, out recipient_id uuid)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    s rotator_internal.secret;
begin
    select x.* into strict s
    from rotator_internal.secret as x
    where x.tenant_id = nobody_told.tenant and x.id = nobody_told.secret;

    return query
    with candidate as (
        select c.owner_id, c.channel::text as channel, c.recipient_id, who.rank
        from (values
            (s.owner_id, 1), (s.secondary_owner_id, 2), (s.team_lead_id, 3), ('manager', 4)) as who (subject, rank)
        join rotator_internal.contact as c on c.tenant_id = nobody_told.tenant and c.owner_id = who.subject
        union all
        select c.owner_id, c.channel::text, c.recipient_id, 5
        from rotator_internal.member as m
        join rotator_internal.contact as c on c.tenant_id = m.tenant_id and c.owner_id = m.subject
        where m.tenant_id = nobody_told.tenant and m.role = 'admin'
    )
    select c.owner_id, c.channel, c.recipient_id
    from candidate as c
    where c.rank = (select min(f.rank) from candidate as f);
    if not found then
        return query
        select s.owner_id, 'console'::text, rotator_internal.intern_recipient(nobody_told.tenant, 'console', s.owner_id);
    end if;
end
$$;

comment on function rotator_internal.nobody_told(uuid, uuid) is
    'Who is told about a secret whose policies reach nobody: the first of secondary owner, team lead, manager and tenant '
    'admins who has a contact, else the operator''s console. Nothing registered is silently uncovered.';

create or replace function rotator_internal.queue_due(due rotator_internal.calendar[], as_of timestamptz) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    opened integer;
    queued integer;
begin
    -- Everything below hangs off one row a due secret by index look-ups; joins between these sets would be quadratic,
    -- because the planner can't know how many are due.
    with event as materialized (
        select
            d.tenant_id, d.secret_id, s.cycle, s.owner_id,
            a.id as alert_id, coalesce(a.id, rotator_internal.uuid_v7()) as new_alert_id, a.state as alert_state,
            -- After a gap several have passed: the most urgent one speaks for all.
            e.lead_time_days, e.due_at, e.next_event_at
        from unnest(due) as d
        join rotator_internal.secret as s on s.tenant_id = d.tenant_id and s.id = d.secret_id
        join rotator_internal.tenant as t on t.tenant_id = s.tenant_id
        left join rotator_internal.alert as a
            on a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle
        cross join lateral (
            select
                (array_agg(r.lead_time_days order by r.due_at desc, r.lead_time_days)
                    filter (where r.due_at <= queue_due.as_of))[1] as lead_time_days,
                max(r.due_at) filter (where r.due_at <= queue_due.as_of) as due_at,
                min(r.due_at) filter (where r.due_at > queue_due.as_of) as next_event_at
            from (
                select
                    p.lead_time_days,
                    rotator_internal.lead_instant(
                        s.expiry_date, p.lead_time_days, s.rotation_interval, t.time_zone) as due_at
                from rotator_internal.policies_of(s.tenant_id, s.id) as p
                where s.retired_at is null and t.status = 'active'
            ) as r
        ) as e
    ),
    opened_alerts as (
        insert into rotator_internal.alert (tenant_id, id, secret_id, cycle)
        select e.tenant_id, e.new_alert_id, e.secret_id, e.cycle
        from event as e
        where e.alert_id is null and e.due_at is not null
        -- Also makes the look-ups above end before the first alert is inserted.
        order by e.tenant_id, e.secret_id
        returning 1
    ),
    -- A moved expiry date had ended it, and now the new date is due.
    reopened_alerts as (
        update rotator_internal.alert as a
        set state = 'open', opened_at = clock_timestamp(), resolved_at = null,
            acknowledged_at = null, acknowledged_by = null, acknowledged_until = null
        from event as e
        where e.alert_state = 'resolved' and e.due_at is not null
          and a.tenant_id = e.tenant_id and a.secret_id = e.secret_id and a.cycle = e.cycle
        returning 1
    ),
    queued_rows as (
        insert into rotator_internal.notification (
            tenant_id, secret_id, alert_id, cycle, kind, rule, lead_time_days, due_at, channel, recipient_id, addressee)
        select
            e.tenant_id, e.secret_id, e.new_alert_id, e.cycle, 'reminder', 'lead:' || e.lead_time_days, e.lead_time_days,
            e.due_at, r.channel, r.recipient_id, r.addressee
        from event as e
        cross join lateral (
            with told as (
                select coalesce(p.channel, c.channel) as channel, coalesce(p.recipient_id, c.recipient_id) as recipient_id
                from rotator_internal.policies_of(e.tenant_id, e.secret_id) as p
                left join rotator_internal.contact as c
                    on p.recipient_id is null and c.tenant_id = e.tenant_id and c.owner_id = e.owner_id
                    and (p.channel is null or p.channel = c.channel)
                where p.lead_time_days = e.lead_time_days and (p.recipient_id is not null or c.id is not null)
                group by 1, 2
            )
            select e.owner_id as addressee, t.channel, t.recipient_id
            from told as t
            union all
            select n.addressee, n.channel, n.recipient_id
            from rotator_internal.nobody_told(e.tenant_id, e.secret_id) as n
            where not exists (select from told)
        ) as r
        where e.due_at is not null
        on conflict (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id) where state <> 'cancelled'
        do nothing
        returning tenant_id, secret_id, alert_id, cycle, rule, due_at
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            q.tenant_id, 'rotator', 'engine', 'reminder.queued', 'secret', q.secret_id::text,
            jsonb_build_object('alert', q.alert_id, 'cycle', q.cycle, 'rule', q.rule, 'due_at', q.due_at, 'notifications', count(*))
        from queued_rows as q
        group by q.tenant_id, q.secret_id, q.alert_id, q.cycle, q.rule, q.due_at
    ),
    moved as (
        update rotator_internal.calendar as c
        set next_event_at = e.next_event_at
        from event as e
        where c.tenant_id = e.tenant_id and c.secret_id = e.secret_id
    )
    select
        (select count(*) from opened_alerts) + (select count(*) from reopened_alerts),
        (select count(*) from queued_rows)
    into opened, queued;
    return jsonb_build_object('alerts_opened', opened, 'queued', queued);
end
$$;

comment on function rotator_internal.queue_due(rotator_internal.calendar[], timestamptz) is
    'Queues the reminders of secrets whose calendar rows the caller holds, and moves those rows to the next event.';

create or replace function rotator.tick(as_of timestamptz default clock_timestamp(), max_rows integer default 5000) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    due rotator_internal.calendar[];
    result jsonb := '{"alerts_opened": 0, "queued": 0}';
begin
    if as_of is null or max_rows is null or max_rows not between 1 and 100000 then
        perform rotator_internal.refuse(
            '22023', 'as_of must be a time and max_rows between 1 and 100000', 'Leave both out for their defaults.');
    elsif as_of > clock_timestamp() + interval '1 minute' and not rotator_internal.is_operator() then
        perform rotator_internal.refuse(
            '42501', 'only a rotator_admin may tick ahead of time', 'Leave as_of out to tick now.');
    end if;

    -- Lock first, read in the next statement: a rotation that was committed in between is then seen.
    select array_agg(c) into due
    from (
        select c.tenant_id, c.secret_id, c.next_event_at
        from rotator_internal.calendar as c
        where c.next_event_at <= as_of
        order by c.next_event_at
        limit max_rows
        for update skip locked
    ) as l
    cross join lateral (select (l.tenant_id, l.secret_id, l.next_event_at)::rotator_internal.calendar) as x (c);

    if due is not null then
        result := rotator_internal.queue_due(due, as_of);
    end if;

    result := result || jsonb_build_object(
        'due', coalesce(cardinality(due), 0),
        'taken_back', rotator_internal.take_back_lost(),
        'more', coalesce(cardinality(due), 0) >= max_rows);
    insert into rotator_internal.heartbeat (last_tick_at) values (clock_timestamp())
    on conflict (only_row) do update set last_tick_at = excluded.last_tick_at;

    -- The only NOTIFY there is: it takes a lock on the whole cluster until commit. A hint; the table is the truth.
    if (result ->> 'queued')::integer > 0 then
        perform pg_notify('rotator_outbox', '');
    end if;
    return result;
end
$$;

comment on function rotator.tick(timestamptz, integer) is
    'Queues what is due at as_of, at most max_rows secrets, each reminder exactly once; returns counts, and more when it '
    'should be called again. After a gap only the most urgent missed reminder of a secret is queued. Run each minute by '
    'pg_cron (rotator.enable_schedule) or the sidecar. as_of in the future is for rotator_admin.';

-- No SET clause: a procedure that commits can't have one. Every name is qualified instead.
create or replace procedure rotator.run_tick()
language plpgsql
as $$
declare
    started timestamptz := pg_catalog.clock_timestamp();
    result jsonb;
begin
    loop
        result := rotator.tick();
        commit;
        exit when not (result operator(pg_catalog.->>) 'more')::boolean
            or pg_catalog.clock_timestamp() operator(pg_catalog.>) (started operator(pg_catalog.+) interval '50 seconds');
    end loop;
end
$$;

comment on procedure rotator.run_tick() is
    'Ticks until nothing more is due, at most 50 seconds, with a commit after each step. What pg_cron runs each minute.';
