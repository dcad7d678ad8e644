-- When people may be told: a tenant's hours by weekday, with its holidays, and what waits for the next opening. A deferral
-- is a row of its own, so that those who set no hours pay nothing for it, and nothing that a lease changes gets an index.
-- Behaviour: api/delivery_window.sql. Covered by tests/tests/behaviour/{delivery_window,deferral}.rs.

create table rotator_internal.delivery_window (
    tenant_id uuid primary key references rotator_internal.tenant,
    days smallint[] not null check (cardinality(days) between 1 and 7),
    opens time not null,
    closes time not null,
    holidays date[] not null default '{}',
    check (opens < closes)
);

comment on table rotator_internal.delivery_window is 'The hours in which a tenant''s people are told; without a row, always.';
comment on column rotator_internal.delivery_window.days is 'Weekdays, 1 for Monday to 7 for Sunday.';
comment on column rotator_internal.delivery_window.opens is 'By the clocks of the tenant''s time zone.';
comment on column rotator_internal.delivery_window.closes is 'The first moment that is outside again; 24:00 for the end of the day.';
comment on column rotator_internal.delivery_window.holidays is 'Days on which it stays closed.';

create table rotator_internal.deferral (
    tenant_id uuid not null,
    notification_id uuid not null,
    deferred_at timestamptz not null default clock_timestamp(),
    opens_at timestamptz not null,
    ended_at timestamptz,
    is_snoozed boolean not null default false,
    ended_as text check (ended_as in ('released', 'acknowledged', 'outdated', 'snoozed', 'cancelled')),
    check ((ended_at is null) = (ended_as is null))
) with (fillfactor = 70);

create index deferral_next on rotator_internal.deferral (opens_at) where ended_at is null;
create index deferral_waiting on rotator_internal.deferral (tenant_id) where ended_at is null;
alter table rotator_internal.deferral add primary key (tenant_id, notification_id); -- last, see schema/secret.sql

comment on table rotator_internal.deferral is
    'Notifications that fell outside the hours or into a snooze, and what became of them at the opening.';
comment on column rotator_internal.deferral.opens_at is 'When the tick looks at it again.';
comment on column rotator_internal.deferral.is_snoozed is 'It waits for the end of a snooze, not for the hours.';
comment on column rotator_internal.deferral.ended_as is
    'released: it was queued; acknowledged: nobody needed it any more; outdated: a more urgent one says it; snoozed: it '
    'comes again when the snooze ends; cancelled: its cause was gone before. Null while it waits.';

-- With notification_once, which leaves these out, all that there is about a secret is found.
create index notification_cancelled on rotator_internal.notification (tenant_id, secret_id) where stage = 'cancelled';
