-- Who is told how long before an expiry. Rows without secret are the tenant's default; rows of a secret's own replace
-- the default for that secret. Behaviour: api/policy.sql. Covered by tests/tests/behaviour/policy.rs.

create table rotator_internal.notification_policy (
    tenant_id uuid not null references rotator_internal.tenant,
    id uuid not null default rotator_internal.uuid_v7(),
    secret_id uuid,
    lead_time_days integer not null check (lead_time_days between -3650 and 3650),
    channel rotator_internal.channel,
    recipient_id uuid,
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, id),
    foreign key (tenant_id, secret_id) references rotator_internal.secret (tenant_id, id),
    foreign key (tenant_id, recipient_id) references rotator_internal.recipient (tenant_id, id),
    check (recipient_id is null or channel is not null)
);

-- After the primary key: look-ups go by secret (see the note on order in schema/secret.sql).
create unique index notification_policy_once on rotator_internal.notification_policy
    (tenant_id, secret_id, lead_time_days, channel, recipient_id) nulls not distinct;
create index notification_policy_own on rotator_internal.notification_policy (secret_id) where secret_id is not null;

comment on table rotator_internal.notification_policy is 'Tell this recipient over this channel this many days before expiry.';
comment on column rotator_internal.notification_policy.lead_time_days is 'Days before the expiry; 0 on it, negative after it.';
comment on column rotator_internal.notification_policy.channel is 'Null: each channel on which the owner has a contact.';
