-- Data keys of a tenant: making the first ones, a new version on demand, going back to the one before, and the views of
-- keys and rotations. Key bytes are made and wrapped in the extension (extension/src/keyring); this file sees wrapped
-- bytes only. What happens to the rows afterwards: api/reencryption.sql; to old keys: api/key_life.sql.
-- Tables: schema/encryption.sql, schema/key_rotation.sql. Covered by tests/tests/security/keys.rs, tests/tests/behaviour/{key_rotation,key_rollback}.rs.

create or replace function rotator_internal.add_key(tenant uuid, purpose text) returns rotator_internal.encryption_key
language sql
set search_path = pg_catalog, pg_temp
as $$
    with next as materialized (
        select
            nextval('rotator_internal.encryption_key_id') as id,
            coalesce(max(k.version), 0) + 1 as version
        from rotator_internal.encryption_key as k
        where k.tenant_id = add_key.tenant and k.purpose = add_key.purpose
    )
    insert into rotator_internal.encryption_key
        (tenant_id, id, purpose, version, status, wrapped_key, master_key_id, check_value, activated_at)
    select
        add_key.tenant, n.id, add_key.purpose, n.version, 'active',
        made.wrapped_key, made.master_key_id, made.check_value, clock_timestamp()
    from next as n
    cross join lateral rotator_internal.make_key(add_key.tenant, n.id, add_key.purpose) as made
    returning *
$$;

comment on function rotator_internal.add_key(uuid, text) is
    'Makes the next version of a tenant''s key and activates it; the caller has put the old one out of use. RT010 without a master key.';

