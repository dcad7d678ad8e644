-- Refusing values that look like secrets, in every text that comes in, before it is encrypted, stored or logged. The
-- detectors are extension/src/guard: rules that are certain (rotator_internal.guard raises by itself), and a heuristic for
-- what merely looks random, of which a tenant's admin may let single values through. Scanning what is stored:
-- api/guard_scan.sql. Covered by tests/tests/security/guard_{ways_in,allow,canary}.rs.

create or replace function rotator_internal.shortest_random(field text) returns integer
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Identity providers and other programs make these: a subject of 43 random characters is nobody's secret.
    return case when field in ('subject', 'owner_id', 'secondary_owner_id', 'team_lead_id', 'external_id') then 48 else 1 end;
end
$$;

comment on function rotator_internal.shortest_random(text) is
    'From how many characters on a random-looking token is refused in a field: 48 where programs put their ids, else any.';

create or replace function rotator_internal.allowed_index(tenant uuid, token text) returns bytea
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- In hexadecimal digits, because the blind index folds case.
    return rotator_internal.blind_index(tenant, 'allowed_value.token', encode(convert_to(token, 'UTF8'), 'hex'));
end
$$;

comment on function rotator_internal.allowed_index(uuid, text) is 'The keyed hash by which a token is allowed.';

create or replace function rotator_internal.random_in(tenant uuid, field text, value text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_tokens text := rotator_internal.random_tokens(value);
    token text;
begin
    if found_tokens is null then
        return false;
    end if;
    foreach token in array string_to_array(found_tokens, ' ') loop
        if length(token) >= rotator_internal.shortest_random(field)
            and (tenant is null or not exists (
                select
                from rotator_internal.allowed_value as a
                where a.tenant_id = random_in.tenant and a.field = random_in.field
                  and a.value_index = rotator_internal.allowed_index(tenant, token))) then
            return true;
        end if;
    end loop;
    return false;
end
$$;

comment on function rotator_internal.random_in(uuid, text, text) is
    'Whether the value has a token that looks random in this field, and that the tenant has not allowed there.';

create or replace function rotator_internal.refuse_secret(field text, value text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.guard(field, value);
    if rotator_internal.random_tokens(value) is not null
        and rotator_internal.random_in(rotator.current_tenant(), field, value) then
        perform rotator_internal.refuse(
            'RT001',
            format('field "%s" looks like a secret value (rule random-token)', field),
            'rotator stores metadata only. Is it an identifier? Write "id" before it, or let a tenant admin call '
            'rotator.allow_value(field, value, reason).');
    end if;
end
$$;

comment on function rotator_internal.refuse_secret(text, text) is
    'Raises RT001 when the value looks like a secret: names field and rule, never the value. What only looks random passes '
    'when the current tenant has allowed it in this field.';

create or replace function rotator.allow_value(field text, value text, reason text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    tenant uuid := rotator_internal.require_role('admin');
    why text := rotator_internal.check_text('reason', reason);
    found_tokens text;
    token text;
begin
    if field is null or field not in (
        'name', 'provider_type', 'provider_ref', 'purpose', 'environment', 'labels', 'owner_id', 'secondary_owner_id',
        'team_lead_id', 'external_id', 'subject', 'note', 'reason', 'evidence_url', 'label') then
        perform rotator_internal.refuse(
            '22023', 'unknown field', 'The one that the refusal named: name, provider_ref, purpose, labels, note, ….');
    elsif why is null then
        perform rotator_internal.refuse('22023', 'reason is missing', 'Say why it is no secret; it is kept in the audit log.');
    end if;
    -- What is certain to be a secret can't be allowed.
    perform rotator_internal.guard('value', value);
    found_tokens := rotator_internal.random_tokens(value);
    if found_tokens is null then
        perform rotator_internal.refuse(
            '22023', 'nothing in this value is refused for looking random', 'It needs no permission; use it as it is.');
    end if;
    foreach token in array string_to_array(found_tokens, ' ') loop
        insert into rotator_internal.allowed_value (tenant_id, field, value_index, reason, allowed_by)
        values (
            tenant, allow_value.field, rotator_internal.allowed_index(tenant, token), why, rotator.current_actor())
        on conflict do nothing;
    end loop;
    perform rotator_internal.record_event(
        tenant, 'value.allowed', 'field', field,
        jsonb_build_object('rule', 'random-token', 'reason', why));
end
$$;

comment on function rotator.allow_value(text, text, text) is
    'Lets a value that only looks random through in this field of the current tenant, from now on: give the value that was '
    'refused, or the text it stands in. Kept as a keyed hash and audited. For a tenant admin. Errors: RT001 for what is '
    'certainly a secret, 22023 for a value that isn''t refused, an unknown field, or no reason.';
