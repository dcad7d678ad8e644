-- Re-encryption: after a rotation every row of the tenant goes under the active key, in batches that can be killed at any
-- point, since how far they came is committed with them. A run visits its places one after the other: our tables, then the
-- host's columns. In each, pass 0 counts, pass 1 walks the rows by their key and re-encrypts, skipping what somebody
-- has locked; further passes look for what is left. A place is finished by a pass that began after the last writer
-- under an older key had ended (api/key_life.sql) and passed nothing over.
-- The walk itself: api/reencryption_walk.sql; through the host's tables: api/encrypted_column.sql.
-- Covered by tests/tests/behaviour/key_rotation.rs, tests/tests/security/rotation_kill.rs.

create or replace function rotator_internal.walk(
    p rotator_internal.reencryption, active_key bigint, reach integer, max_rows integer) returns rotator_internal.walked
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    host_column rotator_internal.encrypted_column;
begin
    if p.column_id is null then
        return rotator_internal.walk_own(p.place, p.tenant_id, active_key, p.position, reach, max_rows);
    end if;
    select c.* into host_column
    from rotator_internal.encrypted_column as c
    where c.id = p.column_id;
    -- Unregistered since: nothing to do there any more.
    if host_column.id is null then
        return null;
    end if;
    return rotator_internal.walk_host_column(
        host_column, p.tenant_id, (select t.slug from rotator_internal.tenant as t where t.tenant_id = p.tenant_id),
        active_key, p.position, reach, max_rows);
end
$$;

comment on function rotator_internal.walk(rotator_internal.reencryption, bigint, integer, integer) is
    'The next rows of a place: looks at up to reach, re-encrypts up to max_rows (0 counts all there is to do); null when the place is gone.';

create or replace function rotator_internal.visit_place(p rotator_internal.reencryption, active_key bigint, max_rows integer)
returns rotator_internal.reencryption
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w rotator_internal.walked;
    last_pass constant integer := 5;
begin
    if p.position is null then
        -- Before the rows are looked at: who may write under an older key after this has its lock by now.
        p.is_fenced := rotator_internal.key_holders(p.tenant_id) is null;
        p.passed_over := 0;
        p.failed := 0;
        p.first_failed := null;
    end if;
    -- Where little is to be done a step looks further.
    w := rotator_internal.walk(
        p, active_key, case when p.pass = 1 then max_rows else 10000 end, case when p.pass = 0 then 0 else max_rows end);
    if w is null then
        p.is_finished := true;
        return p;
    end if;

    if p.pass = 0 then
        p.total := p.total + w.stale;
    else
        p.done := p.done + w.done;
        p.failed := p.failed + w.failed;
        p.first_failed := coalesce(p.first_failed, w.first_failed);
        if p.pass < last_pass or w.done > 0 then
            p.passed_over := p.passed_over + w.locked + w.unmoved;
        else
            -- Nobody holds the row, and still it stays as it is, pass after pass.
            p.passed_over := p.passed_over + w.locked;
            p.failed := p.failed + w.unmoved;
            p.first_failed := coalesce(p.first_failed, w.first_unmoved);
        end if;
        p.total := greatest(p.total, p.done + p.passed_over + p.failed);
    end if;
    p.position := w.reached;

    if w.is_end then
        if p.pass > 0 then
            p.total := p.done + p.passed_over + p.failed; -- rows may have gone since they were counted
        end if;
        p.is_finished := p.is_fenced and p.passed_over = 0 and (p.pass > 0 or p.total = 0);
        if not p.is_finished then
            p.pass := p.pass + 1;
            p.position := null;
        end if;
    end if;
    return p;
end
$$;

comment on function rotator_internal.visit_place(rotator_internal.reencryption, bigint, integer) is
    'One step in a place; gives its new state, not yet stored.';

