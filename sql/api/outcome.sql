-- How attempts end: a worker reports, and what follows (sent, another try after a wait, given up) is decided here, not in
-- the sidecar. Only the latest claim of a row can finish it; a report that is repeated changes nothing. One
-- implementation, for many results at once; what follows when something is given up is api/fallback.sql.
-- Table: schema/notification.sql. Covered by tests/tests/behaviour/{outcome,budget}.rs.

create or replace function rotator_internal.finish(results rotator_internal.delivery_result[])
returns table (id uuid, accepted boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    reported uuid[] := array(select r.id from unnest(results) as r);
    failed uuid[] := array(select r.id from unnest(results) as r where r.outcome <> 'sent');
    leased uuid[];
    died uuid[];
    withdrawn tid[];
begin
    -- In the order of the ids, so that two callers can't deadlock. What may be given up with its kin, see api/fallback.sql.
    if failed <> '{}' then
        reported := reported || rotator_internal.kin_of(failed);
    end if;
    select
        array_agg(l.id) filter (where l.state = 'leased'),
        array_agg(l.id) filter (where l.state = 'dead'),
        array_agg(l.place) filter (where l.id = any (failed) and l.withdrawn_at is not null)
    into leased, died, withdrawn
    from (
        select n.id, n.state, n.ctid as place, n.withdrawn_at
        from rotator_internal.notification as n
        where n.id = any (reported)
        order by n.id
        for update
    ) as l;
    if withdrawn is not null then
        perform rotator_internal.want_held(withdrawn);
    end if;

    return query
    with held as materialized (
        select r.claim_id, r.outcome, r.error,
            -- A vendor's own words: what is certain to be a secret is left out of them.
            case when rotator_internal.secret_rule(r.provider_message_id) is null then left(r.provider_message_id, 512) end as vendor_id,
            r.retry_after, n.*,
            case when r.outcome not in ('sent', 'permanent', 'recipient_gone') then rotator_internal.give_up_at(r.id) end as gives_up_at
        from (
            -- Of two results for one claim the first counts.
            select distinct on (g.id, g.claim_id) g.*
            from unnest(results) with ordinality
                as g (id, claim_id, outcome, error, provider_message_id, retry_after, place)
            order by g.id, g.claim_id, g.place
        ) as r
        cross join lateral (
            select x.ctid as place, x.tenant_id, x.id, x.secret_id, x.kind, x.channel, x.recipient_id, x.state,
                x.attempts - case when r.outcome = 'postponed' then 1 else 0 end as attempts, x.withdrawn_at
            from rotator_internal.notification as x
            where x.id = r.id and x.claim_id = r.claim_id
            offset 0
        ) as n
    ),
    judged as materialized (
        select
            h.*,
            case
                when h.state = 'cancelled' then 'cancelled'
                when h.outcome = 'sent' then 'sent'
                when h.withdrawn_at is not null then 'cancelled'
                when h.kind = 'summary' and not exists (select from rotator_internal.summary_items(h.id)) then 'cancelled'
                when h.outcome in ('permanent', 'recipient_gone') or h.attempts >= 12 then 'dead'
                when h.gives_up_at <= clock_timestamp() and (h.attempts >= 3 or h.outcome = 'postponed') then 'dead'
                when h.attempts = 0 then 'queued'
                else 'retry'
            end as becomes,
            -- A channel may quote the address it was given; who reads the error may not know it.
            case when h.error is not null then left(coalesce((
                select case
                        when rotator_internal.secret_rule(w.words) is null then w.words
                        else 'it failed, with an error that looks like it quotes a secret' end
                from (
                    select rotator_internal.try_open_field(x.tenant_id, 'recipient.address', x.id, x.address) as address
                    from rotator_internal.recipient as x
                    where x.tenant_id = h.tenant_id and x.id = h.recipient_id
                ) as a
                cross join lateral (
                    select replace(
                        h.error, a.address, rotator_internal.recipient_hint(h.channel::text, a.address)) as words
                ) as w
            ), 'it failed, for a recipient that can''t be decrypted'), 2000) end as said,
            -- Exponential backoff with full jitter from 5 seconds on, to the end of its time at most; never sooner than the
            -- vendor asked.
            least(interval '1 hour', greatest(
                interval '1 second',
                case
                    when h.outcome <> 'postponed'
                    then least(
                        random() * interval '5 seconds' * power(2, least(h.attempts, 12)),
                        nullif(greatest(h.gives_up_at - clock_timestamp(), interval '0'), interval '0'))
                end,
                h.retry_after)) as wait
        from held as h
        -- A worker that was given up, and its notification with it, may still come back.
        where h.state = 'leased' or (h.state in ('dead', 'cancelled') and exists (
            select
            from rotator_internal.delivery_attempt as d
            where d.tenant_id = h.tenant_id and d.notification_id = h.id and d.claim_id = h.claim_id
              and d.outcome = 'lost'))
    ),
    ended as (
        update rotator_internal.notification as n
        set state = j.becomes,
            attempts = j.attempts,
            available_at = case when j.becomes in ('queued', 'retry') then clock_timestamp() + j.wait else n.available_at end,
            sent_at = case when j.becomes = 'sent' then clock_timestamp() end,
            last_error = case when j.becomes = 'sent' then n.last_error else j.said end,
            provider_message_id = coalesce(j.vendor_id, n.provider_message_id)
        from judged as j
        where n.ctid = j.place
    ),
    noted as (
        update rotator_internal.delivery_attempt as d
        set finished_at = clock_timestamp(), outcome = j.outcome, error = j.said, provider_message_id = j.vendor_id
        from judged as j
        where d.notification_id = j.id and d.claim_id = j.claim_id and d.tenant_id = j.tenant_id and j.outcome <> 'postponed'
    ),
    -- It was no attempt.
    forgotten as (
        delete from rotator_internal.delivery_attempt as d
        using judged as j
        cross join lateral rotator_internal.carried_by(j.id) as c (id)
        where j.outcome = 'postponed'
          and d.notification_id = c.id and d.claim_id = j.claim_id and d.tenant_id = j.tenant_id
    ),
    noted_items as (
        update rotator_internal.delivery_attempt as d
        set finished_at = clock_timestamp(), outcome = j.outcome
        from judged as j
        cross join lateral rotator_internal.carried_by(j.id) as c (id)
        where j.kind = 'summary' and c.id <> j.id and j.outcome <> 'postponed'
          and d.notification_id = c.id and d.claim_id = j.claim_id and d.tenant_id = j.tenant_id
    ),
    audited as (
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            j.tenant_id, 'rotator', 'engine', 'notification.' || j.becomes, 'notification', j.id::text,
            jsonb_strip_nulls(jsonb_build_object(
                'channel', j.channel, 'secret', j.secret_id, 'attempts', j.attempts,
                'error', case when j.becomes <> 'sent' then j.said end,
                'provider_message_id', j.vendor_id))
        from judged as j
        where j.becomes not in ('queued', 'retry')
    )
    select r.id, exists (select from held as h where h.id = r.id and h.claim_id = r.claim_id)
    from unnest(results) as r;

    if failed <> '{}' then
        perform rotator_internal.follow_failures(results, leased);
    end if;
    if died is not null then
        perform rotator_internal.came_through(died);
    end if;
end
$$;

comment on function rotator_internal.finish(rotator_internal.delivery_result[]) is
    'Records how attempts ended and what follows: sent, retry after a wait, dead or cancelled. Not accepted: stale claims. '
    'Outcome postponed: it was not begun.';

create or replace function rotator_internal.follow_failures(
    results rotator_internal.delivery_result[], leased uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    gone uuid[];
    dead uuid[];
begin
    -- Those that were given up just now, by the claim that still held them.
    select array_agg(n.id), array_agg(n.id) filter (where r.outcome = 'recipient_gone') into dead, gone
    from (
        select distinct on (g.id, g.claim_id) g.id, g.claim_id, g.outcome
        from unnest(results) with ordinality
            as g (id, claim_id, outcome, error, provider_message_id, retry_after, place)
        order by g.id, g.claim_id, g.place
    ) as r
    cross join lateral (
        select x.id
        from rotator_internal.notification as x
        where x.id = r.id and x.claim_id = r.claim_id and x.state = 'dead'
        offset 0
    ) as n
    where r.id = any (leased);
    -- A message about many that has nothing to say for now: what a snooze took out of it must be able to come again.
    perform rotator_internal.leave_out(n.id, true)
    from rotator_internal.notification as n
    where n.id = any (leased) and n.kind = 'summary' and n.state = 'cancelled';
    if gone is not null then
        perform rotator_internal.mark_gone(gone);
    end if;
    if dead is not null then
        perform rotator_internal.fall_back(dead);
        perform rotator_internal.fall_back_from_summaries(dead);
    end if;
end
$$;

comment on function rotator_internal.follow_failures(rotator_internal.delivery_result[], uuid[]) is
    'What follows for those of these that were leased and are dead now: contacts that are gone, and who is told instead.';

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
        select f.accepted
        from rotator_internal.finish(array[
            row(notification_id, claim_id, 'sent', null, provider_message_id, null)::rotator_internal.delivery_result]) as f
    );
end
$$;

comment on function rotator.complete_notification(uuid, uuid, text) is
    'Records that the notification was delivered. False when the claim is no longer the row''s latest; a repeat is true.';

create or replace function rotator_internal.check_reason(reason text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if reason is null or reason not in ('transient', 'rate_limited', 'timeout', 'permanent', 'recipient_gone') then
        perform rotator_internal.refuse(
            '22023', 'unknown reason', 'It is transient, rate_limited, timeout, permanent or recipient_gone.');
    end if;
    return reason;
end
$$;

comment on function rotator_internal.check_reason(text) is 'Returns the reason; raises 22023 unless it is one to fail.';

create or replace function rotator.fail_notification(
    notification_id uuid, claim_id uuid, error text, reason text, retry_after interval default null) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    return (
        select f.accepted
        from rotator_internal.finish(array[
            row(notification_id, claim_id, rotator_internal.check_reason(reason), error, null, retry_after)
                ::rotator_internal.delivery_result]) as f
    );
end
$$;

comment on function rotator.fail_notification(uuid, uuid, text, text, interval) is
    'Records that the attempt failed: transient, rate_limited and timeout are tried again (up to 12 attempts, and for 10 '
    'minutes, 1, 4 or 12 hours from P1 to P4, after the longer of backoff and retry_after, 1 second to 1 hour), permanent and '
    'recipient_gone are final. What is given up falls back to another contact. False for a stale claim.';

create or replace function rotator.complete_notifications(results jsonb) returns table (id uuid, accepted boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    given rotator_internal.delivery_result[];
begin
    if results is null or jsonb_typeof(results) <> 'array' then
        perform rotator_internal.refuse('22023', 'results must be a JSON array', 'Of {id, claim_id, ok, …} objects.');
    end if;
    begin
        select array_agg(row(
            r.id, r.claim_id,
            case when r.ok then 'sent' else rotator_internal.check_reason(r.reason) end,
            case when r.ok is not true then r.error end,
            r.provider_message_id,
            r.retry_after::interval  -- a bare number is seconds, to PostgreSQL too
        )::rotator_internal.delivery_result order by r.id)
        into given
        from jsonb_to_recordset(results) as r (
            id uuid, claim_id uuid, ok boolean, provider_message_id text, error text, reason text, retry_after text);
    exception
        when data_exception then
            perform rotator_internal.refuse(
                '22023', 'an element of results is malformed',
                'Each is {id, claim_id, ok, provider_message_id | error, reason, retry_after}; the reasons are transient, '
                'rate_limited, timeout, permanent and recipient_gone.');
    end;
    return query
    select f.id, f.accepted
    from rotator_internal.finish(given) as f;
end
$$;

comment on function rotator.complete_notifications(jsonb) is
    'Records many outcomes: an array of {id, claim_id, ok, provider_message_id | error, reason, retry_after}; accepted is '
    'false where the claim is no longer the row''s latest. retry_after is seconds or an interval.';

create or replace function rotator.postpone_notifications(claims jsonb) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    given rotator_internal.delivery_result[];
begin
    if claims is null or jsonb_typeof(claims) <> 'array' then
        perform rotator_internal.refuse('22023', 'claims must be a JSON array', 'Of {id, claim_id, wait, error} objects.');
    end if;
    begin
        select array_agg(row(
            c.id, c.claim_id, 'postponed', c.error, null, c.wait::interval)::rotator_internal.delivery_result order by c.id)
        into given
        from jsonb_to_recordset(claims) as c (id uuid, claim_id uuid, wait text, error text);
    exception
        when data_exception then
            perform rotator_internal.refuse(
                '22023', 'an element of claims is malformed', 'Each is {id, claim_id, wait, error}; wait is seconds.');
    end;
    return (
        select count(*)
        from rotator_internal.finish(given) as f
        where f.accepted
    );
end
$$;

comment on function rotator.postpone_notifications(jsonb) is
    'Gives back claims that were not begun because their destination fails or has its pace: an array of {id, claim_id, wait, '
    'error}; wait in seconds, taken as 1 to 3600. No attempt counts, but what has used up its time is given up. Returns how '
    'many were still the row''s latest. Errors: 22023.';
