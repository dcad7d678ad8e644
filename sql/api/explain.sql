-- "Why was I (not) told?": everything that came of a secret's notifications, each attempt, and by which rule, in words.
-- It reads what the engine keeps anyway; nothing is recorded for it. What has no row is api/explain_unqueued.sql, what will
-- come api/preview.sql. Covered by tests/tests/behaviour/{explain,explain_truth,explain_put_off}.rs.

create or replace function rotator_internal.notifications_about(tenant uuid, secret uuid)
returns setof rotator_internal.notification
language sql stable
begin atomic
    -- Two look-ups by index: notification_once has all but the cancelled.
    select n.*
    from rotator_internal.notification as n
    where n.tenant_id = tenant and n.secret_id = secret and n.stage <> 'cancelled'
    union all
    select n.*
    from rotator_internal.notification as n
    where n.tenant_id = tenant and n.secret_id = secret and n.stage = 'cancelled';
end;

comment on function rotator_internal.notifications_about(uuid, uuid) is 'All notifications there ever were about a secret.';

create or replace function rotator_internal.hint_of(tenant uuid, channel text, recipient uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select rotator_internal.recipient_hint(
            hint_of.channel, rotator_internal.try_open_field(r.tenant_id, 'recipient.address', r.id, r.address))
        from rotator_internal.recipient as r
        where r.tenant_id = hint_of.tenant and r.id = hint_of.recipient
    );
end
$$;

comment on function rotator_internal.hint_of(uuid, text, uuid) is 'What may be shown of a recipient''s address.';

