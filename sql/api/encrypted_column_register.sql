-- Registering a column of the host's: the caller, who owns the table, grants what is needed; the trigger of the
-- view, with the engine's rights, checks the rest. (A function of ours can't do both: it either has the caller's rights
-- or the engine's.) Nothing is registered whose rows could not be re-encrypted.
-- What happens with registered columns: api/encrypted_column.sql. Covered by tests/tests/behaviour/encrypted_column{,_refusals}.rs.

create or replace function rotator_internal.check_host_column(c rotator_internal.encrypted_column) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass := to_regclass(format('%I.%I', c.schema_name, c.table_name));
    kind "char" := (select r.relkind from pg_class as r where r.oid = relation and r.relpersistence <> 't');
    key_type regtype := rotator_internal.type_of_column(relation, c.row_key_column);
    missing name;
begin
    if kind is null or kind not in ('r', 'p') then
        perform rotator_internal.refuse(
            '22023', format('%I.%I is no table', c.schema_name, c.table_name), 'Views, foreign and temporary tables can''t be registered.');
    elsif c.schema_name in ('rotator', 'rotator_internal', 'pg_catalog', 'information_schema') then
        perform rotator_internal.refuse(
            '22023', format('schema %I is not the application''s', c.schema_name), 'rotator''s own tables join key rotation by themselves.');
    end if;
    select n.name into missing
    from unnest(array[c.column_name, c.row_key_column, c.tenant_column]) as n (name)
    where n.name is not null and rotator_internal.type_of_column(relation, n.name) is null
    limit 1;
    if missing is not null then
        perform rotator_internal.refuse('22023', format('%s has no column %I', relation, missing), 'Columns are named without their table.');
    elsif rotator_internal.type_of_column(relation, c.column_name) <> 'bytea'::regtype then
        perform rotator_internal.refuse(
            '22023',
            format('column %I is of type %s, not bytea', c.column_name, rotator_internal.type_of_column(relation, c.column_name)),
            'rotator.encrypt() gives bytea: add such a column, fill it, then drop the other one. docs/encrypted-columns.md shows how.');
    elsif exists (
        select from pg_attribute as a
        where a.attrelid = relation and a.attname = c.column_name and a.attgenerated <> '') then
        perform rotator_internal.refuse(
            '22023', format('column %I is generated', c.column_name), 'Register the column that it is made from, or make it a plain one.');
    elsif exists (
        select from pg_attribute as a
        where a.attrelid = relation and a.attname = c.row_key_column and not a.attnotnull) then
        perform rotator_internal.refuse(
            '22023', format('row key column %I may be null', c.row_key_column),
            format('alter table %s alter column %I set not null; a value without a row key can''t be re-encrypted.', relation, c.row_key_column));
    elsif key_type <> all (array['uuid', 'text', 'character varying', 'smallint', 'integer', 'bigint']::regtype[]) then
        perform rotator_internal.refuse(
            '22023', format('row key column %I is of type %s', c.row_key_column, key_type),
            'The key must be uuid, text, varchar or an integer; its text is what rotator.encrypt() got as row_key.');
    elsif c.tenant_column is not null
        and rotator_internal.type_of_column(relation, c.tenant_column) <> all (array['uuid', 'text', 'character varying']::regtype[]) then
        perform rotator_internal.refuse(
            '22023', format('tenant column %I is of type %s', c.tenant_column, rotator_internal.type_of_column(relation, c.tenant_column)),
            'It must hold the tenant''s id (uuid or text) or slug (text).');
    elsif not exists (
        select
        from pg_index as i
        join pg_class as x on x.oid = i.indexrelid
        join pg_am as m on m.oid = x.relam
        where i.indrelid = relation and m.amname = 'btree' and i.indisvalid and i.indpred is null
            and c.row_key_column = (
                select a.attname
                from pg_attribute as a
                where a.attrelid = relation
                    and a.attnum = case
                        when c.tenant_column = (
                            select t.attname from pg_attribute as t where t.attrelid = relation and t.attnum = i.indkey[0])
                        then i.indkey[1] else i.indkey[0] end)) then
        perform rotator_internal.refuse(
            '22023', format('%s has no index by %I', relation, c.row_key_column),
            'Re-encryption walks the table by this column: it takes an index that begins with it, or with tenant and row key.');
    elsif not has_column_privilege('rotator_host', relation, c.column_name, 'update')
        or not has_column_privilege('rotator_host_writer', relation, c.column_name, 'update') then
        perform rotator_internal.refuse(
            '42501', format('rotator_host may not update %s', relation),
            'Call rotator.register_encrypted_column() as the owner of the table: it grants what is needed.');
    end if;
