-- What logical replication asks of our tables. Its apply worker fires no statement triggers for UPDATE and DELETE (for
-- TRUNCATE it does), so every table that is append only refuses row by row as well. And where everything is published, a
-- table without a primary key must say how a row is found, or nobody could delete from it any more.
-- Covered by tests/tests/security/replication.rs.

do $replication$
declare
    relation name;
begin
    for relation in
        select c.relname
        from pg_catalog.pg_class as c
        join pg_catalog.pg_trigger as t on t.tgrelid operator(pg_catalog.=) c.oid
        where c.relnamespace operator(pg_catalog.=) 'rotator_internal'::pg_catalog.regnamespace
          and t.tgname operator(pg_catalog.=) 'append_only'
        order by c.relname
    loop
        execute pg_catalog.format(
            'create trigger append_only_rows before update or delete on rotator_internal.%I '
            'for each row execute function rotator_internal.refuse_audit_change()', relation);
        execute pg_catalog.format('alter table rotator_internal.%I enable always trigger append_only_rows', relation);
    end loop;
end
$replication$;

alter table rotator_internal.key_use replica identity full;
