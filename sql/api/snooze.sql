-- Snoozing: nothing is sent about a secret until a time, for a reason that stays on record. Never past the expiry, unless an
-- admin says so. It isn't acknowledging: nobody has taken on the rotation, and whatever came due meanwhile comes when it
-- ends, the most urgent reminder of them. Rotating, retiring and another expiry date end it. Also by link (api/link.sql).
-- Covered by tests/tests/behaviour/snooze.rs.

create or replace function rotator_internal.wait_for_unsaid(
    s rotator_internal.secret, until timestamptz, withdrawn uuid[]) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    zone text := rotator_internal.zone_of(s.tenant_id);
    leads record;
    is_said boolean;
begin
    select
        (array_agg(r.lead_time_days order by r.due_at desc, r.lead_time_days) filter (where r.due_at <= clock_timestamp()))[1]
            as passed,
        max(r.due_at) filter (where r.due_at <= clock_timestamp()) as passed_at,
        min(r.due_at) filter (where r.due_at > clock_timestamp()) as next_at,
        max(r.due_at) filter (where r.lead_time_days >= 0) as last_at
    into leads
    from (
        select
            p.lead_time_days,
            rotator_internal.lead_instant(s.expiry_date, p.lead_time_days, s.rotation_interval, zone) as due_at
        from rotator_internal.policies_of(s.tenant_id, s.id) as p
    ) as r;
    if leads.passed_at is null then
        return false;
    end if;

    -- Said to all whom it was for, as far as can be known: nothing of it was withdrawn that isn't said since, or may be.
    execute $sql$
        with told as materialized (
            select n.id, n.state, n.channel, n.addressee, n.withdrawn_at, m.state as merged_state
            from rotator_internal.notifications_about($1, $2) as n
            left join rotator_internal.notification as m on m.id = n.merged_into and m.tenant_id = n.tenant_id
            where n.cycle = $3 and n.rule = 'lead:' || $4 and n.due_at = $5 and n.fallback_of is null
        )
        select exists (select from told as t where t.state <> 'cancelled') and not exists (
            select
            from told as t
            where (t.state = 'cancelled' or (t.state = 'leased' and t.withdrawn_at is not null)
                    or (t.state = 'merged' and t.merged_state = 'leased'))
              and not exists (
                select
                from told as l
                where l.id > t.id and l.state <> 'cancelled' and l.channel = t.channel and l.addressee = t.addressee)
              -- An acknowledgement withdrew it, and that the alert is open again was said since.
              and not exists (
                select
                from rotator_internal.notifications_about($1, $2) as r
                where r.cycle = $3 and r.rule = 'reopened' and r.id > t.id and r.state <> 'cancelled'))
    $sql$ into is_said using s.tenant_id, s.id, s.cycle, leads.passed, leads.passed_at;
    if is_said and leads.next_at is null then
        delete from rotator_internal.calendar as c
        where c.tenant_id = s.tenant_id and c.secret_id = s.id;
    elsif is_said then
        update rotator_internal.calendar as c
        set next_event_at = greatest(leads.next_at, until)
        where c.tenant_id = s.tenant_id and c.secret_id = s.id;
    end if;

    return exists (
        select
        from rotator_internal.notification as n
        where n.id = any (withdrawn) and n.tenant_id = s.tenant_id and n.state = 'cancelled' and n.rule like 'lead:%'
    ) and not exists (
        -- Of the last one before the expiry, or a later one.
        select
        from rotator_internal.notifications_about(s.tenant_id, s.id) as n
        where n.cycle = s.cycle and n.kind = 'reminder' and n.state not in ('cancelled', 'suppressed')
          and n.due_at >= coalesce(leads.last_at, '-infinity'));
end
$$;

comment on function rotator_internal.wait_for_unsaid(rotator_internal.secret, timestamptz, uuid[]) is
    'After the messages of a locked secret were withdrawn for a snooze: what was said before isn''t said again when it ends. '
    'Returns whether this withdrew the last reminder, before anybody heard of it.';

