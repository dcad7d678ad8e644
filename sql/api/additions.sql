-- What somebody added to rotator's objects: policies, and grants. pg_dump takes no policy of an extension's table along,
-- and an upgrade takes grants back, so doctor() lists both. How ours are told apart: a grant is in the list that
-- PostgreSQL keeps of what a script granted, and each policy has a comment with the hash of its definition.
-- Before this runs, all policies are made (api/isolation.sql and what follows it). Covered by tests/tests/security/dump_rights.rs.

create or replace function rotator_internal.policy_hash(policy oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select md5(concat_ws(
        '|', p.polname, p.polrelid::regclass, p.polcmd, p.polpermissive,
        (
            select string_agg(coalesce(r.rolname, 'public'), ',' order by r.rolname)
            from unnest(p.polroles) as u (role)
            left join pg_roles as r on r.oid = u.role
        ),
        coalesce(pg_get_expr(p.polqual, p.polrelid), 'null'), coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'null')))
    from pg_policy as p
    where p.oid = policy
$$;

comment on function rotator_internal.policy_hash(oid) is 'A hash of all that a policy says.';

do $policies$
declare
    own record;
begin
    for own in
        select p.polname as policy, c.relname as relation, p.oid
        from pg_catalog.pg_policy as p
        join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) p.polrelid
        where c.relnamespace operator(pg_catalog.=) 'rotator_internal'::pg_catalog.regnamespace
    loop
        execute pg_catalog.format(
            'comment on policy %I on rotator_internal.%I is %L', own.policy, own.relation,
            pg_catalog.format('Made by rotator, which knows it by %s.', rotator_internal.policy_hash(own.oid)));
    end loop;
end
$policies$;

create or replace function rotator_internal.additions() returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with namespace as (
        select n.oid, n.nspname, n.nspowner, n.nspacl from pg_namespace as n where n.nspname in ('rotator', 'rotator_internal')
    ),
    object as (
        select 'schema ' || n.nspname as name, 'pg_namespace'::regclass as class, n.oid, 0 as part, n.nspowner as owner,
            n.nspacl as acl, acldefault('n', n.nspowner) as default_acl
        from namespace as n
        union all
        select c.oid::regclass::text, 'pg_class'::regclass, c.oid, 0, c.relowner, c.relacl,
            acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)
        from pg_class as c
        where c.relnamespace in (select n.oid from namespace as n) and c.relkind in ('r', 'v', 'S')
        union all
        select c.oid::regclass || '.' || a.attname, 'pg_class'::regclass, c.oid, a.attnum, c.relowner, a.attacl, null
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid
        where c.relnamespace in (select n.oid from namespace as n) and a.attacl is not null
        union all
        select p.oid::regprocedure::text, 'pg_proc'::regclass, p.oid, 0, p.proowner, p.proacl, acldefault('f', p.proowner)
        from pg_proc as p
        where p.pronamespace in (select n.oid from namespace as n)
    ),
    granted as (
        select o.name, a.grantee, a.privilege_type, a.is_grantable
        from object as o
        cross join lateral aclexplode(coalesce(o.acl, o.default_acl)) as a
        where a.grantee <> o.owner
        except
        select o.name, a.grantee, a.privilege_type, a.is_grantable
        from object as o
        left join pg_init_privs as i on i.classoid = o.class and i.objoid = o.oid and i.objsubid = o.part
        cross join lateral aclexplode(coalesce(i.initprivs, o.default_acl)) as a
    ),
    found (rank, addition) as (
        select 1, format('policy %s on %s', p.polname, c.oid::regclass)
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        where c.relnamespace in (select n.oid from namespace as n)
          and coalesce(strpos(obj_description(p.oid, 'pg_policy'), rotator_internal.policy_hash(p.oid)), 0) = 0
        union all
        -- With these in pg_dumpall's roles, create extension refuses.
        select 2, format('membership of %s in %s', m.member::regrole, m.roleid::regrole)
        from pg_auth_members as m
        where m.roleid in (
            select r.oid
            from pg_roles as r
            where r.rolname in ('rotator_owner', 'rotator_engine', 'rotator_host', 'rotator_host_writer'))
        union all
        select 3, format('%s on %s to %s',
            string_agg(lower(g.privilege_type) || case when g.is_grantable then ' with grant option' else '' end,
                ', ' order by g.privilege_type),
            g.name, coalesce(r.rolname, 'public'))
        from granted as g
        left join pg_roles as r on r.oid = g.grantee
        group by g.name, r.rolname
    )
    select f.addition from found as f order by f.rank, f.addition
$$;

comment on function rotator_internal.additions() is
    'Policies on rotator''s tables that the script did not make, memberships in its closed roles, and grants on its objects.';
