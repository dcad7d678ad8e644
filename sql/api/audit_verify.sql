-- Verification inside the database: every leaf, root, hash and link worked out again from the events as they are now. It
-- finds what a superuser changed, unless he also wrote new hashes all the way up; for that there are signatures, and the
-- offline verifier, whose key this database doesn't have. Rules: docs/audit.md.
-- Covered by tests/tests/security/{audit_tamper,audit_forged,audit_verify}.rs.

create or replace function rotator_internal.audited_tenant(reference text) returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    reads_all constant boolean :=
        not rotator_internal.in_claims_mode() and pg_has_role(session_user, 'rotator_auditor', 'member');
    named uuid;
    current uuid;
begin
    if reference is null and (reads_all or (rotator_internal.is_operator() and rotator.current_tenant() is null)) then
        return null;
    end if;
    -- Also one that has left: its log stays.
    named := (
        select t.tenant_id
        from rotator_internal.tenant as t
        where t.slug = reference or t.tenant_id::text = lower(reference));
    if reads_all or (reference is not null and rotator_internal.is_operator()) then
        if named is null then
            perform rotator_internal.refuse('PT404', 'no such tenant', 'Tenants are named by slug or id.');
        end if;
        return named;
    end if;
    current := rotator_internal.require_role('auditor', 'admin');
    if reference is not null and named is distinct from current then
        perform rotator_internal.refuse('42501', 'that is not your tenant', 'Leave the tenant out to mean your own.');
    end if;
    return current;
end
$$;

comment on function rotator_internal.audited_tenant(text) is
    'The tenant whose log the caller may read; null for all of them. Any for rotator_auditor and rotator_admin.';

