-- Is everything in place for reminders to arrive? Each check says what it found and what to do. Also what the sidecar
-- asks before it takes over the tick. Covered by tests/tests/behaviour/doctor.rs.

create or replace function rotator.engine_status() returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_build_object(
            'extension_version', (select e.extversion from pg_extension as e where e.extname = 'rotator'),
            'library_version', rotator_internal.library_version(),
            'last_tick_at', (select h.last_tick_at from rotator_internal.heartbeat as h),
            'seconds_since_tick', (
                select extract(epoch from clock_timestamp() - h.last_tick_at)::bigint from rotator_internal.heartbeat as h),
            'queued', q.queued,
            'oldest_due_seconds', q.oldest_due_seconds,
            'dead', (select count(*) from rotator_internal.notification as n where n.stage = 'dead'),
            'undeliverable', u.undeliverable,
            'undeliverable_at', u.undeliverable_at)
        from rotator_internal.undeliverable_now() as u
        cross join (
            select
                count(*) filter (where n.state <> 'leased') as queued,
                extract(epoch from clock_timestamp() - min(n.available_at)
                    filter (where n.available_at <= clock_timestamp()
                        and (n.state <> 'leased' or n.leased_until <= clock_timestamp())))::bigint as oldest_due_seconds
            from rotator_internal.notification as n
            where n.stage = 'pending'
        ) as q
    );
end
$$;

comment on function rotator.engine_status() is
    'For the sidecar and monitoring: versions, when a tick last ran, how much is queued, for how long it has waited, '
    'and what is dead or reached nobody.';

