-- Creating a tenant: its row, its first keys and its default notification policy, in one transaction.
-- Tables: schema/tenant.sql. Who acts for it: api/member.sql. Covered by tests/tests/security/tenancy.rs.

create or replace function rotator.create_tenant(slug text, name text, time_zone text default 'UTC') returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    made uuid;
    clean_name text := rotator_internal.check_line('name', name);
begin
    perform rotator_internal.refuse_secret('slug', slug);
    if slug is null or slug !~ '^[a-z0-9][a-z0-9-]{0,62}$'
        or slug ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
        perform rotator_internal.refuse(
            '22023',
            'slug must be 1 to 63 lower-case letters, digits and hyphens, and not look like a UUID',
            'For example: acme, or acme-eu.');
    end if;
    if clean_name is null then
        perform rotator_internal.refuse('22023', 'name is missing', 'Give the tenant''s name as people know it.');
    end if;
    perform rotator_internal.check_time_zone(time_zone);

    insert into rotator_internal.tenant (slug, name, time_zone)
    values (create_tenant.slug, clean_name, create_tenant.time_zone)
    on conflict on constraint tenant_slug_key do nothing
    returning tenant_id into made;
    if made is null then
        perform rotator_internal.refuse(
            '23505', format('tenant %s exists already', slug), 'Choose another slug; slugs are never used twice.');
    end if;

    perform rotator_internal.add_key(made, 'data');
    perform rotator_internal.add_key(made, 'index');
    insert into rotator_internal.key_schedule (tenant_id, every, next_at)
    values (made, interval '90 days', clock_timestamp() + interval '90 days');
    insert into rotator_internal.notification_policy (tenant_id, lead_time_days)
    values (made, 14), (made, 7), (made, 1);
    perform rotator_internal.record_event(
        made, 'tenant.created', 'tenant', made::text,
        jsonb_build_object('slug', slug, 'name', clean_name, 'time_zone', time_zone));
    return made;
end
$$;

comment on function rotator.create_tenant(text, text, text) is
    'Creates a tenant with its own data keys, replaced every 90 days, and reminders 14, 7 and 1 days before, and returns its id. time_zone is an '
    'IANA name. For rotator_admin. Errors: 22023 bad argument, 23505 slug taken, RT010 no master key.';

create or replace function rotator_internal.check_time_zone(zone text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- The shape keeps out abbreviations and POSIX rules, which PostgreSQL takes but which have no daylight saving.
    if zone is not null and (zone = 'UTC' or zone ~ '^[A-Z][A-Za-z_]+(/[A-Za-z0-9_+-]+){1,2}$') then
        perform now() at time zone zone;
        return;
    end if;
    raise invalid_parameter_value;
exception
    when invalid_parameter_value then
        perform rotator_internal.refuse(
            '22023', 'time_zone is not a known IANA time zone', 'For example: Europe/Berlin, America/New_York, UTC.');
end
$$;

comment on function rotator_internal.check_time_zone(text) is 'Raises 22023 unless PostgreSQL knows this IANA time zone.';
