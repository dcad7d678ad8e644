-- What falls outside a tenant's hours waits for the next opening, and is looked at again then: by that time somebody may
-- have taken it on, or a more urgent reminder may say it. Never past the expiry, and P1 doesn't wait at all. The tick calls
-- settle_queued() once, with what it has just queued (api/tick.sql); who sets no hours pays for two look-ups a tick.
-- Tables: schema/delivery_window.sql. Covered by tests/tests/behaviour/deferral.rs.

create or replace function rotator_internal.defer_queued(places tid[], as_of timestamptz) returns tid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    deferred tid[];
begin
    -- Planned each time, here and below: rare, and over tables of any size.
    execute $sql$
        with fresh as materialized (
            select n.ctid as place, n.tenant_id, n.id, n.secret_id, n.kind, n.channel, n.rule
            from rotator_internal.notification as n
            where n.ctid = any ($1) and n.state = 'queued' and n.kind in ('reminder', 'escalation')
              and exists (select from rotator_internal.delivery_window as w where w.tenant_id = n.tenant_id)
        ),
        closed as materialized (
            select t.tenant_id, rotator_internal.next_opening($2, t.tenant_id) as opens_at
            from (select distinct f.tenant_id from fresh as f) as t
        ),
        outside as materialized (
            select f.*, c.opens_at
            from fresh as f
            join closed as c on c.tenant_id = f.tenant_id and c.opens_at > $2
            cross join lateral (
                select s.priority, s.expiry_date
                from rotator_internal.secret as s
                where s.tenant_id = f.tenant_id and s.id = f.secret_id
                offset 0
            ) as s
            where s.priority <> 'P1' and c.opens_at < s.expiry_date
        ),
        waits as (
            update rotator_internal.notification as n
            set state = 'deferred', available_at = o.opens_at
            from outside as o
            where n.ctid = o.place
        ),
        noted as (
            insert into rotator_internal.deferral (tenant_id, notification_id, opens_at)
            select o.tenant_id, o.id, o.opens_at
            from outside as o
        ),
        audited as (
            insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
            select
                o.tenant_id, 'rotator', 'engine', o.kind || '.deferred', 'secret', o.secret_id::text,
                jsonb_build_object('notification', o.id, 'channel', o.channel, 'rule', o.rule, 'until', o.opens_at)
            from outside as o
        )
        select array_agg(o.place)
        from outside as o
    $sql$ into deferred using places, as_of;
    return deferred;
end
$$;

comment on function rotator_internal.defer_queued(tid[], timestamptz) is
    'Lets those of these rows, which this transaction queued, wait for whom as_of is outside the hours; returns their places.';

