-- Acknowledging: somebody takes on the rotation, and nothing more is sent about it for a limited time. It is not the same
-- as rotated. Called by members (here) and by links (api/link.sql); how it ends: api/escalate.sql. Table: schema/alert.sql.
-- Covered by tests/tests/behaviour/{alert,reopening}.rs.

create or replace function rotator_internal.hush(
    secret rotator_internal.secret, becomes text, only_to text default null) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    withdrawn uuid[] := rotator_internal.withdraw(secret.tenant_id, secret.id, becomes, only_to);
    merged uuid[];
begin
    execute $sql$
        select array_agg(n.id)
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = $2 and n.stage <> 'cancelled' and n.state = 'merged'
    $sql$ into merged using secret.tenant_id, secret.id;
    if merged is not null then
        perform rotator_internal.leave_summary(secret.tenant_id, secret.id);
        -- They end as what goes by itself does.
        with ended as (
            update rotator_internal.notification as n
            set state = becomes, withdrawn_at = clock_timestamp()
            where n.id = any (merged) and n.tenant_id = secret.tenant_id and n.state = 'cancelled'
            returning n.id
        )
        select withdrawn || array_agg(e.id) into withdrawn
        from ended as e;
    end if;
    -- Steps of which nobody has heard are still to be taken.
    update rotator_internal.alert as a
    set escalation_step = l.reminder_step, overdue_step = l.overdue_step
    from rotator_internal.alert as x
    cross join lateral rotator_internal.steps_heard(x, withdrawn) as l
    where x.tenant_id = secret.tenant_id and x.secret_id = secret.id and x.cycle = secret.cycle
      and a.tenant_id = x.tenant_id and a.secret_id = x.secret_id and a.cycle = x.cycle;
    return withdrawn;
end
$$;

comment on function rotator_internal.hush(rotator_internal.secret, text, text) is
    'Takes back what is queued about a locked secret, to everybody or one addressee, and takes it out of summaries; escalation '
    'steps that were taken, and of which nobody has heard, are to be taken again. Gives the ids of what will not be sent.';

create or replace function rotator_internal.acknowledge(
    secret rotator_internal.secret, note text, until timestamptz, actor text, source text) returns rotator_internal.alert
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    remark text := rotator_internal.check_text('note', note);
    ends timestamptz := clock_timestamp() + case secret.priority
        when 'P1' then interval '1 day'
        when 'P2' then interval '2 days'
        when 'P3' then interval '7 days'
        else interval '14 days'
    end;
    taken rotator_internal.alert;
    newly boolean;
begin
    perform rotator_internal.refuse_retired(secret);
    if until <= clock_timestamp() then
        perform rotator_internal.refuse('22023', 'until lies in the past', 'Give a time to come, or leave it out.');
    end if;
    perform rotator_internal.check_expiry('until', until);
    if until is not null then
        ends := until;
    elsif secret.expiry_date > clock_timestamp() then
        -- Nothing expires unnoticed.
        ends := least(ends, secret.expiry_date);
    end if;
    select a.* into taken
    from rotator_internal.alert as a
    where a.tenant_id = secret.tenant_id and a.secret_id = secret.id and a.cycle = secret.cycle
    for update;
    if taken.id is null or taken.state = 'resolved' then
        perform rotator_internal.refuse(
            'PT409', 'there is no open alert to acknowledge', 'An alert opens with the first reminder of a cycle.');
    elsif taken.state = 'acknowledged' and until is null then
        return taken;  -- whoever took it first has it
    end if;

    newly := taken.state = 'open';
    update rotator_internal.alert as a
    set state = 'acknowledged',
        acknowledged_at = case when a.state = 'acknowledged' then a.acknowledged_at else clock_timestamp() end,
        acknowledged_by = case when a.state = 'acknowledged' then a.acknowledged_by else acknowledge.actor end,
        acknowledged_until = ends,
        first_acknowledged_at = coalesce(a.first_acknowledged_at, clock_timestamp()),
        next_escalation_at = null
    where a.tenant_id = taken.tenant_id and a.secret_id = taken.secret_id and a.cycle = taken.cycle
    returning a.* into taken;
    perform rotator_internal.record_event(
        secret.tenant_id, 'alert.acknowledged', 'secret', secret.id::text,
        jsonb_strip_nulls(jsonb_build_object('alert', taken.id, 'cycle', secret.cycle, 'until', ends, 'note', remark)),
        actor, source);
    if newly then
        perform rotator_internal.hush(secret, 'suppressed');
        perform rotator_internal.follow_alert(secret.tenant_id, secret.id, secret.cycle, 'acknowledge', actor, source);
    end if;
    return taken;
end
$$;

comment on function rotator_internal.acknowledge(rotator_internal.secret, text, timestamptz, text, text) is
    'Acknowledges the open alert of a locked secret, by default for 1, 2, 7 or 14 days from P1 to P4, and until its expiry '
    'at most; what is queued about it is not sent.';

create or replace function rotator.acknowledge(secret_id uuid, note text default null, until timestamptz default null) returns void
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
    perform rotator_internal.acknowledge(locked, note, until, rotator.current_actor(), rotator_internal.current_source());
end
$$;

comment on function rotator.acknowledge(uuid, text, timestamptz) is
    'Takes on the rotation: nothing is sent about it, and escalation stops, until `until` (by default 1, 2, 7 or 14 days for '
    'P1 to P4, but not past the expiry); if it isn''t rotated by then the alert opens again. For editors, admins and the '
    'secret''s owners. Errors: PT404, PT409 when no alert is open, 22023.';

create or replace view rotator.alerts
with (security_invoker = true)
as
select
    a.id,
    a.secret_id,
    rotator_internal.open_field(s.tenant_id, 'secret.name', s.id, s.name) as secret_name,
    a.cycle,
    a.state,
    a.opened_at,
    a.acknowledged_at,
    a.acknowledged_by,
    a.acknowledged_until,
    a.resolved_at,
    greatest(a.escalation_step, a.overdue_step) as escalation_step,
    a.next_escalation_at
from rotator_internal.alert as a
join rotator_internal.secret as s on s.tenant_id = a.tenant_id and s.id = a.secret_id
where a.tenant_id = (select rotator.current_tenant());

comment on view rotator.alerts is 'One alert a secret and cycle: open, acknowledged, resolved.';