create or replace function rotator_internal.end_run(r rotator_internal.key_rotation, failure text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    sums record;
    problem text := failure;
    bad record;
begin
    select coalesce(sum(p.total), 0) as total, coalesce(sum(p.done), 0) as done, coalesce(sum(p.failed), 0) as failed
    into sums
    from rotator_internal.reencryption as p
    where p.tenant_id = r.tenant_id and p.rotation_id = r.id;
    if problem is null and sums.failed > 0 then
        select p.place, p.first_failed into bad
        from rotator_internal.reencryption as p
        where p.tenant_id = r.tenant_id and p.rotation_id = r.id and p.failed > 0
        order by p.place
        limit 1;
        problem := format(
            '%s row(s) could not be re-encrypted, the first in %s: %s', sums.failed, bad.place, bad.first_failed);
    end if;

    update rotator_internal.key_rotation as k
    set status = case when problem is null then 'completed' else 'failed' end, finished_at = clock_timestamp(),
        is_waiting = false, error = problem, alerted_as = case when problem is null then k.alerted_as else 'failed' end
    where k.tenant_id = r.tenant_id and k.id = r.id;
    perform rotator_internal.record_event(
        r.tenant_id, case when problem is null then 'key.rotation_completed' else 'key.rotation_failed' end,
        'key_rotation', r.id::text,
        jsonb_build_object('total', sums.total, 'done', sums.done, 'failed', sums.failed)
            || case when problem is null then '{}'::jsonb else jsonb_build_object('error', problem) end,
        'rotator', 'engine');
    if problem is not null then
        perform rotator_internal.alert_admins(r.tenant_id, r.id, 'failed');
    end if;
end
$$;

comment on function rotator_internal.end_run(rotator_internal.key_rotation, text) is
    'Ends a run: completed, or failed when rows are left or an error stays; then the tenant''s admins are told.';

create or replace function rotator_internal.advance_run(
    r rotator_internal.key_rotation, max_rows integer, out moved integer, out goes_on boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    p rotator_internal.reencryption;
    before rotator_internal.reencryption;
    holders integer[];
    is_idle boolean;
begin
    moved := 0;
    goes_on := true;
    select e.* into p
    from rotator_internal.reencryption as e
    where e.tenant_id = r.tenant_id and e.rotation_id = r.id and not e.is_finished
    order by e.pass, e.place
    limit 1;
    if p.place is null then
        -- The first time, all places; at the end, what was registered meanwhile.
        insert into rotator_internal.reencryption (tenant_id, rotation_id, place, column_id)
        select r.tenant_id, r.id, n.place, n.column_id
        from (
            values ('secret', null::uuid), ('recipient', null), ('audit_value', null)
            union all
            select format('%I.%I.%I', c.schema_name, c.table_name, c.column_name), c.id
            from rotator_internal.columns_of(r.tenant_id) as c
        ) as n (place, column_id)
        where not exists (
            select from rotator_internal.reencryption as e
            where e.tenant_id = r.tenant_id and e.rotation_id = r.id and e.place = n.place
                and e.column_id is not distinct from n.column_id)
        -- Unregistered and registered again.
        on conflict (tenant_id, rotation_id, place) do update
        set column_id = excluded.column_id, pass = 0, position = null, passed_over = 0, failed = 0, first_failed = null,
            is_finished = false;
        if not found then
            perform rotator_internal.end_run(r);
            goes_on := false;
        end if;
        return;
    end if;

    -- Everything has been walked; what is left is to look once more when the last writer under an older key has ended.
    if p.pass > 1 and p.position is null and p.passed_over = 0 then
        holders := rotator_internal.key_holders(r.tenant_id);
        if holders is not null then
            update rotator_internal.key_rotation as k
            set is_waiting = true, resume_at = clock_timestamp(),
                error = format('waits for %s transaction(s) that may still write under an older version: process %s',
                    cardinality(holders), array_to_string(holders, ', ', 'none: a prepared transaction'))
            where k.tenant_id = r.tenant_id and k.id = r.id;
            goes_on := false;
            return;
        end if;
    end if;

    before := p;
    p := rotator_internal.visit_place(p, r.to_key, max_rows);
    update rotator_internal.reencryption as e
    set pass = p.pass, position = p.position, is_fenced = p.is_fenced, total = p.total, done = p.done,
        passed_over = p.passed_over, failed = p.failed, first_failed = p.first_failed, is_finished = p.is_finished
    where e.tenant_id = p.tenant_id and e.rotation_id = p.rotation_id and e.place = p.place;
    -- A pass is over that only met locked rows: whoever calls may wait a little before the next.
    is_idle := p.position is null and p.passed_over > 0 and p.done = before.done;
    -- Once a second is enough for whose turn it is, and for when it got on last.
    if is_idle or r.is_waiting or r.attempts > 0 or r.error is not null
        or clock_timestamp() > r.resume_at + interval '1 second' then
        update rotator_internal.key_rotation as k
        set resume_at = clock_timestamp(), attempts = 0, is_waiting = is_idle,
            error = case when is_idle then format('waits for %s row(s) in %s that somebody has locked', p.passed_over, p.place) end,
            progressed_at = case
                when p.done > before.done or p.is_finished or p.pass < 2 then clock_timestamp() else k.progressed_at end
        where k.tenant_id = r.tenant_id and k.id = r.id;
    end if;
    if p.is_finished and p.total > 0 then
        perform rotator_internal.record_event(
            r.tenant_id, 'key.rotation_progress', 'key_rotation', r.id::text,
            jsonb_build_object('place', p.place, 'total', p.total, 'done', p.done, 'failed', p.failed), 'rotator', 'engine');
    end if;
    moved := p.done - before.done;
    goes_on := not is_idle;
end
$$;

comment on function rotator_internal.advance_run(rotator_internal.key_rotation, integer) is
    'The next step of a run, whose row the caller has locked; gives how many rows it re-encrypted, and whether the next can follow at once.';

create or replace function rotator_internal.note_failed_step(r rotator_internal.key_rotation, code text, problem text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- What passes by itself: locks, crowding, a master key out of reach. All else is for people.
    passing constant boolean := code in ('RT010', '55P03', '25006') or left(code, 2) in ('40', '53', '57', '58', '08');
    said constant text := format('%s (%s)', left(problem, 1000), code);
begin
    if not passing and r.attempts >= 4 then
        perform rotator_internal.end_run(r, said);
        return;
    end if;
    update rotator_internal.key_rotation as k
    set attempts = k.attempts + 1, is_waiting = true, error = said,
        resume_at = clock_timestamp() + make_interval(secs => least(power(2, least(k.attempts, 10)), 300))
    where k.tenant_id = r.tenant_id and k.id = r.id;
end
$$;

comment on function rotator_internal.note_failed_step(rotator_internal.key_rotation, text, text) is
    'After an error the run waits, twice as long each time, up to five minutes; one that doesn''t pass by itself ends it at the fifth time.';

create or replace function rotator.reencrypt_step(max_rows integer default 1000) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    started constant timestamptz := clock_timestamp();
    r rotator_internal.key_rotation;
    worked_on bigint;
    moved integer := 0;
    moved_before integer;
    step record;
    code text;
    problem text;
    rest record;
begin
    if max_rows is null or max_rows not between 1 and 100000 then
        perform rotator_internal.refuse('22023', 'max_rows must be between 1 and 100000', 'Leave it out for 1000.');
    elsif current_setting('transaction_isolation') <> 'read committed' then
        -- An older snapshot than the look at who may still write under an old key would miss what they wrote.
        perform rotator_internal.refuse(
            '25001', 're-encryption needs to see what was committed a moment ago',
            'Call it in a transaction with isolation level read committed.');
    elsif rotator_internal.is_being_restored() then
        return '{"done": 0, "remaining": 0, "waiting": 0, "rotation": null}';
    end if;

    -- Small places are finished in one call, large ones in many. What waits has had its turn when it comes up again.
    loop
        select k.* into r
        from rotator_internal.key_rotation as k
        where k.status = 'running' and k.resume_at <= started
        order by k.resume_at
        limit 1
        for no key update skip locked;
        exit when r.id is null;
        worked_on := coalesce(worked_on, r.id);
        moved_before := moved;
        begin
            -- One run as far as the call goes, then the next.
            loop
                step := rotator_internal.advance_run(r, max_rows - moved);
                moved := moved + step.moved;
                exit when not step.goes_on or moved >= max_rows
                    or clock_timestamp() > started + interval '15 milliseconds';
                select k.* into r
                from rotator_internal.key_rotation as k
                where k.tenant_id = r.tenant_id and k.id = r.id;
            end loop;
        exception
            -- Of a statement timeout too: or a slow trigger of one tenant would be met first, and stop all others, each time.
            when others or assert_failure or query_canceled then
                get stacked diagnostics code = returned_sqlstate, problem = message_text;
                moved := moved_before;
                perform rotator_internal.note_failed_step(r, code, problem);
        end;
        exit when code = '57014' or moved >= max_rows or clock_timestamp() > started + interval '15 milliseconds';
    end loop;

    select
        coalesce(sum(greatest(
            p.left_over, case when not k.is_waiting then 1 else 0 end)), 0)::bigint as remaining,
        count(*) filter (where k.is_waiting) as waiting
    into rest
    from (
        -- Of a thousand runs: when there are more, this only has to be more than nothing.
        select running.tenant_id, running.id, running.is_waiting
        from rotator_internal.key_rotation as running
        where running.status = 'running'
        order by running.resume_at
        limit 1000
    ) as k
    cross join lateral (
        select coalesce(sum(greatest(e.total - e.done - e.failed, 0)), 0) as left_over
        from rotator_internal.reencryption as e
        where e.tenant_id = k.tenant_id and e.rotation_id = k.id
    ) as p;
    return jsonb_build_object('done', moved, 'remaining', rest.remaining, 'waiting', rest.waiting, 'rotation', worked_on);
end
$$;

comment on function rotator.reencrypt_step(integer) is
    'Re-encrypts up to max_rows rows that are under an older key, of the rotation whose turn it is, in the caller''s '
    'transaction: commit, and call again while remaining is above 0. Gives {done, remaining, waiting, rotation}: waiting '
    'counts rotations that wait after an error, for locked rows, or for a transaction that may still write under an older key: '
    'when nothing was done and some wait, pause a second. Rows that are locked are passed over and visited again. Any number of callers may work at the same time. For rotator_admin and rotator_sidecar.';
