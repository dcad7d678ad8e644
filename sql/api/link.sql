-- Acting by the link in a notification. The token is the right: 256 random bits of which only a hash is stored, with the
-- attempt that sent it. Every attempt's link stays good until the cycle ends, 90 days at most; an action counts once a
-- cycle (snoozing counts anew), and showing changes nothing. A button is the same with somebody known: api/press.sql.
-- Actions are the same as a member's: api/{alert,rotation,snooze}.sql. Covered by tests/tests/behaviour/link.rs.

create or replace function rotator_internal.link_page(tenant uuid, secret uuid) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select rotator_internal.situation(s, t, a)
            || rotator_internal.turn_in_message(s, t.time_zone, s.cycle)
            || jsonb_build_object(
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

create or replace function rotator_internal.link_target(
    token text,
    out tenant uuid,
    out secret uuid,
    out cycle integer,
    out addressee text,
    out notification uuid,
    out expires_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    select n.tenant_id, n.secret_id, n.cycle, n.addressee, n.id, d.started_at + interval '90 days'
    into tenant, secret, cycle, addressee, notification, expires_at
    from rotator_internal.delivery_attempt as d
    join rotator_internal.notification as n on n.id = d.notification_id and n.tenant_id = d.tenant_id
    join rotator_internal.tenant as t on t.tenant_id = d.tenant_id and t.status = 'active'
    where d.token_hash = sha256(convert_to(coalesce(token, ''), 'UTF8'));
end
$$;

comment on function rotator_internal.link_target(text) is
    'What a token stands for, whom its message was sent to, and until when it is good; nulls for an unknown one.';

create or replace function rotator_internal.refuse_unknown_link() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.refuse('PT404', 'no such link', 'Open the link from the newest message about it.');
end
$$;

comment on function rotator_internal.refuse_unknown_link() is 'Raises PT404: the same for every token that isn''t one.';

create or replace function rotator_internal.refuse_ended_link(
    secret rotator_internal.secret, link_cycle integer, expires_at timestamptz) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if expires_at <= clock_timestamp() or secret.retired_at is not null or secret.cycle <> link_cycle then
        perform rotator_internal.refuse(
            'PT410',
            case when secret.cycle <> link_cycle then 'it has been rotated since' else 'the link has expired' end,
            'Nothing needs to be done by this link; a newer message has a newer one.');
    end if;
end
$$;

comment on function rotator_internal.refuse_ended_link(rotator_internal.secret, integer, timestamptz) is
    'Raises PT410 for a link that has expired, or whose cycle or secret has ended.';

create or replace function rotator_internal.act_by_link(
    secret rotator_internal.secret,
    link_cycle integer,
    expires_at timestamptz,
    action text,
    note text,
    until timestamptz,
    next_expiry_date timestamptz,
    actor text,
    source text,
    is_admin boolean default false) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    zone text := rotator_internal.zone_of(secret.tenant_id);
    taken rotator_internal.alert;
    result jsonb;
begin
    -- A second press of the button, also of the one that ended the cycle. To snooze again is no repeat, unless it is until
    -- the same time: whoever clicks twice does so within a minute.
    if action <> 'snooze'
        or (secret.cycle = link_cycle and until - secret.snoozed_until between interval '0' and interval '1 minute') then
        result := rotator_internal.done_before(secret, link_cycle, action);
        if result is not null then
            return result;
        end if;
    end if;
    perform rotator_internal.refuse_ended_link(secret, link_cycle, expires_at);

    result := jsonb_build_object('action', action);
    if action = 'acknowledge' then
        taken := rotator_internal.acknowledge(secret, note, until, actor, source);
        result := result || jsonb_build_object('until_local', rotator_internal.local_time(taken.acknowledged_until, zone));
    elsif action = 'snooze' then
        if until is null then
            perform rotator_internal.refuse('22023', 'until is missing', 'Give the time until which nobody is to be told.');
        end if;
        perform rotator_internal.snooze(
            secret, until, coalesce(rotator_internal.check_text('note', note), 'snoozed by ' || source), actor, source, is_admin);
        result := result || jsonb_build_object('until_local', rotator_internal.local_time(until, zone));
    else
        next_expiry_date := rotator_internal.rotate(secret, clock_timestamp(), next_expiry_date, null, note, actor, source);
        result := result || jsonb_build_object(
            'next_expiry_date', to_char(next_expiry_date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'next_expiry_local', rotator_internal.local_time(next_expiry_date, zone));
    end if;
    insert into rotator_internal.link_action as a (tenant_id, secret_id, cycle, action, actor)
    values (secret.tenant_id, secret.id, link_cycle, act_by_link.action, act_by_link.actor)
    on conflict on constraint link_action_pkey do update
    set actor = excluded.actor, acted_at = excluded.acted_at;
    return result || jsonb_build_object('by', actor, 'at', rotator_internal.local_time(clock_timestamp(), zone));
end
$$;

comment on function rotator_internal.act_by_link(
    rotator_internal.secret, integer, timestamptz, text, text, timestamptz, timestamptz, text, text, boolean) is
    'Acknowledges, snoozes or rotates a locked secret by a link of that cycle, and says what came of it; or who had done it '
    'before. is_admin: whoever snoozes may go past the expiry date.';

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
    shown rotator_internal.secret;
begin
    if action is null or action not in ('show', 'acknowledge', 'rotated', 'snooze') then
        perform rotator_internal.refuse('22023', 'unknown action', 'Choose acknowledge, rotated or snooze.');
    elsif via is null or via not in ('link', 'slack', 'email') then
        perform rotator_internal.refuse('22023', 'unknown via', 'It is link, slack or email.');
    end if;
    select t.* into l from rotator_internal.link_target(token) as t;
    if l.secret is null then
        perform rotator_internal.refuse_unknown_link();
    end if;

    if action = 'show' then
        select s.* into shown
        from rotator_internal.secret as s
        where s.tenant_id = l.tenant and s.id = l.secret;
        perform rotator_internal.refuse_ended_link(shown, l.cycle, l.expires_at);
        return rotator_internal.link_page(l.tenant, l.secret);
    end if;
    return rotator_internal.act_by_link(
        rotator_internal.lock_secret(l.tenant, l.secret), l.cycle, l.expires_at,
        action, note, until, next_expiry_date, l.addressee, via);
end
$$;

comment on function rotator.redeem_link(text, text, text, text, timestamptz, timestamptz) is
    'Acts by the token of a link, as whom the message was sent to: show (changes nothing), acknowledge, rotated or snooze '
    '(needs until). An action repeated in its cycle returns already, by and at. Errors: PT404 unknown token; PT409 nothing to '
    'acknowledge, or retired; PT410 expired or of an older cycle; 22023 when there is no interval and next_expiry_date is missing.';
