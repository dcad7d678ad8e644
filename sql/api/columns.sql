-- Comments of the views' columns that need no more than a line, in one place: PostgREST makes its OpenAPI document of
-- them. What takes explaining is commented beside its view. Views: secrets_view, alert, outbox, contact, policy,
-- overview, audit, audit_sign, key_life, key_schedule, encrypted_column. Covered by tests/tests/security/postgrest.rs.

comment on column rotator.secrets.id is 'What calls name it by; ids rise with time.';
comment on column rotator.secrets.name is 'What people call it; unique in the tenant among those in use, whatever the case.';
comment on column rotator.secrets.provider_type is 'Whose credential it is, in lower case: stripe, aws_sm, vault, manual.';
comment on column rotator.secrets.environment is 'Free text, like prod.';
comment on column rotator.secrets.labels is 'An object of the caller''s own.';
comment on column rotator.secrets.owner_id is 'Who is reminded and may handle it: a subject, as in contacts.';
comment on column rotator.secrets.secondary_owner_id is 'Who may handle it too.';
comment on column rotator.secrets.team_lead_id is 'Who may handle it as well.';
comment on column rotator.secrets.expiry_date is 'When it expires. Can be set: the cycle stays, reminders are planned anew.';
comment on column rotator.secrets.last_rotated_at is 'Set by mark_rotated; null before the first rotation.';
comment on column rotator.secrets.acknowledged_at is 'When somebody took on the rotation of this cycle.';
comment on column rotator.secrets.snoozed_until is 'No reminder before this time.';
comment on column rotator.secrets.verified_at is 'When its expiry was last checked at the source.';
comment on column rotator.secrets.verified_expiry_date is 'The expiry date that was found there.';
comment on column rotator.secrets.created_at is 'When it was registered.';
comment on column rotator.secrets.updated_at is 'When anything of it last changed.';

comment on column rotator.alerts.id is 'Of the alert; ids rise with time.';
comment on column rotator.alerts.secret_id is 'What it is about.';
comment on column rotator.alerts.secret_name is 'The name of the secret.';
comment on column rotator.alerts.cycle is 'The rotation it asks for: one alert a secret and cycle.';
comment on column rotator.alerts.state is 'open, acknowledged or resolved.';
comment on column rotator.alerts.opened_at is 'When its first reminder was queued.';
comment on column rotator.alerts.acknowledged_at is 'When it was acknowledged, the last time.';
comment on column rotator.alerts.acknowledged_by is 'Who acknowledged it.';
comment on column rotator.alerts.acknowledged_until is 'Nothing is sent until then; unless it was rotated by then, the alert opens again.';
comment on column rotator.alerts.resolved_at is 'When the rotation, or retiring the secret, ended it.';
comment on column rotator.alerts.escalation_step is 'The highest step of its ladder that was taken; 0 when none.';
comment on column rotator.alerts.next_escalation_at is 'When the next step is due; null when none is.';

comment on column rotator.notifications.id is 'Of the notification; receivers can drop repeats by it.';
comment on column rotator.notifications.secret_id is 'What it is about; null for a summary, a test, and what concerns the tenant.';
comment on column rotator.notifications.alert_id is 'The alert it belongs to; null where secret_id is.';
comment on column rotator.notifications.kind is 'reminder, escalation, summary, test, key_rotation, contact_gone; acknowledge or resolve: changes what was sent before.';
comment on column rotator.notifications.channel is 'slack, email, pagerduty, webhook or console.';
comment on column rotator.notifications.recipient_hint is 'Enough of the address to recognise it.';
comment on column rotator.notifications.queued_at is 'When it was queued.';
comment on column rotator.notifications.sent_at is 'When a channel took it.';
comment on column rotator.notifications.attempts is 'How often it was tried.';
comment on column rotator.notifications.last_error is 'What the last attempt came to.';
comment on column rotator.notifications.provider_message_id is 'What the channel calls it.';

comment on column rotator.delivery_windows.days is 'Weekdays on which it opens: mon to sun.';
comment on column rotator.delivery_windows.opens is 'From when, by the clocks of the tenant''s time zone.';
comment on column rotator.delivery_windows.closes is 'Until when; 24:00 is the end of the day.';
comment on column rotator.delivery_windows.holidays is 'Days on which it stays closed.';

comment on column rotator.contacts.id is 'Of the contact.';
comment on column rotator.contacts.owner_id is 'Whose it is: a subject, or manager.';
comment on column rotator.contacts.channel is 'slack, email, pagerduty, webhook or console; one contact each.';
comment on column rotator.contacts.recipient_hint is 'Enough of the address to recognise it.';
comment on column rotator.contacts.gone_at is 'Since when its vendor says that nobody is there; passed over until it is set again.';

comment on column rotator.undeliverable.id is 'Of the notification that was tried first.';
comment on column rotator.undeliverable.secret_id is 'What it is about; null for what concerns the tenant.';
comment on column rotator.undeliverable.secret_name is 'Its name.';
comment on column rotator.undeliverable.kind is 'As in rotator.notifications.';
comment on column rotator.undeliverable.rule is 'What asked for it, like lead:14.';
comment on column rotator.undeliverable.due_at is 'The instant the rule asked for.';
comment on column rotator.undeliverable.queued_at is 'When it was queued.';
comment on column rotator.undeliverable.undeliverable_at is 'When the last way had failed.';

comment on column rotator.identities.subject is 'Who it is: as in members and owners.';
comment on column rotator.identities.kind is 'slack, email or pagerduty.';
comment on column rotator.identities.external_hint is 'Who that is there; of a mail address only where it is.';
comment on column rotator.identities.linked_by is 'Who said so: the subject itself, or an admin.';
comment on column rotator.identities.linked_at is 'When.';

