-- The engine's heart: each minute it finds what is due and hands it on, in sets: reminders (api/queue.sql), alerts that
-- open again and climb their ladders (api/escalate.sql), windows and digests (api/deferral.sql), summaries, keys, seals.
-- Cost follows what is due, not what is registered. Sending is api/outbox.sql.
-- Covered by tests/tests/behaviour/{tick,tick_races}.rs.

create or replace function rotator_internal.is_being_restored() returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from rotator_internal.heartbeat as h where h.only_row) then
        return false;
    end if;
    return exists (
        select
        from pg_stat_activity as a
        join pg_roles as r on r.oid = a.usesysid
        where a.datname = current_database() and a.application_name = 'pg_restore' and (r.rolsuper or r.rolbypassrls));
end
$$;

comment on function rotator_internal.is_being_restored() is
    'Nobody has ticked in this database yet, and pg_restore is at work in it as a role that may: pg_cron''s job is among the '
    'first rows it brings, and what a tick made of half of the others would be in the way of the rest.';

create or replace function rotator.tick(as_of timestamptz default clock_timestamp(), max_rows integer default 5000) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    due rotator_internal.calendar[];
    places tid[]; -- nobody can move the rows: they are locked
    reminded record;
    reopened record;
    escalated record;
    settled record;
    fell record;
    opened integer := 0;
    queued integer := 0;
    fresh tid[];      -- what is to be sent of it all
    fresh_to uuid[];
    keys_rotated integer;
    sealing jsonb;
    result jsonb;
begin
    if as_of is null or max_rows is null or max_rows not between 1 and 100000 then
        perform rotator_internal.refuse(
            '22023', 'as_of must be a time and max_rows between 1 and 100000', 'Leave both out for their defaults.');
    elsif as_of > clock_timestamp() + interval '1 minute' and not rotator_internal.is_operator() then
        perform rotator_internal.refuse(
            '42501', 'only a rotator_admin may tick ahead of time', 'Leave as_of out to tick now.');
    elsif rotator_internal.is_being_restored() then
        return '{"due": 0, "alerts_opened": 0, "reopened": 0, "queued": 0, "keys_rotated": 0, "sealed": 0, "more": false}';
    end if;

    -- Lock first, read in the next statement: a rotation that was committed in between is then seen.
    select array_agg(l.c), array_agg(l.place) into due, places
    from (
        select c, c.ctid as place
        from rotator_internal.calendar as c
        where c.next_event_at <= as_of
        order by c.next_event_at
        limit max_rows
        for update skip locked
    ) as l;

    if due is not null then
        reminded := rotator_internal.queue_due(due, places, as_of);
        opened := reminded.opened;
        fresh := reminded.fresh;
        fresh_to := reminded.fresh_to;
    end if;
    reopened := rotator_internal.reopen(as_of, max_rows);
    escalated := rotator_internal.escalate(as_of, max_rows);
    fresh := fresh || reopened.fresh || escalated.fresh;
    fresh_to := fresh_to || reopened.fresh_to || escalated.fresh_to;
    settled := rotator_internal.settle_queued(fresh, fresh_to, as_of, max_rows);
    queued := coalesce(cardinality(fresh), 0) + settled.queued;
    fell := rotator_internal.fall_back_from_backlogs(least(max_rows, 500));

    -- What is merged in several steps makes one summary, after the last.
    if coalesce(cardinality(due), 0) < max_rows
        and not exists (select from rotator_internal.calendar as c where c.next_event_at <= as_of and c.backlog) then
        queued := queued + rotator_internal.gather_summaries(as_of);
    end if;

    keys_rotated := rotator_internal.rotate_due_keys(as_of, 100);
    perform rotator_internal.report_stalled_runs();
    perform rotator_internal.fold_uses(10000);
    -- While reminders come by the thousands they go first; these events are sealed a minute later at most.
    sealing := rotator_internal.seal_audit(greatest(max_rows, 1000) * 10::bigint, coalesce(cardinality(due), 0) < 5000);

    result := jsonb_build_object(
        'due', coalesce(cardinality(due), 0),
        'alerts_opened', opened,
        'reopened', reopened.opened,
        'queued', queued,
        'keys_rotated', keys_rotated,
        'sealed', sealing -> 'sealed',
        'more', greatest(coalesce(cardinality(due), 0), reopened.looked_at, escalated.looked_at) >= max_rows
            or settled.more or fell.more or keys_rotated >= 100 or (sealing ->> 'more')::boolean);
    insert into rotator_internal.heartbeat (last_tick_at) values (clock_timestamp())
    on conflict (only_row) do update set last_tick_at = excluded.last_tick_at;

    -- The only NOTIFY there is: it takes a lock on the whole cluster until commit. A hint; the table is the truth.
    if queued > 0 then
        perform pg_notify('rotator_outbox', '');
    end if;
    return result;
end
$$;

comment on function rotator.tick(timestamptz, integer) is
    'Queues what is due at as_of, at most max_rows secrets, each reminder exactly once, opens alerts again whose '
    'acknowledgement has ended, takes the steps of ladders, and releases what waited for the delivery window; returns counts, '
    'and more when it should be called again. After a gap only the most urgent missed reminder of a secret is queued. Run each '
    'minute by pg_cron (rotator.enable_schedule) or the sidecar. Errors: 22023; 42501 as_of in the future, but for rotator_admin.';

-- No SET clause: a procedure that commits can't have one. Every name is qualified instead.
create or replace procedure rotator.run_tick()
language plpgsql
as $$
declare
    until constant pg_catalog.timestamptz :=
        pg_catalog.clock_timestamp() operator(pg_catalog.+) pg_catalog.make_interval(secs => 50);
    began pg_catalog.timestamptz;
    spent pg_catalog.float8;
    result pg_catalog.jsonb;
begin
    loop
        result := rotator.tick();
        commit;
        exit when not (result operator(pg_catalog.->>) 'more')::pg_catalog.bool
            or pg_catalog.clock_timestamp() operator(pg_catalog.>) until;
    end loop;

    -- Re-encryption has time: a tenth of it goes to work, so that nobody notices. Where others keep the processors busy a
    -- step takes longer, and then it may be half of it: a step in a tenth of a second does a million rows in ten minutes.
    loop
        set transaction isolation level read committed;
        began := pg_catalog.clock_timestamp();
        exit when began operator(pg_catalog.>) until;
        result := rotator.reencrypt_step(250);
        commit;
        exit when (result operator(pg_catalog.->>) 'remaining')::pg_catalog.int8 operator(pg_catalog.=) 0;
        spent := pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() operator(pg_catalog.-) began);
        perform pg_catalog.pg_sleep(
            case
                when (result operator(pg_catalog.->>) 'done')::pg_catalog.int8 operator(pg_catalog.=) 0
                    and (result operator(pg_catalog.->>) 'waiting')::pg_catalog.int8 operator(pg_catalog.>) 0 then 1
                else greatest(spent, least(9 operator(pg_catalog.*) spent, 0.1 operator(pg_catalog.-) spent))
            end);
        commit;
    end loop;
end
$$;

comment on procedure rotator.run_tick() is
    'Ticks until nothing more is due, then re-encrypts what rotations have left to do, unhurried, with a commit after each '
    'step; at most 50 seconds. What pg_cron runs each minute.';
