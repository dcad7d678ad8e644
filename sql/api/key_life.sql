-- The end of data keys: counting the rows that hang on one, who may still write under it, retiring and destroying it, and
-- a tenant that leaves with all of its keys; and the views of keys and rotations.
-- A key in use can't go: writers take a lock on the key they encrypt with, once a transaction, and look again whether it
-- is still active (extension/src/keyring). So once nobody holds an old key, no ciphertext under it can appear any more,
-- and what a count that begins then doesn't find isn't there.
-- Covered by tests/tests/behaviour/key_life.rs, tests/tests/security/{key_fence,retire_race}.rs.

create or replace function rotator_internal.key_holders(tenant uuid, key_id bigint default null) returns integer[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select array_agg(distinct l.pid order by l.pid)
        from pg_locks as l
        join rotator_internal.encryption_key as k
            on (k.id & 4294967295)::oid = l.objid and ((k.id >> 32) & 65535)::smallint = l.objsubid
        where l.locktype = 'object'
            and l.database = (select d.oid from pg_database as d where d.datname = current_database())
            and l.classid = 'rotator_internal.encryption_key'::regclass
            and k.tenant_id = key_holders.tenant
            and k.purpose = 'data'
            and case when key_holders.key_id is null then k.status <> 'active' else k.id = key_holders.key_id end
    );
end
$$;

comment on function rotator_internal.key_holders(uuid, bigint) is
    'Process ids of transactions that may write under this key, or under any but the active one; null when there are none.';

create or replace function rotator_internal.rows_using_key(tenant uuid, key_id bigint) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    host_column rotator_internal.encrypted_column;
    slug text := (select t.slug from rotator_internal.tenant as t where t.tenant_id = rows_using_key.tenant);
    counted bigint;
begin
    select
        (
            select count(*)
            from rotator_internal.secret as s
            where s.tenant_id = rows_using_key.tenant
                and rows_using_key.key_id in (
                    rotator_internal.ciphertext_key(s.name), rotator_internal.ciphertext_key(s.provider_ref),
                    rotator_internal.ciphertext_key(s.purpose)))
        + (
            select count(*)
            from rotator_internal.recipient as r
            where r.tenant_id = rows_using_key.tenant
                and rotator_internal.ciphertext_key(r.address) = rows_using_key.key_id)
        + (
            select count(*)
            from rotator_internal.audit_value as v
            where v.tenant_id = rows_using_key.tenant
                and rotator_internal.ciphertext_key(v.changed) = rows_using_key.key_id)
    into counted;
    for host_column in
        select c.* from rotator_internal.columns_of(tenant) as c
    loop
        counted := counted + rotator_internal.host_rows_using_key(host_column, tenant, slug, key_id);
    end loop;
    return counted;
exception
    -- One dropped table must not hide everybody's keys; refuse_key_in_use says which.
    when undefined_table then
        return null;
end
$$;

comment on function rotator_internal.rows_using_key(uuid, bigint) is
    'How many rows, of our tables and of the host''s registered columns, hold a ciphertext under this key; null when a registered '
    'column is gone. Scans the tenant''s rows.';

create or replace function rotator_internal.managed_key(version integer, tenant text) returns rotator_internal.encryption_key
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target uuid := rotator_internal.managed_tenant(tenant);
    key rotator_internal.encryption_key;
begin
    perform rotator_internal.lock_keys(target);
    select k.* into key
    from rotator_internal.encryption_key as k
    where k.tenant_id = target and k.purpose = 'data' and k.version = managed_key.version
    for no key update;
    if key.id is null then
        perform rotator_internal.refuse(
            'PT404', format('there is no version %s', version), 'select version, status from rotator.encryption_keys lists them.');
    end if;
    return key;
end
$$;

comment on function rotator_internal.managed_key(integer, text) is
    'This version of the tenant''s data key, locked against rotation, for an admin call; else PT404.';

