-- What nobody could be told by any way: it stands on the first of its chain (api/fallback.sql), in a view, in doctor() and
-- in engine_status(), which the sidecar looks at. It counts until somebody knows: until the secret is rotated, retired or
-- taken on, its tenant leaves, or the same person is reached about it after all. Covered by tests/tests/behaviour/undeliverable.rs.

create or replace function rotator_internal.give_up(notification uuid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    given_up record;
begin
    execute $sql$
        with recursive chain as (
            select n.tenant_id, n.id, n.fallback_of
            from rotator_internal.notification as n
            where n.id = $1
            union all
            select n.tenant_id, n.id, n.fallback_of
            from chain as c
            join rotator_internal.notification as n on n.id = c.fallback_of and n.tenant_id = c.tenant_id
        )
        update rotator_internal.notification as n
        set undeliverable_at = clock_timestamp()
        from chain as c
        where c.fallback_of is null and n.id = c.id and n.tenant_id = c.tenant_id and n.undeliverable_at is null
        returning n.tenant_id, n.id, n.kind, n.rule, n.channel, n.secret_id
    $sql$ into given_up using notification;
    if given_up.id is not null then
        perform rotator_internal.record_event(
            given_up.tenant_id, 'notification.undeliverable', 'notification', given_up.id::text,
            jsonb_strip_nulls(jsonb_build_object(
                'kind', given_up.kind, 'rule', given_up.rule, 'channel', given_up.channel, 'secret', given_up.secret_id)),
            'rotator', 'engine');
    end if;
end
$$;

comment on function rotator_internal.give_up(uuid) is
    'Notes on the first of a chain, of which this dead notification is the last, that nobody could be told.';

create or replace function rotator_internal.came_through(notifications uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute $sql$
        with recursive chain as (
            select n.tenant_id, n.id, n.fallback_of
            from rotator_internal.notification as n
            where n.id = any ($1) and n.state = 'sent'
            union
            select n.tenant_id, n.id, n.fallback_of
            from chain as c
            join rotator_internal.notification as n on n.id = c.fallback_of and n.tenant_id = c.tenant_id
        )
        update rotator_internal.notification as n
        set undeliverable_at = null
        from chain as c
        where n.id = c.id and n.tenant_id = c.tenant_id and n.undeliverable_at is not null
    $sql$ using notifications;
    execute $sql$
        update rotator_internal.notification as n
        set falls_back = false
        where n.id = any ($1) and n.state = 'sent' and n.falls_back
    $sql$ using notifications;
    execute $sql$
        update rotator_internal.notification as n
        set state = 'merged'
        from rotator_internal.notification as s
        where s.id = any ($1) and s.kind = 'summary' and s.state = 'sent' and n.merged_into = s.id and n.state = 'dead'
    $sql$ using notifications;
end
$$;

comment on function rotator_internal.came_through(uuid[]) is
    'A worker that was given up came back and had sent them after all: what was noted of their failure is taken back.';

create or replace function rotator_internal.is_undeliverable(n rotator_internal.notification) returns boolean
language sql stable
begin atomic
    select n.undeliverable_at is not null and case
        when n.kind in ('reminder', 'escalation') then exists (
            select
            from rotator_internal.secret as s
            join rotator_internal.alert as a on a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle
            where s.tenant_id = n.tenant_id and s.id = n.secret_id and s.cycle = n.cycle and s.retired_at is null
              and a.state = 'open'
        ) and not exists (
            select
            from rotator_internal.notification as o
            where o.tenant_id = n.tenant_id and o.secret_id = n.secret_id and o.cycle = n.cycle and o.stage <> 'cancelled'
              and o.addressee = n.addressee and o.sent_at > n.undeliverable_at
              -- What is printed where nobody was left to fall back on has told nobody.
              and (o.channel <> 'console' or o.fallback_of is null))
        else n.undeliverable_at > now() - interval '30 days'
    end;
end;

comment on function rotator_internal.is_undeliverable(rotator_internal.notification) is
    'Whether it reached nobody, and that still matters; what is about no open alert matters for 30 days.';

create or replace function rotator_internal.undeliverable_now(out undeliverable bigint, out undeliverable_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    select count(*), max(l.undeliverable_at) into undeliverable, undeliverable_at
    from (
        select n.undeliverable_at
        from rotator_internal.notification as n
        join rotator_internal.tenant as t on t.tenant_id = n.tenant_id and t.status = 'active'
        where n.undeliverable_at is not null and rotator_internal.is_undeliverable(n)
        order by n.undeliverable_at desc
        -- However bad it is, whoever asks each quarter of a minute gets an answer.
        limit 10000
    ) as l;
end
$$;

comment on function rotator_internal.undeliverable_now() is
    'How many notifications of tenants in use reached nobody, 10,000 at most, and when the latest was given up.';

create or replace view rotator.undeliverable
with (security_invoker = true)
as
select
    n.id,
    n.secret_id,
    rotator_internal.open_field(s.tenant_id, 'secret.name', s.id, s.name) as secret_name,
    n.kind,
    n.rule,
    n.addressee,
    n.channel::text as channel,
    n.due_at,
    n.queued_at,
    n.undeliverable_at,
    (select count(*)::integer from rotator_internal.kin(n)) as tried,
    n.last_error
from rotator_internal.notification as n
left join rotator_internal.secret as s on s.tenant_id = n.tenant_id and s.id = n.secret_id
where n.tenant_id = (select rotator.current_tenant()) and n.undeliverable_at is not null
  and rotator_internal.is_undeliverable(n);

comment on view rotator.undeliverable is
    'What nobody could be told, by any contact: mend the contact or the channel, and take the secret on.';
comment on column rotator.undeliverable.addressee is 'Whom it was meant for.';
comment on column rotator.undeliverable.channel is 'The first that was tried.';
comment on column rotator.undeliverable.tried is 'How many notifications of this were tried, to whomever: rotator.notifications has them.';
comment on column rotator.undeliverable.last_error is 'Of the first; rotator.explain_notifications has all.';
