-- Data keys, wrapped by the master key, and the runs that replace them. Key bytes in the clear exist only inside a
-- backend's memory (extension/src/keyring). Every tenant has a lineage of `data` keys, which rotates, and one `index`
-- key for blind indexes, which doesn't: rotating a data key must not touch the indexes.
-- Behaviour: api/key.sql. Covered by tests/tests/security/keys.rs.

-- Never reused, not even after a rollback: a backend caches keys by this number.
create sequence rotator_internal.encryption_key_id as bigint;

create table rotator_internal.encryption_key (
    tenant_id uuid not null references rotator_internal.tenant,
    id bigint not null,
    purpose text not null check (purpose in ('data', 'index')),
    version integer not null check (version > 0),
    status text not null check (status in ('pending', 'active', 'decrypt_only', 'retired', 'destroyed')),
    wrapped_key bytea,
    master_key_id text not null,
    check_value bytea not null check (octet_length(check_value) = 16),
    created_at timestamptz not null default clock_timestamp(),
    activated_at timestamptz,
    retired_at timestamptz,
    destroyed_at timestamptz check ((destroyed_at is not null) = (status = 'destroyed')),
    primary key (tenant_id, id),
    unique (id),
    unique (tenant_id, purpose, version),
    check ((wrapped_key is null) = (status = 'destroyed'))
);

create unique index encryption_key_one_active on rotator_internal.encryption_key (tenant_id, purpose)
    where status = 'active';

comment on table rotator_internal.encryption_key is 'Data keys, each wrapped by a master key; never a key in the clear.';
comment on column rotator_internal.encryption_key.id is 'Named in the header of every ciphertext made with this key.';
comment on column rotator_internal.encryption_key.version is 'Counts within the tenant and purpose, from 1.';
comment on column rotator_internal.encryption_key.check_value is
    'Derived from the key (HKDF-SHA-256): a wrong unwrap is noticed before it is used. AES-GCM does not commit to a key.';

create sequence rotator_internal.key_rotation_id as bigint;

create table rotator_internal.key_rotation (
    tenant_id uuid not null references rotator_internal.tenant,
    id bigint not null default nextval('rotator_internal.key_rotation_id'),
    from_key bigint not null,
    to_key bigint not null,
    trigger text not null check (length(trigger) between 1 and 10000),
    actor text not null,
    started_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, id),
    unique (id),
    foreign key (tenant_id, from_key) references rotator_internal.encryption_key (tenant_id, id),
    foreign key (tenant_id, to_key) references rotator_internal.encryption_key (tenant_id, id)
);

comment on table rotator_internal.key_rotation is 'One row a rotation of a tenant''s data key.';
comment on column rotator_internal.key_rotation.trigger is 'Why: manual, or what the caller gave as reason.';
