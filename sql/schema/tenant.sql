-- Tenants and their members. Who may act as which tenant is decided in api/identity.sql from these two tables.
-- A member who was removed keeps a row with role null, so that a role claim can't bring back what was taken away.
-- Behaviour: api/tenant.sql, api/member.sql. Covered by tests/tests/security/tenancy.rs.

create table rotator_internal.tenant (
    tenant_id uuid primary key default rotator_internal.uuid_v7(),
    slug text not null unique
        check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$' and slug !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'),
    name text not null check (length(name) between 1 and 256),
    time_zone text not null,
    status text not null default 'active' check (status in ('active', 'offboarded')),
    created_at timestamptz not null default clock_timestamp()
);

comment on table rotator_internal.tenant is 'One customer or team; every other row belongs to one.';
comment on column rotator_internal.tenant.slug is 'Short name for people and claims; can''t look like a UUID.';
comment on column rotator_internal.tenant.time_zone is 'IANA zone in which days are counted, like Europe/Berlin.';

create table rotator_internal.member (
    tenant_id uuid not null references rotator_internal.tenant,
    subject text not null check (length(subject) between 1 and 255),
    role text check (role in ('viewer', 'editor', 'auditor', 'admin')),
    added_at timestamptz not null default clock_timestamp(),
    removed_at timestamptz check ((role is null) = (removed_at is not null)),
    primary key (tenant_id, subject)
);

create index member_subject on rotator_internal.member (subject) where role is not null;

comment on table rotator_internal.member is 'Who may act for a tenant, and as what.';
comment on column rotator_internal.member.subject is
    'The identity provider''s `sub`, or `db:` and the name of a login role.';
comment on column rotator_internal.member.role is 'viewer, editor, auditor or admin; null once removed.';
