-- Acting by the link in a notification. The token is the right: 256 random bits of which only a hash is stored, with the
-- attempt that sent it. Every attempt's link stays good until the cycle ends, 90 days at most; an action counts once a cycle, and showing changes
-- nothing. Actions are the same as a member's: api/alert.sql, api/rotation.sql. Covered by tests/tests/behaviour/link.rs.

create or replace function rotator_internal.link_page(tenant uuid, secret uuid) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select rotator_internal.situation(s, t, a) || jsonb_build_object(
            'state', case a.state when 'acknowledged' then 'acknowledged' else 'open' end,
            'secret', rotator_internal.secret_in_message(s) - '{id,provider_ref}'::text[],
            'needs_next_expiry_date', s.rotation_interval is null)
        from rotator_internal.tenant as t
        join rotator_internal.secret as s on s.tenant_id = t.tenant_id and s.id = link_page.secret
        left join rotator_internal.alert as a
            on a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle
        where t.tenant_id = link_page.tenant
    );
end
$$;

comment on function rotator_internal.link_page(uuid, uuid) is 'What the page behind a link shows.';

create or replace function rotator_internal.done_before(
    secret rotator_internal.secret, wanted_cycle integer, wanted text) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_build_object(
            'already', true, 'by', d.actor,
            'at', rotator_internal.local_time(d.acted_at, rotator_internal.zone_of(secret.tenant_id)))
        from (
            select la.actor, la.acted_at
            from rotator_internal.link_action as la
            where la.tenant_id = secret.tenant_id and la.secret_id = secret.id
              and la.cycle = wanted_cycle and la.action = wanted
            union all
            select a.acknowledged_by, a.acknowledged_at
            from rotator_internal.alert as a
            where wanted = 'acknowledge' and a.tenant_id = secret.tenant_id and a.secret_id = secret.id
              and a.cycle = wanted_cycle and a.state = 'acknowledged'
        ) as d
        limit 1
    );
end
$$;

comment on function rotator_internal.done_before(rotator_internal.secret, integer, text) is
    'Who did this action in this cycle already, and when; null when nobody did.';

create or replace function rotator.redeem_link(
    token text,
    action text,
    note text default null,
    via text default 'link',
    until timestamptz default null,
    next_expiry_date timestamptz default null) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    l record; -- what the link stands for
    locked rotator_internal.secret;
    result jsonb;
begin
    if action is null or action not in ('show', 'acknowledge', 'rotated') then
        perform rotator_internal.refuse('22023', 'unknown action', 'Choose acknowledge or rotated.');
    elsif via is null or via not in ('link', 'slack', 'email') then
        perform rotator_internal.refuse('22023', 'unknown via', 'It is link, slack or email.');
    end if;
    select n.tenant_id, n.secret_id, n.cycle, n.addressee, d.started_at + interval '90 days' as expires_at into l
    from rotator_internal.delivery_attempt as d
    join rotator_internal.notification as n on n.id = d.notification_id and n.tenant_id = d.tenant_id
    join rotator_internal.tenant as t on t.tenant_id = d.tenant_id and t.status = 'active'
    where d.token_hash = sha256(convert_to(coalesce(token, ''), 'UTF8'));
    if l.secret_id is null then
        perform rotator_internal.refuse('PT404', 'no such link', 'Open the link from the newest message about it.');
    end if;

    if action = 'show' then
        select s.* into locked
        from rotator_internal.secret as s
        where s.tenant_id = l.tenant_id and s.id = l.secret_id;
    else
        locked := rotator_internal.lock_secret(l.tenant_id, l.secret_id);
        -- A second press of the button, also of the one that ended the cycle.
        result := rotator_internal.done_before(locked, l.cycle, action);
        if result is not null then
            return result;
        end if;
    end if;
    if l.expires_at <= clock_timestamp() or locked.retired_at is not null or locked.cycle <> l.cycle then
        perform rotator_internal.refuse(
            'PT410',
            case when locked.cycle <> l.cycle then 'it has been rotated since' else 'the link has expired' end,
            'Nothing needs to be done by this link; a newer message has a newer one.');
    end if;
    if action = 'show' then
        return rotator_internal.link_page(l.tenant_id, l.secret_id);
    end if;

    if action = 'acknowledge' then
        perform rotator_internal.acknowledge(locked, note, until, l.addressee, via);
        result := jsonb_build_object('action', action);
    else
        next_expiry_date := rotator_internal.rotate(locked, clock_timestamp(), next_expiry_date, null, note, l.addressee, via);
        result := jsonb_build_object(
            'action', action,
            'next_expiry_date', to_char(next_expiry_date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'next_expiry_local',
            rotator_internal.local_time(next_expiry_date, rotator_internal.zone_of(l.tenant_id)));
    end if;
    insert into rotator_internal.link_action (tenant_id, secret_id, cycle, action, actor)
    values (l.tenant_id, l.secret_id, l.cycle, redeem_link.action, l.addressee);
    return result || jsonb_build_object(
        'by', l.addressee, 'at', rotator_internal.local_time(clock_timestamp(), rotator_internal.zone_of(l.tenant_id)));
end
$$;

comment on function rotator.redeem_link(text, text, text, text, timestamptz, timestamptz) is
    'Acts by the token of a link, as whom the message was sent to: show (changes nothing), acknowledge or rotated. An '
    'action repeated in its cycle returns already, by and at. Errors: PT404 unknown token, PT410 expired or of an older '
    'cycle, 22023 when there is no interval and next_expiry_date is missing.';
