-- Where people are reached. `recipient` holds each address once a tenant and channel, encrypted; contacts, policies and
-- notifications refer to it, so that queueing a reminder encrypts nothing and a new data key has one row to rewrite.
-- `contact` says whose address it is. Behaviour: api/contact.sql. Covered by tests/tests/behaviour/contact.rs.

create domain rotator_internal.channel as text
    check (value in ('slack', 'email', 'pagerduty', 'webhook', 'console'));

comment on domain rotator_internal.channel is 'How a notification travels.';

create table rotator_internal.recipient (
    tenant_id uuid not null references rotator_internal.tenant,
    id uuid not null default rotator_internal.uuid_v7(),
    channel rotator_internal.channel not null,
    address bytea not null,
    address_index bytea not null check (octet_length(address_index) = 32),
    created_at timestamptz not null default clock_timestamp(),
    constraint recipient_once unique (tenant_id, channel, address_index)
) with (fillfactor = 50);

alter table rotator_internal.recipient add primary key (tenant_id, id); -- last, see schema/secret.sql

comment on table rotator_internal.recipient is 'An address on a channel, encrypted; given in full only to the sidecar.';
comment on column rotator_internal.recipient.address is 'Ciphertext, label recipient.address.';
comment on column rotator_internal.recipient.address_index is 'Blind index of the address: equal addresses are one row.';

create table rotator_internal.contact (
    tenant_id uuid not null references rotator_internal.tenant,
    id uuid not null default rotator_internal.uuid_v7(),
    owner_id text not null check (length(owner_id) between 1 and 255),
    channel rotator_internal.channel not null,
    recipient_id uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, owner_id, channel),
    foreign key (tenant_id, recipient_id) references rotator_internal.recipient (tenant_id, id)
);

-- See the statistics of rotator_internal.secret.
alter table rotator_internal.contact alter column owner_id set statistics 0;

comment on table rotator_internal.contact is 'Where an owner is reached, one address a channel.';
