-- What there is to remember when a channel fails: that a contact's address is gone, which notifications nobody could be
-- told by any way, which contact a message to the admins is about, and which backlog is still being handed on. What took
-- over for which notification was always there (`fallback_of`). Behaviour: api/fallback*.sql, api/contact_gone.sql.
-- Covered by tests/tests/behaviour/{fallback,contact_gone}.rs.

alter table rotator_internal.contact
    add column gone_at timestamptz;

comment on column rotator_internal.contact.gone_at is
    'Since when its vendor says that nobody is there any more; passed over until it is set again.';

alter table rotator_internal.notification
    add column contact_id uuid,
    add column undeliverable_at timestamptz,
    add column falls_back boolean, -- without a default: functions have the row as an argument's default
    drop constraint notification_kind_check,
    add constraint notification_kind_check check (kind in (
        'reminder', 'escalation', 'summary', 'test', 'acknowledge', 'resolve', 'key_rotation', 'contact_gone')),
    drop constraint notification_check,
    add constraint notification_check check (
        kind in ('summary', 'test', 'key_rotation', 'contact_gone')
        or (secret_id is not null and alert_id is not null and cycle is not null));

-- Rare, and never changed by a lease.
create index notification_undeliverable on rotator_internal.notification (undeliverable_at) where undeliverable_at is not null;
create index notification_falling on rotator_internal.notification (id) where falls_back;

comment on column rotator_internal.notification.fallback_of is 'The dead one that this one took over from.';
comment on column rotator_internal.notification.contact_id is 'The contact that this is about.';
comment on column rotator_internal.notification.undeliverable_at is
    'When the last one that took over for this one had failed as well: nobody could be told.';
comment on column rotator_internal.notification.falls_back is
    'A summary of a backlog that is dead, with items that the tick still has to find others for.';
