-- Columns of the host's own tables that hold ciphertexts of rotator.encrypt(): registering one, and visiting it.
-- What touches a host table passes over its row security (or counts would come out short) and owns no table. Rows are
-- read and locked as rotator_host, which may see of the database the registered columns alone; they are written as
-- rotator_host_writer, which may see nothing at all: a trigger over there runs with the rights of whoever updates, and
-- finds nothing to take. Whoever owns the table grants both of it by registering it.
-- Table: schema/key_rotation.sql; the statement of a step: api/reencryption_walk.sql.
-- Covered by tests/tests/behaviour/encrypted_column.rs.

create or replace view rotator.encrypted_columns
with (security_invoker = true)
as
select
    c.schema_name,
    c.table_name,
    c.column_name,
    c.label,
    c.row_key_column,
    c.tenant_column,
    c.only_tenant as tenant_id,
    c.registered_by,
    c.registered_at
from rotator_internal.encrypted_column as c;

comment on view rotator.encrypted_columns is
    'The host''s own columns that join key rotation. For rotator_admin; registered with rotator.register_encrypted_column().';
comment on column rotator.encrypted_columns.tenant_id is 'Whose rows they are where the table has no tenant column.';

create or replace function rotator_internal.columns_of(tenant uuid) returns setof rotator_internal.encrypted_column
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select c.*
    from rotator_internal.encrypted_column as c
    where c.only_tenant is null or c.only_tenant = columns_of.tenant
    order by c.schema_name, c.table_name, c.column_name
$$;

comment on function rotator_internal.columns_of(uuid) is 'The registered columns that may hold rows of this tenant.';

create or replace function rotator_internal.host_table(c rotator_internal.encrypted_column) returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_one regclass := to_regclass(format('%I.%I', c.schema_name, c.table_name));
begin
    if found_one is null
        or not has_column_privilege('rotator_host', found_one, c.column_name, 'update')
        or not has_column_privilege('rotator_host', found_one, c.column_name, 'select')
        or not has_column_privilege('rotator_host', found_one, c.row_key_column, 'select') then
        raise exception using
            errcode = '42P01',
            message = format('the registered column %I.%I.%I is gone, or no longer granted to rotator_host',
                c.schema_name, c.table_name, c.column_name),
            hint = 'Register it again, or unregister it: rotator.unregister_encrypted_column().';
    end if;
    return found_one;
exception
    when undefined_column then
        raise exception using
            errcode = '42P01',
            message = format('the registered column %I.%I.%I is gone', c.schema_name, c.table_name, c.column_name),
            hint = 'Register it again, or unregister it: rotator.unregister_encrypted_column().';
end
$$;

comment on function rotator_internal.host_table(rotator_internal.encrypted_column) is
    'The table of a registered column; 42P01 when it, or what was granted on it, is gone.';

create or replace function rotator_internal.type_of_column(relation regclass, column_name name) returns regtype
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select a.atttypid::regtype
        from pg_attribute as a
        where a.attrelid = relation and a.attname = column_name and a.attnum > 0 and not a.attisdropped
    );
end
$$;

comment on function rotator_internal.type_of_column(regclass, name) is 'Null when there is no such column.';

