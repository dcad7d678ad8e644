-- Who of a tenant is which Slack user, mail address or PagerDuty user: whoever presses a button there acts as that
-- subject. Of the outside name only a keyed hash is kept, and a hint: looking it up takes no more, a mail address is in no
-- dump, and without the tenant's keys nobody can try addresses. Also what an action by a link may be, since snoozing is one.
-- Behaviour: api/identity_link.sql, api/press.sql. Covered by tests/tests/behaviour/{identity_link,press}.rs.

create table rotator_internal.identity_link (
    tenant_id uuid not null references rotator_internal.tenant,
    kind text not null check (kind in ('slack', 'email', 'pagerduty')),
    external_index bytea not null check (octet_length(external_index) = 32),
    external_hint text not null check (length(external_hint) between 1 and 300),
    subject text not null check (length(subject) between 1 and 255),
    linked_by text not null,
    linked_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, kind, external_index)
);

comment on table rotator_internal.identity_link is 'Which member somebody is on Slack, by mail or on PagerDuty.';
comment on column rotator_internal.identity_link.external_index is
    'Blind index of the outside name: team and user on Slack, the address in lower case, the user''s id on PagerDuty.';
comment on column rotator_internal.identity_link.external_hint is 'What may be shown of it.';
comment on column rotator_internal.identity_link.linked_by is 'Who said so: the subject itself, or an admin.';

alter table rotator_internal.link_action
    drop constraint link_action_action_check,
    add constraint link_action_action_check check (action in ('acknowledge', 'rotated', 'snooze'));
