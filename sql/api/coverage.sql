-- What nobody would be told about, or not in time: one row a secret in use and lack. Reminders find somebody in any case (a
-- stand-in, at last the operator's console); here it says where that is so. Nothing of its own is stored.
-- Who is told: api/queue.sql, api/ladder.sql. Covered by tests/tests/behaviour/coverage.rs.

create or replace view rotator.coverage
with (security_invoker = true)
as
select
    s.id as secret_id,
    rotator_internal.open_field(s.tenant_id, 'secret.name', s.id, s.name) as name,
    g.missing
from rotator_internal.secret as s
cross join lateral (
    select 'owner'
    from rotator_internal.member as m
    where m.tenant_id = s.tenant_id and m.subject = s.owner_id and m.role is null
    union all
    select 'contact'
    where not exists (
        select
        from rotator_internal.contact as c
        where c.tenant_id = s.tenant_id and c.owner_id = s.owner_id and c.gone_at is null)
    union all
    select 'policy'
    where not exists (
        select
        from rotator_internal.policies_of(s.tenant_id, s.id) as p)
    union all
    select 'escalation'
    where not exists (
        select
        from rotator_internal.ladder_steps(
            s.tenant_id, rotator_internal.ladder_of(s.tenant_id, s.id, s.priority), s.priority) as l
        cross join lateral rotator_internal.ladder_told(s.tenant_id, s, l.target, l.channel, l.recipient_id) as w)
) as g (missing)
where s.tenant_id = (select rotator.current_tenant()) and s.retired_at is null;

comment on view rotator.coverage is
    'Secrets in use about which nobody would be told, or only a stand-in: one row a secret and what is missing.';
comment on column rotator.coverage.missing is
    'owner: no member any more; contact: the owner has none, so a stand-in is told; policy: there is no reminder; '
    'escalation: no step of its ladder reaches anybody.';
