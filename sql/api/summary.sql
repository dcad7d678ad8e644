-- One message about many: what was overdue or past all its lead times when it was imported is announced by a summary to
-- each recipient, not by a storm. Its reminders are queued as usual, exactly once, but merged: the summary speaks for them. The tick
-- gathers them when nothing more is due, so that a backlog of any size makes one. Each item it lists has a link of its own.
-- Who marks the backlog: api/import.sql. What comes due together makes the same kind of message, see api/digest.sql.
-- Covered by tests/tests/behaviour/summary.rs.

create or replace function rotator_internal.gather_summaries(as_of timestamptz) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    places tid[];
    again integer := 0;
    queued integer;
begin
    if not exists (select from rotator_internal.notification as n where n.stage = 'gathering') then
        return 0;
    end if;
    -- Rare, so planned each time. What falls back from a digest was due by itself before; what falls back from a backlog
    -- stays one, and waits until all of it has come (api/fallback_summary.sql).
    execute $sql$
        with waiting as materialized (
            select n.ctid as place
            from rotator_internal.notification as n
            left join rotator_internal.notification as f on f.id = n.fallback_of and f.tenant_id = n.tenant_id
            left join rotator_internal.notification as s on s.id = f.merged_into and s.tenant_id = n.tenant_id
            where n.stage = 'gathering' and n.fallback_of is not null and s.rule is distinct from 'backlog'
            order by n.id
            for update of n skip locked
        ),
        freed as (
            update rotator_internal.notification as n
            set state = 'queued', available_at = clock_timestamp()
            from waiting as w
            where n.ctid = w.place
            returning n.ctid as place
        )
        select array_agg(f.place) from freed as f
    $sql$ into places;
    if places is not null then
        again := cardinality(places) - rotator_internal.gather_digests(places, as_of);
    end if;
    execute $sql$
        with waiting as materialized (
            select n.ctid as place, n.tenant_id, n.channel, n.recipient_id, n.addressee
            from rotator_internal.notification as n
            left join rotator_internal.notification as f on f.id = n.fallback_of and f.tenant_id = n.tenant_id
            left join rotator_internal.notification as s on s.id = f.merged_into and s.tenant_id = n.tenant_id
            where n.stage = 'gathering' and (n.fallback_of is null or (s.rule = 'backlog' and s.falls_back is not true))
            order by n.id
            for update of n skip locked
        ),
        summary as materialized (
            select
                w.tenant_id, w.channel, w.recipient_id, min(w.addressee) as addressee, count(*) as items,
                rotator_internal.uuid_v7() as id
            from waiting as w
            group by w.tenant_id, w.channel, w.recipient_id
        ),
        -- One alone is better said by itself.
        alone as (
            update rotator_internal.notification as n
            set state = 'queued', available_at = clock_timestamp()
            from waiting as w
            join summary as s using (tenant_id, channel, recipient_id)
            where n.ctid = w.place and s.items = 1
            returning 1
        ),
        merged as (
            update rotator_internal.notification as n
            set merged_into = s.id
            from waiting as w
            join summary as s using (tenant_id, channel, recipient_id)
            where n.ctid = w.place and s.items > 1
        ),
        made as (
            insert into rotator_internal.notification (
                tenant_id, id, kind, rule, due_at, channel, recipient_id, addressee)
            select s.tenant_id, s.id, 'summary', 'backlog', $1, s.channel, s.recipient_id, s.addressee
            from summary as s
            where s.items > 1
            returning tenant_id, id, channel
        ),
        audited as (
            insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
            select
                m.tenant_id, 'rotator', 'engine', 'summary.queued', 'notification', m.id::text,
                jsonb_build_object('channel', m.channel, 'items', s.items)
            from made as m
            join summary as s using (tenant_id, id)
        )
        select (select count(*) from alone) + (select count(*) from made)
    $sql$ into queued using as_of;
    return again + queued;
end
$$;

comment on function rotator_internal.gather_summaries(timestamptz) is
    'Makes one summary for each recipient of the reminders that wait for one; returns how many messages are queued by it.';

