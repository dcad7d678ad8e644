-- Since when a secret has been snoozed: what was taken back before that wasn't taken back for it. Nothing else holds it: the
-- audit event of a snooze can't be found by its secret, and not everybody whom explain_notifications answers may read it.
-- Until when: schema/secret.sql. Behaviour: api/snooze.sql. Covered by tests/tests/behaviour/explain_truth.rs.

alter table rotator_internal.secret
    add column snoozed_at timestamptz;

comment on column rotator_internal.secret.snoozed_at is
    'When the silence until snoozed_until began: a snooze that replaces one which still holds leaves it. Null with the other.';
