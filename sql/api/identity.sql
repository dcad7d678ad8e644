-- Who is asking, for which tenant, as what. Claims mode: a session user listed in rotator.trusted_authenticators, whose
-- tenant, subject and role come from request.jwt.claims. Member mode: everybody else, by login role. Anything missing or
-- malformed means no tenant. Native parts (claims parser, bound tenant): extension/src/{claims,session}.
-- Covered by tests/tests/security/{tenancy,claims}.rs.

create or replace function rotator_internal.find_tenant(reference text) returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Two look-ups by index. One condition over both columns scans all tenants, which callers with enable_seqscan = off
    -- price so high that PostgreSQL compiles the query (JIT) in every session.
    return (
        select t.tenant_id
        from rotator_internal.tenant as t
        where t.status = 'active' and t.slug = reference
        union all
        select t.tenant_id
        from rotator_internal.tenant as t
        where t.status = 'active'
          and t.tenant_id = case
              when reference ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then reference::uuid
          end
    );
end
$$;

comment on function rotator_internal.find_tenant(text) is 'The active tenant with this slug or id; null when there is none.';

create or replace function rotator_internal.is_operator() returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select not rotator_internal.in_claims_mode() and pg_has_role(session_user, 'rotator_admin', 'member')
    );
end
$$;

comment on function rotator_internal.is_operator() is
    'Whether the login role is a rotator_admin (superusers are); never in claims mode.';

create or replace function rotator_internal.work_out_identity(out tenant uuid, out actor text, out role text)
language plpgsql stable parallel restricted
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    claimed text[];
    candidate uuid;
    granted text;
begin
    if rotator_internal.in_claims_mode() then
        claimed := rotator_internal.claims();
        -- "db:" names login roles: no token may speak as one of them.
        if claimed[1] is null or claimed[2] is null or starts_with(claimed[2], 'db:') then
            return;
        end if;
        actor := claimed[2];
        candidate := rotator_internal.find_tenant(claimed[1]);
        select m.role into granted
        from rotator_internal.member as m
        where m.tenant_id = candidate and m.subject = claimed[2];
        if not found and claimed[3] in ('viewer', 'editor', 'auditor', 'admin') then
            granted := claimed[3];
        end if;
    else
        actor := 'db:' || session_user;
        candidate := rotator_internal.bound_tenant();
        if candidate is null then
            select (array_agg(m.tenant_id))[1], (array_agg(m.role))[1]
            into candidate, granted
            from rotator_internal.member as m
            join rotator_internal.tenant as t on t.tenant_id = m.tenant_id
            where m.subject = actor and m.role is not null and t.status = 'active'
            having count(*) = 1;
        elsif not exists (
            select from rotator_internal.tenant as t where t.tenant_id = candidate and t.status = 'active') then
            return;
        elsif rotator_internal.is_operator() then
            granted := 'admin';
        else
            select m.role into granted
            from rotator_internal.member as m
            where m.tenant_id = candidate and m.subject = actor;
        end if;
    end if;

    if candidate is not null and granted is not null then
        tenant := candidate;
        role := granted;
    end if;
end
$$;

comment on function rotator_internal.work_out_identity() is
    'Tenant, actor and role of this session, from its claims or its login role and the members as they are now.';

create or replace function rotator_internal.identity(out tenant uuid, out actor text, out role text)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Every policy of every statement asks. The library forgets when a setting, a member, a tenant or a role changes, in
    -- this session or another: extension/src/session/memory.rs.
    me record := rotator_internal.recall_identity();
begin
    if me.tenant is null then
        select w.* into me
        from rotator_internal.work_out_identity() as w;
        perform rotator_internal.remember_identity(me.tenant, me.actor, me.role);
    end if;
    tenant := me.tenant;
    actor := me.actor;
    role := me.role;
end
$$;

comment on function rotator_internal.identity() is
    'Tenant, actor and role of this session. Without a role there is no tenant either.';

create or replace trigger forget_identity
after insert or update or delete or truncate on rotator_internal.member
for each statement execute function rotator_internal.forget_identity();
alter table rotator_internal.member enable always trigger forget_identity;

create or replace trigger forget_identity
after insert or update or delete or truncate on rotator_internal.tenant
for each statement execute function rotator_internal.forget_identity();
alter table rotator_internal.tenant enable always trigger forget_identity;

create or replace function rotator.current_tenant() returns uuid
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    tenant uuid := rotator_internal.recall_tenant();
begin
    if tenant is null then
        tenant := (select i.tenant from rotator_internal.identity() as i);
    end if;
    return tenant;
