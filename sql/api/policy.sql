-- Who is told how many days before an expiry. Changing a policy plans the secrets that follow it anew; what is already
-- queued stays. Table: schema/policy.sql; due-date maths: api/calendar.sql. Covered by tests/tests/behaviour/policy.rs.

create or replace function rotator_internal.lock_policies(tenant uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Not stronger: a tick that stores a recipient checks its foreign key to this row, while it holds calendar rows.
    perform from rotator_internal.tenant as t where t.tenant_id = lock_policies.tenant for no key update;
end
$$;

comment on function rotator_internal.lock_policies(uuid) is
    'Waits for registrations under way, which were planned by the old policies, and holds up new ones: what plans the '
    'followers anew then sees all of them.';

create or replace function rotator_internal.plan_followers(tenant uuid, secret uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if secret is null then
        perform rotator_internal.plan_tenant(tenant);
    else
        perform rotator_internal.lock_secret(tenant, secret);
        perform rotator_internal.plan(tenant, secret);
    end if;
end
$$;

comment on function rotator_internal.plan_followers(uuid, uuid) is
    'Plans anew what a policy is about: its secret, or without one every secret of the tenant.';

create or replace function rotator.add_notification_policy(
    lead_time_days integer,
    channel text default null,
    recipient text default null,
    secret_id uuid default null) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('admin');
    to_whom uuid;
    made uuid;
begin
    if lead_time_days is null or lead_time_days not between -3650 and 3650 then
        perform rotator_internal.refuse(
            '22023', 'lead_time_days must be between -3650 and 3650', 'Days before the expiry; 0 on it, negative after it.');
    end if;
    if recipient is not null then
        if channel is null then
            perform rotator_internal.refuse('22023', 'a recipient needs its channel', 'Give the channel as well.');
        end if;
        perform rotator_internal.check_address(channel, recipient);
        to_whom := rotator_internal.intern_recipient(target, channel, recipient);
    elsif channel is not null and channel not in ('slack', 'email', 'pagerduty', 'webhook', 'console') then
        perform rotator_internal.refuse(
            '22023', 'unknown channel', 'Channels are slack, email, pagerduty, webhook and console.');
    end if;
    perform rotator_internal.lock_policies(target);
    if secret_id is not null then
        perform rotator_internal.lock_secret(target, secret_id);
    end if;

    insert into rotator_internal.notification_policy as p (tenant_id, secret_id, lead_time_days, channel, recipient_id)
    values (target, add_notification_policy.secret_id, add_notification_policy.lead_time_days,
        add_notification_policy.channel, to_whom)
    on conflict do nothing
    returning p.id into made;
    if made is null then
        perform rotator_internal.refuse(
            '23505', 'there is such a policy already', 'List them with select * from rotator.notification_policies;');
    end if;

    perform rotator_internal.plan_followers(target, add_notification_policy.secret_id);
    perform rotator_internal.record_event_with_values(
        target, 'policy.added', 'notification_policy', made::text,
        jsonb_strip_nulls(jsonb_build_object(
            'lead_time_days', lead_time_days, 'channel', channel, 'secret_id', secret_id,
            'recipient', case when recipient is not null then 'set' end)),
        case
            when recipient is not null
            then jsonb_build_object('recipient', jsonb_build_object('new', recipient, 'channel', channel))
        end);
    return made;
end
$$;

comment on function rotator.add_notification_policy(integer, text, text, uuid) is
    'Adds a reminder this many days before expiry (0 on it, negative after it). Without secret_id it joins the tenant''s '
    'default; policies of a secret''s own replace the default for that secret. Without recipient: the owner''s contact; '
    'without channel: each of the owner''s contacts. For a tenant admin.';

create or replace function rotator.remove_notification_policy(policy_id uuid) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('admin');
    removed rotator_internal.notification_policy;
    address text;
begin
    perform rotator_internal.lock_policies(target);
    delete from rotator_internal.notification_policy as p
    where p.tenant_id = target and p.id = policy_id
    returning p.* into removed;
    if removed.id is null then
        perform rotator_internal.refuse(
            'PT404', 'no such notification policy', 'List them with select * from rotator.notification_policies;');
    end if;
    perform rotator_internal.plan_followers(target, removed.secret_id);
    address := rotator_internal.recipient_of(target, removed.recipient_id);
    perform rotator_internal.record_event_with_values(
        target, 'policy.removed', 'notification_policy', policy_id::text,
        jsonb_strip_nulls(jsonb_build_object(
            'lead_time_days', removed.lead_time_days, 'channel', removed.channel, 'secret_id', removed.secret_id,
            'recipient', case when removed.recipient_id is not null then 'removed' end)),
        case
            when address is not null
            then jsonb_build_object('recipient', jsonb_build_object('old', address, 'channel', removed.channel))
        end);
end
$$;

comment on function rotator.remove_notification_policy(uuid) is
    'Removes a reminder; what is queued already stays. For a tenant admin. Errors: PT404.';

create or replace view rotator.notification_policies
with (security_invoker = true)
as
select
    p.id,
    p.secret_id,
    p.lead_time_days,
    p.channel::text as channel,
    rotator_internal.recipient_hint(
        p.channel::text, rotator_internal.open_field(r.tenant_id, 'recipient.address', r.id, r.address)) as recipient_hint
from rotator_internal.notification_policy as p
left join rotator_internal.recipient as r on r.tenant_id = p.tenant_id and r.id = p.recipient_id
where p.tenant_id = (select rotator.current_tenant());

comment on view rotator.notification_policies is
    'Reminders before expiry. Without secret_id: the tenant''s default. Without channel: each contact of the owner.';