create or replace function rotator_internal.put_off(notifications uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute $sql$
        with held as materialized (
            select n.ctid as place, n.tenant_id, n.id, n.secret_id, n.kind, n.channel, n.rule, s.snoozed_until
            from rotator_internal.notification as n
            cross join lateral (
                select x.snoozed_until
                from rotator_internal.secret as x
                where x.tenant_id = n.tenant_id and x.id = n.secret_id
                offset 0
            ) as s
            where n.id = any ($1) and n.kind in ('reminder', 'escalation') and s.snoozed_until > clock_timestamp()
        ),
        waits as (
            update rotator_internal.notification as n
            set state = 'deferred', available_at = h.snoozed_until, merged_into = null, withdrawn_at = null
            from held as h
            where n.ctid = h.place
        ),
        noted as (
            insert into rotator_internal.deferral as d (tenant_id, notification_id, opens_at, is_snoozed)
            select h.tenant_id, h.id, h.snoozed_until, true
            from held as h
            on conflict on constraint deferral_pkey do update
            set opens_at = excluded.opens_at, is_snoozed = true, ended_at = null, ended_as = null
        )
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            h.tenant_id, 'rotator', 'engine', h.kind || '.deferred', 'secret', h.secret_id::text,
            jsonb_build_object(
                'notification', h.id, 'channel', h.channel, 'rule', h.rule, 'because', 'snoozed', 'until', h.snoozed_until)
        from held as h
    $sql$ using notifications;
end
$$;

comment on function rotator_internal.put_off(uuid[]) is
    'Lets those of these rows, which the caller queued or holds locked, wait for the end of a snooze whose secret is snoozed.';

create or replace function rotator_internal.release_deferred(
    as_of timestamptz, max_rows integer, out places tid[], out recipients uuid[], out looked_at integer)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    ids := array(
        select l.notification_id
        from (
            select d.notification_id
            from rotator_internal.deferral as d
            where d.ended_at is null and d.opens_at <= as_of
            order by d.opens_at
            limit max_rows
            for update skip locked
        ) as l);
    looked_at := cardinality(ids);
    -- Somebody who has one locked is just changing its cause: then it waits for the next tick.
    ids := array(
        select l.id
        from (
            select n.id
            from rotator_internal.notification as n
            where n.id = any (ids)
            order by n.id
            for update skip locked
        ) as l);
    if ids = '{}' then
        return;
    end if;

    execute $sql$
        with held as materialized (
            select n.ctid as place, n.tenant_id, n.id, n.secret_id, n.cycle, n.kind, n.rule, n.step, n.due_at, n.channel,
                n.recipient_id, n.state, n.rule like 'lead:%' and n.fallback_of is null as comes_again
            from rotator_internal.notification as n
            where n.id = any ($1)
        ),
        opening as materialized (
            select t.tenant_id, rotator_internal.next_opening($2, t.tenant_id) as opens_at
            from (select distinct h.tenant_id from held as h) as t
        ),
        judged as materialized (
            select
                h.*,
                case when s.snoozed_until > $2 then s.snoozed_until else o.opens_at end as opens_at,
                case
                    when h.state <> 'deferred' or s.cycle <> h.cycle or s.retired_at is not null or a.state = 'resolved'
                    then 'cancelled'
                    -- The calendar brings the most urgent reminder when the snooze ends.
                    when s.snoozed_until > $2 then case when h.comes_again then 'snoozed' end
                    when a.state = 'acknowledged' and (a.acknowledged_until > $2) is not false then 'acknowledged'
                    when exists (
                        select
                        from rotator_internal.notification as x
                        where x.tenant_id = h.tenant_id and x.secret_id = h.secret_id and x.cycle = h.cycle
                          and x.stage <> 'cancelled' and x.stage <> 'dead' and x.state <> 'suppressed'
                          and x.kind = h.kind and x.recipient_id = h.recipient_id
                          and (x.due_at, x.step, x.id) > (h.due_at, h.step, h.id))
                    then 'outdated'
                    when o.opens_at > $2 and s.priority <> 'P1' and o.opens_at < s.expiry_date then null
                    else 'released'
                end as ended_as
            from held as h
            join opening as o on o.tenant_id = h.tenant_id
            cross join lateral (
                select x.cycle, x.expiry_date, x.priority, x.retired_at, x.snoozed_until
                from rotator_internal.secret as x
                where x.tenant_id = h.tenant_id and x.id = h.secret_id
                offset 0
            ) as s
            left join lateral (
                select x.state, x.acknowledged_until
                from rotator_internal.alert as x
                where x.tenant_id = h.tenant_id and x.secret_id = h.secret_id and x.cycle = h.cycle
                offset 0
            ) as a on true
        ),
        changed as (
            update rotator_internal.notification as n
            set state = case
                    when j.ended_as = 'released' then 'queued'
                    when j.ended_as in ('acknowledged', 'outdated') then 'suppressed'
                    when j.ended_as is null then 'deferred'
                    else 'cancelled'
                end,
                available_at = case when j.ended_as = 'released' then clock_timestamp() else j.opens_at end
            from judged as j
            where n.ctid = j.place and j.state = 'deferred'
            returning n.ctid as place, n.channel, n.recipient_id, n.state
        ),
        noted as (
            update rotator_internal.deferral as d
            set opens_at = case when j.ended_as is null then j.opens_at else d.opens_at end,
                ended_at = case when j.ended_as is not null then clock_timestamp() end,
                ended_as = j.ended_as
            from judged as j
            where d.tenant_id = j.tenant_id and d.notification_id = j.id
        ),
        audited as (
            insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
            select
                j.tenant_id, 'rotator', 'engine',
                j.kind || case
                    when j.ended_as = 'released' then '.released'
                    when j.ended_as in ('acknowledged', 'outdated') then '.suppressed'
                    when j.ended_as is null then '.deferred'
                    else '.cancelled'
                end,
                'secret', j.secret_id::text,
                jsonb_strip_nulls(jsonb_build_object(
                    'notification', j.id, 'channel', j.channel, 'rule', j.rule,
                    'because', nullif(j.ended_as, 'released'),
                    'until', case when j.ended_as is null then j.opens_at end))
            from judged as j
            where j.state = 'deferred'
        )
        select
            array_agg(c.place),
            array_agg(case when c.channel in ('slack', 'email', 'console') then c.recipient_id end)
        from changed as c
        where c.state = 'queued'
    $sql$ into places, recipients using ids, as_of;
end
$$;

comment on function rotator_internal.release_deferred(timestamptz, integer) is
    'Looks at what has waited for an opening until as_of: queues it, or says why not any more; gives the places of what it '
    'queued, their recipients where people read them, and how many it looked at.';

create or replace function rotator_internal.look_again(tenant uuid, secret uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute $sql$
        update rotator_internal.deferral as d
        set opens_at = clock_timestamp()
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = $2 and n.stage = 'pending' and n.state = 'deferred'
          and d.tenant_id = n.tenant_id and d.notification_id = n.id and d.ended_at is null
    $sql$ using tenant, secret;
end
$$;

comment on function rotator_internal.look_again(uuid, uuid) is
    'Lets the next tick look at what waits for an opening about this secret: it may not need to wait any more.';

create or replace function rotator_internal.settle_queued(
    fresh tid[], fresh_to uuid[], as_of timestamptz, max_rows integer, out queued integer, out more boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    outside tid[];
    released record;
begin
    queued := 0;
    more := false;
    if fresh is not null and exists (select from rotator_internal.delivery_window) then
        outside := rotator_internal.defer_queued(fresh, as_of);
        if outside is not null then
            queued := -cardinality(outside);
            select array_agg(f.place), array_agg(f.recipient) into fresh, fresh_to
            from unnest(fresh, fresh_to) as f (place, recipient)
            where not exists (select from unnest(outside) as o (place) where o.place = f.place);
        end if;
    end if;

    if exists (select from rotator_internal.deferral as d where d.ended_at is null and d.opens_at <= as_of) then
        released := rotator_internal.release_deferred(as_of, max_rows);
        if released.places is not null then
            queued := queued + cardinality(released.places);
            fresh := fresh || released.places;
            fresh_to := fresh_to || released.recipients;
        end if;
        more := released.looked_at >= max_rows;
    end if;

    -- One look over what is in hand; the rest is for those who are told of more than one thing.
    if cardinality(fresh_to) > 1 and exists (
        select
        from unnest(fresh_to) as f (recipient)
        where f.recipient is not null
        group by f.recipient
        having count(*) > 1) then
        queued := queued - rotator_internal.gather_digests(fresh, as_of);
    end if;
end
$$;

comment on function rotator_internal.settle_queued(tid[], uuid[], timestamptz, integer) is
    'What a tick does with what it has queued: fresh are the places of these rows, fresh_to their recipients where people '
    'read them. Defers what is outside the hours, releases what has waited, and makes one message of several to the same '
    'recipient. Gives by how much the number of messages changes, and whether more has waited than max_rows.';