create or replace function rotator_internal.summary_items(summary uuid)
returns table (notification_id uuid, secret rotator_internal.secret, tenant rotator_internal.tenant)
language sql stable
begin atomic
    select n.id, f.s, t
    from rotator_internal.notification as n
    join rotator_internal.tenant as t on t.tenant_id = n.tenant_id
    -- One by one by the primary key, also by a plan that was made when there was nothing.
    cross join lateral (
        select s
        from rotator_internal.secret as s
        where s.tenant_id = n.tenant_id and s.id = n.secret_id
        offset 0
    ) as f
    left join lateral (
        select x.state, x.acknowledged_until
        from rotator_internal.alert as x
        where x.tenant_id = n.tenant_id and x.secret_id = n.secret_id and x.cycle = n.cycle
        offset 0
    ) as a on true
    where n.merged_into = summary and n.state = 'merged' and (f.s).cycle = n.cycle and (f.s).retired_at is null
      and ((f.s).snoozed_until > now()) is not true
      and (a.state = 'acknowledged' and (a.acknowledged_until > now()) is not false) is not true;
end;

comment on function rotator_internal.summary_items(uuid) is 'What a summary is about, without what was done, taken on or snoozed since.';

create or replace function rotator_internal.carried_by(notification uuid) returns table (id uuid)
language sql stable
begin atomic
    select notification
    union all
    select n.id
    from rotator_internal.notification as n
    where n.merged_into = notification;
end;

comment on function rotator_internal.carried_by(uuid) is
    'A notification and, if it is a summary, those that it speaks for: an attempt to send it is an attempt of each.';

create or replace function rotator_internal.leave_out(summary uuid, is_over boolean default false) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute $sql$
        with needless as materialized (
            select n.ctid as place
            from rotator_internal.notification as n
            where n.merged_into = $1 and n.state = 'merged'
              and ($2 or n.id not in (select i.notification_id from rotator_internal.summary_items($1) as i))
            order by n.id
            -- Somebody who has it is just taking it out.
            for update skip locked
        ),
        ended as (
            update rotator_internal.notification as n
            set state = 'cancelled', withdrawn_at = clock_timestamp()
            from needless as w
            where n.ctid = w.place
            returning n.tenant_id, n.id, n.merged_into
        )
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
        select
            e.tenant_id, 'rotator', 'engine', 'notification.cancelled', 'notification', e.id::text,
            jsonb_build_object('summary', e.merged_into)
        from ended as e
    $sql$ using summary, is_over;
end
$$;

comment on function rotator_internal.leave_out(uuid, boolean) is
    'Takes out of a summary that is being claimed what needn''t be said any more, or not now: when a snooze ends it is due '
    'again; all of it where the summary itself is over.';

create or replace function rotator_internal.end_empty(places tid[]) returns tid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    empty tid[] := array(
        select n.ctid
        from rotator_internal.notification as n
        where n.ctid = any (places) and case n.kind
            when 'summary' then not exists (select from rotator_internal.summary_items(n.id))
            when 'key_rotation' then rotator_internal.key_alert_is_over(n)
            when 'contact_gone' then rotator_internal.contact_alert_is_over(n)
            else n.fallback_of is not null and n.secret_id is not null and (
                rotator_internal.fallback_is_over(n) or exists (
                    select
                    from rotator_internal.secret as s
                    where s.tenant_id = n.tenant_id and s.id = n.secret_id and s.snoozed_until > clock_timestamp()))
        end);
begin
    if empty <> '{}' then
        perform rotator_internal.put_off(array(
            select n.id
            from rotator_internal.notification as n
            where n.ctid = any (empty) and n.fallback_of is not null and not rotator_internal.fallback_is_over(n)));
        perform rotator_internal.leave_out(n.id)
        from rotator_internal.notification as n
        where n.ctid = any (empty) and n.kind = 'summary';
        with ended as (
            update rotator_internal.notification as n
            set state = 'cancelled'
            -- Somebody has an item in hand, and may want to say it after all: then it is for the next claim.
            where n.ctid = any (empty) and not (n.kind = 'summary' and exists (
                select
                from rotator_internal.notification as i
                where i.merged_into = n.id and i.state = 'merged'))
            returning n.tenant_id, n.id
        )
        insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id)
        select e.tenant_id, 'rotator', 'engine', 'notification.cancelled', 'notification', e.id::text
        from ended as e;
    end if;
    return empty;
end
$$;

comment on function rotator_internal.end_empty(tid[]) is
    'Cancels those of these locked rows that are summaries of nothing that is still to be done, about a key rotation or a '
    'contact that was put right, or in the stead of one that nobody needs any more; what a snooze makes wait waits. Returns '
    'their places.';

