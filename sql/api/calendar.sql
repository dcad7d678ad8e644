-- Due-date maths: what an interval gives in a tenant's wall time, when each lead time begins, and planning, which stamps
-- both on a secret. Whoever changes a schedule takes the secret's row in `calendar` first, if it has one, and then the
-- secret; a tick takes only the former, and skips rows that are taken. Covered by tests/tests/behaviour/calendar.rs.

create or replace function rotator_internal.add_in_zone(start timestamptz, step interval, zone text) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select ((start at time zone zone) + step) at time zone zone
    );
end
$$;

comment on function rotator_internal.add_in_zone(timestamptz, interval, text) is
    'start plus step by the calendar of the zone: month ends clamp; a wall time that daylight saving skips moves forward '
    'by the gap; of one that exists twice, what PostgreSQL takes (standard time).';

-- These two are bound to their names when they are created, so they need no search_path; without one PostgreSQL can
-- inline them, and a tick that looks at three reminders of each of a thousand secrets doesn't call three thousand
-- functions.
create or replace function rotator_internal.lead_instant(
    expiry timestamptz, lead_time_days integer, rotation_interval interval, zone text) returns timestamptz
language sql stable
return case
    when lead_time_days > 0 and make_interval(days => lead_time_days) >= rotation_interval
    then ((expiry at time zone zone) - rotation_interval / 3) at time zone zone
    else ((expiry at time zone zone) - make_interval(days => lead_time_days)) at time zone zone
end;

comment on function rotator_internal.lead_instant(timestamptz, integer, interval, text) is
    'When a lead time begins, by the calendar of the zone. One no shorter than the rotation interval is capped to a third '
    'of the interval: a credential of seven days isn''t announced fourteen days early.';

create or replace function rotator_internal.policies_of(tenant uuid, secret uuid)
returns table (lead_time_days integer, channel text, recipient_id uuid)
language sql stable
begin atomic
    select o.lead_time_days, o.channel::text, o.recipient_id
    from rotator_internal.notification_policy as o
    where o.tenant_id = tenant and o.secret_id = secret
    union all
    select d.lead_time_days, d.channel::text, d.recipient_id
    from rotator_internal.notification_policy as d
    where d.tenant_id = tenant and d.secret_id is null
      and not exists (
        select
        from rotator_internal.notification_policy as o
        where o.tenant_id = tenant and o.secret_id = secret);
end;

comment on function rotator_internal.policies_of(uuid, uuid) is
    'The policies that apply to a secret: its own, else the tenant''s default.';

create or replace function rotator_internal.upcoming_by(
    leads integer[], expiry timestamptz, rotation_interval interval, zone text)
returns table (soon_at timestamptz, next_event_at timestamptz)
language sql stable
begin atomic
    -- The most urgent reminder that has passed is looked at by the next tick, which queues it unless it was queued
    -- before; without one, the first to come.
    select
        coalesce(min(r.due_at) filter (where r.lead_time_days >= 0), expiry),
        coalesce(max(r.due_at) filter (where r.due_at <= clock_timestamp()), min(r.due_at))
    from (
        select l.lead_time_days, rotator_internal.lead_instant(expiry, l.lead_time_days, rotation_interval, zone) as due_at
        from unnest(leads) as l (lead_time_days)
    ) as r;
end;

comment on function rotator_internal.upcoming_by(integer[], timestamptz, interval, text) is
    'When a secret with these lead times begins to expire soon, and when the tick must look at it.';

