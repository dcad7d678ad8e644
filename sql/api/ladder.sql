-- The ladder as a question: which one an alert begins with, what its steps are, whom each reaches, and when it is due. All
-- of it looks and changes nothing; taking steps is api/escalate.sql, and previews ask the same functions. A step's time is
-- a function of its anchor alone: of the last reminder, or of the expiry. A step that reaches nobody is passed over: the
-- next one takes its time. Tables: schema/escalation.sql. Covered by tests/tests/behaviour/{escalation,escalation_policy,escalation_change}.rs.

create or replace function rotator_internal.ladder_of(tenant uuid, secret uuid, priority text) returns uuid
language sql stable
begin atomic
    select coalesce(
        (select p.id
         from rotator_internal.escalation_choice as c
         join rotator_internal.escalation_policy as p
             on p.tenant_id = c.tenant_id and p.name = c.policy_name and p.is_current
         where c.tenant_id = tenant and c.secret_id = secret),
        (select p.id
         from rotator_internal.escalation_policy as p
         where p.tenant_id = tenant and p.is_current and priority = any (p.priorities)
         limit 1));
end;

comment on function rotator_internal.ladder_of(uuid, uuid, text) is
    'The policy that an alert of this secret begins with now: its own, else that of its priority; null: the built-in ladder.';

create or replace function rotator_internal.ladder_steps(tenant uuid, policy uuid, priority text)
returns table (
    step integer,
    anchor text,
    after interval,
    target text,
    channel text,
    recipient_id uuid,
    repeat_every interval,
    repeats integer,
    rule text)
language sql stable
begin atomic
    -- The times are also in rotator_internal.first_escalation.
    select
        b.step, b.anchor, b.after, b.target, null::text, null::uuid, null::interval, 0, 'escalation:built-in:' || b.step
    from (values
        (1, 'reminder', interval '4 hours', 'secondary_owner', false),
        (2, 'reminder', interval '8 hours', 'team_lead', false),
        (3, 'expiry', interval '24 hours', 'manager', true),
        (4, 'expiry', interval '24 hours', 'pagerduty', true)) as b (step, anchor, after, target, is_for_p1)
    where policy is null and (priority = 'P1' or not b.is_for_p1)
    union all
    select
        s.position, s.anchor, s.after, s.target, s.channel::text, s.recipient_id, s.repeat_every, s.repeats,
        'escalation:' || p.name || ':' || s.position
    from rotator_internal.escalation_policy as p
    join rotator_internal.escalation_step as s on s.tenant_id = p.tenant_id and s.policy_id = p.id
    where p.tenant_id = tenant and p.id = policy;
end;

comment on function rotator_internal.ladder_steps(uuid, uuid, text) is
    'The steps of a policy; without one those of the built-in ladder, which for P1 has two more.';

create or replace function rotator_internal.first_escalation(
    reminded timestamptz, priority text, overdue_from timestamptz, planned_apart boolean) returns timestamptz
language sql stable
return case
    when planned_apart then reminded
    when priority = 'P1' then least(reminded + interval '4 hours', overdue_from + interval '24 hours')
    else reminded + interval '4 hours'
end;

comment on function rotator_internal.first_escalation(timestamptz, text, timestamptz, boolean) is
    'When the tick must look at a ladder that begins: at the first step of the built-in one, or at once to work it out.';

create or replace function rotator_internal.ladder_instant(
    anchor_at timestamptz, after interval, zone text) returns timestamptz
language sql stable
return case
    when date_trunc('day', after) = interval '0' then anchor_at + after
    -- Days and months by the calendar of the zone, hours as they pass, whatever the session's zone is.
    else (((anchor_at at time zone zone) + date_trunc('day', after)) at time zone zone) + (after - date_trunc('day', after))
end;

comment on function rotator_internal.ladder_instant(timestamptz, interval, text) is
    'When a wait from this anchor is over, by the calendar of the zone.';

create or replace function rotator_internal.ladder_told(
    tenant uuid, s rotator_internal.secret, target text, only_channel text, named uuid)
