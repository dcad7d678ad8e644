-- The outbox as the sidecar sees it: claim with a lease, then complete or fail. No transaction is open in between; a
-- worker that is lost loses its lease and the row is taken again; only the latest claim can finish a row. Delivery is at
-- least once, with an id that lets the receiver drop repeats. What an outcome means is decided here, not in the sidecar.
-- Table: schema/notification.sql; queueing: api/tick.sql. Covered by tests/tests/behaviour/outbox.rs.

create or replace function rotator_internal.take_back_lost() returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    taken integer;
begin
    if not exists (
        select
        from rotator_internal.notification as n
        where n.state = 'leased' and n.available_at <= clock_timestamp()) then
        return 0;
    end if;

    with expired as materialized (
        select n.ctid as place
        from rotator_internal.notification as n
        where n.state = 'leased' and n.available_at <= clock_timestamp()
        order by n.available_at
        for update skip locked
    ),
    ended as (
        update rotator_internal.notification as n
        set state = case
                when n.withdrawn_at is not null then 'cancelled'
                when n.attempts >= 12 then 'dead'
                else 'retry'
            end,
            last_error = 'the worker was lost'
        where n.ctid = any (array(select e.place from expired as e))
        returning n.tenant_id, n.id, n.claim_id, n.state, n.attempts
    ),
    noted as (
        update rotator_internal.delivery_attempt as d
        set finished_at = clock_timestamp(), outcome = 'lost'
        from ended as e
        where d.tenant_id = e.tenant_id and d.notification_id = e.id and d.claim_id = e.claim_id
          and d.finished_at is null
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            e.tenant_id, 'rotator', 'engine', 'notification.' || e.state, 'notification', e.id::text,
            jsonb_build_object('attempts', e.attempts, 'error', 'the worker was lost')
        from ended as e
        where e.state <> 'retry'
    )
    select count(*) into taken
    from ended;
    return taken;
end
$$;

comment on function rotator_internal.take_back_lost() is
    'Takes back what a worker held past its lease: to be sent again, unless it was withdrawn or that was the last attempt.';

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
begin
    if worker is null or length(worker) not between 1 and 255
        or max_rows is null or max_rows not between 1 and 10000
        or lease is null or lease not between interval '1 second' and interval '1 hour' then
        perform rotator_internal.refuse(
            '22023', 'worker must have a name, max_rows be 1 to 10000, and lease 1 second to 1 hour',
            'Leave max_rows and lease out for their defaults.');
    end if;
    perform rotator_internal.take_back_lost();

    return query
    -- By place, so that no plan kept from an empty outbox can join the whole of it.
    with picked as materialized (
        select n.ctid as place
        from rotator_internal.notification as n
        where n.state in ('queued', 'retry') and n.available_at <= clock_timestamp()
        order by n.available_at
        limit claim_notifications.max_rows
        for update skip locked
    ),
    leased as materialized (
        update rotator_internal.notification as n
        set state = 'leased',
            attempts = n.attempts + 1,
            claim_id = rotator_internal.uuid_v7(),
            claimed_by = worker,
            available_at = clock_timestamp() + lease
        where n.ctid = any (array(select p.place from picked as p))
        returning n as leased
    ),
    attempted as (
        insert into rotator_internal.delivery_attempt (tenant_id, notification_id, attempt, claim_id, worker)
        select (l.leased).tenant_id, (l.leased).id, (l.leased).attempts, (l.leased).claim_id, worker
        from leased as l
    ),
    minted as materialized (
        select
            l.leased,
            case when (l.leased).secret_id is not null then rotator_internal.mint_token() end as token
        from leased as l
    ),
    linked as (
        insert into rotator_internal.link (tenant_id, token_hash, notification_id, secret_id, cycle, expires_at)
        select (m.leased).tenant_id, sha256(convert_to(m.token, 'UTF8')), (m.leased).id, (m.leased).secret_id,
            (m.leased).cycle, clock_timestamp() + interval '90 days'
        from minted as m
        where m.token is not null
    )
    select
        (m.leased).id,
        (m.leased).claim_id,
        (m.leased).channel::text,
        rotator_internal.try_open_field(r.tenant_id, 'recipient.address', r.id, r.address),
        rotator_internal.message_of(m.leased),
        (m.leased).attempts,
        m.token,
        null::text
    from minted as m
    join rotator_internal.recipient as r on r.tenant_id = (m.leased).tenant_id and r.id = (m.leased).recipient_id;