comment on column rotator.notification_policies.id is 'What remove_notification_policy takes.';
comment on column rotator.notification_policies.secret_id is 'The secret it is for; null for the tenant''s default.';
comment on column rotator.notification_policies.lead_time_days is 'Days before expiry; 0 on it, negative after it.';
comment on column rotator.notification_policies.channel is 'Over what; null for each of the owner''s contacts.';
comment on column rotator.notification_policies.recipient_hint is 'To whom; null for the owner.';

comment on column rotator.escalation_policies.id is 'Of this revision.';
comment on column rotator.escalation_policies.name is 'What use_escalation_policy and remove_escalation_policy take.';
comment on column rotator.escalation_policies.revision is 'Counts the calls that set it, from 1.';
comment on column rotator.escalation_policies.priorities is 'Alerts of these begin with it; none: only secrets that use it by name.';
comment on column rotator.escalation_policies.steps is 'As they were given; of a recipient only a hint.';
comment on column rotator.escalation_policies.secrets is 'How many secrets use it by name.';
comment on column rotator.escalation_policies.created_at is 'When this revision was set.';

comment on column rotator.coverage.secret_id is 'The secret.';
comment on column rotator.coverage.name is 'Its name.';

comment on column rotator.overview.total is 'Secrets in use.';
comment on column rotator.overview.healthy is 'Of these, outside their lead times.';
comment on column rotator.overview.expiring_soon is 'Of these, inside their longest lead time.';
comment on column rotator.overview.overdue is 'Of these, past their expiry.';
comment on column rotator.overview.acknowledged is 'Alerts that somebody has taken on.';
comment on column rotator.overview.unacknowledged_alerts is 'Alerts that nobody has taken on.';
comment on column rotator.overview.mean_time_to_acknowledge is 'Over the last 90 days; null when there were none.';
comment on column rotator.overview.on_time_rate is 'Rotations on time over the last 90 days, 0 to 1; null when there were none.';

comment on column rotator.audit_log.id is 'Rises with time; shared by all tenants, so a tenant''s own have gaps.';
comment on column rotator.audit_log.tenant_id is 'Whose event it is.';
comment on column rotator.audit_log.occurred_at is 'By the database''s clock.';
comment on column rotator.audit_log.source is 'sql, api, cli, slack, link, email, pagerduty or engine.';
comment on column rotator.audit_log.action is 'What was done, like secret.rotated.';
comment on column rotator.audit_log.entity is 'To what kind of thing.';
comment on column rotator.audit_log.entity_id is 'To which one.';
comment on column rotator.audit_log.request_id is 'The X-Request-Id of the request.';
comment on column rotator.audit_values.tenant_id is 'Whose event it is.';

comment on column rotator.encryption_keys.id is 'Named in the header of each ciphertext.';
comment on column rotator.encryption_keys.version is 'Counts within the tenant and purpose, from 1.';
comment on column rotator.encryption_keys.tenant_id is 'Whose key it is.';
comment on column rotator.encryption_keys.active is 'Whether it is the one that encrypts.';
comment on column rotator.encryption_keys.created_at is 'When it was made.';
comment on column rotator.encryption_keys.activated_at is 'When it began to encrypt.';
comment on column rotator.encryption_keys.retired_at is 'When it was retired.';
comment on column rotator.encryption_keys.destroyed_at is 'When it was destroyed; what is under it can''t be read any more.';

comment on column rotator.key_rotations.id is 'What rotate_key returned.';
comment on column rotator.key_rotations.tenant_id is 'Whose keys they are.';
comment on column rotator.key_rotations.from_version is 'The version before.';
comment on column rotator.key_rotations.to_version is 'The version that encrypts since.';
comment on column rotator.key_rotations.done is 'Rows that were re-encrypted.';
comment on column rotator.key_rotations.failed is 'Rows that could not be.';
comment on column rotator.key_rotations.started_at is 'When the new version became active.';
comment on column rotator.key_rotations.finished_at is 'When it ended; null while it runs.';
comment on column rotator.key_rotations.duration is 'How long it took, or has taken.';

comment on column rotator.key_schedules.tenant_id is 'Whose schedule it is.';
comment on column rotator.key_schedules.next_at is 'When the next rotation begins.';

comment on column rotator.encrypted_columns.schema_name is 'Schema of the host''s table.';
comment on column rotator.encrypted_columns.table_name is 'The host''s table.';
comment on column rotator.encrypted_columns.column_name is 'The column with ciphertexts.';
comment on column rotator.encrypted_columns.label is 'The label that its values are bound to.';
comment on column rotator.encrypted_columns.row_key_column is 'The column with the row key that they are bound to.';
comment on column rotator.encrypted_columns.tenant_column is 'The column that says whose row it is.';
comment on column rotator.encrypted_columns.registered_by is 'Who registered it.';
comment on column rotator.encrypted_columns.registered_at is 'When it was registered.';

comment on column rotator.audit_blocks.tenant_id is 'Whose events it holds.';
comment on column rotator.audit_blocks.block_id is 'Counts the tenant''s blocks, from 1.';
comment on column rotator.audit_blocks.events is 'How many events it holds.';
comment on column rotator.audit_blocks.first_id is 'Its lowest event.';
comment on column rotator.audit_blocks.last_id is 'Its highest event; others of that range may be in later blocks.';
comment on column rotator.audit_blocks.sealed_at is 'When it was sealed.';
comment on column rotator.audit_blocks.key_name is 'The key that signed it.';
comment on column rotator.audit_blocks.signed_at is 'When the signature was recorded.';
comment on column rotator.audit_leaves.tenant_id is 'Whose event it is.';
comment on column rotator.audit_leaves.block_id is 'The block that the event is in.';
comment on column rotator.audit_leaves.event_id is 'The event, as in audit_log.';