create or replace function rotator.doctor() returns table (check_name text, ok boolean, detail text, fix text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    status jsonb := rotator.engine_status();
    master_problem text := rotator_internal.master_key_status();
    server integer := current_setting('server_version_num')::integer;
    minimum integer := case server / 10000 when 15 then 150018 when 16 then 160014 when 17 then 170010 when 18 then 180004 end;
    uncovered bigint;
    runs record;
    overdue bigint;
    near_limit bigint;
    shown text;
begin
    -- A file in good form can still be the wrong one.
    if master_problem is null then
        begin
            perform rotator_internal.blind_index(k.tenant_id, 'doctor', 'doctor')
            from rotator_internal.encryption_key as k
            where k.purpose = 'index' and k.status = 'active'
            order by k.id desc
            limit 1;
        exception
            when sqlstate 'RT010' then
                get stacked diagnostics master_problem = message_text;
        end;
    end if;

    check_name := 'library version';
    ok := status ->> 'extension_version' = status ->> 'library_version';
    detail := format('extension %s, library %s', status ->> 'extension_version', status ->> 'library_version');
    fix := 'alter extension rotator update; and reconnect, or restart PostgreSQL when the library is preloaded.';
    return next;

    check_name := 'library preloaded';
    ok := rotator_internal.library_preloaded();
    detail := case when ok then 'in shared_preload_libraries' else 'loaded on first use; rotator''s settings are visible until then' end;
    fix := 'Add rotator to shared_preload_libraries and restart.';
    return next;

    check_name := 'master key';
    ok := master_problem is null;
    detail := coalesce(master_problem, format('wraps with %s, from the %s',
        case when master_problem is null then rotator_internal.wrapping_master_key_id() end, rotator_internal.master_key_source()));
    fix := 'Point rotator.master_key_file at a file from `rotator keys new-master`, owned by the server''s user, mode 0600, outside the '
        'data directory, or rotator.master_key_command at a command that prints one; then select pg_reload_conf();';
    return next;

    shown := case when master_problem is null then rotator_internal.keys_to_rewrap() else 'not known without the master key' end;
    check_name := 'master key wrapping';
    ok := shown is null;
    detail := coalesce(shown, 'every data key is wrapped by the newest master key');
    fix := 'select rotator.rewrap_keys(); and only then take an older master key away. One that is missing must come back first.';
    return next;

    select
        count(*) filter (where r.status = 'failed') as failed,
        count(*) filter (where r.status = 'running' and r.progressed_at < clock_timestamp() - interval '1 hour') as stalled,
        min(coalesce(r.error, 'no progress since ' || r.progressed_at)) as example
    into runs
    from rotator_internal.key_rotation as r
    join rotator_internal.encryption_key as k on k.tenant_id = r.tenant_id and k.id = r.to_key and k.status = 'active'
    where r.status = 'failed'
        or (r.status = 'running' and r.progressed_at < clock_timestamp() - interval '1 hour');
    select count(*) into overdue
    from rotator_internal.key_schedule as s
    where s.last_error is not null or s.next_at < clock_timestamp() - interval '1 hour';
    check_name := 'key rotation';
    ok := runs.failed + runs.stalled + overdue = 0;
    detail := format('%s failed, %s stalled, %s overdue%s', runs.failed, runs.stalled, overdue, ': ' || runs.example);
    fix := 'select * from rotator.key_rotations; mend what error says, then rotator.retry_key_rotation(id). Overdue ones begin with the next tick.';
    return next;

    near_limit := (select count(*) from rotator_internal.much_used_keys());
    check_name := 'key uses';
    ok := near_limit = 0;
    detail := format('%s data keys have encrypted 2^31 times or more', near_limit);
    fix := 'The next tick replaces them; rotator.rotate_key() does at once. At 2^32 they refuse (RT013).';
    return next;

    check_name := 'server version';
    ok := server >= coalesce(minimum, 0);
    detail := 'PostgreSQL ' || current_setting('server_version');
    fix := 'Update to 15.18, 16.14, 17.10 or 18.4: older minor versions have row security defects.';
    return next;

    check_name := 'tick';
    ok := coalesce((status ->> 'seconds_since_tick')::bigint <= 180, false);
    detail := format('%s; pg_cron is %s in this database',
        coalesce('last tick ' || (status ->> 'seconds_since_tick') || ' s ago', 'never ticked'),
        case when exists (select from pg_extension as e where e.extname = 'pg_cron') then 'installed' else 'not installed' end);
    fix := 'select rotator.enable_schedule(); as a login role with rotator_admin, or run rotator serve, which ticks when nobody does.';
    return next;

    check_name := 'outbox';
    ok := coalesce((status ->> 'oldest_due_seconds')::bigint, 0) <= 300;
    detail := format('%s queued%s', status ->> 'queued',
        coalesce(', the oldest waiting ' || (status ->> 'oldest_due_seconds') || ' s', ''));
    fix := 'Is rotator serve running and connected? See its log and /readyz.';
    return next;

    check_name := 'undeliverable';
    ok := (status ->> 'undeliverable')::bigint = 0;
    detail := format('%s notifications reached nobody by any contact; %s were given up, whoever was told instead',
        status ->> 'undeliverable', status ->> 'dead');
    fix := 'select * from rotator.undeliverable; in each tenant: mend the contact or the channel, then acknowledge or rotate.';
    return next;

    select count(*) into uncovered
    from rotator_internal.secret as s
    where s.retired_at is null
      and not exists (
        select
        from rotator_internal.contact as c
        where c.tenant_id = s.tenant_id and c.owner_id = s.owner_id and c.gone_at is null);
    check_name := 'owners with a contact';
    ok := uncovered = 0;
    detail := format('%s secrets whose owner has no contact that works', uncovered);
    fix := 'rotator.set_contact(owner, channel, recipient); until then a substitute or the operator''s console is told.';
    return next;

    shown := concat_ws(', ',
        case when current_setting('log_statement') in ('mod', 'all') then 'log_statement' end,
        case when current_setting('log_min_duration_statement') <> '-1' then 'log_min_duration_statement' end,
        case when current_setting('log_parameter_max_length_on_error') <> '0' then 'log_parameter_max_length_on_error' end);
    check_name := 'statement logging';
    ok := shown = '';
    detail := case when ok then 'no setting logs statements with names in them' else shown || ' may put names into the server log' end;
    fix := 'Turn these off for roles that register secrets, or use bind parameters with log_parameter_max_length = 0.';
    return next;

    return query select * from rotator_internal.audit_checks();

    shown := (select string_agg(a.addition, '; ') from rotator_internal.additions() as a (addition));
    check_name := 'added policies and grants';
    ok := shown is null;
    detail := coalesce(left(shown, 1000), 'policies and grants on rotator''s objects are rotator''s own');
    fix := 'pg_dump leaves added policies out, an upgrade takes added grants back, and with a member in a role that owns things '
        'create extension refuses. Grant one of rotator''s roles instead: docs/backup.md.';
    return next;
end
$$;

comment on function rotator.doctor() is
    'Checks what must be in place for reminders to arrive; each row says what was found and how to mend it. For rotator_admin.';