end
$$;

comment on function rotator.claim_notifications(text, integer, interval) is
    'Leases what is to be sent now to this worker, with recipient and message in the clear and a fresh link token each; '
    'skips what others hold, takes again what a lost worker held. Complete or fail each before its lease ends.';

create or replace function rotator_internal.finish(
    notification_id uuid,
    claim_id uuid,
    outcome text,
    error text,
    provider_message_id text,
    retry_after interval) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    n rotator_internal.notification;
    becomes text;
    wait interval;
begin
    select x.* into n
    from rotator_internal.notification as x
    where x.claim_id = finish.claim_id and x.id = finish.notification_id
    for update;
    if n.id is null then
        return false;  -- somebody else has it by now
    elsif n.state <> 'leased' and not (n.state in ('retry', 'dead') and exists (
        select
        from rotator_internal.delivery_attempt as d
        where d.tenant_id = n.tenant_id and d.notification_id = n.id and d.attempt = n.attempts
          and d.claim_id = n.claim_id and d.outcome = 'lost')) then
        return true;  -- a repeat by the same claim
    end if;

    if error is not null then
        -- A channel may quote the address it was given; who reads the error may not know it.
        select left(replace(finish.error, x.address, rotator_internal.recipient_hint(n.channel, x.address)), 2000)
        into error
        from (
            select rotator_internal.try_open_field(r.tenant_id, 'recipient.address', r.id, r.address) as address
            from rotator_internal.recipient as r
            where r.tenant_id = n.tenant_id and r.id = n.recipient_id
        ) as x;
        error := coalesce(error, 'it failed, for a recipient that can''t be decrypted');
    end if;

    becomes := case
        when outcome = 'sent' then 'sent'
        when n.withdrawn_at is not null then 'cancelled'
        when outcome in ('permanent', 'recipient_gone') or n.attempts >= 12 then 'dead'
        else 'retry'
    end;
    -- Exponential backoff with full jitter from 5 seconds on, never sooner than the vendor asked.
    wait := least(interval '1 hour', greatest(
        interval '1 second',
        random() * interval '5 seconds' * power(2, least(n.attempts, 12)),
        retry_after));

    update rotator_internal.notification as x
    set state = becomes,
        available_at = case when becomes = 'retry' then clock_timestamp() + wait else x.available_at end,
        sent_at = case when becomes = 'sent' then clock_timestamp() end,
        last_error = case when becomes = 'sent' then x.last_error else finish.error end,
        provider_message_id = coalesce(left(finish.provider_message_id, 512), x.provider_message_id)
    where x.tenant_id = n.tenant_id and x.id = n.id;

    update rotator_internal.delivery_attempt as d
    set finished_at = clock_timestamp(),
        outcome = finish.outcome,
        error = finish.error,
        provider_message_id = left(finish.provider_message_id, 512)
    where d.tenant_id = n.tenant_id and d.notification_id = n.id and d.attempt = n.attempts and d.claim_id = n.claim_id;

    if becomes <> 'retry' then
        perform rotator_internal.record_event(
            n.tenant_id, 'notification.' || becomes, 'notification', n.id::text,
            jsonb_strip_nulls(jsonb_build_object(
                'channel', n.channel, 'secret', n.secret_id, 'attempts', n.attempts,
                'error', case when becomes <> 'sent' then finish.error end,
                'provider_message_id', left(finish.provider_message_id, 512))),
            'rotator', 'engine');
    end if;
    return true;
end
$$;

