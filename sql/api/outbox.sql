-- The outbox as a worker sees it: claim with a lease, send with no transaction open, then report (api/outcome.sql). A
-- worker that is lost loses its lease and the row is taken again. Delivery is at least once, with an id that lets the
-- receiver drop repeats. Table: schema/notification.sql; queueing: api/tick.sql; what it says: api/message.sql.
-- Covered by tests/tests/behaviour/outbox.rs.

create or replace function rotator_internal.end_lost(places tid[]) returns tid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    ended tid[];
    dying uuid[];
    kin uuid[];
    kept tid[] := '{}';
begin
    perform rotator_internal.want_held(places);
    select array_agg(n.id) into dying
    from rotator_internal.notification as n
    where n.ctid = any (places) and n.withdrawn_at is null
      and (n.attempts >= 12 or (n.attempts >= 3 and rotator_internal.give_up_at(n.id) <= clock_timestamp()));
    if dying is not null then
        -- Who ends these must have their kin, see api/fallback.sql; but nobody waits here, where rows are locked in no order.
        -- What somebody else has in hand stays as it is for the next claim.
        kin := rotator_internal.kin_of(dying);
        kin := array(
            select k.id
            from unnest(kin) as k (id)
            except
            select l.id
            from (
                select n.id
                from rotator_internal.notification as n
                where n.id = any (kin)
                for update skip locked
            ) as l);
        if kin <> '{}' then
            kept := array(select n.ctid from rotator_internal.notification as n where n.ctid = any (places) and n.id = any (dying));
            dying := null;
        end if;
    end if;

    with held as materialized (
        select n.ctid as place, n.tenant_id, n.id, n.claim_id, n.withdrawn_at is not null or n.id = any (dying) as over
        from rotator_internal.notification as n
        where n.ctid = any (places) and n.ctid <> all (kept)
    ),
    over as (
        update rotator_internal.notification as n
        set state = case when n.withdrawn_at is not null then 'cancelled' else 'dead' end,
            last_error = 'the worker was lost'
        from held as h
        where n.ctid = h.place and h.over
        returning n.tenant_id, n.id, n.state, n.attempts
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            o.tenant_id, 'rotator', 'engine', 'notification.' || o.state, 'notification', o.id::text,
            jsonb_build_object('attempts', o.attempts, 'error', 'the worker was lost')
        from over as o
    ),
    noted as (
        update rotator_internal.delivery_attempt as d
        set finished_at = clock_timestamp(), outcome = 'lost'
        from held as h
        cross join lateral rotator_internal.carried_by(h.id) as c (id)
        where d.notification_id = c.id and d.claim_id = h.claim_id and d.tenant_id = h.tenant_id
          and d.finished_at is null
    )
    select array_agg(h.place) into ended
    from held as h
    where h.over;
    if dying is not null then
        perform rotator_internal.fall_back(dying);
        perform rotator_internal.fall_back_from_summaries(dying);
    end if;
    return ended || kept;
end
$$;

comment on function rotator_internal.end_lost(tid[]) is
    'Notes that the leases of these locked rows have run out; ends those that were withdrawn or have had their last '
    'attempt, and returns the places of those that are not to be claimed.';

