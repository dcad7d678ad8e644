-- The outbox: what is to be sent, every attempt to send it, and the links inside. A row is made in the transaction of
-- its cause (api/tick.sql), leased by api/outbox.sql, finished by api/outcome.sql, redeemed through api/link.sql.
-- No index holds what a lease changes, `stage` stands for the state in their predicates: so leasing is a HOT update, half
-- the cost of a delivery's writes, for which fillfactor leaves room. No foreign keys, see schema/alert.sql.
-- Covered by tests/tests/behaviour/{tick,outbox,outcome,link}.rs.

create table rotator_internal.notification (
    tenant_id uuid not null,
    id uuid not null default rotator_internal.uuid_v7(),
    secret_id uuid,
    alert_id uuid,
    cycle integer,
    kind text not null check (kind in (
        'reminder', 'escalation', 'summary', 'test', 'acknowledge', 'resolve')),
    rule text not null,
    step integer not null default 0,
    lead_time_days integer,
    due_at timestamptz not null,
    channel rotator_internal.channel not null,
    recipient_id uuid not null,
    addressee text not null,
    merged_into uuid,
    state text not null default 'queued' check (state in (
        'queued', 'leased', 'retry', 'sent', 'dead', 'cancelled', 'deferred', 'merged', 'suppressed')),
    stage text not null generated always as (case
        when state in ('queued', 'leased', 'retry', 'deferred') then 'pending'
        when state = 'merged' and merged_into is null then 'gathering'
        when state in ('dead', 'cancelled') then state
        else 'settled'
    end) stored,
    attempts integer not null default 0,
    queued_at timestamptz not null default clock_timestamp(),
    available_at timestamptz not null default clock_timestamp(),
    leased_until timestamptz,
    withdrawn_at timestamptz,
    sent_at timestamptz,
    claim_id uuid,
    last_error text,
    provider_message_id text,
    fallback_of uuid,
    check (kind in ('summary', 'test') or (secret_id is not null and alert_id is not null and cycle is not null))
) with (fillfactor = 50);

-- Scheduling is exactly once by this index, whoever ticks and how often. A cancelled row doesn't count: an expiry date
-- that is corrected and corrected back must be announced.
create unique index notification_once on rotator_internal.notification
    (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id)
    where stage <> 'cancelled';
create index notification_pending on rotator_internal.notification (available_at) where stage = 'pending';
create index notification_gathering on rotator_internal.notification (id) where stage = 'gathering';
create index notification_dead on rotator_internal.notification (queued_at) where stage = 'dead';
-- Of a channel that keeps incidents, every row of an alert, cancelled ones too: see api/incident.sql.
create index notification_incident on rotator_internal.notification (tenant_id, secret_id, cycle) where channel = 'pagerduty';
create index notification_merged on rotator_internal.notification (merged_into) where merged_into is not null;
-- Ids are unique by themselves, and outcomes name nothing else.
alter table rotator_internal.notification add primary key (id, tenant_id);

comment on table rotator_internal.notification is 'The outbox, and the record of what was sent.';
comment on column rotator_internal.notification.rule is 'What asked for it, like lead:14.';
comment on column rotator_internal.notification.step is 'Step of the escalation ladder; of a reminder, how often a moved date had ended the alert.';
comment on column rotator_internal.notification.due_at is 'The instant the rule asked for, before any delivery window.';
comment on column rotator_internal.notification.addressee is 'Subject of whom it is meant for; who acts by its link.';
comment on column rotator_internal.notification.stage is
    'pending (to be sent, or being sent), gathering (waits for its summary), dead, cancelled, or settled: the state as far '
    'as indexes care.';
comment on column rotator_internal.notification.available_at is 'When it may be claimed: at once, or after a wait.';
comment on column rotator_internal.notification.leased_until is 'Till then a leased row belongs to its claim.';
comment on column rotator_internal.notification.withdrawn_at is
    'Set while it was leased and its cause went away: an attempt that fails is not repeated.';
comment on column rotator_internal.notification.claim_id is 'The latest lease; only its holder can complete or fail the row.';
comment on column rotator_internal.notification.merged_into is 'The summary that speaks for it.';

create table rotator_internal.delivery_attempt (
    tenant_id uuid not null,
    notification_id uuid not null,
    claim_id uuid not null,
    attempt integer not null check (attempt > 0),
    worker text not null,
    token_hash bytea check (octet_length(token_hash) = 32),
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    outcome text check (outcome in (
        'sent', 'transient', 'rate_limited', 'timeout', 'permanent', 'recipient_gone', 'lost', 'released')),
    error text,
    provider_message_id text,
    primary key (notification_id, claim_id, tenant_id)
) with (fillfactor = 50);

create unique index delivery_attempt_token on rotator_internal.delivery_attempt (token_hash) where token_hash is not null;

comment on table rotator_internal.delivery_attempt is 'Every try to deliver a notification, with the vendor''s answer.';
comment on column rotator_internal.delivery_attempt.token_hash is
    'SHA-256 of the token in this attempt''s link; the token itself is kept nowhere. See api/link.sql.';
comment on column rotator_internal.delivery_attempt.outcome is
    'Null while under way; lost when the worker''s lease ran out; released when it gave the work back.';

create type rotator_internal.delivery_result as (
    id uuid,
    claim_id uuid,
    outcome text,
    error text,
    provider_message_id text,
    retry_after interval
);

comment on type rotator_internal.delivery_result is 'How one attempt ended, as a worker reports it (api/outcome.sql).';

create table rotator_internal.link_action (
    tenant_id uuid not null,
    secret_id uuid not null,
    cycle integer not null,
    action text not null check (action in ('acknowledge', 'rotated')),
    actor text not null,
    acted_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, secret_id, cycle, action),
    foreign key (tenant_id, secret_id) references rotator_internal.secret (tenant_id, id)
);

comment on table rotator_internal.link_action is 'What was done by a link: an action counts once a cycle.';
