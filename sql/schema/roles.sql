-- The cluster's roles: made once, shared by every database, left behind by DROP EXTENSION (a role can't be a member of
-- an extension). A role that is already there is taken over when its shape is harmless; anything else stops the
-- installation, because whoever could log in as an owner of our objects would own every tenant's data.
-- Grants are in api/grants.sql. Covered by tests/tests/behaviour/install.rs.

do $roles$
declare
    wanted record;
    existing record;
begin
    for wanted in
        select *
        from (values
            ('rotator_user', false, false),
            ('rotator_admin', false, false),
            ('rotator_auditor', false, false),
            ('rotator_sidecar', false, false),
            ('rotator_owner', false, true),
            ('rotator_engine', false, true),
            ('rotator_host', true, true)
        ) as w (name, bypassrls, closed)
    loop
        select r.oid, r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolbypassrls
        into existing
        from pg_catalog.pg_roles as r
        where r.rolname operator(pg_catalog.=) wanted.name;

        if not found then
            execute pg_catalog.format(
                'create role %I nologin %s',
                wanted.name,
                case when wanted.bypassrls then 'bypassrls' else 'nobypassrls' end);
            continue;
        end if;

        if existing.rolcanlogin or existing.rolsuper or existing.rolcreaterole
            or (existing.rolbypassrls and not wanted.bypassrls) then
            raise exception using
                errcode = '42710',
                message = pg_catalog.format('role %s exists and has rights that rotator can''t take over', wanted.name),
                hint = pg_catalog.format(
                    'If the role is yours, rename it. Otherwise: alter role %I nologin nosuperuser nocreaterole %s;',
                    wanted.name,
                    case when wanted.bypassrls then '' else 'nobypassrls' end);
        end if;

        if wanted.closed and exists (
            select
            from pg_catalog.pg_auth_members as m
            where m.roleid operator(pg_catalog.=) existing.oid
               or m.member operator(pg_catalog.=) existing.oid) then
            raise exception using
                errcode = '42710',
                message = pg_catalog.format('role %s has members or is a member of another role', wanted.name),
                hint = 'It owns rotator''s objects, so nobody may act as it: revoke these memberships first '
                    '(\drg in psql lists them).';
        end if;

        if wanted.bypassrls and not existing.rolbypassrls then
            execute pg_catalog.format('alter role %I bypassrls', wanted.name);
        end if;
    end loop;
end
$roles$;
