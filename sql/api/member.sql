-- Who acts for a tenant, and as what. Only a rotator_admin may make a login role a member: otherwise one tenant's admin
-- could take over another's application role, which then has two tenants and so none.
-- Table: schema/tenant.sql; how it is read: api/identity.sql. Covered by tests/tests/security/tenancy.rs.

create or replace function rotator_internal.check_member_change(subject text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.check_line('subject', subject, 255);
    if subject is null then
        perform rotator_internal.refuse(
            '22023', 'subject is missing', 'Give the identity provider''s sub, or db:<login role>.');
    elsif starts_with(subject, 'db:') and not rotator_internal.is_operator() then
        perform rotator_internal.refuse(
            '42501', 'only a rotator_admin may change the membership of a login role',
            'Ask an operator, or use the subject of the identity provider.');
    end if;
end
$$;

comment on function rotator_internal.check_member_change(text) is 'Raises 22023 or 42501 unless the caller may change this member.';

create or replace function rotator.add_member(subject text, role text default 'viewer', tenant text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target uuid := rotator_internal.managed_tenant(tenant);
    before text;
begin
    perform rotator_internal.check_member_change(subject);
    if role is null or role not in ('viewer', 'editor', 'auditor', 'admin') then
        perform rotator_internal.refuse('22023', 'unknown role', 'Roles are viewer, editor, auditor and admin.');
    end if;

    select m.role into before
    from rotator_internal.member as m
    where m.tenant_id = target and m.subject = add_member.subject;

    insert into rotator_internal.member as m (tenant_id, subject, role)
    values (target, add_member.subject, add_member.role)
    on conflict on constraint member_pkey do update
    set role = excluded.role, removed_at = null;

    perform rotator_internal.record_event(
        target, 'member.added', 'member', subject, jsonb_build_object('role', jsonb_build_object('old', before, 'new', role)));
end
$$;

comment on function rotator.add_member(text, text, text) is
    'Gives a subject a role in the tenant, or changes it. Subject: the identity provider''s sub, or db:<login role> (by '
    'rotator_admin only). Roles: viewer, editor, auditor, admin. For a tenant admin or rotator_admin.';

create or replace function rotator.remove_member(subject text, tenant text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target uuid := rotator_internal.managed_tenant(tenant);
    before text;
begin
    perform rotator_internal.check_member_change(subject);
    select m.role into before
    from rotator_internal.member as m
    where m.tenant_id = target and m.subject = remove_member.subject;

    -- Also for somebody who has no row: a role claim of theirs then counts no longer.
    insert into rotator_internal.member as m (tenant_id, subject, role, removed_at)
    values (target, remove_member.subject, null, clock_timestamp())
    on conflict on constraint member_pkey do update
    set role = null, removed_at = coalesce(m.removed_at, excluded.removed_at);

    perform rotator_internal.record_event(
        target, 'member.removed', 'member', subject, jsonb_build_object('role', jsonb_build_object('old', before, 'new', null)));
end
$$;

comment on function rotator.remove_member(text, text) is
    'Takes away a subject''s role; a role claim in its token counts no longer either. For a tenant admin or rotator_admin.';
