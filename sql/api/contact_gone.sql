-- A contact whose vendor says that nobody is there any more (a mailbox that doesn't exist, an archived channel) is passed
-- over from then on, and the tenant's admins are told, through the same queue and vendors as anything else. Setting the
-- contact again, to whichever address, makes it good. Called by api/outcome.sql; who the admins are: api/key_alert.sql; how
-- the message looks is the sidecar's. Covered by tests/tests/behaviour/contact_gone.rs.

create or replace function rotator_internal.mark_gone(notifications uuid[]) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    address record;
    marked record;
    queued integer;
    told integer := 0;
begin
    for address in execute $sql$
        select distinct n.tenant_id, n.channel::text as channel, n.recipient_id
        from rotator_internal.notification as n
        where n.id = any ($1)
        order by n.tenant_id, n.recipient_id
    $sql$ using notifications
    loop
        -- Several may share an address; locked in one order by all.
        execute $sql$
            select
            from rotator_internal.contact as c
            where c.tenant_id = $1 and c.channel = $2 and c.recipient_id = $3
            order by c.owner_id
            for no key update
        $sql$ using address.tenant_id, address.channel, address.recipient_id;
        execute $sql$
            with gone as (
                update rotator_internal.contact as c
                set gone_at = clock_timestamp()
                where c.tenant_id = $1 and c.channel = $2 and c.recipient_id = $3 and c.gone_at is null
                returning c.tenant_id, c.id, c.owner_id, c.channel
            ),
            audited as (
                insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
                select
                    g.tenant_id, 'rotator', 'engine', 'contact.gone', 'contact', g.id::text,
                    jsonb_build_object('owner_id', g.owner_id, 'channel', g.channel)
                from gone as g
            )
            select (array_agg(g.id order by g.owner_id))[1] as contact_id from gone as g
        $sql$ into marked using address.tenant_id, address.channel, address.recipient_id;
        continue when marked.contact_id is null or not exists (
            select from rotator_internal.tenant as t where t.tenant_id = address.tenant_id and t.status = 'active');

        execute $sql$
            with made as (
                insert into rotator_internal.notification (
                    tenant_id, kind, rule, contact_id, due_at, channel, recipient_id, addressee)
                select $1, 'contact_gone', 'contact:' || $2, $3, $4, a.channel, a.recipient_id, a.addressee
                from rotator_internal.admins_told($1) as a
                returning tenant_id, id, channel, rule, contact_id
            ),
            audited as (
                insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
                select
                    m.tenant_id, 'rotator', 'engine', 'contact_gone.queued', 'notification', m.id::text,
                    jsonb_build_object('channel', m.channel, 'rule', m.rule, 'contact', m.contact_id)
                from made as m
            )
            select count(*) from made
        $sql$ into queued using address.tenant_id, address.channel, marked.contact_id, clock_timestamp();
        told := told + queued;
    end loop;
    return told;
end
$$;

comment on function rotator_internal.mark_gone(uuid[]) is
    'Notes of the contacts that these notifications went to that they are gone, once until they are set again, and tells the '
    'tenant''s admins by what contacts they have left; returns how many messages.';

create or replace function rotator_internal.contact_alert_is_over(n rotator_internal.notification) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select
        from rotator_internal.contact as c
        join rotator_internal.tenant as t on t.tenant_id = c.tenant_id
        where c.tenant_id = n.tenant_id and c.id = n.contact_id and c.gone_at is not null and t.status = 'active');
end
$$;

comment on function rotator_internal.contact_alert_is_over(rotator_internal.notification) is
    'Whether the contact that it is about was set again before the admins were told.';

create or replace function rotator_internal.contact_gone_message(n rotator_internal.notification) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_build_object(
            'kind', n.kind,
            'notification_id', n.id,
            'tenant_id', t.tenant_id,
            'tenant', rotator_internal.tenant_in_message(t),
            'contact', jsonb_build_object(
                'id', c.id,
                'channel', c.channel,
                'hint', rotator_internal.recipient_hint(
                    c.channel::text, rotator_internal.try_open_field(r.tenant_id, 'recipient.address', r.id, r.address)),
                'owners', (
                    select jsonb_agg(o.owner_id order by o.owner_id)
                    from rotator_internal.contact as o
                    where o.tenant_id = c.tenant_id and o.channel = c.channel and o.recipient_id = c.recipient_id)),
            'secrets', (
                select count(*)
                from rotator_internal.contact as o
                join rotator_internal.secret as s
                    on s.tenant_id = o.tenant_id and s.owner_id = o.owner_id and s.retired_at is null
                where o.tenant_id = c.tenant_id and o.channel = c.channel and o.recipient_id = c.recipient_id),
            'since_at', to_char(n.due_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'since_local', rotator_internal.local_time(n.due_at, t.time_zone))
        from rotator_internal.tenant as t
        join rotator_internal.contact as c on c.tenant_id = t.tenant_id and c.id = n.contact_id
        join rotator_internal.recipient as r on r.tenant_id = c.tenant_id and r.id = c.recipient_id
        where t.tenant_id = n.tenant_id
    );
end
$$;

comment on function rotator_internal.contact_gone_message(rotator_internal.notification) is
    'What the admins are told of an address that is gone: whose it was, by which channel, and how many secrets they own.';
