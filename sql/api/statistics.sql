-- The planner's statistics are about all tenants, and EXPLAIN tells its estimates to anyone: a guessed value, date or
-- tenant would show how much others have of it. So what members may read has none; their statements go by indexes that
-- begin with tenant_id. Only that column itself keeps them where no view shows it, so that nobody can compare it with a
-- value: they tell the planner how many tenants share the table. After the grants, which say what members may read.
-- Covered by tests/tests/security/estimates.rs.

do $statistics$
declare
    readable record;
begin
    for readable in
        select a.attrelid, a.attnum, a.attname
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) a.attrelid
        where c.relnamespace operator(pg_catalog.=) 'rotator_internal'::pg_catalog.regnamespace
          and c.relkind operator(pg_catalog.=) 'r'
          and a.attnum operator(pg_catalog.>) 0
          and not a.attisdropped
          and coalesce(a.attstattarget, -1) operator(pg_catalog.<>) 0
          and pg_catalog.has_column_privilege('rotator_user', a.attrelid, a.attnum, 'select')
          and not (
            a.attname operator(pg_catalog.=) 'tenant_id'
            and c.relname operator(pg_catalog.=) any (array[
                'alert', 'contact', 'notification', 'notification_policy', 'recipient', 'rotation', 'secret']::name[]))
    loop
        execute pg_catalog.format(
            'alter table %s alter column %I set statistics 0', readable.attrelid::pg_catalog.regclass, readable.attname);
        -- ANALYZE passes over the column from now on, so it would leave what an older version gathered.
        delete from pg_catalog.pg_statistic as s
        where s.starelid operator(pg_catalog.=) readable.attrelid and s.staattnum operator(pg_catalog.=) readable.attnum;
    end loop;
end
$statistics$;
