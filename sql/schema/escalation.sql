-- Ladders: whom an alert goes to when nobody acknowledges it, step by step, and where on its ladder each alert stands. A
-- policy's revision never changes: an alert keeps the one that it began with. Without a policy the built-in ladder applies.
-- Behaviour: api/escalation.sql (policies), api/ladder.sql (which step is due when), api/escalate.sql (taking them).
-- Covered by tests/tests/behaviour/{escalation,escalation_policy,reopening}.rs.

create table rotator_internal.escalation_policy (
    tenant_id uuid not null references rotator_internal.tenant,
    id uuid not null default rotator_internal.uuid_v7(),
    name text not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}$' and lower(name) <> 'built-in'),
    revision integer not null check (revision > 0),
    priorities text[] not null default '{}' check (priorities <@ array['P1', 'P2', 'P3', 'P4']),
    is_current boolean not null default true,
    created_at timestamptz not null default clock_timestamp(),
    unique (tenant_id, name, revision)
);

create unique index escalation_policy_current on rotator_internal.escalation_policy (tenant_id, name) where is_current;
alter table rotator_internal.escalation_policy add primary key (tenant_id, id); -- last, see schema/secret.sql

-- See the statistics of rotator_internal.secret.
alter table rotator_internal.escalation_policy
    alter column name set statistics 0,
    alter column priorities set statistics 0;

comment on table rotator_internal.escalation_policy is 'A ladder by its name, one row a revision; only the current one is begun with.';
comment on column rotator_internal.escalation_policy.priorities is
    'New alerts of these priorities begin with it; a later policy may take one over. Empty: only secrets that name it.';

create table rotator_internal.escalation_step (
    tenant_id uuid not null,
    policy_id uuid not null,
    position integer not null check (position between 1 and 50),
    anchor text not null check (anchor in ('reminder', 'expiry')),
    after interval not null check (after between interval '0' and interval '3650 days'),
    target text not null check (target in ('owner', 'secondary_owner', 'team_lead', 'manager', 'admins', 'recipient')),
    channel rotator_internal.channel,
    recipient_id uuid,
    repeat_every interval check (repeat_every between interval '1 minute' and interval '3650 days'),
    repeats integer not null default 0 check (repeats between 0 and 100),
    primary key (tenant_id, policy_id, position),
    foreign key (tenant_id, policy_id) references rotator_internal.escalation_policy (tenant_id, id),
    foreign key (tenant_id, recipient_id) references rotator_internal.recipient (tenant_id, id),
    check ((target = 'recipient') = (recipient_id is not null)),
    check (recipient_id is null or channel is not null),
    check ((repeat_every is null) = (repeats = 0))
);

comment on table rotator_internal.escalation_step is 'The steps of a policy''s revision; never changed.';
comment on column rotator_internal.escalation_step.anchor is
    'What `after` counts from: reminder, the last one before the expiry, or the expiry.';
comment on column rotator_internal.escalation_step.channel is 'Null: each channel on which the target has a contact.';
comment on column rotator_internal.escalation_step.repeats is 'How often it is told again, repeat_every apart, after the first time.';

create table rotator_internal.escalation_choice (
    tenant_id uuid not null,
    secret_id uuid not null,
    policy_name text not null,
    primary key (tenant_id, secret_id),
    foreign key (tenant_id, secret_id) references rotator_internal.secret (tenant_id, id)
);

alter table rotator_internal.escalation_choice alter column policy_name set statistics 0;

comment on table rotator_internal.escalation_choice is 'Secrets with a ladder of their own choice; the others have that of their priority.';

alter table rotator_internal.alert
    add column escalation_policy_id uuid,
    add column reminded_at timestamptz,
    add column overdue_from timestamptz,
    add column overdue_step integer,
    add column escalated_at timestamptz,
    add column reopened_at timestamptz,
    add column repeats_taken jsonb,
    add column ladder_from timestamptz,
    add column first_acknowledged_at timestamptz;
-- Apart: a column with a default can't be added while functions use the row type.
alter table rotator_internal.alert alter column overdue_step set default 0;

create index alert_escalation on rotator_internal.alert (next_escalation_at) where next_escalation_at is not null;
create index alert_acknowledged on rotator_internal.alert (acknowledged_until) where state = 'acknowledged';

comment on column rotator_internal.alert.escalation_step is 'The highest step from the reminder that was taken; 0 when none.';
comment on column rotator_internal.alert.next_escalation_at is
    'When the tick must look at its ladder; null when no step is to come, or somebody has acknowledged it.';
comment on column rotator_internal.alert.escalation_policy_id is 'The revision it began with; null: the built-in ladder.';
comment on column rotator_internal.alert.reminded_at is
    'When the last reminder before the expiry went, from which the ladder counts, put off by the time under acknowledgements.';
comment on column rotator_internal.alert.overdue_from is
    'What its steps from the expiry count from, where that isn''t the expiry date: see api/escalate.sql.';
comment on column rotator_internal.alert.overdue_step is 'The highest step from the expiry that was taken; 0 or null when none.';
comment on column rotator_internal.alert.escalated_at is 'When its ladder was looked at last.';
comment on column rotator_internal.alert.reopened_at is
    'When an acknowledgement ended by itself last: repeats that were due by then aren''t made up for.';
comment on column rotator_internal.alert.ladder_from is
    'Since when its ladder is climbed, if a moved date began it anew: steps of before are not steps of it.';
comment on column rotator_internal.alert.repeats_taken is 'Of each step that repeats, how many of its repeats are done; null for none.';
comment on column rotator_internal.alert.first_acknowledged_at is 'Of all its acknowledgements the first; null before 0.2.0.';

-- What was open before there were ladders, and has had its last reminder: the built-in one begins now.
update rotator_internal.alert as a
set reminded_at = clock_timestamp(), next_escalation_at = clock_timestamp() + interval '4 hours'
from rotator_internal.secret as s
where s.tenant_id = a.tenant_id and s.id = a.secret_id and s.cycle = a.cycle and s.retired_at is null and a.state = 'open'
  and not exists (
    select
    from rotator_internal.calendar as c
    where c.tenant_id = s.tenant_id and c.secret_id = s.id and c.next_event_at <= s.expiry_date);
