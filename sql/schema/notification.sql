-- The outbox: what is to be sent, every attempt to send it, and the links inside. A row is made in the transaction of
-- its cause (api/tick.sql), leased and finished through api/outbox.sql, redeemed through api/link.sql.
-- `available_at` is the one time the claim looks at: queueing, end of a wait, or end of a lease.
-- No foreign keys out of it, see schema/alert.sql. Covered by tests/tests/behaviour/{tick,outbox,outcome,link}.rs.

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
    state text not null default 'queued' check (state in (
        'queued', 'leased', 'retry', 'sent', 'dead', 'cancelled', 'deferred', 'merged', 'suppressed')),
    attempts integer not null default 0,
    queued_at timestamptz not null default clock_timestamp(),
    available_at timestamptz not null default clock_timestamp(),
    withdrawn_at timestamptz,
    sent_at timestamptz,
    claim_id uuid,
    claimed_by text,
    last_error text,
    provider_message_id text,
    fallback_of uuid,
    check (kind in ('summary', 'test') or (secret_id is not null and alert_id is not null and cycle is not null))
);

-- Scheduling is exactly once by this index, whoever ticks and how often. A cancelled row doesn't count: an expiry date
-- that is corrected and corrected back must be announced.
create unique index notification_once on rotator_internal.notification
    (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id)
    where state <> 'cancelled';
create index notification_available on rotator_internal.notification (available_at)
    where state in ('queued', 'retry');
create index notification_leased on rotator_internal.notification (available_at)
    where state = 'leased';
create index notification_claim on rotator_internal.notification (claim_id)
    where claim_id is not null;
create index notification_dead on rotator_internal.notification (queued_at)
    where state = 'dead';
alter table rotator_internal.notification add primary key (tenant_id, id); -- last, see schema/secret.sql

comment on table rotator_internal.notification is 'The outbox, and the record of what was sent.';
comment on column rotator_internal.notification.rule is 'What asked for it, like lead:14.';
comment on column rotator_internal.notification.step is 'Step of the escalation ladder; 0 for reminders.';
comment on column rotator_internal.notification.due_at is 'The instant the rule asked for, before any delivery window.';
comment on column rotator_internal.notification.addressee is 'Subject of whom it is meant for; who acts by its link.';
comment on column rotator_internal.notification.available_at is
    'When it may be claimed next: at once, after a wait, or when the lease of a lost worker ends.';
comment on column rotator_internal.notification.withdrawn_at is
    'Set while it was leased and its cause went away: an attempt that fails is not repeated.';
comment on column rotator_internal.notification.claim_id is 'The latest lease; only its holder can complete or fail the row.';

create table rotator_internal.delivery_attempt (
    tenant_id uuid not null,
    notification_id uuid not null,
    attempt integer not null check (attempt > 0),
    claim_id uuid not null,
    worker text not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    outcome text check (outcome in (
        'sent', 'transient', 'rate_limited', 'timeout', 'permanent', 'recipient_gone', 'lost', 'released')),
    error text,
    provider_message_id text,
    primary key (tenant_id, notification_id, attempt, claim_id),
    foreign key (tenant_id, notification_id) references rotator_internal.notification (tenant_id, id)
);

comment on table rotator_internal.delivery_attempt is 'Every try to deliver a notification, with the vendor''s answer.';
comment on column rotator_internal.delivery_attempt.outcome is
    'Null while under way; lost when the worker''s lease ran out; released when it gave the work back.';

create table rotator_internal.link (
    tenant_id uuid not null,
    token_hash bytea not null check (octet_length(token_hash) = 32),
    notification_id uuid not null,
    secret_id uuid not null,
    cycle integer not null,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    primary key (tenant_id, token_hash),
    foreign key (tenant_id, notification_id) references rotator_internal.notification (tenant_id, id),
    foreign key (tenant_id, secret_id) references rotator_internal.secret (tenant_id, id)
);

create unique index link_token on rotator_internal.link (token_hash);

comment on table rotator_internal.link is 'The links in notifications; only a SHA-256 of each token is kept.';

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
