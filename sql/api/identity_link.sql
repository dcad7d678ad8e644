-- Linking an outside name (a Slack user, a mail address, a PagerDuty user) to a subject, so that whoever presses a button
-- there acts as that subject. One name is one subject a tenant; a subject may have several. Who may: the subject itself, or
-- a tenant's admin. Table: schema/identity_link.sql; what a linked person may then do: api/press.sql.
-- Covered by tests/tests/behaviour/identity_link.rs.

create or replace function rotator_internal.external_name(kind text, external_id text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    name text := case kind when 'email' then lower(external_id) else external_id end;
begin
    if kind is null or kind not in ('slack', 'email', 'pagerduty') then
        perform rotator_internal.refuse('22023', 'unknown kind of identity', 'It is slack, email or pagerduty.');
    elsif kind = 'email' then
        perform rotator_internal.check_address('email', name);
    -- Ids of Slack: a workspace (T) or an organisation (E), and its user (U, or W).
    elsif name is null or not (case kind
        when 'slack' then name ~ '^[TE][A-Z0-9]{1,30}/[UW][A-Z0-9]{1,30}$'
        else name ~ '^[A-Z0-9]{1,40}$'
    end) then
        perform rotator_internal.refuse(
            '22023', format('that is no %s identity', kind),
            case kind
                when 'slack' then 'Workspace and user, like T024BE7LD/U012AB3CD: rotator''s answer to a press of its button names yours.'
                else 'The id of a PagerDuty user, like PLH1HKV: the last part of the address of its page.'
            end);
    end if;
    return name;
end
$$;

comment on function rotator_internal.external_name(text, text) is
    'An outside name as it is looked up; 22023 unless it has the shape of its kind.';

create or replace function rotator_internal.external_index(tenant uuid, kind text, name text) returns bytea
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return rotator_internal.blind_index(tenant, 'identity.external_id', kind || ':' || name);
end
$$;

comment on function rotator_internal.external_index(uuid, text, text) is 'The keyed hash by which an outside name is found.';

create or replace function rotator_internal.require_self_or_admin(subject text) returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    target uuid := rotator_internal.require_role('viewer', 'editor', 'auditor', 'admin');
begin
    if subject is distinct from rotator.current_actor() then
        perform rotator_internal.require_role('admin');
    end if;
    return target;
end
$$;

comment on function rotator_internal.require_self_or_admin(text) is
    'The current tenant, if the caller is this subject or an admin of it; else RT002 or 42501.';

create or replace function rotator.link_identity(subject text, kind text, external_id text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    who text := rotator_internal.check_line('subject', subject, 255);
    target uuid := rotator_internal.require_self_or_admin(who);
    name text := rotator_internal.external_name(kind, external_id);
    hint text := case kind when 'email' then rotator_internal.recipient_hint('email', name) else name end;
    holder text;
begin
    if who is null then
        perform rotator_internal.refuse(
            '22023', 'subject is missing', 'Give the identity provider''s sub, or db:<login role>.');
    end if;
    insert into rotator_internal.identity_link (tenant_id, kind, external_index, external_hint, subject, linked_by)
    values (
        target, link_identity.kind, rotator_internal.external_index(target, link_identity.kind, name), hint, who,
        rotator.current_actor())
    on conflict on constraint identity_link_pkey do nothing;
    if not found then
        select i.subject into strict holder
        from rotator_internal.identity_link as i
        where i.tenant_id = target and i.kind = link_identity.kind
          and i.external_index = rotator_internal.external_index(target, link_identity.kind, name);
        if holder <> who then
            perform rotator_internal.refuse(
                '23505', format('that %s identity is linked to somebody else', kind),
                'See rotator.identities; an admin, or whose it is, takes it back with rotator.unlink_identity.');
        end if;
        return;
    end if;
    perform rotator_internal.record_event(
        target, 'identity.linked', 'identity', who, jsonb_build_object('kind', kind, 'external_id', hint));
end
$$;

comment on function rotator.link_identity(text, text, text) is
    'Says who somebody is elsewhere, so that a button pressed there is pressed by that subject. kind slack: workspace and '
    'user, like T024BE7LD/U012AB3CD; email: an address; pagerduty: the id of a user. For oneself, or by an admin; again is '
    'no change. Errors: 22023 no such kind, or a name it can''t have; 42501 another subject; 23505 linked to somebody else.';

create or replace function rotator.unlink_identity(kind text, external_id text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('viewer', 'editor', 'auditor', 'admin');
    name text := rotator_internal.external_name(kind, external_id);
    gone record;
begin
    select i.subject, i.external_hint into gone
    from rotator_internal.identity_link as i
    where i.tenant_id = target and i.kind = unlink_identity.kind
      and i.external_index = rotator_internal.external_index(target, unlink_identity.kind, name)
    for update;
    if not found then
        return false;
    end if;
    perform rotator_internal.require_self_or_admin(gone.subject);
    delete from rotator_internal.identity_link as i
    where i.tenant_id = target and i.kind = unlink_identity.kind
      and i.external_index = rotator_internal.external_index(target, unlink_identity.kind, name);
    perform rotator_internal.record_event(
        target, 'identity.unlinked', 'identity', gone.subject,
        jsonb_build_object('kind', kind, 'external_id', gone.external_hint));
    return true;
end
$$;

comment on function rotator.unlink_identity(text, text) is
    'Takes back that this name elsewhere is a subject; false when it was nobody. For oneself, or by an admin. Errors: 22023 '
    'no such kind, or a name it can''t have; 42501 somebody else''s.';

create or replace view rotator.identities
with (security_invoker = true)
as
select
    i.subject,
    i.kind,
    i.external_hint,
    i.linked_by,
    i.linked_at
from rotator_internal.identity_link as i
where i.tenant_id = (select rotator.current_tenant());

comment on view rotator.identities is
    'Who is who on Slack, by mail and on PagerDuty. Of a mail address only a hint is shown: no more than that is kept.';
