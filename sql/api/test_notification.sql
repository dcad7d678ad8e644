-- A notification that somebody asked for, to see whether a channel works: the production message about a sample secret,
-- through the same queue, sidecar and vendor, clearly marked as a test. It belongs to no secret, and its link leads to a
-- page that says that links arrive (/a/test in sidecar/src/http/link.rs), since there is nothing to act on.
-- Covered by tests/tests/behaviour/test_notification.rs and tests/tests/delivery/test_notification.rs.

create or replace function rotator_internal.test_message(n rotator_internal.notification) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_build_object(
            'kind', n.kind,
            'notification_id', n.id,
            'alert_id', null,
            'rule', n.rule,
            'addressee', n.addressee,
            'is_fallback', false,
            'tenant', jsonb_build_object('slug', t.slug, 'name', t.name, 'time_zone', t.time_zone),
            'secret', jsonb_build_object(
                'id', null,
                'name', 'sample-api-key',
                'provider_type', 'sample',
                'environment', null,
                'priority', 'P3',
                'owner_id', n.addressee,
                'purpose', 'nothing: this is a test',
                'provider_ref', null),
            'expiry_date', to_char(e.expiry_date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'expiry_local', rotator_internal.local_time(e.expiry_date, t.time_zone),
            'days_until_expiry', (e.expiry_date at time zone t.time_zone)::date - (now() at time zone t.time_zone)::date,
            'overdue', false,
            'lead_time_days', 14,
            'cycle', null,
            'has_interval', true,
            'interval_text', rotator_internal.interval_text(interval '90 days'),
            'acknowledged', null,
            'acknowledged_last', null,
            'requested_by', n.addressee)
        from rotator_internal.tenant as t
        cross join lateral (
            -- In 14 days by the tenant's wall clock, and the same at every attempt.
            select (n.due_at at time zone t.time_zone + interval '14 days') at time zone t.time_zone as expiry_date
        ) as e
        where t.tenant_id = n.tenant_id
    );
end
$$;

comment on function rotator_internal.test_message(rotator_internal.notification) is
    'What a test says: a reminder about a sample secret, who asked for it, and no secret''s id.';

create or replace function rotator.test_notification(channel text, recipient text) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('admin');
    queued uuid;
begin
    perform rotator_internal.check_address(channel, recipient);

    insert into rotator_internal.notification (tenant_id, kind, rule, due_at, channel, recipient_id, addressee)
    values (
        target, 'test', 'test', clock_timestamp(), test_notification.channel,
        rotator_internal.intern_recipient(target, test_notification.channel, recipient), rotator.current_actor())
    returning id into queued;

    perform rotator_internal.record_event_with_values(
        target, 'notification.test', 'notification', queued::text, jsonb_build_object('channel', channel),
        jsonb_build_object('recipient', jsonb_build_object('new', recipient, 'channel', channel)));
    return queued;
end
$$;

comment on function rotator.test_notification(text, text) is
    'Sends the message that a reminder would be, about a sample secret and marked as a test, to this recipient on this '
    'channel (slack, email, pagerduty, webhook or console); by a tenant admin. Its outcome is in rotator.notifications '
    'under the id that is returned. Errors: 22023 no such channel, or an address it can''t have.';
