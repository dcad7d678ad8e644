-- Where owners are reached. Addresses are checked by their channel's own grammar (not by the secret guard: a webhook
-- URL is what it must be), encrypted, and shown only as a hint. Tables: schema/recipient.sql.
-- Who is told when is in api/policy.sql. Covered by tests/tests/behaviour/contact.rs.

create or replace function rotator_internal.is_https_url(address text) returns boolean
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Host, port, and whatever follows. No user, no %41, and nothing that a parser of URLs takes for another character.
    parts text[] := regexp_match(
        address,
        '^https://([^][:space:][:cntrl:]!"#$%&''()*+,/:;<=>?@[^`{|}~]+|[[][0-9A-Fa-f:.]+[]])(:[0-9]{1,5})?([/?][^[:space:][:cntrl:]]*)?$');
    name text := rtrim(parts[1], '.');
begin
    return parts is not null
        and strpos(address, chr(92)) = 0
        -- Spaces beyond ASCII, wherever the locale doesn't know them as such.
        and address !~ ('[' || chr(160) || chr(5760) || chr(8192) || '-' || chr(8202) || chr(8239) || chr(8287) || chr(12288) || ']')
        and coalesce(substr(parts[2], 2)::integer, 443) between 1 and 65535
        and name <> ''
        -- What ends in a number is an address of IPv4, in the one way that all programs read alike: not 0177.1, not 0x7f000001.
        and (name !~* '(^|[.])(0x[0-9a-f]*|[0-9]+)$'
            or name ~ '^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.]|$)){4}$');
end
$$;

comment on function rotator_internal.is_https_url(text) is
    'Whether it is an https URL of a host that all programs take for the same one. Which hosts may be reached is the sidecar''s.';

create or replace function rotator_internal.check_address(channel text, address text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    hint text := case channel
        when 'slack' then 'A channel or user id like C0123456789, #name, or a https://hooks.slack.com/services/… webhook.'
        when 'email' then 'An address like ops@example.com, without a display name.'
        when 'pagerduty' then 'The 32-character integration key of an Events API v2 integration.'
        when 'webhook' then 'An https URL of up to 2,000 characters, without user and password; an address is written like 203.0.113.7.'
        when 'console' then 'Any name of up to 255 visible characters; it is printed with the notification.'
    end;
begin
    if hint is null then
        perform rotator_internal.refuse(
            '22023', 'unknown channel', 'Channels are slack, email, pagerduty, webhook and console.');
    -- No backslash: how a string constant reads one is the caller's to set (standard_conforming_strings).
    elsif address is null or length(address) > 2000 or rotator_internal.has_unseen(address) or not (case channel
        when 'slack' then
            address ~ '^(#([^[:space:][:cntrl:][:punct:]$+<=>^`|~]|[._-]){1,80}|[CDGUW][A-Z0-9]{5,20}|https://hooks[.]slack[.]com/services/[A-Za-z0-9/_-]{1,200})$'
        when 'email' then
            length(address) <= 254 and length(split_part(address, '@', 1)) <= 64
            and address ~ '^[A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+([.][A-Za-z0-9!#$%&''*+/=?^_`{|}~-]+)*@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$'
        when 'pagerduty' then address ~ '^[A-Za-z0-9]{32}$'
        when 'webhook' then rotator_internal.is_https_url(address)
        when 'console' then length(address) between 1 and 255 and address !~ '^[[:space:]]*$'
    end) then
        perform rotator_internal.refuse('22023', format('that is no %s recipient', channel), hint);
    end if;
end
$$;

comment on function rotator_internal.check_address(text, text) is 'Raises 22023 unless the address has its channel''s shape.';

create or replace function rotator_internal.recipient_hint(channel text, address text) returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case
            when channel = 'email' then '…@' || split_part(address, '@', 2)
            -- The host: what is asked of it may hold a token, with or without a path.
            when address like 'https://%'
            then split_part(translate(split_part(address, '//', 2), '?', '/'), '/', 1) || '/…' || right(address, 4)
            when channel = 'console' then address
            when address like '#%' then '#' || left(substr(address, 2), 2) || '…'
            else left(address, 1) || '…' || right(address, 3)
        end
    );
