-- The role that writes re-encrypted values into the host's tables: see api/encrypted_column.sql. A role of its own, because
-- triggers over there run with its rights, and rotator_host may read. Made and taken over as in schema/roles.sql.
-- Covered by tests/tests/behaviour/{install,encrypted_column}.rs.

do $role$
declare
    existing record;
begin
    select r.oid, r.rolcanlogin or r.rolsuper or r.rolcreaterole as has_rights, r.rolbypassrls
    into existing
    from pg_catalog.pg_roles as r
    where r.rolname operator(pg_catalog.=) 'rotator_host_writer';
    if not found then
        create role rotator_host_writer nologin bypassrls;
    elsif existing.has_rights then
        raise exception using
            errcode = '42710',
            message = 'role rotator_host_writer exists and has rights that rotator can''t take over',
            hint = 'If the role is yours, rename it. Otherwise: alter role rotator_host_writer nologin nosuperuser nocreaterole;';
    elsif exists (
        select
        from pg_catalog.pg_auth_members as m
        where m.roleid operator(pg_catalog.=) existing.oid
           or m.member operator(pg_catalog.=) existing.oid) then
        raise exception using
            errcode = '42710',
            message = 'role rotator_host_writer has members or is a member of another role',
            hint = 'It may write registered columns, so nobody may act as it: revoke these memberships first.';
    elsif not existing.rolbypassrls then
        alter role rotator_host_writer bypassrls;
    end if;
end
$role$;
