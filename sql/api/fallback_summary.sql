-- What a message about many that was given up still had to say falls back item by item (api/fallback.sql). A digest has
-- twenty at most and does so at once. A backlog may have tens of thousands, and no worker's report may hold that many: it
-- is left to the tick, some hundreds at a time, and said again in one message to each whom that reaches (api/summary.sql).
-- Called by api/outcome.sql, api/outbox.sql and api/tick.sql.
-- Covered by tests/tests/behaviour/{fallback,fallback_backlog}.rs.

create or replace function rotator_internal.end_items(summaries uuid[], items uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dead uuid[];
begin
    execute $sql$
        with item as materialized (
            select n.id, s.id as summary, s.last_error
            from rotator_internal.notification as s
            join rotator_internal.notification as n on n.merged_into = s.id and n.tenant_id = s.tenant_id
            where s.id = any ($1) and s.kind = 'summary' and s.state = 'dead' and n.state = 'merged'
              and ($2 is null or n.id = any ($2))
        ),
        to_be_said as materialized (
            select i.notification_id as id
            from unnest($1) as s (id)
            cross join lateral rotator_internal.summary_items(s.id) as i
            where $2 is null or i.notification_id = any ($2)
        ),
        judged as materialized (
            select
                i.id, i.last_error,
                -- What nobody needs to be told any more must not stand in the way when it comes due again, after a snooze say.
                case when exists (select from to_be_said as t where t.id = i.id) then 'dead' else 'cancelled' end as becomes
            from item as i
        ),
        ended as (
            update rotator_internal.notification as n
            set state = i.becomes,
                last_error = i.last_error,
                withdrawn_at = case when i.becomes = 'cancelled' then clock_timestamp() else n.withdrawn_at end
            from judged as i
            where n.id = i.id
            returning n.tenant_id, n.id, n.state, n.merged_into, n.channel, n.secret_id, n.last_error
        ),
        audited as (
            insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
            select
                e.tenant_id, 'rotator', 'engine', 'notification.' || e.state, 'notification', e.id::text,
                jsonb_strip_nulls(jsonb_build_object(
                    'channel', e.channel, 'secret', e.secret_id, 'summary', e.merged_into, 'error', e.last_error))
            from ended as e
        )
        select array_agg(e.id order by e.id)
        from ended as e
        where e.state = 'dead'
    $sql$ into dead using summaries, items;
    return dead;
end
$$;

comment on function rotator_internal.end_items(uuid[], uuid[]) is
    'Lets items of summaries that are dead end with them, all or these; returns those that somebody still has to be told.';

create or replace function rotator_internal.fall_back_from_summaries(dead uuid[]) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    summary uuid;
    items uuid[];
    made_count integer := 0;
begin
    for summary in execute $sql$
        update rotator_internal.notification as n
        set falls_back = n.rule = 'backlog'
        where n.id = any ($1) and n.kind = 'summary' and n.state = 'dead'
        returning case when n.falls_back is not true then n.id end
    $sql$ using dead
    loop
        continue when summary is null;
        items := rotator_internal.end_items(array[summary], null);
        if items is not null then
            made_count := made_count + rotator_internal.fall_back(
                items, case when cardinality(items) > 1 then 'digest' end);
        end if;
    end loop;
    return made_count;
end
$$;

comment on function rotator_internal.fall_back_from_summaries(uuid[]) is
    'What digests that have just died still had to say falls back, each item by itself; what a backlog had to say is left to '
    'the tick. Returns how many messages are made.';

create or replace function rotator_internal.fall_back_from_backlogs(max_rows integer, out looked_at integer, out more boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    backlog uuid;
    items uuid[];
    dead uuid[];
begin
    looked_at := 0;
    more := false;
    if not exists (select from rotator_internal.notification as n where n.falls_back) then
        return;
    end if;
    -- Rare, so planned each time.
    for backlog in execute $sql$
        select n.id
        from rotator_internal.notification as n
        where n.falls_back
        order by n.id
        limit 100
        for update skip locked
    $sql$
    loop
        exit when looked_at >= max_rows;
        -- Nobody is waited for: what somebody else has in hand, or kin of it, is for the next tick.
        execute $sql$
            with taken as materialized (
                select n.id
                from rotator_internal.notification as n
                where n.merged_into = $1 and n.state = 'merged'
                limit $2
                for update skip locked
            ),
            kin as materialized (
                select n.id as item, k.id
                from taken as t
                join rotator_internal.notification as n on n.id = t.id
                cross join lateral rotator_internal.kin(n) as k
            ),
            held as materialized (
                select n.id
                from rotator_internal.notification as n
                where n.id in (select k.id from kin as k)
                for update skip locked
            )
            select array_agg(t.id)
            from taken as t
            where t.id not in (
                select k.item
                from kin as k
                where not exists (select from held as h where h.id = k.id))
        $sql$ into items using backlog, max_rows - looked_at;
        if items is not null then
            looked_at := looked_at + cardinality(items);
            dead := rotator_internal.end_items(array[backlog], items);
            if dead is not null then
                perform rotator_internal.fall_back(dead, 'backlog');
            end if;
        end if;
        execute $sql$
            update rotator_internal.notification as n
            set falls_back = false
            where n.id = $1 and not exists (
                select from rotator_internal.notification as i where i.merged_into = $1 and i.state = 'merged')
        $sql$ using backlog;
    end loop;
    more := looked_at >= max_rows;
end
$$;

comment on function rotator_internal.fall_back_from_backlogs(integer) is
    'Lets at most so many items of backlogs that were given up fall back; more when there may be others.';
