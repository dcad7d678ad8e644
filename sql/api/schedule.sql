-- The pg_cron job. It runs as whoever enables it, so that role must be able to log in and to use schema cron.
-- Without pg_cron the sidecar ticks. Covered by tests/tests/behaviour/schedule.rs.

create or replace function rotator.record_schedule(cron text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    checked text := rotator_internal.check_line('cron', cron, 100);
begin
    perform rotator_internal.record_event(
        t.tenant_id, case when checked is null then 'schedule.disabled' else 'schedule.enabled' end, 'schedule', 'rotator-tick',
        jsonb_strip_nulls(jsonb_build_object('cron', checked)))
    from rotator_internal.tenant as t
    where t.status = 'active';
end
$$;

comment on function rotator.record_schedule(text) is
    'Says in the audit log of every tenant that the caller''s pg_cron job was set to these times, or without them removed. '
    'enable_schedule() and disable_schedule() call it: they act with the caller''s rights, who may not write the log. For rotator_admin.';

create or replace function rotator.enable_schedule(cron text default '* * * * *') returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_extension as e where e.extname = 'pg_cron') then
        raise exception using
            errcode = '55000', message = 'pg_cron is not installed in this database',
            hint = 'create extension pg_cron; (it lives in the database that cron.database_name names), or let the '
                'sidecar tick: rotator serve does when nobody else does.';
    elsif not (select r.rolcanlogin from pg_roles as r where r.rolname = current_user) then
        raise exception using
            errcode = '55000', message = format('role %s can''t log in, so pg_cron could not run its job', current_user),
            hint = 'Enable the schedule as a login role that is granted rotator_admin.';
    elsif not has_schema_privilege('cron', 'usage') then
        raise exception using
            errcode = '42501', message = format('role %s may not use pg_cron', current_user),
            hint = format('As a superuser: grant usage on schema cron to %I;', current_user);
    elsif cron is null then
        raise exception using errcode = '22023', message = 'cron is missing', hint = 'For example: * * * * *, each minute.';
    end if;
    -- Before pg_cron stores the text: this is where the guard looks at it.
    perform rotator.record_schedule(cron);
    -- Not known when this is created: pg_cron may come later. The job's name makes a second call replace the first, but for
    -- the database it works in and whether it is active, and a dump brings a job of the database it was taken from.
    begin
        execute 'select cron.unschedule(j.jobid) from cron.job as j
            where j.jobname = $1 and j.username = current_user and (j.database <> current_database() or not j.active)'
        using 'rotator-tick';
        execute 'select cron.schedule($1, $2, $3)' using 'rotator-tick', cron, 'call rotator.run_tick()';
    exception
        when invalid_parameter_value then
            raise exception using
                errcode = '22023', message = 'cron is no schedule that pg_cron takes',
                hint = 'Minute, hour, day of month, month, day of week; for example: * * * * *, each minute.';
    end;
end
$$;

comment on function rotator.enable_schedule(text) is
    'Makes the pg_cron job rotator-tick, which runs call rotator.run_tick() as the caller, by default each minute. The '
    'caller needs LOGIN, usage on schema cron, and rotator_admin. A second call changes the times.';

create or replace function rotator.disable_schedule() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    removed bigint;
begin
    if exists (select from pg_extension as e where e.extname = 'pg_cron') then
        execute 'select count(cron.unschedule(j.jobid)) from cron.job as j where j.jobname = $1 and j.username = current_user'
        into removed using 'rotator-tick';
        if removed > 0 then
            perform rotator.record_schedule();
        end if;
    end if;
end
$$;

comment on function rotator.disable_schedule() is
    'Removes the caller''s pg_cron job rotator-tick. drop extension doesn''t: rows of cron.job outlive it.';
