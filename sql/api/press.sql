-- A button in a message, pressed by somebody whom a vendor names: the sidecar has checked the vendor's signature, here the
-- name becomes a subject, and the subject is checked as a member is (rotator_internal.may_handle). What then happens is
-- the same as by the link in that message (api/link.sql). Refusals are recorded by the sidecar's second call, since what
-- is raised takes its own event with it. Links: api/identity_link.sql. Covered by tests/tests/behaviour/press.rs.

create or replace function rotator_internal.linked_subject(tenant uuid, kind text, name text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select i.subject
        from rotator_internal.identity_link as i
        where i.tenant_id = linked_subject.tenant and i.kind = linked_subject.kind
          and i.external_index = rotator_internal.external_index(tenant, linked_subject.kind, name)
    );
end
$$;

comment on function rotator_internal.linked_subject(uuid, text, text) is
    'Who of the tenant that is; null when it is linked to nobody. The name is checked already (external_name).';

create or replace function rotator_internal.presser_role(secret rotator_internal.secret, subject text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    known record;
begin
    select m.role, m.removed_at into known
    from rotator_internal.member as m
    where m.tenant_id = secret.tenant_id and m.subject = presser_role.subject;
    if known.removed_at is not null then
        perform rotator_internal.refuse(
            '42501', 'that member was removed', 'A tenant admin grants a role with rotator.add_member.');
    elsif coalesce(known.role in ('editor', 'admin'), false)
        or subject = secret.owner_id or subject = secret.secondary_owner_id or subject = secret.team_lead_id then
        return known.role;
    end if;
    perform rotator_internal.refuse_handling(known.role);
end
$$;

comment on function rotator_internal.presser_role(rotator_internal.secret, text) is
    'The role of a subject who may handle the secret: an editor, an admin, or one of its own owners, with or without a role; '
    'else 42501. Role claims are not known here: only members count.';

create or replace function rotator_internal.check_press(action text, kind text, external_id text, via text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if action is null or action not in ('acknowledge', 'rotated', 'snooze') then
        perform rotator_internal.refuse('22023', 'unknown action', 'It is acknowledge, rotated or snooze.');
    elsif coalesce(via, kind) not in ('slack', 'email', 'pagerduty') then
        perform rotator_internal.refuse('22023', 'unknown via', 'It is slack, email or pagerduty.');
    end if;
    return rotator_internal.external_name(kind, external_id);
end
$$;

comment on function rotator_internal.check_press(text, text, text, text) is
    'Who pressed, as it is looked up; 22023 for what no button or person can be.';

create or replace function rotator.press_button(
    token text,
    action text,
    kind text,
    external_id text,
    note text default null,
    until timestamptz default null,
    next_expiry_date timestamptz default null,
    via text default null) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    name text := rotator_internal.check_press(action, kind, external_id, via);
    remark text := rotator_internal.check_text('note', note);
    l record; -- what the button's token stands for
    who text;
    locked rotator_internal.secret;
    result jsonb;
begin
    select t.* into l from rotator_internal.link_target(token) as t;
    if l.secret is null then
        perform rotator_internal.refuse_unknown_link();
    end if;
    who := rotator_internal.linked_subject(l.tenant, kind, name);
    if who is null then
        perform rotator_internal.refuse(
            '42501', format('this %s identity is linked to nobody', kind),
            'Link it: select rotator.link_identity(''<subject>'', ''<kind>'', ''<identity>''), by the subject itself or an admin.');
    end if;
    locked := rotator_internal.lock_secret(l.tenant, l.secret);
    result := rotator_internal.act_by_link(
        locked, l.cycle, l.expires_at, action, remark, until, next_expiry_date, who, coalesce(via, kind),
        coalesce(rotator_internal.presser_role(locked, who) = 'admin', false));
    return result || jsonb_build_object('message', coalesce(
        rotator_internal.summary_after(token),
        rotator_internal.message_after(l.tenant, l.secret, l.cycle, l.notification)));
end
$$;

comment on function rotator.press_button(text, text, text, text, text, timestamptz, timestamptz, text) is
    'Acts by the button of a message: acknowledge, rotated or snooze (needs until), as the subject that the pressing '
    'identity is linked to, if that subject may handle the secret. Gives what redeem_link gives, and as message what the '
    'message says now (of a summary: each of its items). via: how it came, when that isn''t the kind. For the sidecar, which '
    'checks whose signature a press has. Errors: 42501 linked to nobody, or may not; PT404, PT409, PT410, 22023 as '
    'redeem_link.';

create or replace function rotator.record_press_refusal(
    token text, action text, reason text, kind text, external_id text, via text default null) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    name text := rotator_internal.check_press(action, kind, external_id, via);
    hint text := case kind when 'email' then rotator_internal.recipient_hint('email', name) else name end;
    l record; -- what the button's token stands for
begin
    if reason is null or reason not in ('stranger', 'role', 'expired', 'cycle', 'input', 'secret_value', 'state') then
        perform rotator_internal.refuse(
            '22023', 'unknown reason', 'It is stranger, role, expired, cycle, input, secret_value or state.');
    end if;
    select t.* into l from rotator_internal.link_target(token) as t;
    if l.tenant is null then
        return false;
    end if;
    perform rotator_internal.record_event(
        l.tenant, 'button.refused', 'secret', l.secret::text,
        jsonb_build_object(
            'action', action, 'reason', reason, 'cycle', l.cycle, 'notification', l.notification,
            'kind', kind, 'external_id', hint),
        coalesce(rotator_internal.linked_subject(l.tenant, kind, name), kind || ':' || hint), coalesce(via, kind));
    return true;
end
$$;

comment on function rotator.record_press_refusal(text, text, text, text, text, text) is
    'Says in the audit log that a button was refused: pressed by a stranger or by somebody whose role isn''t enough, or as '
    'record_link_refusal. False for an unknown token. For the sidecar. Errors: 22023.';
