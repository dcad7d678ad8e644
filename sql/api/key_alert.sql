-- Tells a tenant's admins that a key rotation failed, is stalled, or can't start: a notification through the same queue,
-- sidecar and vendors as any other, about no secret and without a link. Who calls it, and holds the run's row or the
-- schedule's while it does: api/reencryption.sql, api/key_schedule.sql. How it looks is the sidecar's.
-- Covered by tests/tests/behaviour/key_alert.rs and tests/tests/delivery/key_alert.rs.

create or replace function rotator_internal.admins_told(
    tenant uuid, out addressee text, out channel text, out recipient_id uuid)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- What the console prints beside it.
    desk constant text := 'admins';
begin
    return query
    with candidate as (
        select c.owner_id, c.channel::text as channel, c.recipient_id, 1 as rank
        from rotator_internal.member as m
        join rotator_internal.contact as c
            on c.tenant_id = m.tenant_id and c.owner_id = m.subject and c.gone_at is null
        where m.tenant_id = admins_told.tenant and m.role = 'admin'
        union all
        select c.owner_id, c.channel::text, c.recipient_id, 2
        from rotator_internal.contact as c
        where c.tenant_id = admins_told.tenant and c.owner_id = 'manager' and c.gone_at is null
    )
    -- Two who share an address get one message.
    select distinct on (c.channel, c.recipient_id) c.owner_id, c.channel, c.recipient_id
    from candidate as c
    where c.rank = (select min(f.rank) from candidate as f)
    order by c.channel, c.recipient_id, c.owner_id;
    if not found then
        return query
        select desk, 'console'::text, rotator_internal.intern_recipient(admins_told.tenant, 'console', desk);
    end if;
exception
    -- A new address can't be encrypted while the tenant's keys can't be used: doctor() says so then. What the caller has
    -- to record must not fail for that.
    when sqlstate 'RT010' or sqlstate 'RT011' or sqlstate 'RT012' or sqlstate 'RT013' then
        return;
end
$$;

comment on function rotator_internal.admins_told(uuid) is
    'Who is told about a tenant''s keys: each contact of its admins, else those of its manager, else the operator''s console.';

create or replace function rotator_internal.alert_admins(tenant uuid, rotation bigint, state text) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    came_to_that timestamptz;
    told_since timestamptz;
    queued integer;
begin
    if state is null or state not in ('failed', 'stalled', 'overdue') or (state = 'overdue') <> (rotation is null) then
        perform rotator_internal.refuse(
            '22023', 'state must be failed or stalled, of a rotation, or overdue without one', 'Give the rotation''s id.');
    elsif not exists (
        select from rotator_internal.tenant as t where t.tenant_id = alert_admins.tenant and t.status = 'active') then
        return 0;
    end if;

    if rotation is null then
        -- Once, until one has begun.
        came_to_that := clock_timestamp();
        select coalesce(max(r.started_at), '-infinity') into told_since
        from rotator_internal.key_rotation as r
        where r.tenant_id = alert_admins.tenant;
    else
        -- Once each time that it comes to that: a run that was mended and fails again is announced again.
        select case alert_admins.state when 'failed' then r.finished_at else r.progressed_at end into came_to_that
        from rotator_internal.key_rotation as r
        where r.tenant_id = alert_admins.tenant and r.id = alert_admins.rotation;
        if came_to_that is null then
            return 0;
        end if;
        told_since := came_to_that;
    end if;
    if exists (
        select
        from rotator_internal.notification as n
        -- In the words of the index notification_once.
        where n.tenant_id = alert_admins.tenant and n.secret_id is null and n.cycle is null
          and n.rule = 'key_rotation:' || alert_admins.state and n.step = 0 and n.stage <> 'cancelled'
          and n.due_at >= told_since and n.rotation_id is not distinct from alert_admins.rotation) then
        return 0;
    end if;

    with made as (
        insert into rotator_internal.notification (
            tenant_id, kind, rule, rotation_id, due_at, channel, recipient_id, addressee)
        select
            alert_admins.tenant, 'key_rotation', 'key_rotation:' || alert_admins.state, alert_admins.rotation, came_to_that,
            a.channel, a.recipient_id, a.addressee
        from rotator_internal.admins_told(alert_admins.tenant) as a
        returning id, channel, rule
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            alert_admins.tenant, 'rotator', 'engine', 'key_rotation.queued', 'notification', m.id::text,
            jsonb_strip_nulls(jsonb_build_object(
                'channel', m.channel, 'rule', m.rule, 'rotation', alert_admins.rotation))
        from made as m
    )
    select count(*) into queued
    from made;
    return queued;
