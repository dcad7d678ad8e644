-- How often each data key has encrypted. A backend reserves uses in blocks, each a row it inserts and nobody waits for,
-- and counts against them in memory: extension/src/keyring/uses.rs. Uses may be counted too high, never too low.
-- Table: schema/key_rotation.sql. What follows from many uses: api/key_schedule.sql.
-- Covered by tests/tests/security/key_uses.rs.

create or replace function rotator_internal.reserve_uses(tenant uuid, key_id bigint, wanted bigint) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    -- NIST SP 800-38D, 8.3: so many messages may be encrypted under one key with random nonces.
    most constant bigint := 4294967296;
    used bigint := (select coalesce(sum(u.uses), 0) from rotator_internal.key_use as u where u.key_id = reserve_uses.key_id);
    granted bigint := least(wanted, most - used);
begin
    if granted < 1 then
        return 0;
    end if;
    insert into rotator_internal.key_use (tenant_id, key_id, uses)
    values (tenant, reserve_uses.key_id, granted);
    return granted;
end
$$;

comment on function rotator_internal.reserve_uses(uuid, bigint, bigint) is
    'Adds so many uses to those of a data key, or what is left of 2^32, and returns how many. Asked by the library, which '
    'raises RT013 when they are too few.';

create or replace function rotator_internal.much_used_keys() returns setof rotator_internal.encryption_key
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select k.*
    from (
        select u.tenant_id, u.key_id
        from rotator_internal.key_use as u
        group by u.tenant_id, u.key_id
        having sum(u.uses) >= 2147483648
    ) as much
    join rotator_internal.encryption_key as k on k.tenant_id = much.tenant_id and k.id = much.key_id
    where k.status = 'active'
$$;

comment on function rotator_internal.much_used_keys() is 'Active keys that have been used 2^31 times, half of what they may be: due for rotation.';

create or replace function rotator_internal.fold_uses(max_rows integer) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
as $$
declare
    fewer integer;
begin
    with taken as materialized (
        select u.ctid as place
        from rotator_internal.key_use as u
        where u.key_id in (
            select many.key_id from rotator_internal.key_use as many group by many.key_id having count(*) > 1)
        order by u.key_id
        limit max_rows
        for update of u skip locked
    ),
    gone as (
        delete from rotator_internal.key_use as u
        using taken as t
        where u.ctid = t.place
        returning u.tenant_id, u.key_id, u.uses
    ),
    folded as (
        insert into rotator_internal.key_use (tenant_id, key_id, uses)
        select g.tenant_id, g.key_id, sum(g.uses)
        from gone as g
        group by g.tenant_id, g.key_id
        returning 1
    )
    select (select count(*) from gone) - (select count(*) from folded) into fewer;
    return fewer;
end
$$;

comment on function rotator_internal.fold_uses(integer) is
    'Folds rows of the same key into one, at most so many at once; returns how many fewer there are.';

create or replace trigger forget_active_keys
after insert or update or delete or truncate on rotator_internal.encryption_key
for each statement execute function rotator_internal.forget_active_keys();
alter table rotator_internal.encryption_key enable always trigger forget_active_keys;
