-- Looking for secrets among what is stored, by the rules of today: `rotator doctor --scan` calls rotator.scan_texts until
-- it is through. Fields are decrypted here, in the database, and nothing of them leaves it: a finding names tenant,
-- record, field and rule. What refuses at the door: api/guard.sql. Covered by tests/tests/security/guard_scan.rs.

create or replace function rotator_internal.texts_to_scan(place text, after_key text, max_rows integer)
returns table (tenant_id uuid, entity_id text, key text, field text, value text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Keys are texts that rise with what is read next; planned each time, since some pages are long.
    case place
        when 'secret' then
            return query execute $sql$
                select s.tenant_id, s.id::text, s.tenant_id::text || ' ' || s.id::text, f.field, f.value
                from (
                    select x.*
                    from rotator_internal.secret as x
                    where (x.tenant_id, x.id) > (
                        coalesce(nullif(split_part($1, ' ', 1), '')::uuid, '00000000-0000-0000-0000-000000000000'),
                        coalesce(nullif(split_part($1, ' ', 2), '')::uuid, '00000000-0000-0000-0000-000000000000'))
                    order by x.tenant_id, x.id
                    limit $2
                ) as s
                cross join lateral (values
                    ('name', rotator_internal.try_open_field(s.tenant_id, 'secret.name', s.id, s.name)),
                    ('provider_ref', rotator_internal.try_open_field(s.tenant_id, 'secret.provider_ref', s.id, s.provider_ref)),
                    ('purpose', rotator_internal.try_open_field(s.tenant_id, 'secret.purpose', s.id, s.purpose)),
                    ('provider_type', s.provider_type), ('environment', s.environment), ('labels', s.labels::text),
                    ('owner_id', s.owner_id), ('secondary_owner_id', s.secondary_owner_id),
                    ('team_lead_id', s.team_lead_id), ('external_id', s.external_id)) as f (field, value)
                order by s.tenant_id, s.id
            $sql$ using after_key, max_rows;
        when 'tenant' then
            return query execute $sql$
                select t.tenant_id, t.tenant_id::text, t.tenant_id::text, f.field, f.value
                from (
                    select x.* from rotator_internal.tenant as x
                    where x.tenant_id > coalesce(nullif($1, '')::uuid, '00000000-0000-0000-0000-000000000000')
                    order by x.tenant_id
                    limit $2
                ) as t
                cross join lateral (values ('name', t.name), ('slug', t.slug)) as f (field, value)
                order by t.tenant_id
            $sql$ using after_key, max_rows;
        when 'member' then
            -- By number: a key made of subjects would show what may be a secret.
            return query execute $sql$
                select
                    m.tenant_id, null::text,
                    (coalesce(nullif($1, '')::bigint, 0) + row_number() over (order by m.tenant_id, m.subject))::text,
                    'subject', m.subject
                from (
                    select x.tenant_id, x.subject
                    from rotator_internal.member as x
                    order by x.tenant_id, x.subject
                    offset coalesce(nullif($1, '')::bigint, 0)
                    limit $2
                ) as m
                order by m.tenant_id, m.subject
            $sql$ using after_key, max_rows;
        when 'contact' then
            return query execute $sql$
                select c.tenant_id, c.id::text, c.tenant_id::text || ' ' || c.id::text, 'owner_id', c.owner_id
                from rotator_internal.contact as c
                where (c.tenant_id, c.id) > (
                    coalesce(nullif(split_part($1, ' ', 1), '')::uuid, '00000000-0000-0000-0000-000000000000'),
                    coalesce(nullif(split_part($1, ' ', 2), '')::uuid, '00000000-0000-0000-0000-000000000000'))
                order by c.tenant_id, c.id
                limit $2
            $sql$ using after_key, max_rows;
        when 'key_rotation' then
            return query execute $sql$
                select r.tenant_id, r.id::text, r.id::text, 'reason', r.trigger
                from rotator_internal.key_rotation as r
                where r.id > coalesce(nullif($1, '')::bigint, 0)
                order by r.id
                limit $2
            $sql$ using after_key, max_rows;
        when 'audit_event' then
            -- Notes, reasons and evidence live here alone, and stay: what is found is to be rotated.
            return query execute $sql$
                select e.tenant_id, e.id::text, e.tenant_id::text || ' ' || e.id, 'changes', e.changes::text
                from (
                    select x.tenant_id, x.id, x.changes
                    from rotator_internal.audit_event as x
                    where (x.tenant_id, x.id) > (
                        coalesce(nullif(split_part($1, ' ', 1), '')::uuid, '00000000-0000-0000-0000-000000000000'),
                        coalesce(nullif(split_part($1, ' ', 2), '')::bigint, 0))
                    order by x.tenant_id, x.id
                    limit $2
                ) as e
                order by e.tenant_id, e.id
            $sql$ using after_key, max_rows;
    end case;
end
$$;

comment on function rotator_internal.texts_to_scan(text, text, integer) is
    'The texts of the next rows of a kind, in the clear, a row a field; those that can''t be decrypted are null.';

create or replace function rotator.scan_texts(after jsonb default null, max_rows integer default 1000) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
    places constant text[] := array['secret', 'tenant', 'member', 'contact', 'key_rotation', 'audit_event'];
    place text := coalesce(after ->> 'place', 'secret');
    page record;
begin
    if max_rows is null or max_rows not between 1 and 100000 then
        perform rotator_internal.refuse('22023', 'max_rows must be between 1 and 100000', 'The next page starts after `next`.');
    elsif place <> all (places) then
        perform rotator_internal.refuse('22023', 'after is no position', 'Give what the last page had as `next`, or null to begin.');
    end if;
    begin
        select
            coalesce(jsonb_agg(jsonb_build_object(
                'tenant', (select n.slug from rotator_internal.tenant as n where n.tenant_id = j.tenant_id),
                'tenant_id', j.tenant_id, 'entity', place, 'entity_id', j.entity_id, 'field', j.field, 'rule', j.rule)
                order by j.number) filter (where j.rule is not null), '[]') as findings,
            count(distinct j.key) as scanned,
            (array_agg(j.key order by j.number desc))[1] as last_key
        into page
        from (
            select
                t.tenant_id, t.entity_id, t.key, t.field, t.number,
                coalesce(
                    rotator_internal.secret_rule(t.value),
                    case when rotator_internal.random_tokens(t.value) is not null
                        and rotator_internal.is_scanned_for_chance(place, t.tenant_id, t.field, t.value) then 'random-token' end) as rule
            from rotator_internal.texts_to_scan(place, coalesce(after ->> 'key', ''), max_rows)
                with ordinality as t (tenant_id, entity_id, key, field, value, number)
        ) as j;
    exception
        when data_exception then
            perform rotator_internal.refuse(
                '22023', 'after is no position', 'Give what the last page had as `next`, or null to begin.');
    end;
    return jsonb_build_object(
        'findings', page.findings,
        'scanned', page.scanned,
        'next', case
            when page.scanned >= max_rows then jsonb_build_object('place', place, 'key', page.last_key)
            when place <> places[cardinality(places)]
                then jsonb_build_object('place', places[array_position(places, place) + 1], 'key', '')
        end);
end
$$;

comment on function rotator.scan_texts(jsonb, integer) is
    'Looks for secrets among the stored texts of all tenants by the rules of this version, max_rows records at a time: '
    'findings (tenant, tenant_id, entity, entity_id, field, rule; never a value), how many records were scanned, and next, '
    'to be given as after for the page that follows; null at the end. For rotator_admin.';

create or replace function rotator_internal.is_scanned_for_chance(place text, tenant uuid, field text, value text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Audit events quote ids and hashes of ours, and what was allowed in other fields: certain rules alone.
    return place <> 'audit_event' and rotator_internal.random_in(tenant, field, value);
end
$$;

comment on function rotator_internal.is_scanned_for_chance(text, uuid, text, text) is
    'Whether a stored text looks random where that says something, and was not allowed there.';
