-- After a change of master key: reading it again at once, and moving every data key to the one that wraps now. Master
-- keys themselves never reach SQL: extension/src/keyring reads, wraps and unwraps; here are their ids and wrapped bytes.
-- Tables: schema/encryption.sql. Covered by tests/tests/security/master_key_change.rs.

create or replace function rotator.reload_master_key() returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.load_master_keys();
end
$$;

comment on function rotator.reload_master_key() is
    'Reads the master keys again, now, in this session; others do within ten seconds of meeting a key they can''t open. '
    'For rotator_admin. Errors: RT010 when they can''t be read; what this session held before stays.';

create or replace function rotator.rewrap_keys() returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    newest text;
    moved integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform rotator_internal.refuse(
            '25001', 'rotator.rewrap_keys() must see keys that were made a moment ago',
            'Call it in a transaction with isolation level read committed.');
    end if;
    -- Whoever is making a key ends first, and whoever wants to make one waits, and then reads the master keys anew.
    lock table rotator_internal.encryption_key in share row exclusive mode;
    newest := rotator_internal.load_master_keys();

    with locked as materialized (
        select k.*
        from rotator_internal.encryption_key as k
        where k.wrapped_key is not null
        order by k.id
        for no key update
    ),
    -- Those that are where they should be, too: a key that doesn't open must be known before an old master key goes.
    rewrapped as materialized (
        select l.tenant_id, l.id, l.master_key_id as former, r.wrapped_key, r.master_key_id
        from locked as l
        cross join lateral rotator_internal.rewrap_key(
            l.tenant_id, l.id, l.purpose, l.wrapped_key, l.master_key_id, l.check_value) as r
    ),
    updated as (
        update rotator_internal.encryption_key as k
        set wrapped_key = r.wrapped_key, master_key_id = r.master_key_id
        from rewrapped as r
        where k.tenant_id = r.tenant_id and k.id = r.id and r.former <> r.master_key_id
        returning k.tenant_id, r.former
    ),
    counted as materialized (
        select u.tenant_id, u.former, count(*)::integer as keys
        from updated as u
        group by u.tenant_id, u.former
    ),
    recorded as materialized (
        select
            c.keys,
            rotator_internal.record_event(
                c.tenant_id, 'master_key.rewrapped', 'tenant', c.tenant_id::text,
                jsonb_build_object('keys', c.keys, 'from_master_key', c.former, 'to_master_key', newest))
        from counted as c
    )
    select coalesce(sum(r.keys), 0) into moved from recorded as r;
    return moved;
end
$$;

comment on function rotator.rewrap_keys() is
    'Moves every data key to the newest master key, the first that is loaded, in one transaction, and returns how many were '
    'moved. Afterwards an older master key can be taken away. Data keys stay the same, so no row is re-encrypted. '
    'For rotator_admin. Errors: RT010, with nothing changed, when a key can''t be opened.';

create or replace function rotator_internal.keys_to_rewrap() returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    held text[] := string_to_array(rotator_internal.master_key_ids(), ' ');
begin
    return (
        select string_agg(
            case
                when m.master_key_id = any (held)
                then format('%s of %s data keys are still wrapped by %s: select rotator.rewrap_keys()', m.keys, m.total, m.master_key_id)
                else format('%s of %s data keys are wrapped by %s, which is missing: nobody can read what they encrypted',
                    m.keys, m.total, m.master_key_id)
            end, '; ' order by m.master_key_id)
        from (
            select k.master_key_id, count(*) as keys, sum(count(*)) over () as total
            from rotator_internal.encryption_key as k
            where k.wrapped_key is not null
            group by k.master_key_id
        ) as m
        where m.master_key_id <> held[1]
    );
end
$$;

comment on function rotator_internal.keys_to_rewrap() is
    'Which data keys are under another than the newest of the master keys held, in words; null when none is.';
