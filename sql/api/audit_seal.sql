-- Sealing: events get their leaves and blocks some time after they were written, so that writers never wait for each other
-- or for the sealer. What is sealed goes by transaction, never by id or time: an event that is committed late has a low id,
-- but its transaction was still under way when the others were sealed, and so it is not passed over.
-- Called by the tick. Tables: schema/audit_block.sql; hashes: extension/audit. Covered by tests/tests/security/audit_seal.rs.

create or replace function rotator_internal.seal_events(places tid[], below xid8) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    most constant integer := 10000; -- events of a block
    chain record;
    block rotator_internal.audit_block;
    ids bigint[];
    hashes bytea[];
    latest timestamptz;
    next xid8;
    sealed bigint := 0;
begin
    for chain in
        select h.tenant_id, array_agg(h.id order by h.id) as ids, array_agg(h.hash order by h.id) as hashes
        from (
            select
                e.tenant_id, e.id,
                rotator_internal.audit_event_hash(
                    e.tenant_id, e.id, e.occurred_at, e.transaction_id, e.actor, e.source, e.action, e.entity, e.entity_id,
                    e.changes::text, e.request_id) as hash
            from rotator_internal.audit_event as e
            where e.ctid = any (places)
            offset 0
        ) as h
        group by h.tenant_id
    loop
        if next is null then
            -- After the events were read: whoever gets this id or a later one drew no id that is below one of theirs.
            latest := clock_timestamp();
            next := rotator_internal.next_transaction_id();
        end if;
        select b.* into block
        from rotator_internal.audit_block as b
        where b.tenant_id = chain.tenant_id
        order by b.number desc
        limit 1;
        for place in 1 .. cardinality(chain.ids) by most loop
            ids := chain.ids[place : place + most - 1];
            hashes := chain.hashes[place : place + most - 1];
            block.tenant_id := chain.tenant_id;
            block.number := coalesce(block.number, 0) + 1;
            block.events := cardinality(ids);
            block.first_id := ids[1];
            block.last_id := ids[cardinality(ids)];
            block.root := rotator_internal.audit_root(string_agg(u.hash, ''::bytea order by u.place))
                from unnest(hashes) with ordinality as u (hash, place);
            block.previous := coalesce(block.hash, decode(repeat('00', 32), 'hex'));
            block.sealed_at := latest;
            block.below := seal_events.below;
            block.next := next;
            block.hash := rotator_internal.audit_block_hash(
                block.tenant_id, block.number, block.events, block.root, block.previous, block.sealed_at, block.below, block.next);
            insert into rotator_internal.audit_leaf (tenant_id, event_id, block_number, hash)
            select block.tenant_id, u.id, block.number, u.hash
            from unnest(ids, hashes) as u (id, hash);
            insert into rotator_internal.audit_block
            select block.*;
            sealed := sealed + block.events;
        end loop;
    end loop;
    return sealed;
end
$$;

comment on function rotator_internal.seal_events(tid[], xid8) is
    'Seals the audit events at these places in blocks of at most 10,000, each tenant''s in order of their ids.';

create or replace function rotator_internal.seal_audit(max_events bigint, has_time boolean default true) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    idle constant jsonb := '{"sealed": 0, "more": false}';
    state rotator_internal.audit_seal_state;
    horizon xid8;
    bound xid8;
    walked record;
    places tid[];
    sealed bigint := 0;
    more boolean := false;
begin
    -- Each statement below must see what was committed before it; and a row that changed must not be an error.
    if current_setting('transaction_isolation') <> 'read committed' then
        return idle;
    end if;

    select s.* into state from rotator_internal.audit_seal_state as s;
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    if state.below is null then
        -- A new database, one that was upgraded, or one restored from a dump: all events are looked at once.
        insert into rotator_internal.audit_seal_state (below, walked_tenant, walked_event)
        values (horizon, '00000000-0000-0000-0000-000000000000', -9223372036854775808)
        on conflict (only_row) do nothing;
    elsif state.walked_event is null and state.below <= horizon and not exists (
        select
        from rotator_internal.audit_event as e
        where e.transaction_id >= state.below and e.transaction_id < horizon) then
        return idle;
    elsif state.walked_event is null and state.below <= horizon and not has_time and (
        select e.occurred_at
        from rotator_internal.audit_event as e
        where e.transaction_id >= state.below
        order by e.transaction_id
        limit 1) > clock_timestamp() - interval '1 minute' then
        return idle || '{"more": true}';
    end if;

    -- One at a time. Whoever comes second has nothing to wait for.
    select s.* into state
    from rotator_internal.audit_seal_state as s
    for update skip locked;
    if not found then
        return idle;
    end if;
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    if state.below > horizon then
        -- Transaction ids never go back on one server: this row came from another.
        state.below := horizon;
        state.walked_tenant := '00000000-0000-0000-0000-000000000000';
        state.walked_event := -9223372036854775808;
    end if;

    if state.walked_event is not null then
        -- Ids of transactions may be another server's here. What this one has written since the walk began comes after it.
        bound := rotator_internal.next_transaction_id();
        select
            count(*) as events,
            coalesce(bool_or(w.transaction_id >= bound), false) as ahead,
            (array_agg(w.tenant_id order by w.tenant_id desc, w.id desc))[1] as tenant_id,
            (array_agg(w.id order by w.tenant_id desc, w.id desc))[1] as id,
            array_agg(w.place) filter (
                where (w.transaction_id < state.below or w.transaction_id >= bound)
                and not exists (
                    select
                    from rotator_internal.audit_leaf as l
                    where l.tenant_id = w.tenant_id and l.event_id = w.id)) as places
        into walked
        from (
            select e.tenant_id, e.id, e.transaction_id, e.ctid as place
            from rotator_internal.audit_event as e
            where (e.tenant_id, e.id) > (state.walked_tenant, state.walked_event)
            order by e.tenant_id, e.id
            limit max_events
        ) as w;
        more := walked.events = max_events;
        places := walked.places;
        state.walked_tenant := case when more then walked.tenant_id end;
        state.walked_event := case when more then walked.id end;
        state.restored_ahead := state.restored_ahead or walked.ahead;
        sealed := rotator_internal.seal_events(places, '0');
    else
        -- Whole transactions, so that one number says how far it came, however large they are.
        bound := (
            select e.transaction_id
            from rotator_internal.audit_event as e
            where e.transaction_id >= state.below and e.transaction_id < horizon
            order by e.transaction_id
            offset max_events - 1
            limit 1);
        bound := least((bound::text::numeric + 1)::text::xid8, horizon);
        more := bound < horizon;
        select array_agg(e.ctid) into places
        from rotator_internal.audit_event as e
        where e.transaction_id >= state.below and e.transaction_id < bound
          and (not state.restored_ahead or not exists (
            select
            from rotator_internal.audit_leaf as l
            where l.tenant_id = e.tenant_id and l.event_id = e.id
            offset 0));
        state.below := bound;
        sealed := rotator_internal.seal_events(places, horizon);
    end if;

    update rotator_internal.audit_seal_state as s
    set below = state.below,
        walked_tenant = state.walked_tenant,
        walked_event = state.walked_event,
        restored_ahead = state.restored_ahead;
    return jsonb_build_object('sealed', sealed, 'more', more);
end
$$;

comment on function rotator_internal.seal_audit(bigint, boolean) is
    'Seals audit events of transactions that are older than every open one, about max_events of them; how many, and whether '
    'there are more. In read committed only; nothing while somebody else does. Without has_time only what is older than a minute.';