create or replace function rotator_internal.host_tenant_condition(
    c rotator_internal.encrypted_column, relation regclass, tenant_slug text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when c.tenant_column is null or tenant_slug is null then 'true'
        when rotator_internal.type_of_column(relation, c.tenant_column) = 'uuid'::regtype then format('t.%I = $1', c.tenant_column)
        else format('t.%I = any (array[$1::text, %L])', c.tenant_column, tenant_slug)
    end;
end
$$;

comment on function rotator_internal.host_tenant_condition(rotator_internal.encrypted_column, regclass, text) is
    'Which rows of a host table are the tenant''s, whose id is the first parameter of the statement; without a slug all.';

create or replace function rotator_internal.write_host_column(
    relation regclass, column_name name, parts oid[], places tid[], ciphertexts bytea[], is_partitioned boolean) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    written bigint;
    code text;
begin
    -- Triggers that are deferred fire now, with these rights, and not at commit, with those of the session.
    set constraints all immediate;
    execute format(
        'update %s as t set %I = f.ciphertext from unnest($1, $2, $3) as f (part, place, ciphertext) where t.ctid = f.place %s',
        relation, column_name, case when is_partitioned then 'and t.tableoid = f.part' else '' end)
    using parts, places, ciphertexts;
    get diagnostics written = row_count;
    return written;
exception
    when others or assert_failure or query_canceled then
        -- A trigger over there may quote the row in its message, and this goes to logs and people.
        get stacked diagnostics code = returned_sqlstate;
        raise exception using
            errcode = code,
            message = format('a trigger or constraint of %s did not let the new ciphertext pass', relation),
            hint = 'Update a row of it as rotator_host_writer would to see why: a trigger that needs rights of its own must be security definer.';
end
$$;

comment on function rotator_internal.write_host_column(regclass, name, oid[], tid[], bytea[], boolean) is
    'Rewrites rows that the caller has locked, and gives how many a trigger let through. As rotator_host_writer; called '
    'through write_restricted.';

create or replace function rotator_internal.runs_no_code(relation regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select r.relkind = 'r' and not r.relhassubclass and not r.relispartition and not r.relhasrules
            and not (r.relhastriggers and exists (select from pg_trigger as t where t.tgrelid = r.oid and not t.tgisinternal))
            and r.relchecks = 0
            and not exists (select from pg_attribute as a where a.attrelid = r.oid and a.attgenerated <> '')
            and not exists (
                select from pg_index as i where i.indrelid = r.oid and (i.indexprs is not null or i.indpred is not null))
        from pg_class as r
        where r.oid = relation
    );
end
$$;

comment on function rotator_internal.runs_no_code(regclass) is
    'Whether an UPDATE of this table runs nothing that its owner wrote: no triggers, rules, checks, generated columns, expressions in indexes or bounds.';

create or replace function rotator_internal.walk_host_column(
    c rotator_internal.encrypted_column, tenant uuid, tenant_slug text, active_key bigint, after text,
    reach integer, max_rows integer) returns rotator_internal.walked
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    relation regclass := rotator_internal.host_table(c);
    is_partitioned boolean := (select r.relkind = 'p' or r.relhassubclass from pg_class as r where r.oid = relation);
    key_type constant text := rotator_internal.type_of_column(relation, c.row_key_column);
    tenant_condition constant text := rotator_internal.host_tenant_condition(c, relation, tenant_slug);
    found_rows record;
    w rotator_internal.walked;
begin
    if max_rows = 0 then
        return rotator_internal.sweep(
            relation::text, c.row_key_column, key_type, tenant_condition, array[c.column_name::text], array[c.label], false,
            tenant, active_key, after, reach, max_rows);
    elsif reach = max_rows and not is_partitioned then
        -- Once it is locked, the answer stays: no trigger can come to it.
        perform rotator_internal.lock_for_writing(relation);
        if rotator_internal.runs_no_code(relation) then
            w := rotator_internal.sweep(
                relation::text, c.row_key_column, key_type, tenant_condition, array[c.column_name::text], array[c.label], false,
                tenant, active_key, after, reach, max_rows);
            if w.is_end is not null then
                return w;
            end if;
        end if;
    end if;
    execute rotator_internal.walk_statement(
        relation::text, c.row_key_column, key_type, tenant_condition,
        array[c.column_name::text], array[c.label], false, is_partitioned, after is null)
    into found_rows
    using tenant, active_key, after, reach, max_rows;

    w.done := 0;
    if found_rows.places is not null then
        w.done := rotator_internal.write_restricted(
            relation, c.column_name, found_rows.parts, found_rows.places, found_rows.new_1, is_partitioned);
    end if;
    w.unmoved := 0;
    if found_rows.places is not null
        and (w.done < cardinality(found_rows.places) or not rotator_internal.runs_no_code(relation)) then
        -- A trigger may have kept a row back, or the old value in it.
        execute format(
            'select count(*), min(t.%1$I::text) from %2$s as t
            where %3$s and t.%1$I = any ($3::%4$s[]) and rotator_internal.is_under_other_key(t.%5$I, $2)',
            c.row_key_column, relation, tenant_condition, key_type, c.column_name)
        into w.unmoved, w.first_unmoved
        using tenant, active_key, found_rows.row_keys;
        w.unmoved := least(w.unmoved, cardinality(found_rows.places));
        w.done := cardinality(found_rows.places) - w.unmoved;
    end if;
    w.reached := found_rows.reached;
    w.is_end := found_rows.is_end;
    w.stale := found_rows.stale;
    w.locked := found_rows.locked;
    w.failed := found_rows.failed;
    w.first_failed := found_rows.first_failed;
    return w;
end
$$;

comment on function rotator_internal.walk_host_column(
    rotator_internal.encrypted_column, uuid, text, bigint, text, integer, integer) is
    'A step of re-encryption in a registered column, as rotator_host.';

create or replace function rotator_internal.host_rows_using_key(
    c rotator_internal.encrypted_column, tenant uuid, tenant_slug text, key_id bigint) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass := rotator_internal.host_table(c);
    counted bigint;
begin
    execute format(
        'select count(*) from %1$s as t where %3$s and rotator_internal.ciphertext_key(t.%2$I) = $2',
        relation, c.column_name, rotator_internal.host_tenant_condition(c, relation, tenant_slug))
    into counted
    using tenant, key_id;
    return counted;
end
$$;

comment on function rotator_internal.host_rows_using_key(rotator_internal.encrypted_column, uuid, text, bigint) is
    'How many rows of a registered column hold a ciphertext under this key, those of the tenant or, without one, all; as rotator_host.';

create or replace function rotator_internal.count_unreadable(
    c rotator_internal.encrypted_column, tenants uuid[], names text[],
    out rows_seen bigint, out ownerless bigint, out first_ownerless text, out unreadable bigint, out first_unreadable text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'select
            count(*),
            count(*) filter (where v.tenant is null), min(v.row_key) filter (where v.tenant is null),
            count(*) filter (where not v.opens), min(v.row_key) filter (where not v.opens)
        from (
            select
                t.%2$I::text as row_key, n.tenant,
                rotator_internal.value_opens(n.tenant, $3, t.%2$I::text, t.%3$I) as opens
            from %1$s as t
            left join unnest($1, $2) as n (tenant, name) on %4$s
            where t.%3$I is not null
        ) as v',
        rotator_internal.host_table(c), c.row_key_column, c.column_name,
        case when c.tenant_column is null then 'true' else format('n.name = t.%I::text', c.tenant_column) end)
    into rows_seen, ownerless, first_ownerless, unreadable, first_unreadable
    using tenants, names, c.label;
end
$$;

comment on function rotator_internal.count_unreadable(rotator_internal.encrypted_column, uuid[], text[]) is
    'Rows with a value; of these, those whose tenant is none of the names, and those that rotator.decrypt() would refuse. As rotator_host.';
