-- Data keys of a tenant: making the first ones, a new version on demand, and the view of them. Key bytes are made and
-- wrapped in the extension (extension/src/keyring); this file sees wrapped bytes only.
-- Tables: schema/encryption.sql. Covered by tests/tests/security/keys.rs.

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

create or replace function rotator.rotate_key(tenant text default null, reason text default 'manual') returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target uuid := rotator_internal.managed_tenant(tenant);
    why text := coalesce(rotator_internal.check_text('reason', reason), 'manual');
    old_key rotator_internal.encryption_key;
    new_key rotator_internal.encryption_key;
    rotation bigint;
begin
    -- Two rotations at once follow each other.
    perform from rotator_internal.tenant as t where t.tenant_id = target for update;

    update rotator_internal.encryption_key as k
    set status = 'decrypt_only'
    where k.tenant_id = target and k.purpose = 'data' and k.status = 'active'
    returning k.* into old_key;

    new_key := rotator_internal.add_key(target, 'data');

    insert into rotator_internal.key_rotation (tenant_id, from_key, to_key, trigger, actor)
    values (target, old_key.id, new_key.id, why, rotator.current_actor())
    returning id into rotation;

    perform rotator_internal.record_event(
        target, 'key.rotated', 'key', new_key.id::text,
        jsonb_build_object('from_version', old_key.version, 'to_version', new_key.version, 'reason', why, 'rotation', rotation));
    return rotation;
end
$$;

comment on function rotator.rotate_key(text, text) is
    'Makes a new version of the tenant''s data key active and returns the id of the rotation. New writes use it from the '
    'commit on; what was written before still decrypts, because each ciphertext names its key. For a tenant admin or '
    'rotator_admin. Errors: RT010 when no master key is available.';

create or replace view rotator.encryption_keys
with (security_invoker = true)
as
select
    k.id,
    k.version,
    k.tenant_id,
    k.purpose,
    k.status,
    k.status = 'active' as active,
    k.created_at,
    k.activated_at,
    k.retired_at,
    k.destroyed_at
from rotator_internal.encryption_key as k;

comment on view rotator.encryption_keys is
    'Versions of the data keys, never key bytes. Members see their tenant''s, rotator_admin all.';
comment on column rotator.encryption_keys.purpose is 'data: encrypts fields, rotates. index: equality lookups, stays.';
comment on column rotator.encryption_keys.status is 'pending, active (encrypts), decrypt_only, retired or destroyed.';