comment on function rotator_internal.finish(uuid, uuid, text, text, text, interval) is
    'Records how an attempt ended and what follows: sent, retry after a wait, dead or cancelled. False for a stale claim.';

create or replace function rotator.complete_notification(
    notification_id uuid, claim_id uuid, provider_message_id text default null) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    return (
        select rotator_internal.finish(notification_id, claim_id, 'sent', null, provider_message_id, null)
    );
end
$$;

comment on function rotator.complete_notification(uuid, uuid, text) is
    'Records that the notification was delivered. False when the claim is no longer the row''s latest; a repeat is true.';

create or replace function rotator_internal.check_reason(reason text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if reason is null or reason not in ('transient', 'rate_limited', 'timeout', 'permanent', 'recipient_gone') then
        perform rotator_internal.refuse(
            '22023', 'unknown reason', 'It is transient, rate_limited, timeout, permanent or recipient_gone.');
    end if;
end
$$;

comment on function rotator_internal.check_reason(text) is 'Raises 22023 unless it is a reason to fail.';

create or replace function rotator.fail_notification(
    notification_id uuid, claim_id uuid, error text, reason text, retry_after interval default null) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    perform rotator_internal.check_reason(reason);
    return rotator_internal.finish(notification_id, claim_id, reason, error, null, retry_after);
end
$$;

comment on function rotator.fail_notification(uuid, uuid, text, text, interval) is
    'Records that the attempt failed: transient, rate_limited and timeout are tried again (up to 12 attempts, after the '
    'longer of backoff and retry_after, 1 second to 1 hour), permanent and recipient_gone are final. False for a stale claim.';

create or replace function rotator.complete_notifications(results jsonb) returns table (id uuid, accepted boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    result record;
begin
    if results is null or jsonb_typeof(results) <> 'array' then
        perform rotator_internal.refuse('22023', 'results must be a JSON array', 'Of {id, claim_id, ok, …} objects.');
    end if;
    -- In the order of the claims, so that two callers can't deadlock.
    for result in
        select r.*
        from jsonb_to_recordset(results) as r (
            id uuid, claim_id uuid, ok boolean, provider_message_id text, error text, reason text, retry_after text)
        order by r.claim_id
    loop
        if result.ok is not true then
            perform rotator_internal.check_reason(result.reason);
        end if;
        id := result.id;
        accepted := rotator_internal.finish(
            result.id, result.claim_id,
            case when result.ok then 'sent' else result.reason end,
            case when result.ok is not true then result.error end,
            result.provider_message_id,
            -- A bare number is seconds, to PostgreSQL too.
            result.retry_after::interval);
        return next;
    end loop;
end
$$;

comment on function rotator.complete_notifications(jsonb) is
    'Records many outcomes: an array of {id, claim_id, ok, provider_message_id | error, reason, retry_after}; accepted is '
    'false where the claim is no longer the row''s latest. retry_after is seconds or an interval.';

create or replace function rotator.release_notifications(claim_ids uuid[]) returns integer
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
            available_at = clock_timestamp()
        where n.claim_id = any (claim_ids) and n.state = 'leased'
        returning n.tenant_id, n.id, n.claim_id
    ),
    noted as (
        update rotator_internal.delivery_attempt as d
        set finished_at = clock_timestamp(), outcome = 'released'
        from released as r
        where d.tenant_id = r.tenant_id and d.notification_id = r.id and d.claim_id = r.claim_id
    )
    select count(*)::integer from released
$$;

comment on function rotator.release_notifications(uuid[]) is
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
    n.fallback_of
from rotator_internal.notification as n
join rotator_internal.recipient as r on r.tenant_id = n.tenant_id and r.id = n.recipient_id
where n.tenant_id = (select rotator.current_tenant());

comment on view rotator.notifications is 'What is queued, was sent, or could not be sent, and why.';
comment on column rotator.notifications.due_at is 'The instant the rule asked for.';
comment on column rotator.notifications.state is
    'queued, leased (being sent), retry, sent, dead (given up), cancelled, deferred, merged or suppressed.';
