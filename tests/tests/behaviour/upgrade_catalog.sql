-- Everything the extension rotator is, as rows (thing, property, value), for upgrade_catalog.rs: the objects of its two
-- schemas with their definitions, owners, privileges and comments, what belongs to it, what pg_dump takes, the cluster's
-- roles and settings. No object number and no version in it, so that two databases can be compared. Lists are sorted
-- unless their order means something (columns, labels of an enum, indexes: the planner prefers the newest).

with
our_schema as (
    select n.* from pg_namespace as n where n.nspname in ('rotator', 'rotator_internal')
),
relation as (
    select
        c.*,
        case c.relkind when 'r' then 'table' when 'v' then 'view' when 'i' then 'index' when 'S' then 'sequence'
            when 'c' then 'composite type' else 'relation of kind ' || c.relkind::text end
            || ' ' || n.nspname || '.' || c.relname as thing
    from pg_class as c
    join our_schema as n on n.oid = c.relnamespace
),
routine as (
    select p.*, 'function ' || p.oid::regprocedure::text as thing
    from pg_proc as p
    where p.pronamespace in (select oid from our_schema)
),
data_type as (
    select t.*, 'type ' || t.oid::regtype::text as thing
    from pg_type as t
    where t.typnamespace in (select oid from our_schema)
      and (t.typtype not in ('c', 'b') or (t.typtype = 'b' and t.typelem = 0))
),
found (thing, property, value, acl, default_acl) as (
    -- the schemas
    select 'schema ' || nspname, p.property, p.value, p.acl, p.default_acl
    from our_schema as n
    cross join lateral (values
        ('owner', n.nspowner::regrole::text, null::aclitem[], null::aclitem[]),
        ('comment', obj_description(n.oid, 'pg_namespace'), null, null),
        ('privileges', null, n.nspacl, acldefault('n', n.nspowner))
    ) as p (property, value, acl, default_acl)

    -- tables, views, indexes, sequences
    union all
    select c.thing, p.property, p.value, p.acl, p.default_acl
    from relation as c
    cross join lateral (values
        ('owner', c.relowner::regrole::text, null::aclitem[], null::aclitem[]),
        ('comment', obj_description(c.oid, 'pg_class'), null, null),
        ('options', (select string_agg(o, ', ' order by o) from unnest(c.reloptions) as o), null, null),
        ('persistence', c.relpersistence::text, null, null),
        ('replica identity', c.relreplident::text, null, null),
        ('row security', format('enabled %s, forced %s', c.relrowsecurity, c.relforcerowsecurity), null, null),
        ('access method', (select a.amname::text from pg_am as a where a.oid = c.relam), null, null),
        ('tablespace', c.reltablespace::text, null, null),
        ('definition', case c.relkind when 'v' then pg_get_viewdef(c.oid) when 'i' then pg_get_indexdef(c.oid) end, null, null),
        ('indexes, in order of creation', (
            select string_agg(i.indexrelid::regclass::text, ', ' order by i.indexrelid)
            from pg_index as i where i.indrelid = c.oid), null, null),
        ('state', (
            select format('valid %s, ready %s, clustered %s, primary %s, immediate %s',
                i.indisvalid, i.indisready, i.indisclustered, i.indisprimary, i.indimmediate)
            from pg_index as i where i.indexrelid = c.oid), null, null),
        ('counts', (
            select format('%s from %s to %s by %s, starts %s, cache %s, cycle %s', s.seqtypid::regtype, s.seqmin, s.seqmax,
                s.seqincrement, s.seqstart, s.seqcache, s.seqcycle)
            from pg_sequence as s where s.seqrelid = c.oid), null, null),
        ('privileges', null,
            case when c.relkind in ('r', 'v', 'm', 'p', 'f', 'S') then
                coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)) end, null)
    ) as p (property, value, acl, default_acl)

    -- their columns
    union all
    select 'column ' || substr(c.thing, strpos(c.thing, ' ') + 1) || '.' || a.attname, p.property, p.value, p.acl, null
    from relation as c
    join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
    cross join lateral (values
        ('place', a.attnum::text, null::aclitem[]),
        ('type', format_type(a.atttypid, a.atttypmod), null),
        ('not null', a.attnotnull::text, null),
        ('default', pg_get_expr(d.adbin, d.adrelid), null),
        ('storage', a.attstorage::text, null),
        ('compression', a.attcompression::text, null),
        ('statistics target', a.attstattarget::text, null),
        ('collation', nullif(a.attcollation, 0)::regcollation::text, null),
        ('identity, generated', a.attidentity::text || a.attgenerated::text, null),
        -- pg_attver is a number that minor releases of May 2026 give each column when it is made or changed.
        ('options', (select string_agg(o, ', ' order by o) from unnest(a.attoptions) as o where o not like 'pg_attver=%'), null),
        ('comment', col_description(c.oid, a.attnum), null),
        ('privileges', null, a.attacl)
    ) as p (property, value, acl)
    where c.relkind not in ('i', 'S')

    -- constraints, triggers, rules, policies
    union all
    select
        format('constraint %s of %s', k.conname, coalesce(nullif(k.conrelid, 0)::regclass::text, k.contypid::regtype::text)),
        p.property, p.value, null, null
    from pg_constraint as k
    cross join lateral (values
        ('definition', pg_get_constraintdef(k.oid)),
        ('state', format('validated %s, deferrable %s, deferred %s, inherits %s',
            k.convalidated, k.condeferrable, k.condeferred, not k.connoinherit)),
        ('comment', obj_description(k.oid, 'pg_constraint'))
    ) as p (property, value)
    where k.connamespace in (select oid from our_schema)
    union all
    select format('trigger %s of %s', t.tgname, c.oid::regclass), p.property, p.value, null, null
    from pg_trigger as t
    join relation as c on c.oid = t.tgrelid
    cross join lateral (values
        ('definition', pg_get_triggerdef(t.oid)),
        ('fires', t.tgenabled::text),
        ('comment', obj_description(t.oid, 'pg_trigger'))
    ) as p (property, value)
    where not t.tgisinternal
    union all
    select format('triggers of the foreign keys of %s', c.oid::regclass), 'fire', string_agg(distinct t.tgenabled::text, ' '), null, null
    from pg_trigger as t
    join relation as c on c.oid = t.tgrelid
    where t.tgisinternal
    group by c.oid
    union all
    select format('rule %s of %s', r.rulename, c.oid::regclass), p.property, p.value, null, null
    from pg_rewrite as r
    join relation as c on c.oid = r.ev_class
    cross join lateral (values ('definition', pg_get_ruledef(r.oid)), ('fires', r.ev_enabled::text)) as p (property, value)
    union all
    select format('policy %s of %s', y.polname, c.oid::regclass), p.property, p.value, null, null
    from pg_policy as y
    join relation as c on c.oid = y.polrelid
    cross join lateral (values
        ('command', format('%s, permissive %s', y.polcmd, y.polpermissive)),
        ('roles', (
            select string_agg(case when r = 0 then 'public' else r::regrole::text end, ', ' order by r::regrole::text)
            from unnest(y.polroles) as r)),
        ('using', pg_get_expr(y.polqual, y.polrelid)),
        ('with check', pg_get_expr(y.polwithcheck, y.polrelid)),
        ('comment', obj_description(y.oid, 'pg_policy'))
    ) as p (property, value)

    -- functions and types
    union all
    select f.thing, p.property, p.value, p.acl, p.default_acl
    from routine as f
    cross join lateral (values
        ('definition', case when f.prokind <> 'a' then pg_get_functiondef(f.oid) end, null::aclitem[], null::aclitem[]),
        ('owner', f.proowner::regrole::text, null, null),
        ('comment', obj_description(f.oid, 'pg_proc'), null, null),
        ('privileges', null, f.proacl, acldefault('f', f.proowner))
    ) as p (property, value, acl, default_acl)
    union all
    select t.thing, p.property, p.value, p.acl, p.default_acl
    from data_type as t
    cross join lateral (values
        ('definition', format('%s over %s, not null %s, default %s, collation %s', t.typtype,
            nullif(t.typbasetype, 0)::regtype, t.typnotnull, t.typdefault, nullif(t.typcollation, 0)::regcollation),
            null::aclitem[], null::aclitem[]),
        ('labels', (select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum as e where e.enumtypid = t.oid),
            null, null),
        ('owner', t.typowner::regrole::text, null, null),
        ('comment', obj_description(t.oid, 'pg_type'), null, null),
        ('privileges', null, t.typacl, acldefault('T', t.typowner))
    ) as p (property, value, acl, default_acl)

    -- what belongs to the extension, and what pg_dump takes or takes for granted
    union all
    select format('membership of %s %s', o.type, o.identity), 'in extension rotator', 'yes', null, null
    from pg_extension as e
    join pg_depend as d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
    cross join lateral pg_identify_object(d.classid, d.objid, d.objsubid) as o
    where e.extname = 'rotator'
    union all
    select format('dump of the rows of %s', m.relation::regclass), 'which', format('where (%s)', m.condition), null, null
    from pg_extension as e
    cross join lateral unnest(e.extconfig, e.extcondition) as m (relation, condition)
    where e.extname = 'rotator'
    union all
    select 'extension rotator', p.property, p.value, null, null
    from pg_extension as e
    cross join lateral (values
        ('owner', e.extowner::regrole::text),
        ('schema', e.extnamespace::regnamespace::text),
        ('relocatable', e.extrelocatable::text),
        ('comment', obj_description(e.oid, 'pg_extension'))
    ) as p (property, value)
    where e.extname = 'rotator'
    union all
    select format('%s %s', o.type, o.identity), 'privileges that a dump takes for granted', null, i.initprivs, null
    from pg_init_privs as i
    cross join lateral pg_identify_object(i.classoid, i.objoid, i.objsubid) as o
    where o.schema in ('rotator', 'rotator_internal') or (o.type = 'schema' and o.identity in ('rotator', 'rotator_internal'))

    -- the cluster's roles, and settings
    union all
    select 'role ' || r.rolname, p.property, p.value, null, null
    from pg_roles as r
    cross join lateral (values
        ('attributes', concat_ws(', ',
            case when r.rolsuper then 'superuser' end, case when r.rolinherit then 'inherit' end,
            case when r.rolcreaterole then 'createrole' end, case when r.rolcreatedb then 'createdb' end,
            case when r.rolcanlogin then 'login' end, case when r.rolreplication then 'replication' end,
            case when r.rolbypassrls then 'bypassrls' end, 'connections ' || r.rolconnlimit)),
        ('comment', shobj_description(r.oid, 'pg_authid')),
        ('member of', (
            select string_agg(m.roleid::regrole::text || case when m.admin_option then ' with admin option' else '' end, ', '
                order by m.roleid::regrole::text)
            from pg_auth_members as m where m.member = r.oid))
    ) as p (property, value)
    where r.rolname in (
        'rotator_user', 'rotator_admin', 'rotator_auditor', 'rotator_sidecar', 'rotator_owner', 'rotator_engine', 'rotator_host',
        'rotator_host_writer')
    union all
    select
        format('settings of role %s', coalesce(nullif(s.setrole, 0)::regrole::text, 'all')),
        case when s.setdatabase = 0 then 'everywhere' else 'in this database' end, s.setconfig::text, null, null
    from pg_db_role_setting as s
    where s.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
    union all
    select format('default privileges of %s', d.defaclrole::regrole), 'in ' || n.nspname || ' for ' || d.defaclobjtype::text, null, d.defaclacl, null
    from pg_default_acl as d
    join our_schema as n on n.oid = d.defaclnamespace
)
select
    thing,
    property,
    coalesce(
        value,
        (select string_agg(a::text, ' ' order by a::text) from unnest(coalesce(acl, default_acl)) as a),
        '(none)') as value
from found
order by 1, 2