create or replace function rotator_internal.why_not_sent(
    n rotator_internal.notification, s rotator_internal.secret, waited rotator_internal.deferral, zone text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    a rotator_internal.alert;
    -- Since when it wasn't to be sent; what happened later is no reason.
    stopped_at timestamptz := coalesce(n.withdrawn_at, waited.ended_at);
begin
    if n.state = 'suppressed' and waited.ended_as = 'outdated' then
        return 'a more urgent reminder of this secret went to the same recipient';
    elsif n.state = 'suppressed' and n.rule = 'reopened' and n.withdrawn_at is null and waited.ended_as is null then
        return 'a reminder that came due with it says it';
    elsif n.state = 'suppressed' then
        -- Of an alert that was taken on more than once, it knows the last.
        select x.* into a
        from rotator_internal.alert as x
        where x.tenant_id = n.tenant_id and x.secret_id = n.secret_id and x.cycle = n.cycle
          and x.acknowledged_at <= coalesce(stopped_at, n.queued_at);
        return concat(
            'somebody had taken it on', coalesce(': ' || a.acknowledged_by, '; the audit log says who'),
            ' since ' || rotator_internal.local_time(a.acknowledged_at, zone),
            ', until ' || rotator_internal.local_time(a.acknowledged_until, zone));
    elsif waited.ended_as = 'snoozed' then
        return 'the secret was snoozed; the most urgent reminder comes when that ends';
    elsif exists (
        select
        from rotator_internal.rotation as r
        where r.tenant_id = n.tenant_id and r.secret_id = n.secret_id and r.cycle = n.cycle
          and r.recorded_at <= coalesce(stopped_at, 'infinity')) then
        return 'it was rotated before';
    elsif s.retired_at <= coalesce(stopped_at, 'infinity') then
        return 'the secret was retired before';
    elsif stopped_at >= s.snoozed_at and stopped_at < s.snoozed_until
        -- A snooze takes nothing back that waits for its end: something else did.
        and (waited.is_snoozed and coalesce(waited.ended_at, 'infinity') >= stopped_at) is not true then
        return concat(
            'the secret ', case when s.snoozed_until > clock_timestamp() then 'is' else 'was' end,
            ' snoozed until ', rotator_internal.local_time(s.snoozed_until, zone));
    end if;
    return 'its cause was gone before: a moved date, another owner, a snooze, or nothing left to say';
end
$$;

comment on function rotator_internal.why_not_sent(
    rotator_internal.notification, rotator_internal.secret, rotator_internal.deferral, text) is
    'Why a notification was suppressed or cancelled, in words.';

create or replace function rotator_internal.how_merged(n rotator_internal.notification, zone text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    m rotator_internal.notification;
    others bigint;
begin
    if n.merged_into is null then
        return 'it waits to be told together with others at the next tick';
    end if;
    select x.* into m
    from rotator_internal.notification as x
    where x.id = n.merged_into and x.tenant_id = n.tenant_id;
    select count(*) - 1 into others
    from rotator_internal.notification as x
    where x.merged_into = n.merged_into;
    return concat(
        'one message with ', others, case when others = 1 then ' other' else ' others' end,
        case m.rule when 'backlog' then ' of an import' end,
        case
            when m.state = 'sent' then ', sent ' || rotator_internal.local_time(m.sent_at, zone)
            when m.state = 'dead' then ', given up after ' || rotator_internal.counted(m.attempts, 'attempt')
            when m.state = 'cancelled' then ', which nothing was left to say in'
            when m.attempts > 0 then ', not sent yet after ' || rotator_internal.counted(m.attempts, 'attempt')
            else ', not sent yet'
        end,
        case
            when m.state = 'sent' and not exists (
                select
                from rotator_internal.delivery_attempt as d
                where d.notification_id = n.id and d.claim_id = m.claim_id and d.tenant_id = n.tenant_id)
            then case m.rule
                when 'backlog' then '; counted there, not listed'
                else '; left out, since it was taken care of by then'
            end
        end);
end
$$;

comment on function rotator_internal.how_merged(rotator_internal.notification, text) is
    'In which message with others a notification was told, in words.';

create or replace function rotator_internal.is_for_nobody(n rotator_internal.notification) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return n.channel = 'console'
        and not exists (
            select
            from rotator_internal.contact as c
            where c.tenant_id = n.tenant_id and c.owner_id = n.addressee and c.channel = n.channel
              and c.recipient_id = n.recipient_id)
        and exists (
            select
            from rotator_internal.recipient as r
            where r.tenant_id = n.tenant_id and r.id = n.recipient_id
              and rotator_internal.try_open_field(r.tenant_id, 'recipient.address', r.id, r.address) = n.addressee);
end
$$;

comment on function rotator_internal.is_for_nobody(rotator_internal.notification) is
    'Whether nobody had a contact, or one that works, and it went to the operator''s console under the name of its addressee '
    '(nobody_told, next_to_tell).';

create or replace function rotator_internal.explain_one(
    n rotator_internal.notification, s rotator_internal.secret, zone text)
returns table (at timestamptz, outcome text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    waited rotator_internal.deferral;
    failed rotator_internal.notification;
begin
    select d.* into waited
    from rotator_internal.deferral as d
    where d.tenant_id = n.tenant_id and d.notification_id = n.id;
    if waited.notification_id is not null then
        return query
        select
            waited.deferred_at, 'deferred'::text,
            case
                -- What was taken back meanwhile waited no longer, though the tick finds that out at the opening.
                when coalesce(waited.ended_at, n.withdrawn_at) is not null
                then case when waited.is_snoozed then 'the secret was snoozed' else 'outside the delivery window' end
                    || '; it waited until ' || rotator_internal.local_time(least(waited.ended_at, n.withdrawn_at), zone)
                when waited.is_snoozed
                then 'the secret is snoozed; that ends ' || rotator_internal.local_time(waited.opens_at, zone)
                else 'outside the delivery window; it opens ' || rotator_internal.local_time(waited.opens_at, zone)
            end;
        if n.state = 'deferred' then
            return;
        end if;
    end if;

    return query
    select
        coalesce(d.finished_at, d.started_at), d.outcome,
        concat('attempt ', d.attempt, ': ' || coalesce(d.error, case d.outcome
            when 'lost' then 'the worker was lost'
            when 'released' then 'given back before it was begun'
        end))
    from rotator_internal.delivery_attempt as d
    where d.notification_id = n.id and d.tenant_id = n.tenant_id and d.outcome <> 'sent';

    select x.* into failed
    from rotator_internal.notification as x
    where x.id = n.fallback_of and x.tenant_id = n.tenant_id;
    return query
    select
        coalesce(
            case n.state
                when 'sent' then n.sent_at
                when 'retry' then n.available_at
                when 'merged' then (
                    select x.sent_at
                    from rotator_internal.notification as x
                    where x.id = n.merged_into and x.tenant_id = n.tenant_id)
                when 'dead' then (
                    select max(d.finished_at)
                    from rotator_internal.delivery_attempt as d
                    where d.notification_id = n.id and d.tenant_id = n.tenant_id)
                else coalesce(n.withdrawn_at, waited.ended_at)
            end,
            n.queued_at),
        n.state,
        nullif(concat_ws('; ',
            case
                when rotator_internal.is_for_nobody(n)
                then 'nobody was left to tell: for the operator''s console'
            end,
            'in place of ' || failed.channel || ' '
                || rotator_internal.hint_of(n.tenant_id, failed.channel::text, failed.recipient_id) || ', which failed',
            case
                when n.state = 'sent' and n.attempts > 1 then 'at attempt ' || n.attempts
                when n.state = 'queued' then 'it waits for a worker'
                when n.state = 'leased' then 'a worker is sending it: attempt ' || n.attempts
                when n.state = 'retry' then 'it is tried again then: ' || n.last_error
                when n.state = 'dead' then concat(
                    'given up after ', rotator_internal.counted(n.attempts, 'attempt'), ': ' || n.last_error,
                    case when n.undeliverable_at is not null then '; nobody could be told' end)
                when n.state = 'merged' then rotator_internal.how_merged(n, zone)
                when n.state in ('suppressed', 'cancelled')
                then rotator_internal.why_not_sent(n, s, waited, zone)
            end), '');
end
$$;

comment on function rotator_internal.explain_one(rotator_internal.notification, rotator_internal.secret, text) is
    'What became of a notification: that it waited for the hours, each attempt that failed, and where it stands.';

create or replace function rotator.explain_notifications(secret_id uuid)
returns table (
    at timestamptz,
    kind text,
    channel text,
    recipient_hint text,
    outcome text,
    rule text,
    detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    tenant uuid := rotator_internal.require_role('viewer', 'editor', 'auditor', 'admin');
    zone text := rotator_internal.zone_of(tenant);
    s rotator_internal.secret;
begin
    s := rotator_internal.known_secret(tenant, secret_id);
    return query
    select e.*
    from (
        select
            x.at, n.kind, n.channel::text, rotator_internal.hint_of(n.tenant_id, n.channel::text, n.recipient_id),
            x.outcome, n.rule, x.detail
        from rotator_internal.notifications_about(tenant, s.id) as n
        cross join lateral rotator_internal.explain_one(n, s, zone) as x
        union all
        select q.at, q.kind, null, null, q.outcome, q.rule, q.detail
        from rotator_internal.never_queued(s, zone) as q
        union all
        select p.at, 'escalation', null, null, 'acknowledged', p.rule, p.detail
        from rotator_internal.steps_put_off(s, zone) as p
    ) as e (at, kind, channel, recipient_hint, outcome, rule, detail)
    order by e.at, e.rule, e.channel, e.recipient_hint;
end
$$;

comment on function rotator.explain_notifications(uuid) is
    'Everything that was sent about a secret, or wasn''t, in order: each notification with its state (sent, deferred, '
    'suppressed, merged, cancelled, dead, …), each attempt that failed, what was skipped or put off, the rule that asked '
    'for it, and why, in words. Errors: PT404.';

create or replace function rotator_internal.known_secret(tenant uuid, secret uuid) returns rotator_internal.secret
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_row rotator_internal.secret;
begin
    select s.* into found_row
    from rotator_internal.secret as s
    where s.tenant_id = known_secret.tenant and s.id = known_secret.secret;
    if found_row.id is null then
        perform rotator_internal.refuse(
            'PT404', 'no such secret', 'It may belong to another tenant; select id, name from rotator.secrets lists yours.');
    end if;
    return found_row;
end
$$;

comment on function rotator_internal.known_secret(uuid, uuid) is 'The secret, to be looked at only; else PT404.';
