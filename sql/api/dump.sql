-- What pg_dump takes along: every table with a tenant's data and every sequence; not what the engine notes of this one
-- database (when it ticked, up to which transaction it has sealed): elsewhere that isn't true.
-- The script inserts no row into any of them, or a restore would meet it. Run again by every upgrade, for new tables.
-- Covered by tests/tests/security/dump.rs.

do $dump$
declare
    relation oid;
begin
    for relation in
        select c.oid
        from pg_catalog.pg_class as c
        where c.relnamespace operator(pg_catalog.=) 'rotator_internal'::pg_catalog.regnamespace
          and c.relkind operator(pg_catalog.=) any (array['r', 'S']::"char"[])
          and c.relname operator(pg_catalog.<>) all (array['heartbeat', 'audit_seal_state']::name[])
        order by c.oid
    loop
        perform pg_catalog.pg_extension_config_dump(relation, '');
    end loop;
end
$dump$;