create or replace function rotator_internal.check_audit_blocks(scope uuid,
    out checked bigint, out unsealed bigint, out blocks bigint, out signed bigint, out tenant_id uuid, out bad_id bigint,
    out problem text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
    with found as (
        select
            coalesce(e.tenant_id, l.tenant_id) as tenant_id, coalesce(e.id, l.event_id) as id,
            e.id is null as is_gone, l.event_id is null as is_unsealed, l.block_number, l.hash,
            case
                when e.id is null then 'was removed'
                when l.event_id is null then
                    case when e.transaction_id < s.below then 'was inserted: it is in no block, and all of its time are sealed' end
                when l.hash is distinct from rotator_internal.audit_event_hash(
                    e.tenant_id, e.id, e.occurred_at, e.transaction_id, e.actor, e.source, e.action, e.entity, e.entity_id,
                    e.changes::text, e.request_id)
                then 'was changed after it was sealed'
            end as problem
        from (select x.* from rotator_internal.audit_event as x where scope is null or x.tenant_id = scope) as e
        full join (select x.* from rotator_internal.audit_leaf as x where scope is null or x.tenant_id = scope) as l
            on l.tenant_id = e.tenant_id and l.event_id = e.id
        left join rotator_internal.audit_seal_state as s on s.walked_event is null
    ),
    grouped as (
        select
            f.tenant_id, f.block_number,
            count(*) filter (where not f.is_gone and not f.is_unsealed) as checked,
            count(*) filter (where f.is_unsealed) as unsealed,
            count(*) filter (where not f.is_unsealed) as events,
            min(f.id) as first_id, max(f.id) as last_id,
            rotator_internal.audit_root(string_agg(f.hash, ''::bytea order by f.id)) as root,
            min(f.id) filter (where f.problem is not null) as bad_id,
            (array_agg(f.problem order by f.id) filter (where f.problem is not null))[1] as problem
        from found as f
        group by f.tenant_id, f.block_number
    ),
    chain as (
        select
            b.*,
            row_number() over w as place,
            coalesce(lag(b.hash) over w, decode(repeat('00', 32), 'hex')) as hash_before,
            s.note,
            s.first_id as signed_from,
            max(s.number) over (partition by b.tenant_id) as last_signed
        from rotator_internal.audit_block as b
        left join rotator_internal.audit_signature as s on s.tenant_id = b.tenant_id and s.number = b.number
        where scope is null or b.tenant_id = scope
        window w as (partition by b.tenant_id order by b.number)
    ),
    judged as (
        select
            coalesce(c.tenant_id, g.tenant_id) as tenant_id, g.checked, g.unsealed, c.number, c.note is not null as is_signed,
            p.bad_id, p.problem
        from grouped as g
        full join chain as c on c.tenant_id = g.tenant_id and c.number = g.block_number
        -- What is in no block although it should be may be what this one lacks.
        left join grouped as o
            on o.tenant_id = c.tenant_id and o.block_number is null and o.bad_id between c.first_id and c.last_id
        left join lateral (
            select x.bad_id, x.problem
            from (values
                (1, g.bad_id is not null, g.bad_id, format('event %s %s', g.bad_id, g.problem)),
                (2, g.block_number is not null and c.number is null, g.first_id,
                    format('block %s, which event %s is in, was removed', g.block_number, g.first_id)),
                (3, c.number is not null and g.block_number is null, c.first_id,
                    format('the events of block %s were removed, from %s on', c.number, c.first_id)),
                (4, g.first_id > c.first_id, c.first_id, format('event %s was removed from block %s', c.first_id, c.number)),
                (5, g.last_id < c.last_id, c.last_id, format('event %s was removed from block %s', c.last_id, c.number)),
                (6, g.events <> c.events or g.first_id < c.first_id or g.last_id > c.last_id or g.root <> c.root,
                    coalesce(o.bad_id, least(c.first_id, g.first_id)),
                    format('block %s has other events than were sealed in it, from %s on', c.number, coalesce(o.bad_id, c.first_id))),
                (7, c.number <> c.place, c.first_id, format('a block before block %s was removed', c.number)),
                (8, c.previous <> c.hash_before, c.first_id, format('block %s doesn''t follow the one before it', c.number)),
                (9, c.hash <> rotator_internal.audit_block_hash(
                        c.tenant_id, c.number, c.events, c.root, c.previous, c.sealed_at, c.below, c.next),
                    c.first_id, format('block %s was changed after it was sealed', c.number)),
                (10, c.note is not null and not starts_with(
                        c.note, rotator_internal.audit_note_body(c.tenant_id, c.number, c.hash) || chr(10)),
                    least(c.first_id, c.signed_from), format('block %s was replaced: it isn''t the one that was signed', c.number)),
                (11, c.note is null and c.number < c.last_signed, c.first_id,
                    format('the signature of block %s was removed', c.number))
            ) as x (rank, holds, bad_id, problem)
            where x.holds
            order by x.rank
            limit 1
        ) as p on true
    )
    select
        coalesce(sum(j.checked), 0), coalesce(sum(j.unsealed), 0), count(j.number), count(*) filter (where j.is_signed),
        (array_agg(j.tenant_id order by j.bad_id, j.number) filter (where j.problem is not null))[1],
        min(j.bad_id),
        (array_agg(j.problem order by j.bad_id, j.number) filter (where j.problem is not null))[1]
    into checked, unsealed, blocks, signed, tenant_id, bad_id, problem
    from judged as j;
end
$$;

comment on function rotator_internal.check_audit_blocks(uuid) is
    'Compares events, leaves, blocks and signatures of one tenant, or all; what is wrong with the lowest bad id.';

create or replace function rotator_internal.check_audit_order(scope uuid, out tenant_id uuid, out bad_id bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
    -- A transaction that began after a block was sealed drew its events' ids after it, and at a later time. Ids of
    -- transactions compare on one server only: where they fall back from block to block another one went on (an era).
    with block as (
        select
            b.tenant_id, b.number, b.below, b.next, b.last_id, b.sealed_at,
            sum(case when b.next < b.next_before then 1 else 0 end) over (
                partition by b.tenant_id order by b.number) as era,
            max(b.last_id) over before as last_before,
            max(b.sealed_at) over before as sealed_before
        from (
            select x.*, lag(x.next) over (partition by x.tenant_id order by x.number) as next_before
            from rotator_internal.audit_block as x
            where scope is null or x.tenant_id = scope
        ) as b
        window before as (partition by b.tenant_id order by b.number rows between unbounded preceding and 1 preceding)
    ),
    newest as (
        select b.tenant_id, max(b.era) as era, max(b.last_id) as last_before, max(b.sealed_at) as sealed_before
        from block as b
        group by b.tenant_id
    ),
    point as (
        select b.tenant_id, b.era, b.next as at, false as is_event, b.last_id, b.sealed_at as moment
        from block as b
        where b.below > '0'
        union all
        select e.tenant_id, coalesce(b.era, n.era), e.transaction_id, true, e.id, e.occurred_at
        from rotator_internal.audit_event as e
        left join rotator_internal.audit_leaf as l on l.tenant_id = e.tenant_id and l.event_id = e.id
        left join block as b on b.tenant_id = l.tenant_id and b.number = l.block_number
        left join newest as n on n.tenant_id = e.tenant_id and l.event_id is null
        where (scope is null or e.tenant_id = scope)
          and (l.event_id is null or b.below > '0')
          and (e.id < coalesce(b.last_before, n.last_before)
            or e.occurred_at < coalesce(b.sealed_before, n.sealed_before) - interval '5 minutes')
    ),
    compared as (
        select
            p.tenant_id, p.last_id as id, p.is_event, p.moment,
            max(p.last_id) filter (where not p.is_event) over so_far as last_before,
            max(p.moment) filter (where not p.is_event) over so_far as sealed_before
        from point as p
        window so_far as (
            partition by p.tenant_id, p.era order by p.at, p.is_event rows between unbounded preceding and current row)
    )
    select c.tenant_id, c.id
    into tenant_id, bad_id
    from compared as c
    where c.is_event and (c.id < c.last_before or c.moment < c.sealed_before - interval '5 minutes')
    order by c.id
    limit 1;
end
$$;

comment on function rotator_internal.check_audit_order(uuid) is
    'The event with the lowest id that claims to be older than its transaction: inserted later, under an old id or date.';

create or replace function rotator.verify_audit(tenant text default null)
returns table (ok boolean, checked bigint, unsealed bigint, first_bad_id bigint, detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    scope uuid := rotator_internal.audited_tenant(tenant);
    state record := rotator_internal.check_audit_blocks(scope);
    late record := rotator_internal.check_audit_order(scope);
    stored record := rotator_internal.check_audit_values(scope);
    lost record;
begin
    select g.tenant_id, g.first_id, g.number into lost
    from rotator_internal.audit_signature as g
    where (scope is null or g.tenant_id = scope)
      and not exists (
        select
        from rotator_internal.audit_block as b
        where b.tenant_id = g.tenant_id and b.number = g.number)
    order by g.first_id
    limit 1;

    checked := state.checked;
    unsealed := state.unsealed;
    select p.id, case when scope is null then format('tenant %s: ', coalesce(t.slug, p.tenant_id::text)) else '' end || p.problem
    into first_bad_id, detail
    from (values
        (1, state.tenant_id, state.bad_id, state.problem),
        (2, late.tenant_id, late.bad_id,
            format('event %s was inserted later: its transaction began after a block that has higher ids or a later date', late.bad_id)),
        (3, lost.tenant_id, lost.first_id,
            format('block %s was signed and is gone, with its events from %s on', lost.number, lost.first_id)),
        (4, stored.tenant_id, stored.bad_id, stored.problem)
    ) as p (rank, tenant_id, id, problem)
    left join rotator_internal.tenant as t on t.tenant_id = p.tenant_id
    where p.id is not null
    order by p.id, p.rank
    limit 1;
    ok := first_bad_id is null;
    if ok then
        detail := format('%s blocks, %s of them signed', state.blocks, state.signed)
            || case when stored.compared then '' else '; values of encrypted fields not compared: no master key' end;
    end if;
    return next;
end
$$;

comment on function rotator.verify_audit(text) is
    'Verifies the audit log of the tenant; without one of the current tenant, or for rotator_auditor of all. checked events are '
    'as they were sealed; unsealed ones are too young; first_bad_id is the first that was changed, removed or inserted, and '
    'detail says which; an event whose stored values (audit_values) aren''t those it has the hashes of counts as changed. For '
    'auditor and admin. What it can''t see, a rewritten log without its signatures, rotator audit verify does.';