create or replace function rotator_internal.want_held(places tid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Row by row, by index look-ups: the claim that asks must not wait for a plan from when the tables were empty.
    execute $sql$
        with held as materialized (
            select n.ctid as place, n.tenant_id, n.secret_id, n.cycle, n.kind, n.recipient_id, n.queued_at, n.withdrawn_at
            from rotator_internal.notification as n
            where n.ctid = any ($1) and n.state = 'leased' and n.withdrawn_at is not null
              and n.kind in ('reminder', 'escalation')
        ),
        judged as materialized (
            select
                h.place,
                s.retired_at is null and a.state = 'open' and h.queued_at >= coalesce(a.ladder_from, '-infinity')
                    and (s.snoozed_until > clock_timestamp()) is not true
                    -- For a snooze that has ended, or an acknowledgement: of a reminder that one says it is open again.
                    and (s.snoozed_until >= h.withdrawn_at or (h.kind = 'escalation' and a.reopened_at >= h.withdrawn_at))
                    as is_over,
                exists (
                    select
                    from rotator_internal.notification as x
                    where x.tenant_id = h.tenant_id and x.secret_id = h.secret_id and x.cycle = h.cycle
                      and x.stage <> 'cancelled' and x.kind = h.kind and x.recipient_id = h.recipient_id
                      and x.queued_at > h.withdrawn_at) as is_outdated
            from held as h
            cross join lateral (
                select x.retired_at, x.snoozed_until
                from rotator_internal.secret as x
                where x.tenant_id = h.tenant_id and x.id = h.secret_id and x.cycle = h.cycle
                offset 0
            ) as s
            cross join lateral (
                select x.state, x.ladder_from, x.reopened_at
                from rotator_internal.alert as x
                where x.tenant_id = h.tenant_id and x.secret_id = h.secret_id and x.cycle = h.cycle
                offset 0
            ) as a
        )
        update rotator_internal.notification as n
        set withdrawn_at = null
        from judged as j
        where n.ctid = j.place and j.is_over and not j.is_outdated
    $sql$ using places;
end
$$;

comment on function rotator_internal.want_held(tid[]) is
    'Of these locked rows, whose workers are lost or failed: what was withdrawn for a silence that is over by now may be '
    'tried again.';

create or replace function rotator_internal.snooze(
    secret rotator_internal.secret, until timestamptz, reason text, actor text, source text, is_admin boolean default false)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    why text := rotator_internal.check_text('reason', reason);
    withdrawn uuid[];
    last_unsaid boolean;
begin
    perform rotator_internal.refuse_retired(secret);
    if why is null then
        perform rotator_internal.refuse('22023', 'reason is missing', 'Say why it can wait; it stays in the audit log.');
    elsif until is null then
        perform rotator_internal.refuse('22023', 'until is missing', 'Say until when nothing is to be sent.');
    elsif until <= clock_timestamp() then
        perform rotator_internal.refuse('22023', 'until lies in the past', 'Give a time to come.');
    end if;
    perform rotator_internal.check_expiry('until', until);
    if until > secret.expiry_date and is_admin is not true then
        perform rotator_internal.refuse(
            '22023',
            case
                when secret.expiry_date <= clock_timestamp() then 'it has expired, so only an admin can snooze it'
                else 'until lies past the expiry date'
            end,
            'Rotate it, move its expiry date, or have a tenant admin snooze it.');
    end if;

    update rotator_internal.secret as s
    set snoozed_at = case when s.snoozed_until > clock_timestamp() then s.snoozed_at else clock_timestamp() end,
        snoozed_until = snooze.until, updated_at = clock_timestamp()
    where s.tenant_id = secret.tenant_id and s.id = secret.id;
    withdrawn := rotator_internal.hush(secret, 'cancelled');
    -- The calendar brings reminders again, the ladder its steps; these nobody would.
    perform rotator_internal.put_off(array(
        select n.id
        from rotator_internal.notification as n
        where n.id = any (withdrawn) and n.tenant_id = secret.tenant_id
          and (n.rule = 'reopened' or n.fallback_of is not null)));
    perform rotator_internal.plan(secret.tenant_id, secret.id);
    last_unsaid := rotator_internal.wait_for_unsaid(secret, until, withdrawn);
    update rotator_internal.alert as a
    -- One that ended while an earlier snooze held ends with this one now; else the tick looks, see api/escalate.sql.
    set acknowledged_until = case
            when a.state = 'acknowledged' and a.acknowledged_until = secret.snoozed_until then snooze.until
            else a.acknowledged_until
        end,
        -- The last reminder, which hadn't gone yet: it goes at the end, and the ladder counts from there.
        reminded_at = case when w.is_unheard then null else a.reminded_at end,
        next_escalation_at = case when a.state = 'open' and a.reminded_at is not null and not w.is_unheard then snooze.until end
    from (
        select last_unsaid and x.escalation_step = 0 and coalesce(x.overdue_step, 0) = 0 as is_unheard
        from rotator_internal.alert as x
        where x.tenant_id = secret.tenant_id and x.secret_id = secret.id and x.cycle = secret.cycle
    ) as w
    where a.tenant_id = secret.tenant_id and a.secret_id = secret.id and a.cycle = secret.cycle and a.state <> 'resolved';
    perform rotator_internal.record_event(
        secret.tenant_id, 'secret.snoozed', 'secret', secret.id::text,
        jsonb_build_object('until', until, 'reason', why), actor, source);
end
$$;

comment on function rotator_internal.snooze(rotator_internal.secret, timestamptz, text, text, text, boolean) is
    'Silences a locked secret until then, past its expiry only for an admin; what is queued about it is not sent.';

create or replace function rotator.snooze(secret_id uuid, until timestamptz, reason text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    tenant uuid := rotator_internal.require_role('viewer', 'editor', 'auditor', 'admin');
    locked rotator_internal.secret := rotator_internal.lock_secret(tenant, secret_id);
begin
    perform rotator_internal.may_handle(locked);
    perform rotator_internal.snooze(
        locked, until, reason, rotator.current_actor(), rotator_internal.current_source(),
        rotator.current_member_role() = 'admin');
end
$$;

comment on function rotator.snooze(uuid, timestamptz, text) is
    'Sends nothing about a secret until then; a later call replaces it. Not past the expiry, except by a tenant admin. What '
    'came due meanwhile comes when it ends. Rotating, retiring or moving the expiry date ends it. For editors, admins and '
    'the secret''s owners. Errors: PT404, PT409 retired, 22023.';