end
$$;

comment on function rotator_internal.recipient_hint(text, text) is 'What may be shown of an address: enough to recognise it.';

create or replace function rotator_internal.intern_recipient(tenant uuid, channel text, address text) returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- The blind index folds case, which is right for mail and wrong for a webhook's path.
    index_of bytea := rotator_internal.blind_index(
        tenant, 'recipient.address',
        case channel when 'email' then address else encode(convert_to(address, 'UTF8'), 'hex') end);
    fresh uuid := rotator_internal.uuid_v7();
    interned uuid;
begin
    insert into rotator_internal.recipient (tenant_id, id, channel, address, address_index)
    select tenant, fresh, intern_recipient.channel,
        rotator_internal.seal_field(tenant, 'recipient.address', fresh, intern_recipient.address), index_of
    where not exists (
        select from rotator_internal.recipient as r
        where r.tenant_id = tenant and r.channel = intern_recipient.channel and r.address_index = index_of)
    on conflict on constraint recipient_once do nothing;

    select r.id into strict interned
    from rotator_internal.recipient as r
    where r.tenant_id = tenant and r.channel = intern_recipient.channel and r.address_index = index_of;
    return interned;
end
$$;

comment on function rotator_internal.intern_recipient(uuid, text, text) is 'The id of this address, stored when it is new.';

create or replace function rotator.set_contact(owner_id text, channel text, recipient text) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('viewer', 'editor', 'auditor', 'admin');
    owner text := rotator_internal.check_line('owner_id', owner_id, 255);
    becomes uuid;
    former uuid;
    made uuid;
begin
    if owner is null then
        perform rotator_internal.refuse('22023', 'owner_id is missing', 'Give the owner''s subject, or manager.');
    end if;
    if owner <> rotator.current_actor() then
        perform rotator_internal.require_role('admin');
    end if;
    perform rotator_internal.check_address(channel, recipient);

    becomes := rotator_internal.intern_recipient(target, set_contact.channel, recipient);
    insert into rotator_internal.contact as c (tenant_id, owner_id, channel, recipient_id)
    values (target, owner, set_contact.channel, becomes)
    on conflict on constraint contact_pkey do nothing
    returning c.id into made;
    if made is null then
        select c.id, c.recipient_id into strict made, former
        from rotator_internal.contact as c
        where c.tenant_id = target and c.owner_id = owner and c.channel = set_contact.channel
        for no key update;
        update rotator_internal.contact as c
        set recipient_id = becomes, gone_at = null
        where c.tenant_id = target and c.owner_id = owner and c.channel = set_contact.channel;
    end if;

    perform rotator_internal.record_event_with_values(
        target, 'contact.set', 'contact', made::text,
        jsonb_build_object('owner_id', owner, 'channel', channel, 'recipient', 'changed'),
        jsonb_build_object('recipient', jsonb_strip_nulls(jsonb_build_object(
            'old', rotator_internal.recipient_of(target, former),
            'new', recipient, 'channel', channel))));
    return made;
end
$$;

comment on function rotator.set_contact(text, text, text) is
    'Sets where an owner is reached on a channel (slack, email, pagerduty, webhook or console), one address each; a second '
    'call replaces it, and makes one good that was gone. owner_id manager is the tenant''s manager. For oneself, or by an '
    'admin. Errors: 22023 no such channel, or an address it can''t have.';

create or replace view rotator.contacts
with (security_invoker = true)
as
select
    c.id,
    c.owner_id,
    c.channel::text as channel,
    rotator_internal.recipient_hint(
        c.channel::text, rotator_internal.open_field(r.tenant_id, 'recipient.address', r.id, r.address)) as recipient_hint,
    c.gone_at
from rotator_internal.contact as c
join rotator_internal.recipient as r on r.tenant_id = c.tenant_id and r.id = c.recipient_id
where c.tenant_id = (select rotator.current_tenant());

comment on view rotator.contacts is 'Where owners are reached. Addresses are write-only: only a hint is shown.';