create or replace function rotator_internal.lock_keys(tenant uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- First the table, as an update would: rewrap_keys() holds off whoever wants to change keys, and locks rows after that.
    lock table rotator_internal.encryption_key in row exclusive mode;
    -- Not the tenant's row: whoever writes secrets or policies holds that until the end of his transaction.
    perform
    from rotator_internal.encryption_key as k
    where k.tenant_id = lock_keys.tenant and k.purpose = 'data' and k.version = 1
    for no key update;
end
$$;

comment on function rotator_internal.lock_keys(uuid) is
    'Whoever changes the state of a tenant''s data keys calls this first, and so follows the one before: the first version stands for all.';

create or replace function rotator_internal.supersede_rotations() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update rotator_internal.key_rotation as r
    set status = 'superseded', finished_at = clock_timestamp(), is_waiting = false
    where r.tenant_id = new.tenant_id and r.status = 'running' and r.id < new.id;
    if exists (
        select from rotator_internal.key_rotation as later
        where later.tenant_id = new.tenant_id and later.id > new.id) then
        new.status := 'superseded';
        new.finished_at := clock_timestamp();
    end if;
    return new;
end
$$;

comment on function rotator_internal.supersede_rotations() is
    'A trigger: of each tenant the last run goes on. Of the rows of a dump of 0.1.0 too, which name no status and come in any order.';

create or replace trigger supersede_rotations
before insert on rotator_internal.key_rotation
for each row when (new.status = 'running') execute function rotator_internal.supersede_rotations();

create or replace function rotator_internal.start_rotation(
    tenant uuid, why text, actor text default null, source text default null, reverts bigint default null) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    old_key rotator_internal.encryption_key;
    new_key rotator_internal.encryption_key;
    rotation bigint;
begin
    perform rotator_internal.lock_keys(tenant);

    update rotator_internal.encryption_key as k
    set status = 'decrypt_only'
    where k.tenant_id = start_rotation.tenant and k.purpose = 'data' and k.status = 'active'
    returning k.* into old_key;
    if old_key.id is null then
        perform rotator_internal.refuse('PT409', 'the tenant has no active data key', 'A tenant that was offboarded gets no new ones.');
    end if;

    if reverts is null then
        new_key := rotator_internal.add_key(tenant, 'data');
    else
        update rotator_internal.encryption_key as k
        set status = 'active', activated_at = clock_timestamp()
        from rotator_internal.key_rotation as r
        where r.tenant_id = start_rotation.tenant and r.id = start_rotation.reverts
            and k.tenant_id = r.tenant_id and k.id = r.from_key
        returning k.* into new_key;
    end if;

    insert into rotator_internal.key_rotation (tenant_id, from_key, to_key, trigger, actor, reverts)
    values (
        start_rotation.tenant, old_key.id, new_key.id, why,
        coalesce(start_rotation.actor, rotator.current_actor()), start_rotation.reverts)
    returning id into rotation;

    update rotator_internal.key_schedule as s
    set next_at = clock_timestamp() + s.every, reason = null, failures = 0, last_error = null
    where s.tenant_id = start_rotation.tenant;

    perform rotator_internal.record_event(
        tenant, 'key.rotated', 'key', new_key.id::text,
        jsonb_build_object('from_version', old_key.version, 'to_version', new_key.version, 'reason', why, 'rotation', rotation),
        actor, source);
    return rotation;
end
$$;

comment on function rotator_internal.start_rotation(uuid, text, text, text, bigint) is
    'Makes a new version, or the one before the rotation that is rolled back, the active one and begins a run; gives its id.';

create or replace function rotator.rotate_key(tenant text default null, reason text default 'manual') returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target uuid := rotator_internal.managed_tenant(tenant);
begin
    return rotator_internal.start_rotation(target, coalesce(rotator_internal.check_text('reason', reason), 'manual'));
end
$$;

comment on function rotator.rotate_key(text, text) is
    'Makes a new version of the tenant''s data key active and returns the id of the rotation. New writes use it from the '
    'commit on, in every session; what was written before still decrypts, because each ciphertext names its key, and is '
    're-encrypted in the background (view key_rotations). For a tenant admin or rotator_admin. Errors: RT010 when no '
    'master key is available.';

create or replace function rotator.rotate_all_keys(reason text default 'manual') returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    why text := coalesce(rotator_internal.check_text('reason', reason), 'manual');
    target uuid;
    rotated integer := 0;
begin
    if not rotator_internal.is_operator() then
        perform rotator_internal.refuse(
            '42501', 'only a rotator_admin may rotate the keys of all tenants', 'rotator.rotate_key() rotates your own tenant''s.');
    end if;
    for target in
        select t.tenant_id
        from rotator_internal.tenant as t
        where t.status = 'active'
        order by t.tenant_id
    loop
        perform rotator_internal.lock_keys(target);
        -- One that has left since we began.
        continue when not exists (
            select from rotator_internal.tenant as t where t.tenant_id = target and t.status = 'active');
        perform rotator_internal.start_rotation(target, why);
        rotated := rotated + 1;
    end loop;
    return rotated;
end
$$;

comment on function rotator.rotate_all_keys(text) is
    'As rotate_key, for every tenant in one transaction; returns how many. For rotator_admin. Errors: RT010, and then none is rotated.';

create or replace function rotator_internal.managed_rotation(rotation_id bigint) returns rotator_internal.key_rotation
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_one rotator_internal.key_rotation;
    own uuid;
begin
    if not rotator_internal.is_operator() then
        own := rotator_internal.require_role('admin');
    end if;
    select r.* into found_one
    from rotator_internal.key_rotation as r
    where r.id = managed_rotation.rotation_id;
    if found_one.id is null or found_one.tenant_id <> own then
        perform rotator_internal.refuse('PT404', 'no such rotation', 'select id from rotator.key_rotations lists them.');
    end if;
    return found_one;
end
$$;

comment on function rotator_internal.managed_rotation(bigint) is
    'The rotation an admin call is about: any for a rotator_admin, else one of the caller''s own tenant, as its admin.';

create or replace function rotator.rollback_key_rotation(rotation_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    r rotator_internal.key_rotation := rotator_internal.managed_rotation(rotation_id);
    old_key rotator_internal.encryption_key;
    new_key rotator_internal.encryption_key;
begin
    perform rotator_internal.lock_keys(r.tenant_id);
    select k.* into new_key
    from rotator_internal.encryption_key as k
    where k.tenant_id = r.tenant_id and k.id = r.to_key;
    select k.* into old_key
    from rotator_internal.encryption_key as k
    where k.tenant_id = r.tenant_id and k.id = r.from_key
    for no key update;

    if new_key.status <> 'active' or exists (
        select from rotator_internal.key_rotation as later
        where later.tenant_id = r.tenant_id and later.id > r.id) then
        perform rotator_internal.refuse(
            'PT409', format('rotation %s is not the last one', r.id)
                || case when new_key.status <> 'active' then format(': version %s is %s', new_key.version, new_key.status) else '' end,
            'Roll back the last rotation first, or rotate the key again.');
    elsif old_key.status <> 'decrypt_only' then
        perform rotator_internal.refuse(
            'PT409', format('version %s is %s: there is no way back to it', old_key.version, old_key.status),
            'Rotate the key again instead: rotator.rotate_key().');
    end if;

    update rotator_internal.key_rotation as k
    set status = 'rolled_back', finished_at = coalesce(k.finished_at, clock_timestamp()), is_waiting = false
    where k.tenant_id = r.tenant_id and k.id = r.id;
    perform rotator_internal.start_rotation(r.tenant_id, format('rollback of rotation %s', r.id), reverts => r.id);
    perform rotator_internal.record_event(
        r.tenant_id, 'key.rolled_back', 'key_rotation', r.id::text,
        jsonb_build_object('from_version', new_key.version, 'to_version', old_key.version));
end
$$;

comment on function rotator.rollback_key_rotation(bigint) is
    'Makes the version before this rotation the active one again; rows that were re-encrypted since go back in a run of '
    'their own. Only for the last rotation of a tenant, until the old version is retired. For a tenant admin or '
    'rotator_admin. Errors: PT404 no such rotation, PT409 not the last one, or the old version is retired.';
