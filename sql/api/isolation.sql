-- Row-level security on every table with a tenant: on, forced, one policy a command. Members see rows of the current
-- tenant only; api functions run as rotator_owner and pass the same policies; the engine has its own, because it works
-- for all tenants. `(select …)` makes PostgreSQL ask once a query, not once a row.
-- Every upgrade makes all policies anew, so that these are the ones there are, on new tables too.
-- Who may run which command is in api/grants.sql. Covered by tests/tests/security/isolation.rs.

do $isolation$
declare
    former record;
    relation name;
begin
    for former in
        select p.polname as policy, c.relname as relation
        from pg_catalog.pg_policy as p
        join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) p.polrelid
        where c.relnamespace operator(pg_catalog.=) 'rotator_internal'::pg_catalog.regnamespace
    loop
        execute pg_catalog.format('drop policy %I on rotator_internal.%I', former.policy, former.relation);
    end loop;

    for relation in
        select c.relname
        from pg_catalog.pg_class as c
        where c.relnamespace operator(pg_catalog.=) 'rotator_internal'::pg_catalog.regnamespace
          and c.relkind operator(pg_catalog.=) 'r'
          and exists (
            select
            from pg_catalog.pg_attribute as a
            where a.attrelid operator(pg_catalog.=) c.oid
              and a.attname operator(pg_catalog.=) 'tenant_id')
        order by c.relname
    loop
        execute pg_catalog.format('alter table rotator_internal.%I enable row level security', relation);
        execute pg_catalog.format('alter table rotator_internal.%I force row level security', relation);
        execute pg_catalog.format(
            'create policy engine on rotator_internal.%I to rotator_engine using (true) with check (true)', relation);
        execute pg_catalog.format(
            'create policy insert_own on rotator_internal.%I for insert to rotator_owner '
            'with check (tenant_id = (select rotator.current_tenant()))', relation);

        -- Reading the log takes a role of its own; changing it is for nobody.
        if pg_catalog.starts_with(relation::text, 'audit_') then
            execute pg_catalog.format(
                'create policy read_as_auditor on rotator_internal.%I for select to rotator_user '
                'using (tenant_id = (select rotator.current_tenant()) '
                'and (select rotator.current_member_role()) in (''auditor'', ''admin''))', relation);
            -- Who reads every tenant's log reads that a field changed, not what to.
            if relation operator(pg_catalog.<>) 'audit_value' then
                execute pg_catalog.format(
                    'create policy read_all on rotator_internal.%I for select to rotator_auditor using (true)', relation);
            end if;
            continue;
        end if;

        execute pg_catalog.format(
            'create policy read_own on rotator_internal.%I for select to rotator_owner, rotator_user '
            'using (tenant_id = (select rotator.current_tenant()))', relation);
        execute pg_catalog.format(
            'create policy update_own on rotator_internal.%I for update to rotator_owner '
            'using (tenant_id = (select rotator.current_tenant())) '
            'with check (tenant_id = (select rotator.current_tenant()))', relation);
        execute pg_catalog.format(
            'create policy delete_own on rotator_internal.%I for delete to rotator_owner '
            'using (tenant_id = (select rotator.current_tenant()))', relation);
    end loop;
end
$isolation$;

create policy read_all on rotator_internal.encryption_key for select to rotator_admin
    using (true);

create policy read_all on rotator_internal.key_rotation for select to rotator_admin
    using (true);

create policy read_all on rotator_internal.reencryption for select to rotator_admin
    using (true);

create policy read_all on rotator_internal.key_use for select to rotator_admin
    using (true);