create or replace function rotator_internal.upcoming(
    tenant uuid,
    secret uuid,
    expiry timestamptz,
    rotation_interval interval,
    zone text,
    out soon_at timestamptz,
    out next_event_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    select u.* into soon_at, next_event_at
    from rotator_internal.upcoming_by(
        array(select p.lead_time_days from rotator_internal.policies_of(tenant, secret) as p),
        expiry, upcoming.rotation_interval, zone) as u;
end
$$;

comment on function rotator_internal.upcoming(uuid, uuid, timestamptz, interval, text) is
    'When a secret with this expiry date begins to expire soon, and when the tick must look at it.';

create or replace function rotator_internal.lock_secret(tenant uuid, secret uuid) returns rotator_internal.secret
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found_row rotator_internal.secret;
begin
    loop
        -- The calendar row first: a tick that holds it must finish before we read what it queued.
        perform
        from rotator_internal.calendar as c
        where c.tenant_id = lock_secret.tenant and c.secret_id = lock_secret.secret
        for update;
        if found then
            select s.* into found_row
            from rotator_internal.secret as s
            where s.tenant_id = lock_secret.tenant and s.id = lock_secret.secret
            -- Not stronger: new rows may refer to it meanwhile.
            for no key update;
            exit;
        end if;
        begin
            select s.* into found_row
            from rotator_internal.secret as s
            where s.tenant_id = lock_secret.tenant and s.id = lock_secret.secret
            for no key update;
            -- A calendar row that came while we waited goes before the secret: give the secret back, as the end of this
            -- block does, and begin again.
            if exists (
                select
                from rotator_internal.calendar as c
                where c.tenant_id = lock_secret.tenant and c.secret_id = lock_secret.secret) then
                raise exception using errcode = 'RT0LK';
            end if;
            exit;
        exception
            when sqlstate 'RT0LK' then
                null;
        end;
    end loop;
    if found_row.id is null then
        perform rotator_internal.refuse(
            'PT404', 'no such secret', 'It may belong to another tenant; select id, name from rotator.secrets lists yours.');
    end if;
    return found_row;
end
$$;

comment on function rotator_internal.lock_secret(uuid, uuid) is 'The secret, locked against other changes and the tick; else PT404.';

create or replace function rotator_internal.plan(tenant uuid, secret uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    s rotator_internal.secret;
    planned record;
begin
    select x.* into strict s
    from rotator_internal.secret as x
    where x.tenant_id = plan.tenant and x.id = plan.secret;
    select u.* into planned
    from rotator_internal.upcoming(
        plan.tenant, plan.secret, s.expiry_date, s.rotation_interval, rotator_internal.zone_of(plan.tenant)) as u;
    update rotator_internal.secret as x
    set expiring_soon_at = planned.soon_at
    where x.tenant_id = plan.tenant and x.id = plan.secret and x.expiring_soon_at <> planned.soon_at;
    if s.retired_at is null and planned.next_event_at is not null then
        insert into rotator_internal.calendar as c (tenant_id, secret_id, next_event_at)
        values (plan.tenant, plan.secret, greatest(planned.next_event_at, s.snoozed_until))
        on conflict on constraint calendar_pkey do update
        set next_event_at = excluded.next_event_at, backlog = false;
    else
        delete from rotator_internal.calendar as c
        where c.tenant_id = plan.tenant and c.secret_id = plan.secret;
    end if;
end
$$;

comment on function rotator_internal.plan(uuid, uuid) is
    'Computes anew when a secret, which the caller has locked, expires soon and when the tick must look at it.';

create or replace function rotator_internal.plan_tenant(tenant uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    held bigint;
begin
    loop
        begin
            -- In the order of the ids, so that two plans of a whole tenant can't deadlock. The secrets too: one without a row
            -- in the calendar may be getting a new date right now.
            perform
            from rotator_internal.calendar as c
            where c.tenant_id = plan_tenant.tenant
            order by c.secret_id
            for update;
            get diagnostics held = row_count;
            perform
            from rotator_internal.secret as s
            where s.tenant_id = plan_tenant.tenant and s.retired_at is null
            order by s.id
            for no key update;
            -- As in rotator_internal.lock_secret: a calendar row that came while we waited goes before its secret.
            if (select count(*) from rotator_internal.calendar as c where c.tenant_id = plan_tenant.tenant) > held then
                raise exception using errcode = 'RT0LK';
            end if;
            exit;
        exception
            when sqlstate 'RT0LK' then
                null;
        end;
    end loop;

    with planned as materialized (
        select s.id, u.soon_at, greatest(u.next_event_at, s.snoozed_until) as next_event_at, u.next_event_at as due_at
        from rotator_internal.secret as s
        cross join lateral rotator_internal.upcoming(
            s.tenant_id, s.id, s.expiry_date, s.rotation_interval, rotator_internal.zone_of(plan_tenant.tenant)) as u
        where s.tenant_id = plan_tenant.tenant and s.retired_at is null
    ),
    stamped as (
        update rotator_internal.secret as s
        set expiring_soon_at = p.soon_at
        from planned as p
        where s.tenant_id = plan_tenant.tenant and s.id = p.id and s.expiring_soon_at <> p.soon_at
    ),
    nothing_to_come as (
        delete from rotator_internal.calendar as c
        using planned as p
        where c.tenant_id = plan_tenant.tenant and c.secret_id = p.id and p.due_at is null
    )
    insert into rotator_internal.calendar as c (tenant_id, secret_id, next_event_at)
    select plan_tenant.tenant, p.id, p.next_event_at
    from planned as p
    where p.due_at is not null
    on conflict on constraint calendar_pkey do update
    set next_event_at = excluded.next_event_at
    where c.next_event_at <> excluded.next_event_at;
end
$$;

comment on function rotator_internal.plan_tenant(uuid) is 'Plans every secret of a tenant anew, after its default policy changed.';

create or replace function rotator_internal.withdraw(
    tenant uuid, secret uuid, becomes text, only_to text default null) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    withdrawn uuid[];
begin
    -- A tick that has its alert is just queueing an escalation: it must finish before we read what it queued.
    perform
    from rotator_internal.alert as a
    where a.tenant_id = withdraw.tenant and a.secret_id = withdraw.secret
    for update;
    -- What a worker holds can't be called back; it is only kept from being tried again. Planned each time (execute): a
    -- plan kept from when there were few notifications would walk all of the tenant's.
    -- Locked by id first, as whoever reports outcomes does: else the two could deadlock.
    execute $sql$
        select
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = $2 and n.stage = 'pending'
        order by n.id
        for update
    $sql$ using tenant, secret;
    execute $sql$
        with gone as (
            update rotator_internal.notification as n
            set state = case when n.state = 'leased' then n.state else $3 end,
                withdrawn_at = clock_timestamp()
            where n.tenant_id = $1 and n.secret_id = $2
              and n.stage = 'pending' and n.withdrawn_at is null
              and n.kind not in ('acknowledge', 'resolve')
              and ($4 is null or n.addressee = $4)
            returning n.id, n.state
        )
        select coalesce(array_agg(g.id) filter (where g.state = $3), '{}') from gone as g
    $sql$ into withdrawn using tenant, secret, becomes, only_to;
    return withdrawn;
end
$$;

comment on function rotator_internal.withdraw(uuid, uuid, text, text) is
    'Takes back what is queued about a secret that the caller has locked, to everybody or one addressee, and gives the ids '
    'of what will not be sent; what is being sent isn''t retried.';

create or replace function rotator_internal.cancel_queued(tenant uuid, secret uuid) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    cancelled uuid[] := rotator_internal.withdraw(tenant, secret, 'cancelled');
begin
    perform rotator_internal.leave_summary(tenant, secret);
    return cardinality(cancelled);
end
$$;

comment on function rotator_internal.cancel_queued(uuid, uuid) is
    'Cancels what is queued for a secret whose schedule changed and returns how many; what is being sent isn''t retried.';

create or replace function rotator_internal.want_again(tenant uuid, secret uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute $sql$
        update rotator_internal.notification as n
        set withdrawn_at = null
        from rotator_internal.secret as s
        cross join lateral rotator_internal.policies_of($1, $2) as p
        where s.tenant_id = $1 and s.id = $2
          and n.tenant_id = $1 and n.secret_id = $2 and n.cycle = s.cycle
          and n.state = 'leased' and n.withdrawn_at is not null
          and n.rule = 'lead:' || p.lead_time_days
          -- An alert that had ended is announced anew instead, see api/tick.sql.
          and exists (
            select
            from rotator_internal.alert as a
            where a.tenant_id = $1 and a.secret_id = $2 and a.cycle = s.cycle and a.state <> 'resolved')
          and n.due_at = rotator_internal.lead_instant(
            s.expiry_date, p.lead_time_days, s.rotation_interval, rotator_internal.zone_of($1))
    $sql$ using tenant, secret;
end
$$;

comment on function rotator_internal.want_again(uuid, uuid) is
    'After a date was moved back: what a worker still holds of the reminders that are due again may be retried after all.';
