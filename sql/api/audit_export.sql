-- What leaves a trace although it changes nothing: an export of the audit log, and a link that was refused to whoever
-- holds it. Reading for an export: the views of api/audit*.sql, by `rotator audit export`; refusals come from the sidecar,
-- since what is raised in SQL takes its own event with it. Covered by tests/tests/delivery/{audit_export,audit_refusals}.rs.

create or replace function rotator.record_audit_export(tenant text default null) returns setof uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    named uuid;
    exported uuid;
begin
    if rotator_internal.in_claims_mode() or not pg_has_role(session_user, 'rotator_auditor', 'member') then
        named := rotator_internal.require_role('auditor', 'admin');
        if tenant is not null and rotator_internal.find_tenant(tenant) is distinct from named then
            perform rotator_internal.refuse('42501', 'that is not your tenant', 'Leave the tenant out to mean your own.');
        end if;
    elsif tenant is not null then
        -- One that has left has no name any more, but still a log.
        named := coalesce(
            rotator_internal.find_tenant(tenant),
            (select t.tenant_id from rotator_internal.tenant as t where t.tenant_id::text = lower(record_audit_export.tenant)));
        if named is null then
            perform rotator_internal.refuse('PT404', 'no such tenant', 'Tenants are named by slug or id; one that has left by its id.');
        end if;
    end if;
    for exported in
        select t.tenant_id
        from rotator_internal.tenant as t
        where named is null or t.tenant_id = named
        order by t.tenant_id
    loop
        perform rotator_internal.record_event(
            exported, 'audit.exported', 'audit', null,
            jsonb_build_object('scope', case when named is null then 'all' else 'tenant' end));
        return next exported;
    end loop;
end
$$;

comment on function rotator.record_audit_export(text) is
    'Says in the audit log that it is exported, and gives the tenants meant: all or the named one for rotator_auditor, else '
    'the caller''s, as its auditor or admin. `rotator audit export` calls it before it reads. Errors: PT404, 42501, RT002.';

create or replace function rotator.audit_seal_position() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select s.below::text
        from rotator_internal.audit_seal_state as s
        where s.walked_event is null
    );
end
$$;

comment on function rotator.audit_seal_position() is
    'Audit events of transactions with lower ids are sealed, each of them; null while that isn''t known, after an upgrade or a restore.';

create or replace function rotator.record_link_refusal(
    token text, action text, reason text, via text default 'link') returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    l record; -- what the link stands for
begin
    if action is null or action not in ('acknowledge', 'rotated', 'snooze') then
        perform rotator_internal.refuse('22023', 'unknown action', 'It is acknowledge, rotated or snooze.');
    elsif reason is null or reason not in ('expired', 'cycle', 'input', 'secret_value', 'state') then
        perform rotator_internal.refuse('22023', 'unknown reason', 'It is expired, cycle, input, secret_value or state.');
    elsif via is null or via not in ('link', 'slack', 'email') then
        perform rotator_internal.refuse('22023', 'unknown via', 'It is link, slack or email.');
    end if;
    select t.* into l from rotator_internal.link_target(token) as t;
    if l.tenant is null then
        return false;
    end if;
    perform rotator_internal.record_event(
        l.tenant, 'link.refused', 'secret', l.secret::text,
        jsonb_build_object('action', action, 'reason', reason, 'cycle', l.cycle, 'notification', l.notification),
        l.addressee, via);
    return true;
end
$$;

comment on function rotator.record_link_refusal(text, text, text, text) is
    'Says in the audit log that an action by a link was refused: the link was expired or of another cycle, or what was '
    'entered was refused (input, secret_value, state). False for an unknown token. For the sidecar.';