end
$$;

comment on function rotator_internal.check_host_column(rotator_internal.encrypted_column) is
    'Raises 22023 or 42501 unless this column can join key rotation. As rotator_host, who may look into the schema.';

create or replace function rotator_internal.tenant_names(only_tenant uuid, out tenant uuid, out name text) returns setof record
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select t.tenant_id, n.name
    from rotator_internal.tenant as t
    cross join lateral (
        select t.tenant_id::text
        union all
        select t.slug where only_tenant is null
    ) as n (name)
    where t.status = 'active' and (only_tenant is null or t.tenant_id = only_tenant)
    order by t.tenant_id, n.name
$$;

comment on function rotator_internal.tenant_names(uuid) is
    'How the tenants are called in a tenant column: by id and by slug; with only_tenant that one, once.';

create or replace function rotator_internal.change_encrypted_column() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    c rotator_internal.encrypted_column;
    seen record;
    problem text;
    tenant record;
begin
    if tg_op = 'DELETE' then
        delete from rotator_internal.encrypted_column as e
        where e.schema_name = old.schema_name and e.table_name = old.table_name and e.column_name = old.column_name;
        c.only_tenant := old.tenant_id;
    else
        c.id := rotator_internal.uuid_v7();
        c.schema_name := new.schema_name;
        c.table_name := new.table_name;
        c.column_name := new.column_name;
        c.label := rotator_internal.check_line('label', new.label, 255);
        c.row_key_column := new.row_key_column;
        c.tenant_column := new.tenant_column;
        c.registered_by := rotator.current_actor();
        c.registered_at := clock_timestamp();
        if c.label is null or c.row_key_column is null or c.column_name is null then
            perform rotator_internal.refuse(
                '22023', 'column_name, label and row_key_column must be given', 'The label is the one that rotator.encrypt() got.');
        elsif c.tenant_column is null then
            c.only_tenant := rotator.current_tenant();
            if c.only_tenant is null then
                perform rotator_internal.refuse(
                    'RT002', 'no tenant: without a tenant column all rows are of one',
                    'Choose it first: select rotator.use_tenant(''<tenant>''); or name the column that holds each row''s tenant.');
            end if;
        end if;
        perform rotator_internal.check_host_column(c);
        insert into rotator_internal.encrypted_column values (c.*)
        on conflict on constraint encrypted_column_once do nothing;
        if not found then
            perform rotator_internal.refuse(
                '23505', format('%I.%I.%I is registered already', c.schema_name, c.table_name, c.column_name),
                'To change it, unregister it first: rotator.unregister_encrypted_column().');
        end if;

        seen := rotator_internal.count_unreadable(
            c,
            array(select n.tenant from rotator_internal.tenant_names(c.only_tenant) as n),
            array(select n.name from rotator_internal.tenant_names(c.only_tenant) as n));
        if seen.unreadable > 0 then
            problem := format(
                '%s of %s rows in %I.%I.%I do not hold what rotator.encrypt() gives for label %L and their row key, the first: %s',
                seen.unreadable, seen.rows_seen, c.schema_name, c.table_name, c.column_name, c.label, seen.first_unreadable);
        elsif seen.ownerless > 0 then
            problem := format('%s of %s rows in %I.%I have a value and no known tenant in %I, the first: %s',
                seen.ownerless, seen.rows_seen, c.schema_name, c.table_name, c.tenant_column, seen.first_ownerless);
        end if;
        if problem is not null then
            perform rotator_internal.refuse(
                '22023', problem,
                'Encrypt these rows first, each as its tenant: update … set … = rotator.encrypt(…, label, row_key); docs/encrypted-columns.md shows how.');
        end if;
    end if;

    for tenant in
        select t.tenant_id
        from rotator_internal.tenant as t
        where t.status = 'active' and (c.only_tenant is null or t.tenant_id = c.only_tenant)
    loop
        perform rotator_internal.record_event(
            tenant.tenant_id,
            case tg_op when 'DELETE' then 'encrypted_column.unregistered' else 'encrypted_column.registered' end,
            'encrypted_column',
            case tg_op
                when 'DELETE' then format('%I.%I.%I', old.schema_name, old.table_name, old.column_name)
                else format('%I.%I.%I', new.schema_name, new.table_name, new.column_name)
            end);
    end loop;
    return case tg_op when 'DELETE' then old else new end;