returns table (addressee text, channel text, recipient_id uuid)
language sql stable
begin atomic
    -- Whoever gets a named recipient's message acts by its link as the owner, as with policies.
    select s.owner_id, only_channel, named
    where target = 'recipient'
    union all
    select c.owner_id, c.channel::text, c.recipient_id
    from rotator_internal.contact as c
    where c.tenant_id = tenant
      and c.owner_id = case target
          when 'owner' then s.owner_id
          when 'secondary_owner' then s.secondary_owner_id
          when 'team_lead' then s.team_lead_id
          when 'manager' then 'manager'
      end
      and (only_channel is null or c.channel = only_channel) and c.gone_at is null
    union all
    select c.owner_id, c.channel::text, c.recipient_id
    from rotator_internal.member as m
    join rotator_internal.contact as c on c.tenant_id = m.tenant_id and c.owner_id = m.subject
    where target = 'admins' and m.tenant_id = tenant and m.role = 'admin'
      and (only_channel is null or c.channel = only_channel) and c.gone_at is null
    union all
    select p.owner_id, p.channel, p.recipient_id
    from (
        select f.*, rank() over (order by f.place)
        from (
            select c.owner_id, c.channel::text as channel, c.recipient_id, who.place
            from (values (s.owner_id, 1), (s.team_lead_id, 2), ('manager', 3)) as who (subject, place)
            join rotator_internal.contact as c
                on c.tenant_id = tenant and c.owner_id = who.subject and c.channel = 'pagerduty' and c.gone_at is null
            where target = 'pagerduty'
            union all
            select c.owner_id, c.channel::text, c.recipient_id, 4
            from rotator_internal.member as m
            join rotator_internal.contact as c
                on c.tenant_id = m.tenant_id and c.owner_id = m.subject and c.channel = 'pagerduty' and c.gone_at is null
            where target = 'pagerduty' and m.tenant_id = tenant and m.role = 'admin'
        ) as f
    ) as p
    where p.rank = 1;
end;

comment on function rotator_internal.ladder_told(uuid, rotator_internal.secret, text, text, uuid) is
    'Whom a step reaches. Target pagerduty, of the built-in ladder: the first of owner, team lead, manager and admins who '
    'has a PagerDuty contact.';

create or replace function rotator_internal.ladder_rungs(
    tenant uuid,
    s rotator_internal.secret,
    policy uuid,
    reminded timestamptz,
    overdue_from timestamptz,
    zone text,
    windows boolean)
returns table (
    step integer,
    anchor text,
    due_at timestamptz,
    reaches boolean,
    target text,
    channel text,
    recipient_id uuid,
    repeat_every interval,
    repeats integer,
    rule text)
language sql stable
begin atomic
    -- Steps behind the same number of reaching ones are one run: the first that reaches somebody, and those passed over
    -- before it. Steps of the same time don't wait for each other.
    select
        r.step, r.anchor, min(r.own_at) over (partition by r.anchor, r.run), r.reaches, r.target, r.channel, r.recipient_id,
        r.repeat_every, r.repeats, r.rule
    from (
        select
            o.*,
            count(*) filter (where o.reaches) over (
                partition by o.anchor order by o.own_at groups between unbounded preceding and 1 preceding) as run
        from (
            -- In order, also where one counts hours of a window and the next whole days.
            select t.*, max(t.waited) over (partition by t.anchor order by t.step) as own_at
            from (
                select
                    l.*,
                    -- Working hours put nothing off that is due after the expiry in any case.
                    case
                        when h.in_hours
                        then rotator_internal.add_working_time(
                            h.anchor_at, l.after, tenant, greatest(h.anchor_at + l.after, s.expiry_date))
                        else rotator_internal.ladder_instant(h.anchor_at, l.after, zone)
                    end as waited,
                    exists (
                        select from rotator_internal.ladder_told(tenant, s, l.target, l.channel, l.recipient_id)) as reaches
                from rotator_internal.ladder_steps(tenant, policy, s.priority) as l
                cross join lateral (
                    select
                        case l.anchor when 'reminder' then reminded else overdue_from end as anchor_at,
                        windows and l.anchor = 'reminder' and l.after < interval '1 day' and s.priority <> 'P1'
                            and exists (
                                select from rotator_internal.delivery_window as w where w.tenant_id = tenant) as in_hours
                ) as h
            ) as t
        ) as o
    ) as r;
