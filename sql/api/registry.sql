-- The registry's calls: register, retire, search. The core that stores is api/secret.sql, the view api/secrets_view.sql.
-- Covered by tests/tests/behaviour/registry.rs.

create or replace function rotator.register_secret(
    name text,
    provider_type text default 'manual',
    expiry_date timestamptz default null,
    rotation_interval interval default null,
    owner_id text default null,
    purpose text default null,
    provider_ref text default null,
    environment text default null,
    priority text default 'P3',
    secondary_owner_id text default null,
    team_lead_id text default null,
    labels jsonb default '{}',
    external_id text default null) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    return rotator_internal.insert_secret(
        rotator_internal.require_role('editor', 'admin'),
        row(name, provider_type, provider_ref, purpose, environment, priority, labels, owner_id, secondary_owner_id,
            team_lead_id, expiry_date, rotation_interval, external_id)::rotator_internal.secret_fields);
end
$$;

comment on function rotator.register_secret(
    text, text, timestamptz, interval, text, text, text, text, text, text, text, jsonb, text) is
    'Registers a credential by its metadata, never its value, and returns its id. One of expiry_date and '
    'rotation_interval is required; without expiry_date it expires one interval from now. owner_id defaults to the '
    'caller. For editors and admins. Errors: RT001 looks like a secret value, 22023 bad argument, 23505 duplicate name, '
    'RT002 no tenant, RT010 no master key.';

create or replace function rotator_internal.retire(tenant uuid, secret uuid, why text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    locked rotator_internal.secret := rotator_internal.lock_secret(tenant, secret);
begin
    if locked.retired_at is not null then
        return;  -- a repeat
    end if;
    update rotator_internal.secret as s
    set retired_at = clock_timestamp(), snoozed_at = null, snoozed_until = null, updated_at = clock_timestamp()
    where s.tenant_id = retire.tenant and s.id = retire.secret;
    update rotator_internal.alert as a
    set state = 'resolved', resolved_at = clock_timestamp(), next_escalation_at = null
    where a.tenant_id = retire.tenant and a.secret_id = retire.secret and a.state <> 'resolved';
    perform rotator_internal.cancel_queued(tenant, secret);
    perform rotator_internal.follow_alert(tenant, secret, locked.cycle, 'resolve');
    perform rotator_internal.plan(tenant, secret);
    perform rotator_internal.record_event(
        tenant, 'secret.retired', 'secret', secret::text, jsonb_strip_nulls(jsonb_build_object('reason', why)));
end
$$;

comment on function rotator_internal.retire(uuid, uuid, text) is 'Retires a secret: silent from now on, its history stays.';

create or replace function rotator.retire_secret(secret_id uuid, reason text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    perform rotator_internal.retire(
        rotator_internal.require_role('editor', 'admin'), secret_id, rotator_internal.check_text('reason', reason));
end
$$;

comment on function rotator.retire_secret(uuid, text) is
    'Retires a credential that is no longer used: its alert ends, nothing more is sent, its history stays. For editors and '
    'admins. Errors: PT404.';
