-- Sealing of the audit log: a leaf for each event, blocks that chain them, signatures that the sidecar brings, and how far
-- sealing has come. All but the last append only, as the events. Events carry the id of their transaction before they
-- have one of their own, so an event with a lower id began no later: verification relies on it.
-- Behaviour: api/audit_{seal,verify,sign}.sql. Covered by tests/tests/security/{audit_seal,audit_tamper,audit_sign}.rs.

alter table rotator_internal.audit_event
alter column id set default
    case when pg_current_xact_id() is not null then nextval('rotator_internal.audit_event_id') end;

create index audit_event_transaction on rotator_internal.audit_event (transaction_id);

create table rotator_internal.audit_block (
    tenant_id uuid not null,
    number bigint not null check (number > 0),
    events bigint not null check (events > 0),
    first_id bigint not null,
    last_id bigint not null,
    root bytea not null check (length(root) = 32),
    previous bytea not null check (length(previous) = 32),
    sealed_at timestamptz not null,
    below xid8 not null,
    next xid8 not null,
    hash bytea not null check (length(hash) = 32),
    primary key (tenant_id, number)
);

comment on table rotator_internal.audit_block is
    'Blocks of sealed audit events, a chain a tenant: each names the hash of the one before. Append only.';
comment on column rotator_internal.audit_block.first_id is 'The lowest id among its events; not all between first and last need be its own.';
comment on column rotator_internal.audit_block.root is 'Merkle root (RFC 6962) over the leaves of its events, in order of their ids.';
comment on column rotator_internal.audit_block.previous is 'Hash of the block before; zeros for the first.';
comment on column rotator_internal.audit_block.below is
    'Transactions with lower ids had ended when it was sealed. 0: it gathered what an upgraded or restored database had not sealed.';
comment on column rotator_internal.audit_block.next is 'Transactions with this id or higher began after it was sealed.';

create table rotator_internal.audit_leaf (
    tenant_id uuid not null,
    event_id bigint not null,
    block_number bigint not null,
    hash bytea not null check (length(hash) = 32),
    primary key (tenant_id, event_id)
);

comment on table rotator_internal.audit_leaf is 'The hash of each sealed audit event and the block that it is in. Append only.';

create table rotator_internal.audit_signature (
    tenant_id uuid not null,
    number bigint not null,
    first_id bigint not null,
    note text not null,
    key_name text not null,
    signed_at timestamptz not null default clock_timestamp(),
    copies text[] not null default '{}',
    primary key (tenant_id, number)
);

comment on table rotator_internal.audit_signature is
    'Signed notes about blocks, by a key that this database doesn''t have. Append only.';
comment on column rotator_internal.audit_signature.first_id is 'As in the block: which event to name when the block is gone.';
comment on column rotator_internal.audit_signature.copies is 'Where the block had been written to when its signature was recorded.';

create table rotator_internal.audit_seal_state (
    only_row boolean primary key default true check (only_row),
    below xid8 not null,
    walked_tenant uuid,
    walked_event bigint,
    restored_ahead boolean not null default false
) with (fillfactor = 50);

comment on table rotator_internal.audit_seal_state is
    'How far sealing has come. Not dumped: transaction ids mean something on one server only, and without this row sealing '
    'walks through all events once.';
comment on column rotator_internal.audit_seal_state.below is 'Events of transactions with lower ids are sealed, once the walk is over.';
comment on column rotator_internal.audit_seal_state.walked_event is 'The event that the walk has come to; null when it is over.';
comment on column rotator_internal.audit_seal_state.restored_ahead is
    'Some events were restored with transaction ids that this server has yet to come to.';

do $append_only$
declare
    relation text;
begin
    foreach relation in array array['audit_block', 'audit_leaf', 'audit_signature']
    loop
        execute pg_catalog.format(
            'create trigger append_only before update or delete or truncate on rotator_internal.%I '
            'for each statement execute function rotator_internal.refuse_audit_change()', relation);
        execute pg_catalog.format('alter table rotator_internal.%I enable always trigger append_only', relation);
    end loop;
end
$append_only$;