create or replace function rotator_internal.take_due(max_rows integer) returns table (place tid, is_lost boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off -- else a plan from an empty outbox fetches and sorts all that is pending, each time
set enable_sort = off
as $$
declare
    instant timestamptz := clock_timestamp();
begin
    return query
    select n.ctid, n.state = 'leased'
    from rotator_internal.notification as n
    where n.stage = 'pending' and n.available_at <= instant
      -- What is deferred is the tick's: it looks at it again when the hours begin (api/deferral.sql).
      and (n.state in ('queued', 'retry') or (n.state = 'leased' and n.leased_until <= instant))
      -- An incident is not closed while a message that would open it again may still be on its way, nor opened again
      -- while its end is.
      and (n.channel <> 'pagerduty' or not exists (
        select
        from rotator_internal.notification as o
        where o.tenant_id = n.tenant_id and o.secret_id = n.secret_id and o.cycle = n.cycle
          -- So written that a plan kept from an empty outbox finds them by notification_incident, not among all
          -- that is pending.
          and o.channel = 'pagerduty' and o.recipient_id = n.recipient_id and (o.id < n.id) is true
          and o.state in ('queued', 'leased', 'retry')
          and (o.state = 'leased' or o.withdrawn_at is null)
          and (n.kind in ('acknowledge', 'resolve') or o.kind in ('acknowledge', 'resolve'))))
    order by n.available_at
    limit max_rows
    for update skip locked;
end
$$;

comment on function rotator_internal.take_due(integer) is
    'Locks what may be sent now and nobody else has, the longest waiting first: the places of the rows, and whether a lease on '
    'it has run out.';

create or replace function rotator.claim_notifications(
    worker text, max_rows integer default 100, lease interval default '1 minute')
returns table (
    id uuid,
    claim_id uuid,
    channel text,
    recipient text,
    message jsonb,
    attempt integer,
    link_token text,
    traceparent text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    places tid[]; -- nobody can move the rows: they are locked
    lost tid[];
    ended tid[];
begin
    perform rotator_internal.guard('worker', worker);
    if worker is null or length(worker) not between 1 and 255
        or max_rows is null or max_rows not between 1 and 10000
        or lease is null or lease not between interval '1 second' and interval '1 hour' then
        perform rotator_internal.refuse(
            '22023', 'worker must have a name, max_rows be 1 to 10000, and lease 1 second to 1 hour',
            'Leave max_rows and lease out for their defaults.');
    end if;

    select array_agg(p.place), array_agg(p.place) filter (where p.is_lost) into places, lost
    from rotator_internal.take_due(max_rows) as p;
    if places is null then
        return;
    elsif lost is not null then
        ended := rotator_internal.end_lost(lost);
    end if;
    ended := ended || rotator_internal.end_empty(places);
    if ended <> '{}' then
        places := array(select p.place from unnest(places) as p (place) where p.place <> all (ended));
    end if;

    return query
    with leased as materialized (
        update rotator_internal.notification as n
        set state = 'leased',
            attempts = n.attempts + 1,
            claim_id = rotator_internal.uuid_v7(),
            leased_until = clock_timestamp() + lease
        where n.ctid = any (places)
        returning n as row, case
            when n.kind in ('reminder', 'escalation') or (n.kind = 'acknowledge' and n.channel = 'slack')
            then rotator_internal.mint_token()
        end as token
    ),
    attempted as (
        insert into rotator_internal.delivery_attempt (tenant_id, notification_id, claim_id, attempt, worker, token_hash)
        select (l.row).tenant_id, (l.row).id, (l.row).claim_id, (l.row).attempts, claim_notifications.worker,
            sha256(convert_to(l.token, 'UTF8'))
        from leased as l
    )
    select
        (l.row).id,
        (l.row).claim_id,
        (l.row).channel::text,
        (
            select rotator_internal.try_open_field(r.tenant_id, 'recipient.address', r.id, r.address)
            from rotator_internal.recipient as r
            where r.tenant_id = (l.row).tenant_id and r.id = (l.row).recipient_id
        ),
        case (l.row).kind
            when 'test' then rotator_internal.test_message(l.row)
            when 'summary' then rotator_internal.summary_message(l.row, claim_notifications.worker)
            when 'key_rotation' then rotator_internal.key_rotation_message(l.row)
            when 'contact_gone' then rotator_internal.contact_gone_message(l.row)
            else case
                -- A later step of an alert has earlier messages, which it replies to or changes.
                when (l.row).channel = 'slack' and ((l.row).kind <> 'reminder' or (l.row).rule = 'reopened')
                then m.message || rotator_internal.thread_in_message(l.row)
                else m.message
            end
        end,
        (l.row).attempts,
        l.token,
        null::text
    from leased as l
    left join lateral (
        select rotator_internal.situation(s, t, a, l.row) as message
        from rotator_internal.secret as s
        cross join lateral (
            select x.*
            from rotator_internal.tenant as x
            where x.tenant_id = (l.row).tenant_id
            offset 0
        ) as t
        left join lateral (
            select x.*
            from rotator_internal.alert as x
            where x.tenant_id = (l.row).tenant_id and x.secret_id = (l.row).secret_id and x.cycle = (l.row).cycle
            offset 0
        ) as a on true
        where s.tenant_id = (l.row).tenant_id and s.id = (l.row).secret_id
        offset 0
    ) as m on true;
end
$$;

comment on function rotator.claim_notifications(text, integer, interval) is
    'Leases what is to be sent now to this worker, with recipient and message in the clear and a fresh link token each; '
    'skips what others hold, takes again what a lost worker held. Complete or fail each before its lease ends.';

create or replace function rotator.release_notifications(notification_ids uuid[], claim_ids uuid[]) returns integer
language sql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
    with released as (
        update rotator_internal.notification as n
        set state = case when n.withdrawn_at is not null then 'cancelled' else 'queued' end,
            attempts = n.attempts - 1,
            available_at = clock_timestamp() -- behind the others: its destination may be slow
        where n.id = any (notification_ids) and n.claim_id = any (claim_ids) and n.state = 'leased'
        returning n.tenant_id, n.id, n.claim_id, n.state, n.attempts
    ),
    noted as (
        update rotator_internal.delivery_attempt as d
        set finished_at = clock_timestamp(), outcome = 'released'
        from released as r
        cross join lateral rotator_internal.carried_by(r.id) as c (id)
        where d.notification_id = c.id and d.claim_id = r.claim_id and d.tenant_id = r.tenant_id
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            r.tenant_id, 'rotator', 'engine', 'notification.cancelled', 'notification', r.id::text,
            jsonb_build_object('attempts', r.attempts)
        from released as r
        where r.state = 'cancelled'
    )
    select count(*)::integer from released
$$;

comment on function rotator.release_notifications(uuid[], uuid[]) is
    'Gives back claims that were not started, when a worker stops; returns how many. They count as no attempt.';

create or replace view rotator.notifications
with (security_invoker = true)
as
select
    n.id,
    n.secret_id,
    n.alert_id,
    n.kind,
    n.channel::text as channel,
    rotator_internal.recipient_hint(
        n.channel::text, rotator_internal.open_field(r.tenant_id, 'recipient.address', r.id, r.address)) as recipient_hint,
    n.state,
    n.due_at,
    n.queued_at,
    n.sent_at,
    n.attempts,
    n.last_error,
    n.provider_message_id,
    n.fallback_of,
    n.rotation_id,
    n.addressee,
    n.contact_id,
    n.undeliverable_at
from rotator_internal.notification as n
join rotator_internal.recipient as r on r.tenant_id = n.tenant_id and r.id = n.recipient_id
where n.tenant_id = (select rotator.current_tenant());

comment on view rotator.notifications is 'What is queued, was sent, or could not be sent, and why.';
comment on column rotator.notifications.due_at is 'The instant the rule asked for.';
comment on column rotator.notifications.rotation_id is 'The key rotation that it is about, if it is about one.';
comment on column rotator.notifications.state is
    'queued, leased (being sent), retry, sent, dead (given up), cancelled, deferred, merged or suppressed.';
comment on column rotator.notifications.fallback_of is 'The dead one that it took over from; it may have been for somebody else.';
comment on column rotator.notifications.addressee is 'Subject of whom it is meant for.';
comment on column rotator.notifications.contact_id is 'The contact that it is about, if it is about one.';
comment on column rotator.notifications.undeliverable_at is 'When nobody was left who could be told instead.';
