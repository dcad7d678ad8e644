-- PagerDuty keeps an incident for each alert, and it follows the alert: whoever acknowledges or ends one calls
-- rotator_internal.follow_alert in that transaction. In what order a recipient gets them is the claim's business
-- (api/outbox.sql); what they look like is the sidecar's. Covered by tests/tests/behaviour/{incident,incident_order}.rs.

create or replace function rotator_internal.follow_alert(
    tenant uuid,
    secret uuid,
    cycle integer,
    kind text,
    actor text default null,
    source text default null) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    incident record;
    queued integer := 0;
begin
    if kind not in ('acknowledge', 'resolve') then
        perform rotator_internal.refuse('22023', 'unknown kind', 'It is acknowledge or resolve.');
    end if;
    -- All of it planned each time (execute), as in rotator_internal.cancel_queued. First wait for a worker that is just
    -- claiming one: the next statement then sees its attempt.
    execute $sql$
        select
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = $2 and n.cycle = $3 and n.channel = 'pagerduty' and n.stage = 'pending'
        order by n.id
        for update
    $sql$ using tenant, secret, follow_alert.cycle;
    if kind = 'resolve' then
        -- Nobody needs to be told any more that somebody is on it.
        execute $sql$
            update rotator_internal.notification as n
            set state = case when n.state = 'leased' then n.state else 'cancelled' end,
                withdrawn_at = clock_timestamp()
            where n.tenant_id = $1 and n.secret_id = $2 and n.cycle = $3 and n.channel = 'pagerduty'
              and n.stage = 'pending' and n.kind = 'acknowledge' and n.withdrawn_at is null
        $sql$ using tenant, secret, follow_alert.cycle;
    end if;

    -- To whom a message went out, or may have gone out, since their incident was closed last.
    for incident in execute $sql$
        insert into rotator_internal.notification as made (
            tenant_id, secret_id, alert_id, cycle, kind, rule, due_at, channel, recipient_id, addressee)
        select distinct on (n.recipient_id)
            n.tenant_id, n.secret_id, n.alert_id, n.cycle, $4, $4, clock_timestamp(), n.channel, n.recipient_id, n.addressee
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = $2 and n.cycle = $3 and n.channel = 'pagerduty'
          and n.kind in ('reminder', 'escalation')
          -- What is still to page somebody is acknowledged after it.
          and (n.attempts > 0 or ($4 = 'acknowledge' and n.stage = 'pending' and n.withdrawn_at is null))
          and not exists (
            select
            from rotator_internal.notification as r
            where r.tenant_id = $1 and r.secret_id = $2 and r.cycle = $3 and r.channel = 'pagerduty'
              and r.recipient_id = n.recipient_id and r.kind = 'resolve' and r.queued_at > n.queued_at)
        order by n.recipient_id, n.queued_at desc
        returning made.id, made.channel, made.rule
    $sql$ using tenant, secret, follow_alert.cycle, kind
    loop
        perform rotator_internal.record_event(
            tenant, kind || '.queued', 'secret', secret::text,
            jsonb_build_object('notification', incident.id, 'channel', incident.channel, 'rule', incident.rule),
            actor, source);
        queued := queued + 1;
    end loop;
    return queued;
end
$$;

comment on function rotator_internal.follow_alert(uuid, uuid, integer, text, text, text) is
    'Queues an acknowledge or a resolve to each PagerDuty recipient who was told of this alert, or may have been, and '
    'returns how many; the caller has locked the secret. Nobody else is told, and none of them twice.';