create or replace function rotator_internal.refuse_key_in_use(key rotator_internal.encryption_key) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    holders integer[] := rotator_internal.key_holders(key.tenant_id, key.id);
    in_use bigint;
    host_column rotator_internal.encrypted_column;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        -- An older snapshot than that look at the locks would miss what their holders wrote.
        perform rotator_internal.refuse(
            '25001', 'a key can''t end in a transaction that sees an old snapshot',
            'Call it in a transaction with isolation level read committed.');
    elsif holders is not null then
        perform rotator_internal.refuse(
            'PT409', format('%s transaction(s) may still write under version %s', cardinality(holders), key.version),
            format('Wait for them, or end them: process %s.', array_to_string(holders, ', ', 'none: a prepared transaction')));
    end if;
    -- The next statement's snapshot is younger than the end of the last of them.
    in_use := rotator_internal.rows_using_key(key.tenant_id, key.id);
    if in_use > 0 then
        perform rotator_internal.refuse(
            'PT409', format('%s row(s) are under version %s', in_use, key.version),
            'Let re-encryption finish (rotator.key_rotations shows it); rotator.rotate_key() or rotator.retry_key_rotation() begin it again.');
    end if;
    -- Rows that re-encryption doesn't take for the tenant's: no other has a key of this id.
    for host_column in
        select c.* from rotator_internal.encrypted_column as c order by c.schema_name, c.table_name, c.column_name
    loop
        in_use := rotator_internal.host_rows_using_key(host_column, null, null, key.id);
        if in_use > 0 then
            perform rotator_internal.refuse(
                'PT409', format('%s row(s) in %I.%I are under version %s and not marked as of this tenant',
                    in_use, host_column.schema_name, host_column.table_name, key.version),
                format('Mend their %s, or empty their %I; then rotator.rotate_key() or rotator.retry_key_rotation().',
                    coalesce(quote_ident(host_column.tenant_column), 'tenant'), host_column.column_name));
        end if;
    end loop;
end
$$;

comment on function rotator_internal.refuse_key_in_use(rotator_internal.encryption_key) is
    'PT409 while a transaction may write under this key, or a row anywhere is under it.';