create or replace function rotator_internal.summary_message(n rotator_internal.notification, worker text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    result jsonb;
begin
    perform rotator_internal.leave_out(n.id);
    execute $sql$
        with item as materialized (
            select
                i.notification_id, i.secret, i.tenant, n as row, rotator_internal.mint_token() as token
            from rotator_internal.summary_items($1) as i
            join rotator_internal.notification as n on n.id = i.notification_id
            order by (i.secret).expiry_date, (i.secret).id
            limit 20
        ),
        attempted as (
            insert into rotator_internal.delivery_attempt (
                tenant_id, notification_id, claim_id, attempt, worker, token_hash)
            select ($2).tenant_id, i.notification_id, ($2).claim_id, ($2).attempts, $3,
                sha256(convert_to(i.token, 'UTF8'))
            from item as i
        )
        select jsonb_build_object(
            'kind', 'summary',
            'rule', ($2).rule,
            'notification_id', $1,
            'tenant', (
                select rotator_internal.tenant_in_message(t)
                from rotator_internal.tenant as t
                where t.tenant_id = ($2).tenant_id),
            'counts', (
                select jsonb_build_object(
                    'total', count(*),
                    'overdue', count(*) filter (where (i.secret).expiry_date <= now()),
                    'expiring_soon', count(*) filter (where (i.secret).expiry_date > now()))
                from rotator_internal.summary_items($1) as i),
            'items', coalesce(jsonb_agg(
                rotator_internal.item_in_message(i.row, i.secret, i.tenant) || jsonb_build_object('link_token', i.token)
                order by (i.secret).expiry_date, (i.secret).id), '[]'))
        from item as i
    $sql$ into result using n.id, n, worker;
    return result;
end
$$;

comment on function rotator_internal.summary_message(rotator_internal.notification, text) is
    'What a summary says: how many, and the twenty most urgent with a link each, kept as attempts of this claim.';

create or replace function rotator_internal.summary_after(token text) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    pressed record; -- the attempt whose message has that token, and what speaks for it
    result jsonb;
begin
    select n.tenant_id, n.merged_into, d.claim_id into pressed
    from rotator_internal.delivery_attempt as d
    join rotator_internal.notification as n on n.id = d.notification_id and n.tenant_id = d.tenant_id
    where d.token_hash = sha256(convert_to(coalesce(token, ''), 'UTF8'));
    if pressed.merged_into is null then
        return null;
    end if;
    execute $sql$
        select jsonb_build_object(
            'kind', 'summary',
            'notification_id', $2,
            'items', jsonb_agg(
                rotator_internal.item_in_message(n, s, t) || rotator_internal.turn_in_message(s, t.time_zone, n.cycle)
                || jsonb_build_object('acknowledged', case
                    when a.state = 'acknowledged'
                    then jsonb_build_object('by', a.acknowledged_by)
                end)
                order by n.id))
        from rotator_internal.notification as n
        join rotator_internal.delivery_attempt as d
            on d.notification_id = n.id and d.claim_id = $3 and d.tenant_id = n.tenant_id
        join rotator_internal.tenant as t on t.tenant_id = n.tenant_id
        join rotator_internal.secret as s on s.tenant_id = n.tenant_id and s.id = n.secret_id
        left join rotator_internal.alert as a
            on a.tenant_id = n.tenant_id and a.secret_id = n.secret_id and a.cycle = n.cycle
        where n.tenant_id = $1 and n.merged_into = $2
    $sql$ into result using pressed.tenant_id, pressed.merged_into, pressed.claim_id;
    return result;
end
$$;

comment on function rotator_internal.summary_after(text) is
    'What the summary that lists this token says now of each secret it lists, after somebody acted; null for a token of a '
    'message about one.';

create or replace function rotator_internal.leave_summary(tenant uuid, secret uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute $sql$
        with left_out as (
            update rotator_internal.notification as n
            set state = 'cancelled', withdrawn_at = clock_timestamp()
            -- In the words of the index notification_once.
            where n.tenant_id = $1 and n.secret_id = $2 and n.stage <> 'cancelled' and n.state = 'merged'
              and (n.merged_into is null or exists (
                select
                from rotator_internal.notification as s
                where s.id = n.merged_into and s.tenant_id = $1 and (s.state in ('queued', 'retry') or s.falls_back)))
            returning n.id, n.merged_into
        )
        update rotator_internal.notification as s
        set state = 'cancelled'
        where s.tenant_id = $1 and s.id in (select l.merged_into from left_out as l) and s.state in ('queued', 'retry')
          and not exists (
            select
            from rotator_internal.notification as n
            where n.merged_into = s.id and n.state = 'merged' and n.id not in (select l.id from left_out as l))
    $sql$ using tenant, secret;
end
$$;

comment on function rotator_internal.leave_summary(uuid, uuid) is
    'Takes a secret whose schedule changed out of a summary that was not sent yet, and cancels one that is then empty.';
