-- Re-encryption and the life of data keys: the state of each run, how far it has come in each place, how often a key was
-- used, when it is due to be replaced, and the host's own encrypted columns. Keys themselves: schema/encryption.sql.
-- Behaviour: api/key.sql, api/key_life.sql, api/reencryption.sql, api/encrypted_column.sql, api/key_schedule.sql.
-- Covered by tests/tests/behaviour/{key_rotation,key_life,encrypted_column,key_schedule}.rs.

alter table rotator_internal.key_rotation
    add column status text not null default 'running' check (status in (
        'running', 'completed', 'failed', 'rolled_back', 'superseded', 'cancelled')),
    add column reverts bigint,
    add column finished_at timestamptz,
    add column resume_at timestamptz not null default clock_timestamp(),
    add column progressed_at timestamptz not null default clock_timestamp(),
    add column attempts integer not null default 0,
    add column is_waiting boolean not null default false,
    add column error text,
    add column alerted_as text,
    add constraint key_rotation_finished check ((status = 'running') = (finished_at is null)) not valid;

comment on column rotator_internal.key_rotation.status is
    'running; completed: no row is under an older key; failed: rows are left that could not be re-encrypted; rolled_back; '
    'superseded: a later rotation does its work; cancelled: the tenant was offboarded.';
comment on column rotator_internal.key_rotation.reverts is 'The rotation that this one rolls back.';
comment on column rotator_internal.key_rotation.resume_at is 'Whose turn it is: runs go on in this order; after an error, not before.';
comment on column rotator_internal.key_rotation.progressed_at is 'When rows were re-encrypted, or a pass ended, last.';
comment on column rotator_internal.key_rotation.attempts is 'Errors since the last progress.';
comment on column rotator_internal.key_rotation.is_waiting is
    'After an error, or because a transaction that began before the rotation may still write under an older key.';
comment on column rotator_internal.key_rotation.error is 'What went wrong, or is waited for.';
comment on column rotator_internal.key_rotation.alerted_as is 'As what the tenant''s admins were told of it: stalled or failed.';

-- 0.1.0 changed keys and re-encrypted nothing: of each tenant the last rotation goes on to do so.
update rotator_internal.key_rotation as r
set status = 'superseded', finished_at = clock_timestamp()
where exists (
    select from rotator_internal.key_rotation as later where later.tenant_id = r.tenant_id and later.id > r.id);

alter table rotator_internal.key_rotation validate constraint key_rotation_finished;

create unique index key_rotation_running on rotator_internal.key_rotation (tenant_id) where status = 'running';
create index key_rotation_next on rotator_internal.key_rotation (resume_at) where status = 'running';

create table rotator_internal.encrypted_column (
    id uuid primary key default rotator_internal.uuid_v7(),
    schema_name name not null,
    table_name name not null,
    column_name name not null,
    label text not null check (octet_length(label) between 1 and 255),
    row_key_column name not null,
    tenant_column name,
    only_tenant uuid references rotator_internal.tenant,
    registered_by text not null,
    registered_at timestamptz not null default clock_timestamp(),
    constraint encrypted_column_once unique (schema_name, table_name, column_name),
    check ((tenant_column is null) = (only_tenant is not null))
);

comment on table rotator_internal.encrypted_column is
    'Columns of the host''s own tables that hold ciphertexts of rotator.encrypt() and join key rotation. By name: a dump restores anywhere.';
comment on column rotator_internal.encrypted_column.only_tenant is 'Whose rows they are where no column of the table says so.';

create table rotator_internal.reencryption (
    tenant_id uuid not null,
    rotation_id bigint not null,
    place text not null,
    column_id uuid,
    pass integer not null default 0 check (pass >= 0),
    position text,
    is_fenced boolean not null default false,
    total bigint not null default 0,
    done bigint not null default 0,
    passed_over bigint not null default 0,
    failed bigint not null default 0,
    first_failed text,
    is_finished boolean not null default false,
    primary key (tenant_id, rotation_id, place),
    foreign key (tenant_id, rotation_id) references rotator_internal.key_rotation (tenant_id, id)
) with (fillfactor = 50);

comment on table rotator_internal.reencryption is 'How far a run has come in each place: a table of ours, or a column of the host''s.';
comment on column rotator_internal.reencryption.place is 'secret, recipient, or schema.table.column.';
comment on column rotator_internal.reencryption.pass is '0 counts what there is to do; each later one walks all rows by their key.';
comment on column rotator_internal.reencryption.position is 'Row key up to which this pass has come.';
comment on column rotator_internal.reencryption.is_fenced is
    'Nobody could write under an older key any more when this pass began: what it doesn''t find isn''t there.';
comment on column rotator_internal.reencryption.passed_over is 'Rows of this pass that somebody else had locked.';
comment on column rotator_internal.reencryption.failed is 'Rows of this pass whose ciphertext could not be opened.';
comment on column rotator_internal.reencryption.first_failed is 'Row key of the first of them.';

create table rotator_internal.key_use (
    tenant_id uuid not null,
    key_id bigint not null,
    uses bigint not null check (uses > 0)
);

create index key_use_of_key on rotator_internal.key_use (key_id);

comment on table rotator_internal.key_use is
    'How often each data key may have encrypted: the sum of its rows. Backends insert a row for each block of uses they '
    'reserve, so nobody waits; rows are folded into one from time to time. No foreign key: a transaction with an older '
    'snapshot may write under a key that it doesn''t see.';

create table rotator_internal.key_schedule (
    tenant_id uuid primary key references rotator_internal.tenant,
    every interval check (every > interval '0'),
    next_at timestamptz,
    reason text,
    failures integer not null default 0,
    last_error text
);

create index key_schedule_next on rotator_internal.key_schedule (next_at) where next_at is not null;

comment on table rotator_internal.key_schedule is 'When each tenant''s data key is replaced by itself.';
comment on column rotator_internal.key_schedule.every is 'Null: never.';
comment on column rotator_internal.key_schedule.next_at is 'Brought forward when a key has been used 2^31 times.';
comment on column rotator_internal.key_schedule.reason is 'Why it is due before its time; else null.';
comment on column rotator_internal.key_schedule.last_error is 'Why the rotation that is due could not begin.';

insert into rotator_internal.key_schedule (tenant_id, every, next_at)
select t.tenant_id, interval '90 days', greatest(max(k.activated_at) + interval '90 days', clock_timestamp() + interval '1 day')
from rotator_internal.tenant as t
left join rotator_internal.encryption_key as k on k.tenant_id = t.tenant_id and k.purpose = 'data' and k.status = 'active'
group by t.tenant_id;

alter table rotator_internal.notification
    add column rotation_id bigint,
    drop constraint notification_kind_check,
    add constraint notification_kind_check check (kind in (
        'reminder', 'escalation', 'summary', 'test', 'acknowledge', 'resolve', 'key_rotation')),
    drop constraint notification_check,
    add constraint notification_check check (
        kind in ('summary', 'test', 'key_rotation') or (secret_id is not null and alert_id is not null and cycle is not null));

comment on column rotator_internal.notification.rotation_id is 'The key rotation that this is about.';

create type rotator_internal.walked as (
    reached text,
    is_end boolean,
    stale bigint,
    done bigint,
    locked bigint,
    unmoved bigint,
    failed bigint,
    first_failed text,
    first_unmoved text
);

comment on type rotator_internal.walked is
    'What a step of re-encryption found: row key of the last row it looked at; whether none follows; rows under another key '
    'than the active one; of these rewritten, passed over since somebody has them locked, taken and yet not rewritten '
    '(changed meanwhile, or kept back by a trigger), and not to be opened.';
