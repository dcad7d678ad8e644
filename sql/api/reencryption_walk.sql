-- One step of re-encryption in one table, ours or the host's: where nobody is in the way a single UPDATE (sweep). Else in
-- two statements: look at a span of rows in the order of their key, lock those under an older key that nobody else has
-- locked, and open and seal them again; then write them. In our tables no index holds a ciphertext, so each rewrite is a
-- HOT update while its page has room.
-- What a step found: type rotator_internal.walked. Who calls it: api/reencryption.sql; through the host's tables, with
-- other rights: api/encrypted_column.sql. Covered by tests/tests/behaviour/{key_rotation,encrypted_column}.rs.

create or replace function rotator_internal.walk_statement(
    relation text,
    key_column text,
    key_type text,
    tenant_condition text,
    column_names text[],
    labels text[],
    is_own boolean,
    is_partitioned boolean,
    from_start boolean) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    stale text;
    kept text;
    resealed text;
    opens text;
    gathered text;
    -- Of the host's values, which may be large, no more than this many bytes a step; at least one row.
    most_bytes constant integer := 33554432;
begin
    select
        string_agg(format('rotator_internal.is_under_other_key(t.%I, $2)', c.name), ' or '),
        string_agg(format('t.%I as old_%s', c.name, c.n), ', '),
        string_agg(format(
            '%s($1, %L, %s, h.old_%s) as new_%s',
            case when is_own then 'rotator_internal.reseal_field' else 'rotator_internal.reseal_value' end,
            c.label,
            case
                when not is_own then 'h.row_key::text'
                when key_type = 'bigint' then 'rotator_internal.event_row(h.row_key)'
                else 'h.row_key'
            end, c.n, c.n), ', '),
        string_agg(format('(r.new_%1$s is not null or r.old_%1$s is null)', c.n), ' and '),
        string_agg(format('array_agg(f.new_%1$s) as new_%1$s', c.n), ', ')
    into stale, kept, resealed, opens, gathered
    from unnest(column_names, labels) with ordinality as c (name, label, n);

    -- A row is found again by its place; in a partitioned table only together with its partition. Ties: a key may occur in
    -- several partitions, and the next step begins behind it.
    return format(
        $sql$
        with span as materialized (
            select t.tableoid as part, t.ctid as place, t.%2$I as row_key, (%4$s) as is_stale%11$s
            from %1$s as t
            where %3$s %5$s
            order by t.%2$I
            fetch first $4 rows with ties
        ),
        todo as materialized (
            select s.place, s.row_key from span as s where s.is_stale order by s.row_key fetch first %12$s rows with ties
        ),
        held as materialized (
            select t.tableoid as part, t.ctid as place, t.%2$I as row_key, %6$s
            from %1$s as t
            where %10$s
            for no key update skip locked
        ),
        resealed as materialized (
            select h.*, %7$s from held as h
        ),
        fresh as materialized (
            select r.*, %8$s as opens from resealed as r
        ),
        counted as (
            select
                (select count(*) from span) as seen,
                (select s.row_key from span as s order by s.row_key desc limit 1) as last_seen,
                (select count(*) from span as s where s.is_stale) as stale,
                (select count(*) from todo) as todo,
                (select s.row_key from todo as s order by s.row_key desc limit 1) as last_todo,
                (select count(*) from held) as held,
                (select count(*) from fresh as f where not f.opens) as failed
        )
        select
            (case when c.todo < c.stale then c.last_todo else c.last_seen end)::text as reached,
            c.seen < $4 and c.todo >= c.stale as is_end,
            c.stale, greatest(c.todo - c.held, 0) as locked, c.failed,
            (select f.row_key::text from fresh as f where not f.opens order by f.row_key limit 1) as first_failed,
            g.*
        from counted as c
        cross join (
            select array_agg(f.part) as parts, array_agg(f.place) as places, array_agg(f.row_key::text) as row_keys, %9$s
            from fresh as f
            where f.opens
        ) as g
        $sql$,
        relation, key_column, tenant_condition, stale,
        case when from_start then format('and t.%I is not null', key_column)
            else format('and t.%I > $3::%s', key_column, key_type) end,
        kept, resealed, opens, gathered,
        case
            when is_partitioned then format(
                '%s and t.%I = any (array(select d.row_key from todo as d)) and (%s)', tenant_condition, key_column, stale)
            else 't.ctid = any (array(select d.place from todo as d))'
        end,
        case when is_own then '' else format(', octet_length(t.%I) as size', column_names[1]) end,
        case
            when is_own then '$5'
            else format('(select least($5, greatest(%s / greatest(max(s.size), 1), 1)) from span as s)', most_bytes)
        end);
end
$$;

comment on function rotator_internal.walk_statement(text, text, text, text, text[], text[], boolean, boolean, boolean) is
    'The first statement of a step; its parameters: tenant, active key, last row key so far as text, how many rows to look '
    'at, how many to rewrite. Identifiers come quoted or are quoted here.';

create or replace function rotator_internal.sweep(
    relation text, key_column text, key_type text, tenant_condition text, column_names text[], labels text[], is_own boolean,
    tenant uuid, active_key bigint, after text, reach integer, max_rows integer) returns rotator_internal.walked
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set lock_timeout = '20ms'
as $$
declare
    w rotator_internal.walked;
    from_here constant text := case when after is null then '' else format('and t.%I > $3::%s', key_column, key_type) end;
    span text;
    stale text;
    assigned text;
