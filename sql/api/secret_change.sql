-- What follows from a change of a secret that is in use: a moved date is announced anew and its ladder begins again, what
-- was queued for somebody who isn't responsible any more goes to whoever is, a new priority climbs its own steps. And
-- handing over everything that somebody is responsible for. The change itself: api/secret.sql.
-- Covered by tests/tests/behaviour/{reassign,escalation_change}.rs.

create or replace function rotator_internal.look_at_ladder(tenant uuid, secret uuid, cycle integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update rotator_internal.alert as a
    set next_escalation_at = clock_timestamp()
    where a.tenant_id = look_at_ladder.tenant and a.secret_id = look_at_ladder.secret and a.cycle = look_at_ladder.cycle
      and a.state = 'open' and a.reminded_at is not null;
end
$$;

comment on function rotator_internal.look_at_ladder(uuid, uuid, integer) is
    'Has the next tick work out anew where an open alert stands on its ladder.';

create or replace function rotator_internal.tell_new_owners(former rotator_internal.secret) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    s rotator_internal.secret;
    person text;
    withdrawn uuid[] := '{}';
    told record;
    queued record;
begin
    select x.* into strict s
    from rotator_internal.secret as x
    where x.tenant_id = former.tenant_id and x.id = former.id;
    for person in
        select distinct r.was
        from (values
            (former.owner_id, s.owner_id),
            (former.secondary_owner_id, s.secondary_owner_id),
            (former.team_lead_id, s.team_lead_id)) as r (was, becomes)
        where r.was is distinct from r.becomes and r.was is not null
        order by r.was
    loop
        withdrawn := withdrawn || rotator_internal.hush(s, 'cancelled', person);
    end loop;
    if withdrawn = '{}' then
        return;
    end if;

    select
        bool_or(n.kind = 'reminder' and n.rule <> 'reopened') as is_reminder,
        min(n.due_at) filter (where n.rule = 'reopened') as reopened_at,
        (array_agg(n.alert_id))[1] as alert_id
    into told
    from rotator_internal.notification as n
    where n.id = any (withdrawn) and n.tenant_id = s.tenant_id;
    if told.is_reminder then
        perform rotator_internal.plan(s.tenant_id, s.id);
    end if;
    perform rotator_internal.look_at_ladder(s.tenant_id, s.id, s.cycle);
    if told.reopened_at is not null then
        with queued_rows as (
            insert into rotator_internal.notification (
                tenant_id, secret_id, alert_id, cycle, kind, rule, due_at, channel, recipient_id, addressee)
            select
                s.tenant_id, s.id, told.alert_id, s.cycle, 'reminder', 'reopened', told.reopened_at, w.channel, w.recipient_id,
                w.addressee
            from rotator_internal.nobody_told(s.tenant_id, s.id) as w
            on conflict (tenant_id, secret_id, cycle, rule, step, due_at, channel, recipient_id) where stage <> 'cancelled'
            do nothing
            returning ctid as place, id, channel, rule
        ),
        audited as (
            insert into rotator_internal.audit_event (tenant_id, actor, source, action, entity, entity_id, changes)
            select
                s.tenant_id, 'rotator', 'engine', 'reminder.queued', 'secret', s.id::text,
                jsonb_build_object('notification', q.id, 'channel', q.channel, 'rule', q.rule)
            from queued_rows as q
        )
        select array_agg(q.place) as places, array_agg(q.id) as ids into queued
        from queued_rows as q;
        perform rotator_internal.put_off(queued.ids);
        perform rotator_internal.defer_queued(queued.places, clock_timestamp());
    end if;
end
$$;

comment on function rotator_internal.tell_new_owners(rotator_internal.secret) is
    'After the owners of a locked secret changed: what is queued for who was one is cancelled, and goes to who is one now. '
    'What was sent stays sent.';

create or replace function rotator_internal.follow_change(former rotator_internal.secret, changed text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tenant uuid := former.tenant_id;
    secret uuid := former.id;
begin
    if changed && array['owner_id', 'secondary_owner_id', 'team_lead_id'] then
        perform rotator_internal.tell_new_owners(former);
    end if;
    if 'expiry_date' = any (changed) then
        perform rotator_internal.cancel_queued(tenant, secret);
        -- The new date has reminders of its own; the ladder counts from the last of those.
        update rotator_internal.alert as a
        set reminded_at = null, overdue_from = null, escalation_step = 0, overdue_step = 0, escalated_at = null,
            repeats_taken = null,
            ladder_from = clock_timestamp(), next_escalation_at = null
        where a.tenant_id = tenant and a.secret_id = secret and a.cycle = former.cycle and a.state <> 'resolved';
    end if;
    if changed && array['expiry_date', 'rotation_interval'] then
        perform rotator_internal.plan(tenant, secret);
        perform rotator_internal.want_again(tenant, secret);
        -- Nothing is due any more: the alert was about the old date. The tick opens it again when the new one is.
        update rotator_internal.alert as a
        set state = 'resolved', resolved_at = clock_timestamp(), next_escalation_at = null
        from rotator_internal.secret as s
        where s.tenant_id = tenant and s.id = secret and s.expiring_soon_at > clock_timestamp()
          and a.tenant_id = s.tenant_id and a.secret_id = s.id and a.cycle = s.cycle and a.state <> 'resolved';
        if found then
            perform rotator_internal.cancel_queued(tenant, secret);
            perform rotator_internal.follow_alert(tenant, secret, former.cycle, 'resolve');
        end if;
    end if;
    if 'priority' = any (changed) then
        perform rotator_internal.look_at_ladder(tenant, secret, former.cycle);
        -- What has become a P1 doesn't wait for working hours.
        perform rotator_internal.look_again(tenant, secret);
    end if;
end
$$;

comment on function rotator_internal.follow_change(rotator_internal.secret, text[]) is
    'Brings reminders, alert and ladder of a locked secret in line with a change of these fields; former is how it was.';

create or replace function rotator.reassign_secrets(from_owner text, to_owner text) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('editor', 'admin');
    leaves text := rotator_internal.check_line('from_owner', from_owner, 255);
    follows text := rotator_internal.check_line('to_owner', to_owner, 255);
    theirs uuid[];
    one uuid;
    former rotator_internal.secret;
    reassigned integer := 0;
begin
    if leaves is null or follows is null then
        perform rotator_internal.refuse(
            '22023', 'from_owner and to_owner are both needed', 'Give the subjects of who leaves and of who follows.');
    elsif leaves = follows then
        perform rotator_internal.refuse('22023', 'from_owner and to_owner are the same', 'Give the subject of who follows.');
    end if;
    if not exists (
        select
        from rotator_internal.member as m
        where m.tenant_id = target and m.subject = follows and m.role is not null
    ) and not exists (
        select
        from rotator_internal.contact as c
        where c.tenant_id = target and c.owner_id = follows) then
        -- Whoever comes by a token alone is neither: no error.
        raise warning 'to_owner is neither a member of this tenant nor somebody with a contact'
            using hint = 'If it is a slip, hand over again, from that name to the right one. Else give it a contact with '
                'rotator.set_contact, or a role with rotator.add_member; until it has a contact, others are told instead.';
    end if;
    -- Not beside what goes over a whole tenant in another order (policies, hours), nor another of these.
    perform rotator_internal.lock_policies(target);
    theirs := array(
        select s.id
        from rotator_internal.secret as s
        where s.tenant_id = target and s.retired_at is null
          and (s.owner_id = leaves or s.secondary_owner_id = leaves or s.team_lead_id = leaves)
        order by s.id);
    foreach one in array theirs loop
        perform rotator_internal.lock_secret(target, one);
    end loop;
    perform
    from rotator_internal.alert as a
    where a.tenant_id = target and a.secret_id = any (theirs)
    order by a.secret_id, a.cycle
    for update;
    -- Of all of them by id, as whoever reports outcomes does: secret by secret the two could deadlock. Planned each time.
    execute $sql$
        select
        from rotator_internal.notification as n
        where n.tenant_id = $1 and n.secret_id = any ($2) and (n.stage = 'pending' or n.state = 'merged')
          and n.stage <> 'cancelled'
        order by n.id
        for update
    $sql$ using target, theirs;
    foreach one in array theirs loop
        former := rotator_internal.lock_secret(target, one);
        update rotator_internal.secret as s
        set owner_id = case when s.owner_id = leaves then follows else s.owner_id end,
            secondary_owner_id = case when s.secondary_owner_id = leaves then follows else s.secondary_owner_id end,
            team_lead_id = case when s.team_lead_id = leaves then follows else s.team_lead_id end,
            updated_at = clock_timestamp()
        where s.tenant_id = target and s.id = one and s.retired_at is null
          and (s.owner_id = leaves or s.secondary_owner_id = leaves or s.team_lead_id = leaves);
        if not found then
            continue; -- somebody was faster
        end if;
        perform rotator_internal.tell_new_owners(former);
        perform rotator_internal.record_event(
            target, 'secret.reassigned', 'secret', one::text,
            (select jsonb_object_agg(f.field, jsonb_build_object('old', leaves, 'new', follows))
             from (values
                ('owner_id', former.owner_id),
                ('secondary_owner_id', former.secondary_owner_id),
                ('team_lead_id', former.team_lead_id)) as f (field, was)
             where f.was = leaves));
        reassigned := reassigned + 1;
    end loop;
    return reassigned;
end
$$;

comment on function rotator.reassign_secrets(text, text) is
    'Hands over all secrets in use for which somebody is owner, secondary owner or team lead, and returns how many. What is '
    'queued for the one goes to the other; what was sent stays sent. A warning says when nobody in the tenant is known by the '
    'new name. For editors and admins. Errors: 22023.';