end
$$;

comment on function rotator_internal.change_encrypted_column() is
    'INSERT and DELETE on rotator.encrypted_columns: checks, registers or unregisters, audits for each tenant concerned.';

create or replace trigger change_encrypted_column
instead of insert or delete on rotator.encrypted_columns
for each row execute function rotator_internal.change_encrypted_column();

create or replace function rotator.register_encrypted_column(
    relation regclass, column_name name, label text, row_key_column name, tenant_column name default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    host_table record;
    problem text;
begin
    select r.relowner, r.relname, n.nspname, n.oid as schema_oid
    into host_table
    from pg_class as r
    join pg_namespace as n on n.oid = r.relnamespace
    where r.oid = relation;
    if host_table.relname is null then
        raise exception using
            errcode = '22023', message = 'relation is missing', hint = 'For example: rotator.register_encrypted_column(''app.vault'', …).';
    elsif not pg_has_role(host_table.relowner, 'usage') then
        raise exception using
            errcode = '42501', message = format('you are not the owner of %s', relation),
            hint = 'Who owns a table decides that rotator may rewrite a column of it.';
    end if;

    -- As the caller: his to give.
    begin
        if not has_schema_privilege('rotator_host', host_table.schema_oid, 'usage')
            or not has_schema_privilege('rotator_host_writer', host_table.schema_oid, 'usage') then
            execute format('grant usage on schema %I to rotator_host, rotator_host_writer', host_table.nspname);
        end if;
    exception
        when insufficient_privilege then
            get stacked diagnostics problem = message_text;
    end;
    -- A column that is missing is refused below, by name.
    begin
        execute format(
            'grant select (ctid, tableoid, %2$I, %3$I%4$s), update (%2$I) on %1$s to rotator_host',
            relation, column_name, row_key_column, case when tenant_column is null then '' else format(', %I', tenant_column) end);
        execute format('grant select (ctid, tableoid), update (%2$I) on %1$s to rotator_host_writer', relation, column_name);
    exception
        when undefined_column or wrong_object_type or null_value_not_allowed then
            null;
    end;
    if problem is not null or not has_schema_privilege('rotator_host', host_table.schema_oid, 'usage') then
        raise exception using
            errcode = '42501',
            message = coalesce(problem, format('rotator_host may not use schema %I', host_table.nspname)),
            hint = format('As the owner of the schema: grant usage on schema %I to rotator_host, rotator_host_writer;', host_table.nspname);
    end if;

    insert into rotator.encrypted_columns (schema_name, table_name, column_name, label, row_key_column, tenant_column)
    values (host_table.nspname, host_table.relname, register_encrypted_column.column_name, register_encrypted_column.label,
        register_encrypted_column.row_key_column, register_encrypted_column.tenant_column);
end
$$;

comment on function rotator.register_encrypted_column(regclass, name, text, name, name) is
    'A bytea column of your own table, filled by rotator.encrypt(…, label, row_key), joins key rotation: rows are '
    're-encrypted, and keys in use there can''t be retired. row_key_column: uuid, text or integer, the text of which was the '
    'row_key; tenant_column: holds each row''s tenant (id or slug); without one all rows are the current tenant''s. The '
    'caller owns the table and is a rotator_admin; rotator_host and rotator_host_writer are granted what they need of it. Errors: 22023 with counts '
    'when rows don''t hold such values, 42501 not the owner, 23505 registered already.';

create or replace function rotator.unregister_encrypted_column(relation text, column_name name) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parts text[] := parse_ident(relation);
    host_table regclass := to_regclass(relation);
begin
    delete from rotator.encrypted_columns as c
    where c.schema_name = parts[1] and c.table_name = parts[2] and c.column_name = unregister_encrypted_column.column_name;
    if not found then
        raise exception using
            errcode = 'PT404', message = 'no such registered column',
            hint = 'Name the table with its schema, as rotator.encrypted_columns lists it.';
    end if;
    if pg_has_role((select r.relowner from pg_class as r where r.oid = host_table), 'usage') then
        begin
            execute format('revoke update (%2$I) on %1$s from rotator_host, rotator_host_writer', host_table, column_name);
        exception
            when undefined_column then
                null;
        end;
    end if;
end
$$;

comment on function rotator.unregister_encrypted_column(text, name) is
    'The column leaves key rotation: its rows stay under the keys they are under, which may then be retired and destroyed '
    'while rows there still need them. relation is schema.table; the table may be gone. For rotator_admin. Errors: PT404.';
