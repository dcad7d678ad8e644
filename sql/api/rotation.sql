-- Marking a credential as rotated: the next expiry, the end of the alert, the end of what is queued, and the history of
-- it, in one transaction. Called by members (here) and by links (api/link.sql). Table: schema/secret.sql.
-- Covered by tests/tests/behaviour/rotation.rs.

create or replace function rotator_internal.refuse_handling(role text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.refuse(
        '42501', format('role %s may not do this', coalesce(role, 'none')),
        'It takes editor or admin, or the secret''s owner, secondary owner or team lead; a tenant admin grants a role with '
        'rotator.add_member.');
end
$$;

comment on function rotator_internal.refuse_handling(text) is 'Raises 42501: whoever has this role may not handle that secret.';

create or replace function rotator_internal.may_handle(secret rotator_internal.secret) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    me text := rotator.current_actor();
begin
    if me is distinct from secret.owner_id
        and me is distinct from secret.secondary_owner_id
        and me is distinct from secret.team_lead_id
        and rotator.current_member_role() in ('editor', 'admin') is not true then
        perform rotator_internal.refuse_handling(rotator.current_member_role());
    end if;
end
$$;

comment on function rotator_internal.may_handle(rotator_internal.secret) is
    'Raises 42501 unless the caller is an editor, an admin, or one of the secret''s own owners.';

create or replace function rotator_internal.rotate(
    secret rotator_internal.secret,
    rotated_at timestamptz,
    next_expiry_date timestamptz,
    evidence_url text,
    note text,
    actor text,
    source text) returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tenant uuid := secret.tenant_id;
    evidence text := rotator_internal.check_line('evidence_url', evidence_url, 2000);
    remark text := rotator_internal.check_text('note', note);
    next_expiry timestamptz := next_expiry_date;
begin
    perform rotator_internal.refuse_retired(secret);
    if rotated_at is null or rotated_at > clock_timestamp() then
        perform rotator_internal.refuse(
            '22023', 'rotated_at lies in the future', 'Mark it when it is done; leave rotated_at out for now.');
    elsif rotated_at = secret.last_rotated_at then
        return secret.expiry_date;  -- a repeat
    elsif rotated_at < secret.last_rotated_at then
        perform rotator_internal.refuse(
            '22023', 'rotated_at lies before the last rotation', 'See last_rotated_at in rotator.secrets.');
    elsif evidence !~* '^https?://[^[:space:]]+$' then
        perform rotator_internal.refuse('22023', 'evidence_url is not an http(s) URL', 'Link to the ticket, change or log entry.');
    end if;
    perform rotator_internal.check_expiry('rotated_at', rotated_at);

    if next_expiry is null then
        if secret.rotation_interval is null then
            perform rotator_internal.refuse(
                '22023', 'the secret has no rotation interval, so next_expiry_date is needed',
                'Give the date the new credential expires.');
        end if;
        next_expiry := rotator_internal.add_in_zone(rotated_at, secret.rotation_interval, rotator_internal.zone_of(tenant));
    end if;
    if next_expiry <= rotated_at then
        perform rotator_internal.refuse(
            '22023', 'next_expiry_date must lie after rotated_at', 'Give the date the new credential expires.');
    end if;
    perform rotator_internal.check_expiry('next_expiry_date', next_expiry);

    insert into rotator_internal.rotation (tenant_id, secret_id, cycle, rotated_at, due_date, next_expiry_date, actor)
    values (tenant, secret.id, secret.cycle, rotate.rotated_at, secret.expiry_date, next_expiry, rotate.actor);
    update rotator_internal.alert as a
    set state = 'resolved', resolved_at = clock_timestamp(), next_escalation_at = null
    where a.tenant_id = tenant and a.secret_id = secret.id and a.cycle = secret.cycle and a.state <> 'resolved';
    perform rotator_internal.cancel_queued(tenant, secret.id);
    perform rotator_internal.follow_alert(tenant, secret.id, secret.cycle, 'resolve', actor, source);
    update rotator_internal.secret as s
    set cycle = s.cycle + 1,
        last_rotated_at = rotate.rotated_at,
        expiry_date = next_expiry,
        snoozed_at = null,
        snoozed_until = null,
        verified_at = null,
        verified_expiry_date = null,
        updated_at = clock_timestamp()
    where s.tenant_id = tenant and s.id = secret.id;
    perform rotator_internal.plan(tenant, secret.id);

    perform rotator_internal.record_event(
        tenant, 'secret.rotated', 'secret', secret.id::text,
        jsonb_strip_nulls(jsonb_build_object(
            'rotated_at', rotated_at,
            'expiry_date', jsonb_build_object('old', secret.expiry_date, 'new', next_expiry),
            'cycle', secret.cycle,
            'evidence_url', evidence,
            'note', remark)),
        actor, source);
    return next_expiry;
end
$$;

comment on function rotator_internal.rotate(rotator_internal.secret, timestamptz, timestamptz, text, text, text, text) is
    'Ends the cycle of a locked secret and begins the next; returns the next expiry date. Next expiry is rotated_at plus '
    'the interval in the tenant''s wall time; no day of the month is remembered.';

create or replace function rotator.mark_rotated(
    secret_id uuid,
    rotated_at timestamptz default now(),
    next_expiry_date timestamptz default null,
    evidence_url text default null,
    note text default null) returns timestamptz
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    tenant uuid := rotator_internal.require_role('viewer', 'editor', 'auditor', 'admin');
    locked rotator_internal.secret := rotator_internal.lock_secret(tenant, secret_id);
begin
    perform rotator_internal.may_handle(locked);
    return rotator_internal.rotate(
        locked, rotated_at, next_expiry_date, evidence_url, note, rotator.current_actor(), rotator_internal.current_source());
end
$$;

comment on function rotator.mark_rotated(uuid, timestamptz, timestamptz, text, text) is
    'Records that the credential was rotated and returns the next expiry date: next_expiry_date, or rotated_at plus the '
    'interval in the tenant''s time zone. Ends the alert and cancels what is queued. The same rotated_at again is a repeat '
    'and changes nothing. For editors, admins and the secret''s owners. Errors: PT404, PT409 retired, 22023 (no interval '
    'and no next_expiry_date, a time in the future or before the last one).';
