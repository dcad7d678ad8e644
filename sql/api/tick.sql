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

create or replace function rotator_internal.queue_due(
    due rotator_internal.calendar[], places tid[], as_of timestamptz) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    opened integer;
    queued integer;
    moved_on integer;
    -- Mostly there are none, and then nobody needs to look for them secret by secret.
    own_policies boolean := exists (
        select from rotator_internal.notification_policy as p where p.secret_id is not null);
begin
    -- Everything hangs off one row a due secret, by index look-ups. "offset 0" and places keep the planner
    -- from turning look-ups into joins: it can't know how many are due, and keeps its plan while tables grow.
    with event as materialized (
        select
            d.tenant_id, d.secret_id, d.place, s.cycle, s.owner_id,
            a.id as alert_id, coalesce(a.id, rotator_internal.uuid_v7()) as new_alert_id, a.state as alert_state,
            d.backlog and (s.expiry_date <= queue_due.as_of or e.next_event_at is null) as in_summary,
            -- A moved date had ended the alert: what was announced before is announced once more.
            coalesce(g.step, 0) + case when a.state = 'resolved' then 1 else 0 end as step,
            -- After a gap several have passed: the most urgent one speaks for all.
            e.leads[1] as lead_time_days, e.due_at, e.next_event_at, e.leads, e.channels, e.recipients
        from unnest(due, places) as d (tenant_id, secret_id, was_due_at, backlog, place)
        cross join lateral (
            select x.id, x.cycle, x.owner_id, x.expiry_date, x.rotation_interval, x.retired_at
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
            select x.id, x.state
            from rotator_internal.alert as x
            where x.tenant_id = d.tenant_id and x.secret_id = d.secret_id and x.cycle = s.cycle
            offset 0
        ) as a on true
        left join lateral (
            select max(x.step) as step
            from rotator_internal.notification as x
            where a.id is not null and x.tenant_id = d.tenant_id and x.secret_id = d.secret_id and x.cycle = s.cycle
              and x.kind = 'reminder' and x.stage <> 'cancelled'
            offset 0
        ) as g on true
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
        insert into rotator_internal.alert (tenant_id, id, secret_id, cycle)
        select e.tenant_id, e.new_alert_id, e.secret_id, e.cycle
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
            coalesce(n.addressee, e.owner_id), case when e.in_summary then 'merged' else 'queued' end
        from event as e
        left join lateral (
            select coalesce(p.channel, c.channel) as channel, coalesce(p.recipient_id, c.recipient_id) as recipient_id
            from unnest(e.leads, e.channels, e.recipients) as p (lead_time_days, channel, recipient_id)
            left join rotator_internal.contact as c
                on p.recipient_id is null and c.tenant_id = e.tenant_id and c.owner_id = e.owner_id
                and (p.channel is null or p.channel = c.channel)
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
        returning tenant_id, id, secret_id, channel, rule, state
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
    select
        (select count(*) from opened_alerts),
        (select count(*) from queued_rows as q where q.state = 'queued'),
        (select count(*) from event as e where e.alert_state = 'resolved' and e.due_at is not null)
    into opened, queued, moved_on;

    if moved_on > 0 then
        -- A moved expiry date had ended the alert, and now the new date is due. Rare, so planned each time.
        execute $sql$
            with reopened as (
                update rotator_internal.alert as a
                set state = 'open', opened_at = clock_timestamp(), resolved_at = null,
                    acknowledged_at = null, acknowledged_by = null, acknowledged_until = null
                from unnest($1) as d
                join rotator_internal.secret as s on s.tenant_id = d.tenant_id and s.id = d.secret_id
                where a.tenant_id = d.tenant_id and a.secret_id = d.secret_id and a.cycle = s.cycle and a.state = 'resolved'
                  and exists (
                    select
                    from rotator_internal.notification as n
                    where n.tenant_id = a.tenant_id and n.secret_id = a.secret_id and n.cycle = a.cycle
                      and n.state in ('queued', 'merged') and n.kind not in ('acknowledge', 'resolve'))
                returning a.tenant_id, a.secret_id, a.cycle
            ),
            -- Whoever had it before has to take it again.
            forgotten as (
                delete from rotator_internal.link_action as la
                using reopened as r
                where la.tenant_id = r.tenant_id and la.secret_id = r.secret_id and la.cycle = r.cycle
                  and la.action = 'acknowledge'
            )
            select count(*) from reopened
        $sql$ into moved_on using due;
    end if;
    return jsonb_build_object('alerts_opened', opened + moved_on, 'queued', queued);
end
$$;

comment on function rotator_internal.queue_due(rotator_internal.calendar[], tid[], timestamptz) is
    'Queues the reminders of secrets whose calendar rows the caller holds, and moves those rows to the next event.';

create or replace function rotator_internal.is_being_restored() returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from rotator_internal.heartbeat as h where h.only_row) then
        return false;
    end if;
    return exists (
        select
        from pg_stat_activity as a
        join pg_roles as r on r.oid = a.usesysid
        where a.datname = current_database() and a.application_name = 'pg_restore' and (r.rolsuper or r.rolbypassrls));
end
$$;

comment on function rotator_internal.is_being_restored() is
    'Nobody has ticked in this database yet, and pg_restore is at work in it as a role that may: pg_cron''s job is among the '
    'first rows it brings, and what a tick made of half of the others would be in the way of the rest.';

create or replace function rotator.tick(as_of timestamptz default clock_timestamp(), max_rows integer default 5000) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    due rotator_internal.calendar[];
    places tid[]; -- nobody can move the rows: they are locked
    result jsonb := '{"alerts_opened": 0, "queued": 0}';
    queued integer := 0;
    keys_rotated integer;
    sealing jsonb;
begin
    if as_of is null or max_rows is null or max_rows not between 1 and 100000 then
        perform rotator_internal.refuse(
            '22023', 'as_of must be a time and max_rows between 1 and 100000', 'Leave both out for their defaults.');
    elsif as_of > clock_timestamp() + interval '1 minute' and not rotator_internal.is_operator() then
        perform rotator_internal.refuse(
            '42501', 'only a rotator_admin may tick ahead of time', 'Leave as_of out to tick now.');
    elsif rotator_internal.is_being_restored() then
        return result || '{"keys_rotated": 0, "due": 0, "sealed": 0, "more": false}';
    end if;

    -- Lock first, read in the next statement: a rotation that was committed in between is then seen.
    select array_agg(l.c), array_agg(l.place) into due, places
    from (
        select c, c.ctid as place
        from rotator_internal.calendar as c
        where c.next_event_at <= as_of
        order by c.next_event_at
        limit max_rows
        for update skip locked
    ) as l;

    if due is not null then
        result := rotator_internal.queue_due(due, places, as_of);
    end if;

    -- What is merged in several steps makes one summary, after the last.
    if coalesce(cardinality(due), 0) < max_rows
        and not exists (select from rotator_internal.calendar as c where c.next_event_at <= as_of and c.backlog) then
        queued := rotator_internal.gather_summaries(as_of);
    end if;

    keys_rotated := rotator_internal.rotate_due_keys(as_of, 100);
    perform rotator_internal.report_stalled_runs();
    perform rotator_internal.fold_uses(10000);
    -- While reminders come by the thousands they go first; these events are sealed a minute later at most.
    sealing := rotator_internal.seal_audit(greatest(max_rows, 1000) * 10::bigint, coalesce(cardinality(due), 0) < 5000);

    result := result || jsonb_build_object(
        'keys_rotated', keys_rotated,
        'queued', (result ->> 'queued')::integer + queued,
        'due', coalesce(cardinality(due), 0),
        'sealed', sealing -> 'sealed',
        'more', coalesce(cardinality(due), 0) >= max_rows or keys_rotated >= 100 or (sealing ->> 'more')::boolean);
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
    until constant pg_catalog.timestamptz :=
        pg_catalog.clock_timestamp() operator(pg_catalog.+) pg_catalog.make_interval(secs => 50);
    began pg_catalog.timestamptz;
    spent pg_catalog.float8;
    result pg_catalog.jsonb;
begin
    loop
        result := rotator.tick();
        commit;
        exit when not (result operator(pg_catalog.->>) 'more')::pg_catalog.bool
            or pg_catalog.clock_timestamp() operator(pg_catalog.>) until;
    end loop;

    -- Re-encryption has time: a tenth of it goes to work, so that nobody notices. Where others keep the processors busy a
    -- step takes longer, and then it may be half of it: a step in a tenth of a second does a million rows in ten minutes.
    loop
        set transaction isolation level read committed;
        began := pg_catalog.clock_timestamp();
        exit when began operator(pg_catalog.>) until;
        result := rotator.reencrypt_step(250);
        commit;
        exit when (result operator(pg_catalog.->>) 'remaining')::pg_catalog.int8 operator(pg_catalog.=) 0;
        spent := pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() operator(pg_catalog.-) began);
        perform pg_catalog.pg_sleep(
            case
                when (result operator(pg_catalog.->>) 'done')::pg_catalog.int8 operator(pg_catalog.=) 0
                    and (result operator(pg_catalog.->>) 'waiting')::pg_catalog.int8 operator(pg_catalog.>) 0 then 1
                else greatest(spent, least(9 operator(pg_catalog.*) spent, 0.1 operator(pg_catalog.-) spent))
            end);
        commit;
    end loop;
end
$$;

comment on procedure rotator.run_tick() is
    'Ticks until nothing more is due, then re-encrypts what rotations have left to do, unhurried, with a commit after each '
    'step; at most 50 seconds. What pg_cron runs each minute.';
