-- Data keys that are replaced by themselves: every so often, and when one has been used 2^31 times; and looking after the
-- runs: one that makes no progress is reported. All of it happens in the tick. Table: schema/key_rotation.sql.
-- Covered by tests/tests/behaviour/key_schedule.rs.

create or replace function rotator.set_key_schedule(every interval, tenant text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target uuid := rotator_internal.managed_tenant(tenant);
    active_since timestamptz;
    former interval;
begin
    if every < interval '1 day' or every > interval '100 years' then
        perform rotator_internal.refuse(
            '22023', 'every must be between a day and 100 years', 'For example: 90 days. Null turns the schedule off.');
    end if;
    perform rotator_internal.lock_keys(target);
    select k.activated_at into active_since
    from rotator_internal.encryption_key as k
    where k.tenant_id = target and k.purpose = 'data' and k.status = 'active';
    select s.every into former
    from rotator_internal.key_schedule as s
    where s.tenant_id = target
    for update;
    insert into rotator_internal.key_schedule as s (tenant_id, every, next_at)
    values (target, set_key_schedule.every, active_since + set_key_schedule.every)
    on conflict (tenant_id) do update
    set every = excluded.every,
        next_at = case when s.reason is null then excluded.next_at else s.next_at end,
        failures = 0, last_error = null;
    perform rotator_internal.record_event(
        target, 'key.schedule_set', 'key_schedule', target::text, jsonb_build_object('old', former, 'new', every));
end
$$;

comment on function rotator.set_key_schedule(interval, text) is
    'The tenant''s data key is replaced when it has been active for this long, by the tick; null turns that off. A new tenant '
    'has 90 days. For a tenant admin or rotator_admin. Errors: 22023 shorter than a day.';

create or replace view rotator.key_schedules
with (security_invoker = true)
as
select
    s.tenant_id,
    s.every,
    s.next_at,
    s.reason,
    s.last_error
from rotator_internal.key_schedule as s
where s.tenant_id = (select rotator.current_tenant());

comment on view rotator.key_schedules is 'When the current tenant''s data key will be replaced by itself.';
comment on column rotator.key_schedules.every is 'Null: never, unless its uses run out.';
comment on column rotator.key_schedules.reason is 'Why it is due before its time; null when it isn''t.';
comment on column rotator.key_schedules.last_error is 'Why a rotation that was due could not begin; it is tried again each hour.';

create or replace function rotator_internal.rotate_due_keys(as_of timestamptz, max_rows integer) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    candidate uuid;
    due rotator_internal.key_schedule;
    rotated integer := 0;
    code text;
    problem text;
begin
    -- Tenants that came with a dump of 0.1.0 have none.
    insert into rotator_internal.key_schedule (tenant_id, every, next_at)
    select t.tenant_id, interval '90 days', greatest(k.activated_at + interval '90 days', as_of + interval '1 day')
    from rotator_internal.tenant as t
    join rotator_internal.encryption_key as k on k.tenant_id = t.tenant_id and k.purpose = 'data' and k.status = 'active'
    where t.status = 'active' and not exists (
        select from rotator_internal.key_schedule as s where s.tenant_id = t.tenant_id)
    on conflict (tenant_id) do nothing;

    update rotator_internal.key_schedule as s
    set next_at = rotate_due_keys.as_of, reason = 'uses'
    where s.tenant_id in (
        select w.tenant_id
        from rotator_internal.key_schedule as w
        where w.tenant_id in (select k.tenant_id from rotator_internal.much_used_keys() as k) and w.reason is null
        for update skip locked);

    if not exists (select from rotator_internal.key_schedule as s where s.next_at <= as_of) then
        return 0;
    end if;
    -- First the keys, then the schedule, as whoever rotates does (lock_keys), but without waiting for him.
    lock table rotator_internal.encryption_key in row exclusive mode;
    for candidate in
        select s.tenant_id
        from rotator_internal.key_schedule as s
        where s.next_at <= as_of
        order by s.next_at
        limit max_rows
    loop
        perform
        from rotator_internal.encryption_key as k
        where k.tenant_id = candidate and k.purpose = 'data' and k.version = 1
        for no key update skip locked;
        continue when not found;
        select s.* into due
        from rotator_internal.key_schedule as s
        where s.tenant_id = candidate and s.next_at <= as_of
        for update skip locked;
        continue when not found;
        begin
            perform rotator_internal.start_rotation(
                due.tenant_id, coalesce(due.reason, 'schedule'), 'rotator', 'engine');
            rotated := rotated + 1;
        exception
            when others then
                get stacked diagnostics code = returned_sqlstate, problem = message_text;
                update rotator_internal.key_schedule as s
                set next_at = as_of + interval '1 hour', failures = s.failures + 1, last_error = format('%s (%s)', problem, code)
                where s.tenant_id = due.tenant_id;
                perform rotator_internal.record_event(
                    due.tenant_id, 'key.rotation_failed', 'key_schedule', due.tenant_id::text,
                    jsonb_build_object('error', format('%s (%s)', problem, code)), 'rotator', 'engine');
                -- Not of the first hiccup, and once.
                if due.failures = 2 then
                    perform rotator_internal.alert_admins(due.tenant_id, null, 'overdue');
                end if;
        end;
    end loop;
    return rotated;
end
$$;

comment on function rotator_internal.rotate_due_keys(timestamptz, integer) is
    'Begins the rotations that are due; what can''t begin is tried again an hour later, and at the third time told to the tenant''s admins.';

create or replace function rotator_internal.report_stalled_runs() returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    stalled rotator_internal.key_rotation;
    reported integer := 0;
begin
    for stalled in
        select r.*
        from rotator_internal.key_rotation as r
        where r.status = 'running' and r.alerted_as is null and r.progressed_at < clock_timestamp() - interval '1 hour'
        limit 100
        for no key update skip locked
    loop
        update rotator_internal.key_rotation as r
        set alerted_as = 'stalled'
        where r.tenant_id = stalled.tenant_id and r.id = stalled.id;
        perform rotator_internal.record_event(
            stalled.tenant_id, 'key.rotation_stalled', 'key_rotation', stalled.id::text,
            jsonb_build_object('since', stalled.progressed_at, 'error', stalled.error), 'rotator', 'engine');
        perform rotator_internal.alert_admins(stalled.tenant_id, stalled.id, 'stalled');
        reported := reported + 1;
    end loop;
    return reported;
end
$$;

comment on function rotator_internal.report_stalled_runs() is
    'Tells the admins, once a run, of re-encryption that has made no progress for an hour.';