end
$$;

comment on function rotator.current_tenant() is 'The tenant this session acts for; null when none, and then nothing is visible.';

create or replace function rotator.current_actor() returns text
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select i.actor from rotator_internal.identity() as i
    );
end
$$;

comment on function rotator.current_actor() is
    'Who is asking: the subject of the verified claims, or `db:` and the login role. The audit log records this.';

create or replace function rotator.current_member_role() returns text
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select i.role from rotator_internal.identity() as i
    );
end
$$;

comment on function rotator.current_member_role() is 'viewer, editor, auditor or admin in the current tenant; null when none.';

create or replace function rotator.current_time_zone() returns text
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select t.time_zone from rotator_internal.tenant as t where t.tenant_id = rotator.current_tenant()
    );
end
$$;

comment on function rotator.current_time_zone() is
    'The IANA time zone of the current tenant, in which its days are counted and dates without a zone are read.';

create or replace function rotator.use_tenant(tenant text, is_local boolean default false) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    chosen uuid := rotator_internal.find_tenant(tenant);
begin
    if rotator_internal.in_claims_mode() then
        perform rotator_internal.refuse(
            '42501',
            'use_tenant is not for a trusted authenticator: its tenant comes from the claims',
            'Set the tenant claim in the token, or connect as another login role.');
    end if;
    -- A trigger runs with whoever changes its table: it must not choose for him.
    if pg_trigger_depth() > 0 then
        perform rotator_internal.refuse(
            '42501', 'use_tenant is not for triggers', 'Choose the tenant in the session, before the statement that fires the trigger.');
    end if;
    -- One answer for "unknown" and "not yours", so that nobody can try out names.
    if chosen is null or not (
        rotator_internal.is_operator()
        or exists (
            select from rotator_internal.member as m
            where m.tenant_id = chosen and m.subject = 'db:' || session_user and m.role is not null)) then
        perform rotator_internal.refuse(
            '42501',
            format('login role %s belongs to no such tenant', quote_ident(session_user)),
            'A rotator_admin adds it: select rotator.add_member(''db:<login role>'', ''viewer'', ''<tenant>'');');
    end if;
    perform rotator_internal.bind_tenant(chosen, coalesce(is_local, false));
    return chosen;
end
$$;

comment on function rotator.use_tenant(text, boolean) is
    'Chooses the tenant, by slug or id, for this session, or with is_local for this transaction. ROLLBACK and DISCARD ALL '
    'forget the choice. Behind a transaction-mode pooler use is_local. Errors: 42501 when the login role does not belong to it.';

create or replace function rotator_internal.require_role(variadic roles text[]) returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    me record;
begin
    select * into me from rotator_internal.identity();
    if me.tenant is null then
        perform rotator_internal.refuse(
            'RT002',
            'no tenant, or no role in it',
            case
                when rotator_internal.in_claims_mode()
                then 'The token must carry the tenant claim, sub, and a role by claim or membership.'
                else 'Choose one with select rotator.use_tenant(''<tenant>''); a tenant admin grants roles with '
                    'rotator.add_member.'
            end);
    elsif me.role <> all (roles) then
        perform rotator_internal.refuse(
            '42501',
            format('role %s may not do this', me.role),
            format('It takes %s in this tenant; a tenant admin can grant it with rotator.add_member.',
                array_to_string(roles, ' or ')));
    end if;
    return me.tenant;
end
$$;

comment on function rotator_internal.require_role(text[]) is
    'The current tenant, if the caller has one of these roles in it; else RT002 or 42501.';

create or replace function rotator_internal.managed_tenant(tenant text) returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    named uuid;
    current uuid;
begin
    if tenant is null then
        return rotator_internal.require_role('admin');
    end if;
    named := rotator_internal.find_tenant(tenant);
    if rotator_internal.is_operator() then
        if named is null then
            perform rotator_internal.refuse('PT404', 'no such tenant', 'Tenants are named by slug or id.');
        end if;
        return named;
    end if;
    current := rotator_internal.require_role('admin');
    if named is distinct from current then
        perform rotator_internal.refuse('42501', 'that is not your tenant', 'Leave the tenant out to mean your own.');
    end if;
    return current;
end
$$;

comment on function rotator_internal.managed_tenant(text) is
    'The tenant an admin call is about: any for a rotator_admin, else the caller''s own, as its admin.';
