-- Snoozing: nothing is sent about a secret until a time, for a reason that stays on record. Never past the expiry, unless an
-- admin says so. It isn't acknowledging: nobody has taken on the rotation, and whatever came due meanwhile comes when it
-- ends, the most urgent reminder of them. Rotating, retiring and another expiry date end it. Also by link (api/link.sql).
-- Covered by tests/tests/behaviour/snooze.rs.

create or replace function rotator_internal.snooze(
    secret rotator_internal.secret, until timestamptz, reason text, actor text, source text, is_admin boolean default false)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    why text := rotator_internal.check_text('reason', reason);
    withdrawn uuid[];
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
    set snoozed_until = snooze.until, updated_at = clock_timestamp()
    where s.tenant_id = secret.tenant_id and s.id = secret.id;
    withdrawn := rotator_internal.hush(secret, 'cancelled');
    update rotator_internal.alert as a
    set acknowledged_until = case
            when a.state = 'acknowledged' then greatest(a.acknowledged_until, snooze.until) else a.acknowledged_until end,
        -- The last reminder, which hadn't gone yet: it goes at the end, and the ladder counts from there.
        reminded_at = case when w.is_withdrawn then null else a.reminded_at end,
        next_escalation_at = case when a.state = 'open' and a.reminded_at is not null and not w.is_withdrawn then snooze.until end
    from (
        select a.escalation_step = 0 and a.overdue_step = 0 and exists (
            select
            from rotator_internal.notification as n
            where n.id = any (withdrawn) and n.tenant_id = secret.tenant_id and n.rule like 'lead:%') as is_withdrawn
        from rotator_internal.alert as a
        where a.tenant_id = secret.tenant_id and a.secret_id = secret.id and a.cycle = secret.cycle
    ) as w
    where a.tenant_id = secret.tenant_id and a.secret_id = secret.id and a.cycle = secret.cycle and a.state <> 'resolved';
    perform rotator_internal.plan(secret.tenant_id, secret.id);
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
