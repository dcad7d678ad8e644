-- The record of a credential (never its value), the calendar that says when to look at it next, and the history of its
-- rotations. `calendar` is apart from `secret` so that a tick rewrites a narrow row under two indexes, not a wide one
-- with ciphertext under seven. Behaviour: api/secret.sql, api/calendar.sql, api/rotation.sql.
-- Covered by tests/tests/behaviour/{registry,secrets_view,calendar,rotation}.rs.

create table rotator_internal.secret (
    tenant_id uuid not null references rotator_internal.tenant,
    id uuid not null default rotator_internal.uuid_v7(),
    name bytea not null,
    name_index bytea not null check (octet_length(name_index) = 32),
    provider_ref bytea,
    purpose bytea,
    provider_type text not null check (provider_type ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    environment text check (length(environment) between 1 and 63),
    priority text not null check (priority in ('P1', 'P2', 'P3', 'P4')),
    labels jsonb not null default '{}' check (jsonb_typeof(labels) = 'object'),
    owner_id text not null check (length(owner_id) between 1 and 255),
    secondary_owner_id text check (length(secondary_owner_id) between 1 and 255),
    team_lead_id text check (length(team_lead_id) between 1 and 255),
    expiry_date timestamptz not null check (expiry_date between '1970-01-01 00:00+00' and '9999-12-31 23:59:59+00'),
    expiring_soon_at timestamptz not null,
    rotation_interval interval check (rotation_interval > interval '0'),
    last_rotated_at timestamptz,
    cycle integer not null default 1 check (cycle > 0),
    snoozed_until timestamptz,
    verified_at timestamptz,
    verified_expiry_date timestamptz,
    retired_at timestamptz,
    external_id text check (length(external_id) between 1 and 255),
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create unique index secret_name on rotator_internal.secret (tenant_id, name_index) where retired_at is null;
create unique index secret_external_id on rotator_internal.secret (tenant_id, external_id) where external_id is not null and retired_at is null;
create index secret_by_expiry on rotator_internal.secret (tenant_id, expiry_date);
create index secret_by_owner on rotator_internal.secret (tenant_id, owner_id, expiry_date);
create index secret_by_provider on rotator_internal.secret (tenant_id, provider_type, expiry_date);
-- The primary key comes last, here and below. Over a nearly empty table all indexes that begin with tenant_id cost the
-- planner the same, and then it takes the newest; a session may keep such a plan, in foreign key checks too, while the
-- table fills, and with any other index it would walk all of a tenant for each row.
alter table rotator_internal.secret add primary key (tenant_id, id);

-- The planner's statistics are about all tenants, and EXPLAIN tells its estimates to anyone: none for what members can
-- filter by, or a guessed value would show that somebody else uses it.
alter table rotator_internal.secret
    alter column provider_type set statistics 0,
    alter column environment set statistics 0,
    alter column priority set statistics 0,
    alter column labels set statistics 0,
    alter column owner_id set statistics 0,
    alter column secondary_owner_id set statistics 0,
    alter column team_lead_id set statistics 0,
    alter column external_id set statistics 0;

comment on table rotator_internal.secret is 'A credential''s record: what it is, who owns it, when it expires. Never its value.';
comment on column rotator_internal.secret.name is 'Ciphertext, label secret.name.';
comment on column rotator_internal.secret.name_index is 'Blind index of the normalised name; unique among those in use.';
comment on column rotator_internal.secret.provider_ref is 'Ciphertext, label secret.provider_ref: where the provider keeps it.';
comment on column rotator_internal.secret.purpose is 'Ciphertext, label secret.purpose: what breaks when it expires.';
comment on column rotator_internal.secret.expiring_soon_at is
    'When its longest lead time begins; stamped by rotator_internal.plan, so that listing needs no policies.';
comment on column rotator_internal.secret.cycle is 'Counts rotations, from 1: alerts and links belong to one cycle.';

create table rotator_internal.calendar (
    tenant_id uuid not null,
    secret_id uuid not null,
    next_event_at timestamptz not null,
    backlog boolean not null default false,
    primary key (tenant_id, secret_id),
    foreign key (tenant_id, secret_id) references rotator_internal.secret (tenant_id, id) on delete cascade
) with (fillfactor = 70);

create index calendar_next on rotator_internal.calendar (next_event_at);

comment on table rotator_internal.calendar is
    'When the tick must look at a secret next; a secret to which nothing is to come has no row.';
comment on column rotator_internal.calendar.backlog is
    'It was past its lead times when it was imported: announced in a summary, not by a reminder of its own.';

create table rotator_internal.rotation (
    tenant_id uuid not null,
    secret_id uuid not null,
    cycle integer not null,
    rotated_at timestamptz not null,
    due_date timestamptz not null,
    next_expiry_date timestamptz not null,
    actor text not null,
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, secret_id, cycle),
    foreign key (tenant_id, secret_id) references rotator_internal.secret (tenant_id, id)
);

create index rotation_recent on rotator_internal.rotation (tenant_id, recorded_at);

comment on table rotator_internal.rotation is 'One row a cycle that ended: when it was due and when it was rotated.';
comment on column rotator_internal.rotation.due_date is 'The expiry date the cycle had when it ended.';
