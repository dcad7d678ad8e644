-- What follows when a notification is given up: the next contact of whom it was for, by another channel; then the tenant's
-- admins by mail; and when there is nobody left, it is said to be undeliverable (api/undeliverable.sql). Notifications of
-- one rule and instant about one secret are *kin*. Whoever may give one up locks its kin first, in the order of the ids: of
-- two workers whose sends fail at the same time one sees what the other did. Called by api/outcome.sql and api/outbox.sql.
-- What was said in one message about many: api/fallback_summary.sql. All of it is rare, so planned each time (execute).
-- Covered by tests/tests/behaviour/fallback.rs.

create or replace function rotator_internal.kin(n rotator_internal.notification)
returns table (id uuid, addressee text, channel text, recipient_id uuid, state text, fallback_of uuid)
language sql stable
begin atomic
    select k.id, k.addressee, k.channel::text, k.recipient_id, k.state, k.fallback_of
    from rotator_internal.notification as k
    where n.secret_id is not null and k.tenant_id = n.tenant_id and k.secret_id = n.secret_id and k.cycle = n.cycle
      and k.rule = n.rule and k.step = n.step and k.due_at = n.due_at and k.stage <> 'cancelled'
    union all
    select k.id, k.addressee, k.channel::text, k.recipient_id, k.state, k.fallback_of
    from rotator_internal.notification as k
    where n.kind in ('key_rotation', 'contact_gone') and k.tenant_id = n.tenant_id and k.secret_id is null and k.cycle is null
      and k.rule = n.rule and k.step = n.step and k.due_at = n.due_at and k.stage <> 'cancelled'
      and k.kind = n.kind and k.rotation_id is not distinct from n.rotation_id
      and k.contact_id is not distinct from n.contact_id;
end;

comment on function rotator_internal.kin(rotator_internal.notification) is
    'What was made of the same cause as this notification, itself included and what was cancelled left out.';

create or replace function rotator_internal.kin_of(notifications uuid[]) returns uuid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_ids uuid[];
begin
    execute $sql$
        with given as materialized (
            select n
            from rotator_internal.notification as n
            where n.id = any ($1)
            union all
            select i
            from rotator_internal.notification as s
            join rotator_internal.notification as i on i.merged_into = s.id
            -- A backlog's are the tick's.
            where s.id = any ($1) and s.kind = 'summary' and s.rule <> 'backlog'
        )
        select array_agg(distinct k.id)
        from given as g
        cross join lateral rotator_internal.kin(g.n) as k
    $sql$ into found_ids using notifications;
    return coalesce(found_ids, '{}');
end
$$;

comment on function rotator_internal.kin_of(uuid[]) is 'The ids of their kin, of digests that of their items.';

create or replace function rotator_internal.give_up_at(notification uuid) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    n rotator_internal.notification;
    urgency text;
begin
    select x.* into n
    from rotator_internal.notification as x
    where x.id = give_up_at.notification;
    urgency := case
        when n.kind in ('reminder', 'escalation') then (
            select s.priority
            from rotator_internal.secret as s
            where s.tenant_id = n.tenant_id and s.id = n.secret_id)
        when n.kind = 'summary' then (select min((i.secret).priority) from rotator_internal.summary_items(n.id) as i)
        when n.kind in ('key_rotation', 'contact_gone') then 'P2'
    end;
    return (
        -- What waited for the tenant's hours was not tried meanwhile.
        select greatest(n.queued_at, max(d.ended_at))
        from rotator_internal.deferral as d
        where d.tenant_id = n.tenant_id and d.notification_id = n.id
    ) + case urgency
        when 'P1' then interval '10 minutes'
        when 'P2' then interval '1 hour'
        when 'P3' then interval '4 hours'
        when 'P4' then interval '12 hours'
    end;
end
$$;