begin
    select
        string_agg(format('rotator_internal.is_under_other_key(t.%I, $2)', c.name), ' or '),
        string_agg(format(
            '%1$I = rotator_internal.%2$s($1, %3$L, %4$s, t.%1$I)', c.name,
            case when is_own then 'renew_field' when key_type = 'uuid' then 'renew_uuid_value' else 'renew_value' end,
            c.label,
            format(
                case
                    when is_own and key_type = 'bigint' then 'rotator_internal.event_row(t.%I)'
                    when is_own or key_type = 'uuid' then 't.%I'
                    else 't.%I::text'
                end, key_column)), ', ')
    into stale, assigned
    from unnest(column_names, labels) as c (name, label);

    if max_rows = 0 then
        -- All of it in one statement, which may scan the table: it reads, and holds up nobody.
        perform set_config('enable_seqscan', 'on', true);
        execute format('select count(*) from %s as t where %s and (%s)', relation, tenant_condition, stale)
        into w.stale
        using tenant, active_key;
        w.is_end := true;
        return w;
    end if;
    -- As text outside, or each row that is passed would be written as one.
    execute format(
        'select b.row_key::text from (
            select t.%2$I as row_key from %1$s as t where %3$s %4$s order by t.%2$I offset $4 - 1 limit 1) as b',
        relation, key_column, tenant_condition, from_here)
    into w.reached
    using tenant, active_key, after, reach;
    w.is_end := w.reached is null;
    span := from_here || case when w.reached is null then '' else format(' and t.%I <= $4::%s', key_column, key_type) end;

    begin
        execute format(
            'update %s as t set %s where %s %s and (%s)', relation, assigned, tenant_condition, span, stale)
        using tenant, active_key, after, w.reached;
        get diagnostics w.done = row_count;
    exception
        -- In somebody's way, or one can't be opened: the caller goes by rows, leaves those out, and says which.
        when lock_not_available or deadlock_detected or serialization_failure or sqlstate 'RT011' then
            return null;
    end;
    w.stale := w.done;
    w.locked := 0;
    w.unmoved := 0;
    w.failed := 0;
    return w;
end
$$;

comment on function rotator_internal.sweep(
    text, text, text, text, text[], text[], boolean, uuid, bigint, text, integer, integer) is
    'A step by one UPDATE of the next reach rows, which visits each only once, or, with max_rows 0, counts all that are to be written; '
    'null when somebody has locked one of them, or one can''t be opened. '
    'Not for a table whose triggers, constraints or indexes could run somebody''s code with the caller''s rights.';

create or replace function rotator_internal.walk_own(
    place text, tenant uuid, active_key bigint, after text, reach integer, max_rows integer) returns rotator_internal.walked
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    w rotator_internal.walked;
    found_rows record;
    relation constant text := 'rotator_internal.' || place;
    key_column constant text := case place when 'audit_value' then 'event_id' else 'id' end;
    key_type constant text := case place when 'audit_value' then 'bigint' else 'uuid' end;
    names constant text[] := case place
        when 'secret' then array['name', 'provider_ref', 'purpose']
        when 'audit_value' then array['changed']
        else array['address']
    end;
    labels constant text[] := array(select place || '.' || n from unnest(names) as n);
begin
    -- In the first pass every row is to be written, and mostly nobody has locked any.
    if max_rows in (0, reach) then
        w := rotator_internal.sweep(
            relation, key_column, key_type, 't.tenant_id = $1', names, labels, true, tenant, active_key, after,
            reach, max_rows);
        if w.is_end is not null then
            return w;
        end if;
    end if;
    execute rotator_internal.walk_statement(
        relation, key_column, key_type, 't.tenant_id = $1', names, labels, true, false, after is null)
    into found_rows
    using tenant, active_key, after, reach, max_rows;

    w.done := 0;
    if place = 'secret' and found_rows.places is not null then
        update rotator_internal.secret as s
        set name = f.name, provider_ref = f.provider_ref, purpose = f.purpose
        from unnest(found_rows.places, found_rows.new_1, found_rows.new_2, found_rows.new_3) as f (place, name, provider_ref, purpose)
        where s.ctid = f.place;
        get diagnostics w.done = row_count;
    elsif place = 'audit_value' and found_rows.places is not null then
        update rotator_internal.audit_value as v
        set changed = f.changed
        from unnest(found_rows.places, found_rows.new_1) as f (place, changed)
        where v.ctid = f.place;
        get diagnostics w.done = row_count;
    elsif found_rows.places is not null then
        update rotator_internal.recipient as r
        set address = f.address
        from unnest(found_rows.places, found_rows.new_1) as f (place, address)
        where r.ctid = f.place;
        get diagnostics w.done = row_count;
    end if;
    w.reached := found_rows.reached;
    w.is_end := found_rows.is_end;
    w.stale := found_rows.stale;
    w.locked := found_rows.locked;
    w.unmoved := 0; -- nothing of ours keeps a row back
    w.failed := found_rows.failed;
    w.first_failed := found_rows.first_failed;
    return w;
end
$$;

comment on function rotator_internal.walk_own(text, uuid, bigint, text, integer, integer) is
    'A step in one of our tables with ciphertexts: secret, recipient or audit_value.';
