-- PagerDuty keeps an incident for each alert, and it follows the alert; Slack keeps messages, which then say what was
-- done. Whoever acknowledges or ends an alert calls rotator_internal.follow_alert in that transaction. In what order a recipient gets them is the claim's business
-- (api/outbox.sql); what they look like is the sidecar's. What is acknowledged there comes back here.
-- Covered by tests/tests/behaviour/{incident,incident_order}.rs, tests/tests/delivery/pagerduty_webhook.rs.

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
        where n.tenant_id = $1 and n.secret_id = $2 and n.cycle = $3 and n.stage = 'pending'
          and (n.channel = 'pagerduty' or (n.channel = 'slack' and n.kind = 'acknowledge'))
        order by n.id
        for update
    $sql$ using tenant, secret, follow_alert.cycle;
    if kind = 'resolve' then
        -- Nobody needs to be told any more that somebody is on it.
        execute $sql$
            update rotator_internal.notification as n
            set state = case when n.state = 'leased' then n.state else 'cancelled' end,
                withdrawn_at = clock_timestamp()
            where n.tenant_id = $1 and n.secret_id = $2 and n.cycle = $3 and n.channel in ('pagerduty', 'slack')
              and n.stage = 'pending' and n.kind = 'acknowledge' and n.withdrawn_at is null
        $sql$ using tenant, secret, follow_alert.cycle;
    end if;

    -- To whom a message went out, or may have gone out, since their incident was closed last; and where a message can be
    -- changed, whoever has one.
    for incident in execute $sql$
        insert into rotator_internal.notification as made (
            tenant_id, secret_id, alert_id, cycle, kind, rule, due_at, channel, recipient_id, addressee)
        (select distinct on (n.recipient_id)
            n.tenant_id, n.secret_id, n.alert_id, n.cycle, $4, $4, clock_timestamp(), n.channel, n.recipient_id, n.addressee
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = $2 and n.cycle = $3 and n.channel = 'pagerduty'
          and n.kind in ('reminder', 'escalation')
          -- What is still to page somebody is acknowledged after it.
          and (n.attempts > 0
            or ($4 = 'acknowledge' and n.stage = 'pending' and n.state <> 'deferred' and n.withdrawn_at is null))
          and not exists (
            select
            from rotator_internal.notification as r
            where r.tenant_id = $1 and r.secret_id = $2 and r.cycle = $3 and r.channel = 'pagerduty'
              and r.recipient_id = n.recipient_id and r.kind = 'resolve' and r.queued_at > n.queued_at)
        order by n.recipient_id, n.queued_at desc)
        union all
        (select distinct on (n.recipient_id)
            n.tenant_id, n.secret_id, n.alert_id, n.cycle, $4, $4, clock_timestamp(), n.channel, n.recipient_id, n.addressee
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = $2 and n.cycle = $3 and n.stage = 'settled' and n.channel = 'slack'
          and n.kind in ('reminder', 'escalation') and rotator_internal.is_thread(n)
          and not exists (
            select
            from rotator_internal.notification as r
            where r.tenant_id = $1 and r.secret_id = $2 and r.cycle = $3 and r.stage <> 'cancelled' and r.channel = 'slack'
              and r.recipient_id = n.recipient_id and r.kind = 'resolve' and r.queued_at > n.queued_at)
        order by n.recipient_id, n.queued_at desc)
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
    'Queues an acknowledge or a resolve to each PagerDuty recipient who was told of this alert, or may have been, and to '
    'each Slack recipient who has messages about it that can be changed; returns how many. The caller has locked the secret. '
    'Nobody else is told, and none of them twice.';

create or replace function rotator.acknowledge_incident(
    dedup_key text, external_id text default null, occurred_at timestamptz default null) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    name text := case when external_id is not null then rotator_internal.external_name('pagerduty', external_id) end;
    parts text[] := regexp_match(
        dedup_key, '^rotator[.]([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})[.]([0-9]{1,9})$');
    of_tenant uuid;
    locked rotator_internal.secret;
    found_alert rotator_internal.alert;
    who text;
begin
    if parts is not null then
        -- The key has no tenant: one look-up each, and only for what PagerDuty may have been told.
        select t.tenant_id into of_tenant
        from rotator_internal.tenant as t
        cross join lateral (
            select
            from rotator_internal.notification as n
            where n.tenant_id = t.tenant_id and n.secret_id = parts[1]::uuid and n.cycle = parts[2]::integer
              and n.channel = 'pagerduty' and n.attempts > 0
            limit 1
        ) as told
        where t.status = 'active'
        limit 1;
    end if;
    if of_tenant is null then
        return jsonb_build_object('outcome', 'unknown');
    end if;
    locked := rotator_internal.lock_secret(of_tenant, parts[1]::uuid);
    select a.* into found_alert
    from rotator_internal.alert as a
    where a.tenant_id = of_tenant and a.secret_id = locked.id and a.cycle = parts[2]::integer;
    if locked.retired_at is not null or locked.cycle <> parts[2]::integer or found_alert.state is distinct from 'open' then
        return jsonb_build_object('outcome', case when found_alert.state = 'acknowledged' then 'already' else 'over' end);
    -- An old event, told again: since then it was acknowledged, and that has run out; or a moved date has opened it anew.
    -- Clocks may differ by some minutes.
    elsif occurred_at <= found_alert.acknowledged_at or occurred_at < found_alert.opened_at - interval '5 minutes' then
        return jsonb_build_object('outcome', 'already');
    end if;

    who := rotator_internal.linked_subject(of_tenant, 'pagerduty', name);
    if who is null or exists (
        select
        from rotator_internal.member as m
        where m.tenant_id = of_tenant and m.subject = who and m.removed_at is not null) then
        who := concat_ws(':', 'pagerduty', name);
    end if;
    perform rotator_internal.acknowledge(locked, null, null, who, 'pagerduty');
    insert into rotator_internal.link_action (tenant_id, secret_id, cycle, action, actor)
    values (of_tenant, locked.id, locked.cycle, 'acknowledge', who)
    on conflict on constraint link_action_pkey do update
    set actor = excluded.actor, acted_at = excluded.acted_at;
    return jsonb_build_object('outcome', 'acknowledged', 'by', who);
end
$$;

comment on function rotator.acknowledge_incident(text, text, timestamptz) is
    'Somebody acknowledged an incident in PagerDuty, whose dedup key it is: so its alert is acknowledged, by the subject '
    'that this PagerDuty user is linked to, else by pagerduty and its id. outcome: acknowledged, already, over (no open '
    'alert any more) or unknown (none of ours). What occurred before the last acknowledgement, or before the alert opened, is '
    'already. For the sidecar, which checks PagerDuty''s signature. Errors: 22023.';