create or replace function rotator.retire_key(version integer, tenant text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    key rotator_internal.encryption_key := rotator_internal.managed_key(version, tenant);
begin
    if key.status <> 'decrypt_only' then
        perform rotator_internal.refuse(
            'PT409', format('version %s is %s', key.version, key.status),
            case when key.status = 'active' then 'It is what new rows are encrypted with: rotate the key first.'
                else 'Only a version that still decrypts can be retired.' end);
    end if;
    perform rotator_internal.refuse_key_in_use(key);
    update rotator_internal.encryption_key as k
    set status = 'retired', retired_at = clock_timestamp()
    where k.tenant_id = key.tenant_id and k.id = key.id;
    perform rotator_internal.record_event(
        key.tenant_id, 'key.retired', 'key', key.id::text, jsonb_build_object('version', key.version));
end
$$;

comment on function rotator.retire_key(integer, text) is
    'Takes a version out of use for good, once no row is under it and no transaction can write one; from then on a '
    'rotation can''t be rolled back to it. For a tenant admin or rotator_admin. Errors: PT404, PT409 while it is in use.';

create or replace function rotator.destroy_key(version integer, confirm text, tenant text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    key rotator_internal.encryption_key := rotator_internal.managed_key(version, tenant);
    wanted text := (select t.slug from rotator_internal.tenant as t where t.tenant_id = key.tenant_id) || '/' || key.version;
begin
    if confirm is distinct from wanted then
        perform rotator_internal.refuse(
            '22023', 'destroying a key must be confirmed', format('Pass confirm => ''%s''. It can''t be undone.', wanted));
    elsif key.status <> 'retired' then
        perform rotator_internal.refuse(
            'PT409', format('version %s is %s', key.version, key.status),
            case when key.status = 'destroyed' then 'There is nothing left of it.' else 'Retire it first: rotator.retire_key().' end);
    end if;
    perform rotator_internal.refuse_key_in_use(key);
    update rotator_internal.encryption_key as k
    set status = 'destroyed', wrapped_key = null, destroyed_at = clock_timestamp()
    where k.tenant_id = key.tenant_id and k.id = key.id;
    perform rotator_internal.record_event(
        key.tenant_id, 'key.destroyed', 'key', key.id::text, jsonb_build_object('version', key.version));
end
$$;

comment on function rotator.destroy_key(integer, text, text) is
    'Erases a retired version; confirm is slug/version. A ciphertext under it that was kept elsewhere (a dump without its '
    'key table, a copied column) is lost for ever; running sessions forget the key within a minute. For a tenant admin or '
    'rotator_admin. Errors: 22023 not confirmed, PT404, PT409 not retired, or in use.';

create or replace function rotator.retry_key_rotation(rotation_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    r rotator_internal.key_rotation := rotator_internal.managed_rotation(rotation_id);
begin
    perform rotator_internal.lock_keys(r.tenant_id);
    -- Before its places, as reencrypt_step does.
    select k.* into r
    from rotator_internal.key_rotation as k
    where k.tenant_id = r.tenant_id and k.id = r.id
    for no key update;
    if exists (
        select from rotator_internal.key_rotation as later
        where later.tenant_id = r.tenant_id and later.id > r.id)
        or not exists (
        select from rotator_internal.encryption_key as k
        where k.tenant_id = r.tenant_id and k.id = r.to_key and k.status = 'active')
        or r.status not in ('running', 'failed', 'completed') then
        perform rotator_internal.refuse(
            'PT409', format('rotation %s is %s and not the last one', r.id, r.status),
            'Only the last rotation of a tenant can be tried again; rotator.rotate_key() begins a new one.');
    end if;
    delete from rotator_internal.reencryption as p
    where p.tenant_id = r.tenant_id and p.rotation_id = r.id;
    update rotator_internal.key_rotation as k
    set status = 'running', finished_at = null, resume_at = clock_timestamp(), progressed_at = clock_timestamp(),
        attempts = 0, is_waiting = false, error = null, alerted_as = null
    where k.tenant_id = r.tenant_id and k.id = r.id;
    perform rotator_internal.record_event(r.tenant_id, 'key.rotation_retried', 'key_rotation', r.id::text);
end
$$;

comment on function rotator.retry_key_rotation(bigint) is
    'Walks all rows once more in this rotation, the tenant''s last: after what made it fail was mended, or at once after an '
    'error. For a tenant admin or rotator_admin. Errors: PT404 no such rotation, PT409 not the last one.';

create or replace function rotator.offboard_tenant(tenant text, confirm text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    leaving rotator_internal.tenant;
    cancelled bigint;
    destroyed bigint;
begin
    -- Keys first: a rotation holds them when its foreign keys look at the tenant.
    perform rotator_internal.lock_keys(rotator_internal.find_tenant(tenant));
    select t.* into leaving
    from rotator_internal.tenant as t
    where t.tenant_id = rotator_internal.find_tenant(tenant)
    for update;
    if leaving.tenant_id is null then
        perform rotator_internal.refuse('PT404', 'no such tenant', 'Tenants are named by slug or id; one that has left has no name any more.');
    elsif confirm is distinct from leaving.slug then
        perform rotator_internal.refuse(
            '22023', 'offboarding a tenant must be confirmed',
            format('Pass confirm => ''%s''. Its metadata will be unreadable for ever.', leaving.slug));
    end if;

    update rotator_internal.encryption_key as k
    set status = 'destroyed', wrapped_key = null, destroyed_at = clock_timestamp()
    where k.tenant_id = leaving.tenant_id and k.status <> 'destroyed';
    get diagnostics destroyed = row_count;
    update rotator_internal.key_rotation as r
    set status = 'cancelled', finished_at = clock_timestamp(), is_waiting = false
    where r.tenant_id = leaving.tenant_id and r.status = 'running';
    update rotator_internal.key_schedule as s
    set every = null, next_at = null
    where s.tenant_id = leaving.tenant_id;
    delete from rotator_internal.calendar as c
    where c.tenant_id = leaving.tenant_id;
    delete from rotator_internal.identity_link as i
    where i.tenant_id = leaving.tenant_id;
    -- What is being sent can't be called back; it isn't tried again.
    update rotator_internal.notification as n
    set state = case when n.state = 'leased' then n.state else 'cancelled' end, withdrawn_at = clock_timestamp()
    where n.tenant_id = leaving.tenant_id and n.stage in ('pending', 'gathering');
    get diagnostics cancelled = row_count;
    -- What failed is nobody's any more (api/fallback_summary.sql).
    update rotator_internal.notification as n
    set falls_back = false
    where n.tenant_id = leaving.tenant_id and n.falls_back;
    update rotator_internal.tenant as t
    set status = 'offboarded'
    where t.tenant_id = leaving.tenant_id;

    perform rotator_internal.record_event(
        leaving.tenant_id, 'tenant.offboarded', 'tenant', leaving.tenant_id::text,
        jsonb_build_object('slug', leaving.slug, 'keys_destroyed', destroyed, 'notifications_cancelled', cancelled));
end
$$;

comment on function rotator.offboard_tenant(text, text) is
    'A tenant leaves: all of its keys are destroyed, so its metadata, and what it encrypted in the host''s tables, is '
    'unreadable for ever; what is queued is cancelled, its members have no access. Its audit events stay and verify. confirm repeats '
    'the slug. For rotator_admin. A dump made before, together with the master key, still opens what it holds.';

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
    k.destroyed_at,
    case when k.purpose = 'data' then (
        select coalesce(sum(u.uses), 0)::bigint from rotator_internal.key_use as u where u.key_id = k.id) end as uses,
    case when k.purpose = 'data' then rotator_internal.rows_using_key(k.tenant_id, k.id) end as row_count
from rotator_internal.encryption_key as k;

comment on view rotator.encryption_keys is
    'Versions of the data keys, never key bytes. Members see their tenant''s, rotator_admin all.';
comment on column rotator.encryption_keys.purpose is 'data: encrypts fields, rotates. index: equality lookups, stays.';
comment on column rotator.encryption_keys.status is 'pending, active (encrypts), decrypt_only, retired or destroyed.';
comment on column rotator.encryption_keys.uses is
    'Encryptions with this version, rounded up to what sessions have reserved. A rotation begins by itself at 2^31; at 2^32 it is used up (RT013).';
comment on column rotator.encryption_keys.row_count is
    'Rows under this version, counted now: leave the column out where the tenant has very many. Null when a registered column is gone.';

create or replace view rotator.key_rotations
with (security_invoker = true)
as
select
    r.id,
    r.tenant_id,
    f.version as from_version,
    t.version as to_version,
    r.trigger,
    r.status,
    coalesce(p.total, 0) as total,
    coalesce(p.done, 0) as done,
    coalesce(p.failed, 0) as failed,
    r.started_at,
    r.finished_at,
    coalesce(r.finished_at, clock_timestamp()) - r.started_at as duration,
    r.error
from rotator_internal.key_rotation as r
join rotator_internal.encryption_key as f on f.tenant_id = r.tenant_id and f.id = r.from_key
join rotator_internal.encryption_key as t on t.tenant_id = r.tenant_id and t.id = r.to_key
left join lateral (
    select sum(e.total)::bigint as total, sum(e.done)::bigint as done, sum(e.failed)::bigint as failed
    from rotator_internal.reencryption as e
    where e.tenant_id = r.tenant_id and e.rotation_id = r.id
) as p on true;

comment on view rotator.key_rotations is
    'Rotations of data keys and how far re-encryption has come. Members see their tenant''s, rotator_admin all.';
comment on column rotator.key_rotations.trigger is 'Why: manual, schedule, uses, a rollback, or what the caller gave as reason.';
comment on column rotator.key_rotations.status is
    'running; completed: no row is under an older version; failed: rows are left that could not be re-encrypted (error '
    'names the first); rolled_back; superseded: a later rotation does its work; cancelled: the tenant was offboarded.';
comment on column rotator.key_rotations.total is 'Rows that were under an older version when the run counted; grows when more are found.';
comment on column rotator.key_rotations.error is 'What went wrong, or what a running one waits for; never plaintext.';