end;

comment on function rotator_internal.ladder_rungs(
    uuid, rotator_internal.secret, uuid, timestamptz, timestamptz, text, boolean) is
    'The steps of a ladder whose anchors are these instants: when each is due, and whether it reaches anybody.';

create or replace function rotator_internal.ladder_repeats(
    due_at timestamptz, repeat_every interval, repeats integer, zone text)
returns table (number integer, repeat_at timestamptz)
language sql stable
begin atomic
    select n.number, rotator_internal.ladder_instant(due_at, n.number * repeat_every, zone)
    from generate_series(1, repeats) as n (number);
end;

comment on function rotator_internal.ladder_repeats(timestamptz, interval, integer, text) is
    'The repeats of a step that was due then: the number of each, and when.';

create or replace function rotator_internal.steps_heard(
    a rotator_internal.alert, withdrawn uuid[])
returns table (reminder_step integer, overdue_step integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if withdrawn = '{}' or (a.escalation_step = 0 and coalesce(a.overdue_step, 0) = 0) then
        return;
    end if;
    -- Of a step that was withdrawn, and of no later one, anything was sent: it stands where it stood before that step.
    -- Planned each time, like all that looks for a secret's notifications.
    return query execute $sql$
        with rung as (
            select l.rule, l.anchor, l.step, lag(l.step, 1, 0) over (partition by l.anchor order by l.step) as step_before
            from rotator_internal.ladder_steps(($1).tenant_id, ($1).escalation_policy_id, 'P1') as l
        ),
        asked as (
            -- What was withdrawn before was taken again since, perhaps with a step that said it too. Suppressed for another
            -- reason: something more urgent said it.
            select r.anchor, r.step, r.step_before, n.id = any ($2) as is_withdrawn
            from rotator_internal.notifications_about(($1).tenant_id, ($1).secret_id) as n
            join rung as r on r.rule = n.rule
            where n.cycle = ($1).cycle and n.kind = 'escalation'
              and n.queued_at >= coalesce(($1).ladder_from, '-infinity')
              and (n.id = any ($2) or (n.state = 'cancelled' or (n.state = 'suppressed' and n.withdrawn_at is not null)) is not true)
        ),
        heard as (
            select
                k.anchor,
                greatest(max(k.step) filter (where not k.is_withdrawn), min(k.step_before) filter (where k.is_withdrawn)) as step
            from asked as k
            group by k.anchor
            having bool_or(k.is_withdrawn)
        )
        select
            least(($1).escalation_step, (select h.step from heard as h where h.anchor = 'reminder')),
            least(($1).overdue_step, (select h.step from heard as h where h.anchor = 'expiry'))
    $sql$ using a, withdrawn;
end
$$;

comment on function rotator_internal.steps_heard(rotator_internal.alert, uuid[]) is
    'The highest steps, from the reminder and from the expiry, of which somebody has heard or may still, now that these '
    'messages are withdrawn; no row when no step was taken, or nothing is withdrawn.';

create or replace function rotator_internal.steps_withdrawn_since(a rotator_internal.alert, since timestamptz) returns uuid[]
language sql stable
return case
    when a.escalation_step > 0 or a.overdue_step > 0 then array(
        select n.id
        from rotator_internal.notification as n
        where n.tenant_id = a.tenant_id and n.secret_id = a.secret_id and n.stage = 'cancelled'
          and n.cycle = a.cycle and n.kind = 'escalation'
          and greatest(n.withdrawn_at, (
            select max(d.finished_at)
            from rotator_internal.delivery_attempt as d
            where d.notification_id = n.id and d.tenant_id = n.tenant_id)) >= since)
    else '{}'
end;

comment on function rotator_internal.steps_withdrawn_since(rotator_internal.alert, timestamptz) is
    'Messages of steps that a worker held when they were withdrawn, and that came to nothing since then.';

create or replace function rotator_internal.after_pause(
    anchor_at timestamptz, acknowledged_at timestamptz, reopened_at timestamptz) returns timestamptz
language sql stable
return anchor_at + make_interval(secs => greatest(
    0, extract(epoch from reopened_at - greatest(acknowledged_at, anchor_at)))::double precision);

comment on function rotator_internal.after_pause(timestamptz, timestamptz, timestamptz) is
    'An anchor, put off by the time since it that an acknowledgement held: waiting doesn''t count while somebody is on it.';

create or replace function rotator_internal.before_pause(
    anchor_at timestamptz, acknowledged_at timestamptz, reopened_at timestamptz) returns timestamptz
language sql stable
return case
    when anchor_at < reopened_at
    then anchor_at - make_interval(secs => greatest(0, extract(epoch from reopened_at - acknowledged_at))::double precision)
    else anchor_at
end;

comment on function rotator_internal.before_pause(timestamptz, timestamptz, timestamptz) is
    'Where an anchor was before after_pause; one that came while the acknowledgement held, or later, stays where it is.';

create or replace function rotator_internal.ladder_ahead(
    tenant uuid, secret uuid, as_of timestamptz, reminded timestamptz default null)
returns table (at timestamptz, step integer, rule text, target text, channel text, recipient_id uuid)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    zone text := rotator_internal.zone_of(tenant);
    s rotator_internal.secret;
    a rotator_internal.alert;
    overdue timestamptz;
    reopened timestamptz;
begin
    select x.* into strict s
    from rotator_internal.secret as x
    where x.tenant_id = ladder_ahead.tenant and x.id = ladder_ahead.secret;
    select x.* into a
    from rotator_internal.alert as x
    where x.tenant_id = s.tenant_id and x.secret_id = s.id and x.cycle = s.cycle and x.state <> 'resolved';
    reminded := coalesce(a.reminded_at, reminded);
    if s.retired_at is not null or reminded is null then
        return;
    end if;
    if a.id is null then
        a.escalation_policy_id := rotator_internal.ladder_of(tenant, secret, s.priority);
        a.escalation_step := 0;
        a.overdue_step := 0;
    end if;
    overdue := coalesce(a.overdue_from, s.expiry_date);
    if a.state = 'acknowledged' then
        reopened := greatest(a.acknowledged_until, as_of, s.snoozed_until);
        overdue := rotator_internal.after_pause(overdue, a.acknowledged_at, reopened);
        reminded := rotator_internal.after_pause(reminded, a.acknowledged_at, reopened);
    end if;

    return query
    select greatest(o.due_at, s.snoozed_until, reopened), r.step, r.rule, r.target, r.channel, r.recipient_id
    from rotator_internal.ladder_rungs(
        tenant, s, a.escalation_policy_id, reminded, overdue, zone,
        exists (select from rotator_internal.delivery_window as w where w.tenant_id = ladder_ahead.tenant)) as r
    cross join lateral (
        select r.due_at
        where r.step > case r.anchor when 'reminder' then a.escalation_step else coalesce(a.overdue_step, 0) end
        union all
        select f.repeat_at
        from rotator_internal.ladder_repeats(r.due_at, r.repeat_every, r.repeats, zone) as f
        where f.repeat_at > greatest(coalesce(a.escalated_at, as_of), reopened)
          and f.number > coalesce((a.repeats_taken ->> r.step::text)::integer, 0)
    ) as o
    where r.reaches
    order by 1, 2;
end
$$;

comment on function rotator_internal.ladder_ahead(uuid, uuid, timestamptz, timestamptz) is
    'Every step that is to come if nobody acts, and when; an acknowledgement that holds runs out. reminded: when the last '
    'reminder will have gone, if it hasn''t yet.';