end
$$;

comment on function rotator_internal.alert_admins(uuid, bigint, text) is
    'Queues the news that a rotation failed or is stalled, or without a rotation that one is overdue and can''t start, to '
    'the admins of an active tenant; once each time it comes to that. Returns how many messages.';

create or replace function rotator_internal.key_alert_is_over(n rotator_internal.notification) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select t.status <> 'active' or case n.rule
            when 'key_rotation:failed' then not exists (
                select
                from rotator_internal.key_rotation as r
                where r.tenant_id = n.tenant_id and r.id = n.rotation_id and r.status = 'failed')
            when 'key_rotation:stalled' then not exists (
                select
                from rotator_internal.key_rotation as r
                where r.tenant_id = n.tenant_id and r.id = n.rotation_id and r.status = 'running'
                  and r.progressed_at <= n.due_at)
            else exists (
                select
                from rotator_internal.key_rotation as r
                where r.tenant_id = n.tenant_id and r.started_at > n.due_at)
        end
        from rotator_internal.tenant as t
        where t.tenant_id = n.tenant_id
    );
end
$$;

comment on function rotator_internal.key_alert_is_over(rotator_internal.notification) is
    'Whether what it tells the admins was put right, or moves again, before it was sent.';

create or replace function rotator_internal.key_alert_fix(state text, rotation bigint, failed bigint) returns text
language sql immutable
return case
    when state = 'failed' and failed > 0 then format(
        'Restore or delete %s, then run rotator keys reencrypt --retry %s. All other rows stay readable.',
        case when failed = 1 then 'this row' else 'these rows' end, rotation)
    when state = 'failed' then format(
        'See to the cause, then run rotator keys reencrypt --retry %s. All rows stay readable.', rotation)
    when state = 'stalled' then
        'See that pg_cron or rotator serve is running and rotator doctor finds nothing, or run rotator keys reencrypt. '
        'All rows stay readable.'
    else
        'See to the cause; it then starts by itself within an hour, or at once by rotator keys rotate. Until then the key in '
        'use stays in use.'
end;

comment on function rotator_internal.key_alert_fix(text, bigint, bigint) is 'What to do about a key rotation, in a sentence or two.';

create or replace function rotator_internal.key_rotation_message(n rotator_internal.notification) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_build_object(
            'kind', n.kind,
            'notification_id', n.id,
            'tenant_id', t.tenant_id,
            'tenant', rotator_internal.tenant_in_message(t),
            'state', s.state,
            'rotation', case when r.id is not null then jsonb_build_object(
                'id', r.id,
                'from_version', r.from_version,
                'to_version', r.to_version,
                'total', r.total,
                'done', r.done,
                'failed', r.failed,
                'started_at', to_char(r.started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                'started_local', rotator_internal.local_time(r.started_at, t.time_zone))
            end,
            'since_at', to_char(n.due_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'since_local', rotator_internal.local_time(n.due_at, t.time_zone),
            'error', case when n.rotation_id is null then p.last_error else r.error end,
            'fix', rotator_internal.key_alert_fix(s.state, r.id, r.failed))
        from rotator_internal.tenant as t
        cross join lateral (select split_part(n.rule, ':', 2) as state) as s
        left join rotator_internal.key_schedule as p on p.tenant_id = t.tenant_id
        left join lateral (
            select x.id, x.error, x.started_at, f.version as from_version, g.version as to_version, w.*
            from rotator_internal.key_rotation as x
            join rotator_internal.encryption_key as f on f.tenant_id = x.tenant_id and f.id = x.from_key
            join rotator_internal.encryption_key as g on g.tenant_id = x.tenant_id and g.id = x.to_key
            cross join lateral (
                select
                    coalesce(sum(e.total), 0)::bigint as total,
                    coalesce(sum(e.done), 0)::bigint as done,
                    coalesce(sum(e.failed), 0)::bigint as failed
                from rotator_internal.reencryption as e
                where e.tenant_id = x.tenant_id and e.rotation_id = x.id
            ) as w
            where x.tenant_id = n.tenant_id and x.id = n.rotation_id
        ) as r on true
        where t.tenant_id = n.tenant_id
    );
end
$$;

comment on function rotator_internal.key_rotation_message(rotator_internal.notification) is
    'What the admins are told of a key rotation: how far it came, what is in its way, by names of columns and keys of rows, '
    'and what to do.';