comment on function rotator_internal.give_up_at(uuid) is
    'Until when its channel is tried: 10 minutes, 1, 4 or 12 hours from P1 to P4, then another one must do. Null for what has '
    'no other: tests, and what follows an incident.';

create or replace function rotator_internal.fallback_is_over(n rotator_internal.notification) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select
        from rotator_internal.secret as s
        join rotator_internal.alert as a on a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle
        where s.tenant_id = n.tenant_id and s.id = n.secret_id and s.cycle = n.cycle and s.retired_at is null
          and a.state = 'open');
end
$$;

comment on function rotator_internal.fallback_is_over(rotator_internal.notification) is
    'Whether nobody has to be told any more in somebody''s stead: the secret was rotated, retired, or somebody has taken it on.';

create or replace function rotator_internal.next_to_tell(given uuid)
returns table (owner_id text, channel text, recipient_id uuid, is_desk boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    ways constant text[] := '{email,slack,pagerduty,webhook,console}';
begin
    -- Another way to reach the same person; or, where several were told in somebody's stead, one of these.
    return query execute $sql$
        with failed as materialized (
            select n from rotator_internal.notification as n where n.id = $1
        ),
        kin as materialized (
            select k.* from failed as f cross join lateral rotator_internal.kin(f.n) as k
        )
        select c.owner_id, c.channel::text, c.recipient_id, false
        from failed as f
        join rotator_internal.contact as c
            on c.tenant_id = (f.n).tenant_id and c.gone_at is null and c.channel <> (f.n).channel
            and c.owner_id in (
                select k.addressee from kin as k where k.id = (f.n).id or k.fallback_of = (f.n).fallback_of)
        where not exists (select from kin as k where k.channel = c.channel and k.recipient_id = c.recipient_id)
        order by c.owner_id <> (f.n).addressee, array_position($2, c.channel::text), c.owner_id
        limit 1
    $sql$ using given, ways;
    if found then
        return;
    end if;

    -- The admins: all of them by mail; if there is none left, in their other ways, one each.
    return query execute $sql$
        with failed as materialized (
            select n from rotator_internal.notification as n where n.id = $1
        ),
        left_over as materialized (
            select c.owner_id, c.channel::text as channel, c.recipient_id
            from failed as f
            join rotator_internal.member as m on m.tenant_id = (f.n).tenant_id and m.role = 'admin'
            join rotator_internal.contact as c
                on c.tenant_id = m.tenant_id and c.owner_id = m.subject and c.gone_at is null
            where not exists (
                select
                from rotator_internal.kin(f.n) as k
                where k.channel = c.channel and k.recipient_id = c.recipient_id)
        )
        select distinct on (l.recipient_id) l.owner_id, l.channel, l.recipient_id, false
        from (
            select distinct on (l.owner_id) l.*
            from left_over as l
            where l.channel = 'email' or not exists (select from left_over as e where e.channel = 'email')
            order by l.owner_id, array_position($2, l.channel)
        ) as l
        order by l.recipient_id, l.owner_id
    $sql$ using given, ways;
    if found then
        return;
    end if;

    -- A tenant that has given nobody to fall back on: whoever runs the sidecar.
    return query execute $sql$
        select
            n.addressee, 'console'::text,
            rotator_internal.intern_recipient(n.tenant_id, 'console', n.addressee), true
        from rotator_internal.notification as n
        where n.id = $1
          and not exists (
            select
            from rotator_internal.member as m
            join rotator_internal.contact as c on c.tenant_id = m.tenant_id and c.owner_id = m.subject
            where m.tenant_id = n.tenant_id and m.role = 'admin')
          and not exists (select from rotator_internal.kin(n) as k where k.channel = 'console')
    $sql$ using given;
exception
    -- The desk's name can't be encrypted while the tenant's keys can't be used. An outcome must be recorded all the same.
    when sqlstate 'RT010' or sqlstate 'RT011' or sqlstate 'RT012' or sqlstate 'RT013' then
        return;
end
$$;

comment on function rotator_internal.next_to_tell(uuid) is
    'Who is told in the stead of whom this dead notification didn''t reach, and none of its kin went to: their next contact, '
    'else each admin''s mail, else another way to each, or for a tenant whose admins have no contacts the operator''s console, '
    'which is nobody.';

create or replace function rotator_internal.fall_back(dead uuid[], gathering text default null) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    given rotator_internal.notification;
    next record;
    made tid;
    queued tid[] := '{}';
    queued_ids uuid[] := '{}';
    made_id uuid;
    somebody boolean;
    made_count integer := 0;
begin
    for given in execute $sql$
        select n.*
        from rotator_internal.notification as n
        where n.id = any ($1) and n.state = 'dead' and n.kind <> 'test' and n.kind <> 'summary'
        order by n.id
    $sql$ using dead
    loop
        if given.kind in ('acknowledge', 'resolve') then
            -- An incident that can't be told has no other way.
            perform rotator_internal.give_up(given.id);
            continue;
        elsif given.secret_id is not null and rotator_internal.fallback_is_over(given) then
            continue;
        end if;
        -- Whom it was for is told by another of its kin, or may still be.
        continue when exists (
            select
            from rotator_internal.kin(given) as k
            where (k.addressee = given.addressee or k.fallback_of = given.fallback_of or k.fallback_of = given.id)
              and k.state in ('queued', 'leased', 'retry', 'deferred', 'merged', 'sent'));

        somebody := false;
        made_id := null;
        for next in select t.* from rotator_internal.next_to_tell(given.id) as t loop
            execute $sql$
                insert into rotator_internal.notification as n (
                    tenant_id, secret_id, alert_id, cycle, kind, rule, step, lead_time_days, due_at, channel, recipient_id,
                    addressee, state, fallback_of, rotation_id, contact_id)
                values (
                    $1.tenant_id, $1.secret_id, $1.alert_id, $1.cycle, $1.kind, $1.rule, $1.step, $1.lead_time_days, $1.due_at,
                    $2, $3, $4, case when $5 then 'merged' else 'queued' end, $1.id, $1.rotation_id, $1.contact_id)
                on conflict (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id)
                    where stage <> 'cancelled' do nothing
                returning n.id, n.ctid
            $sql$ into made_id, made
            using given, next.channel, next.recipient_id, next.owner_id,
                given.kind = 'reminder'
                and coalesce(gathering = 'backlog' or next.channel not in ('pagerduty', 'webhook') and gathering = 'digest', false);
            somebody := somebody or not next.is_desk;
            continue when made_id is null;
            queued := queued || made;
            queued_ids := queued_ids || made_id;
            made_count := made_count + 1;
            perform rotator_internal.record_event(
                given.tenant_id, 'fallback.queued',
                case when given.secret_id is null then 'notification' else 'secret' end,
                coalesce(given.secret_id, made_id)::text,
                jsonb_build_object(
                    'notification', made_id, 'fallback_of', given.id, 'channel', next.channel, 'addressee', next.owner_id,
                    'rule', given.rule),
                'rotator', 'engine');
        end loop;
        if not somebody and not exists (
            select
            from rotator_internal.kin(given) as k
            where k.state in ('queued', 'leased', 'retry', 'deferred', 'merged', 'sent')
              and k.id is distinct from made_id) then
            perform rotator_internal.give_up(given.id);
        end if;
    end loop;
    -- Of a snoozed secret at its end, then where the hours ask for it.
    perform rotator_internal.put_off(queued_ids);
    perform rotator_internal.defer_queued(queued, clock_timestamp());
    return made_count;
end
$$;

comment on function rotator_internal.fall_back(uuid[], text) is
    'Queues for each of these notifications, which have just died, to whom it goes next; returns how many are made. Gathering: '
    'the next tick makes one message of what goes to the same place, as it is done for a digest or for a backlog. The caller '
    'holds their kin.';
