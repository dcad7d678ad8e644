-- Several reminders or escalations for one recipient in one tick become one message, with a row and a link each: a summary
-- like that of an imported backlog (api/summary.sql has its items, its message and its end), by rule "digest". Twenty fill
-- one. Only where people read: PagerDuty and webhooks get each by itself. Called by api/deferral.sql.
-- Covered by tests/tests/behaviour/digest.rs and tests/tests/delivery/digest.rs.

create or replace function rotator_internal.gather_digests(places tid[], as_of timestamptz) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    saved integer;
begin
    -- Planned each time: most ticks need none.
    execute $sql$
        with fresh as materialized (
            select n.ctid as place, n.tenant_id, n.id, n.channel, n.recipient_id, n.addressee, s.expiry_date
            from rotator_internal.notification as n
            cross join lateral (
                select x.expiry_date
                from rotator_internal.secret as x
                where x.tenant_id = n.tenant_id and x.id = n.secret_id
                offset 0
            ) as s
            where n.ctid = any ($1) and n.state = 'queued' and n.channel in ('slack', 'email', 'console')
        ),
        placed as materialized (
            select f.*, (row_number() over (
                partition by f.tenant_id, f.channel, f.recipient_id order by f.expiry_date, f.id) - 1) / 20 as page
            from fresh as f
        ),
        digest as materialized (
            select
                p.tenant_id, p.channel, p.recipient_id, p.page, min(p.addressee) as addressee, count(*)::integer as items,
                rotator_internal.uuid_v7() as id
            from placed as p
            group by p.tenant_id, p.channel, p.recipient_id, p.page
            -- One alone is better said by itself.
            having count(*) > 1
        ),
        merged as (
            update rotator_internal.notification as n
            set state = 'merged', merged_into = d.id
            from placed as p
            join digest as d using (tenant_id, channel, recipient_id, page)
            where n.ctid = p.place
        ),
        made as (
            insert into rotator_internal.notification (
                tenant_id, id, kind, rule, due_at, channel, recipient_id, addressee)
            select d.tenant_id, d.id, 'summary', 'digest', $2, d.channel, d.recipient_id, d.addressee
            from digest as d
        ),
        audited as (
            insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
            select
                d.tenant_id, 'rotator', 'engine', 'summary.queued', 'notification', d.id::text,
                jsonb_build_object('channel', d.channel, 'rule', 'digest', 'items', d.items)
            from digest as d
        )
        select coalesce(sum(d.items - 1), 0)::integer
        from digest as d
    $sql$ into saved using places, as_of;
    return saved;
end
$$;

comment on function rotator_internal.gather_digests(tid[], timestamptz) is
    'Makes one message of those of these rows, which the caller has queued or holds locked, that go to the same recipient; '
    'twenty at most, most urgent first. Returns how many messages fewer that is.';
