-- Ladders as people set them: named policies, by priority or for single secrets. A second call of a name makes a new
-- revision, which alerts to come begin with; what is under way keeps its own. Steps name people, never other policies, so a
-- ladder can't lead in circles. What steps do: api/ladder.sql, api/escalate.sql. Tables: schema/escalation.sql.
-- Covered by tests/tests/behaviour/{escalation_policy,escalation_policy_input}.rs.

create or replace function rotator_internal.read_wait(place text, field text, value jsonb) returns interval
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    said text := value #>> '{}';
    wait interval;
begin
    -- A bare number would be seconds.
    if jsonb_typeof(value) = 'string' and length(said) <= 100 and said ~ '[[:alpha:]:]' then
        begin
            wait := said::interval;
        exception
            when data_exception then
                wait := null;
        end;
    end if;
    if wait is null
        or extract(year from wait) < 0 or extract(month from wait) < 0 or extract(day from wait) < 0
        or extract(hour from wait) < 0 or extract(minute from wait) < 0 or extract(second from wait) < 0
        or wait > interval '3650 days' then
        perform rotator_internal.refuse(
            '22023', format('%s: %s is no time of up to 3650 days', place, field), 'Write it like "4 hours" or "1 day".');
    end if;
    return wait;
end
$$;

comment on function rotator_internal.read_wait(text, text, jsonb) is 'An interval of a step, not negative; else 22023.';

create or replace function rotator_internal.read_step(tenant uuid, place text, given jsonb)
returns rotator_internal.escalation_step
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    made rotator_internal.escalation_step;
    address text := given ->> 'recipient';
    told text := given ->> 'channel';
    problem text;
    advice text;
begin
    if jsonb_typeof(given) is distinct from 'object' then
        perform rotator_internal.refuse(
            '22023', format('%s is no object', place), 'Like {"after": "4 hours", "target": "secondary_owner"}.');
    elsif exists (
        select
        from jsonb_object_keys(given) as k (key)
        where k.key <> all ('{after,from,target,recipient,channel,repeat_every,repeats}')) then
        perform rotator_internal.refuse(
            '22023', format('%s has an unknown key', place),
            'A step has after, target or recipient, and may have from, channel, repeat_every and repeats.');
    end if;
    given := jsonb_strip_nulls(given);
    made.tenant_id := tenant;
    made.after := rotator_internal.read_wait(place, 'after', given -> 'after');
    made.anchor := coalesce(given ->> 'from', 'reminder');
    if made.anchor not in ('reminder', 'expiry') then
        perform rotator_internal.refuse(
            '22023', format('%s: from is neither reminder nor expiry', place),
            'after counts from the last reminder before the expiry, or from the expiry.');
    end if;

    if told is not null and told not in ('slack', 'email', 'pagerduty', 'webhook', 'console') then
        perform rotator_internal.refuse(
            '22023', format('%s: unknown channel', place), 'Channels are slack, email, pagerduty, webhook and console.');
    end if;
    made.channel := told;
    if (given ? 'target') = (given ? 'recipient') then
        perform rotator_internal.refuse(
            '22023', format('%s needs either a target or a recipient', place),
            'Targets are owner, secondary_owner, team_lead, manager and admins; a recipient has its channel.');
    elsif given ? 'recipient' then
        if told is null then
            perform rotator_internal.refuse('22023', format('%s: a recipient needs its channel', place), 'Give the channel as well.');
        end if;
        begin
            perform rotator_internal.check_address(told, address);
        exception
            when sqlstate '22023' then
                get stacked diagnostics problem = message_text, advice = pg_exception_hint;
                perform rotator_internal.refuse('22023', format('%s: %s', place, problem), advice);
        end;
        made.target := 'recipient';
        made.recipient_id := rotator_internal.intern_recipient(tenant, told, address);
    elsif given ->> 'target' not in ('owner', 'secondary_owner', 'team_lead', 'manager', 'admins') then
        perform rotator_internal.refuse(
            '22023', format('%s: unknown target', place),
            'Targets are owner, secondary_owner, team_lead, manager and admins; a step names people, not another policy.');
    else
        made.target := given ->> 'target';
    end if;

    made.repeats := 0;
    if given ? 'repeat_every' or given ? 'repeats' then
        made.repeat_every := rotator_internal.read_wait(place, 'repeat_every', given -> 'repeat_every');
        if made.repeat_every < interval '1 minute' then
            perform rotator_internal.refuse(
                '22023', format('%s: repeat_every is less than a minute', place), 'Write it like "1 hour".');
        elsif jsonb_typeof(given -> 'repeats') is distinct from 'number'
            or (given ->> 'repeats') !~ '^[0-9]{1,3}$' or (given ->> 'repeats')::integer not between 1 and 100 then
            perform rotator_internal.refuse(
                '22023', format('%s: repeats must be a number from 1 to 100', place),
                'How often it is told again, repeat_every apart.');
        end if;
        made.repeats := (given ->> 'repeats')::integer;
    end if;
    return made;
end
$$;

comment on function rotator_internal.read_step(uuid, text, jsonb) is 'A step of a ladder as it is given in JSON; else 22023.';

create or replace function rotator_internal.read_priorities(given text[]) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.refuse_secret('priorities', array_to_string(given, ' '));
    if exists (
        select from unnest(given) as p (priority) where upper(p.priority) in ('P1', 'P2', 'P3', 'P4') is not true) then
        perform rotator_internal.refuse(
            '22023', 'priorities must be of P1, P2, P3 and P4', 'Leave them out for a policy that single secrets use.');
    end if;
    return array(select distinct upper(p.priority) from unnest(given) as p (priority) order by 1);
end
$$;

comment on function rotator_internal.read_priorities(text[]) is 'Priorities in order, each once; else 22023.';

create or replace function rotator_internal.read_ladder_name(name text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    called text := case when btrim(name) <> '' then rotator_internal.check_line('name', name, 63) end;
begin
    if called is null then
        perform rotator_internal.refuse(
            '22023', 'name is missing', 'Give the policy a name, for example payments; the same name again makes its next revision.');
    elsif called !~ '^[A-Za-z0-9][A-Za-z0-9 _.-]*$' or lower(called) = 'built-in' then
        perform rotator_internal.refuse(
            '22023', 'name must be letters, digits, spaces and _ . - between them, and not built-in', 'For example: payments.');
    end if;
    return called;
end
$$;

comment on function rotator_internal.read_ladder_name(text) is 'The name of a policy; else 22023.';

create or replace function rotator.set_escalation_policy(
    name text, steps jsonb, priorities text[] default null) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('admin');
    called text := rotator_internal.read_ladder_name(name);
    wanted text[] := rotator_internal.read_priorities(priorities);
    made uuid := rotator_internal.uuid_v7();
    next_revision integer;
    rung rotator_internal.escalation_step;
    rungs rotator_internal.escalation_step[] := '{}';
    taken_over jsonb;
    described jsonb;
    addresses jsonb;
begin
    if steps is null or jsonb_typeof(steps) <> 'array' or jsonb_array_length(steps) not between 1 and 50 then
        perform rotator_internal.refuse(
            '22023', 'steps must be a JSON array of 1 to 50 steps',
            'Like [{"after": "4 hours", "target": "secondary_owner"}, {"after": "1 day", "target": "team_lead"}].');
    end if;
    perform rotator_internal.lock_policies(target);
    for place in 1 .. jsonb_array_length(steps) loop
        rung := rotator_internal.read_step(target, 'step ' || place, steps -> (place - 1));
        rung.policy_id := made;
        rung.position := place;
        if exists (
            select from unnest(rungs) as r where r.anchor = rung.anchor and r.after > rung.after) then
            perform rotator_internal.refuse(
                '22023', format('step %s comes before an earlier step', place), 'Give the steps in the order of their times.');
        end if;
        rungs := rungs || rung;
    end loop;

    with others as (
        update rotator_internal.escalation_policy as p
        set priorities = array(select q.priority from unnest(p.priorities) as q (priority) where q.priority <> all (wanted))
        where p.tenant_id = target and p.is_current and p.name <> called and p.priorities && wanted
        returning p.name
    )
    select jsonb_agg(o.name order by o.name) into taken_over
    from others as o;
    select coalesce(max(p.revision), 0) + 1 into next_revision
    from rotator_internal.escalation_policy as p
    where p.tenant_id = target and p.name = called;
    update rotator_internal.escalation_policy as p
    set is_current = false
    where p.tenant_id = target and p.name = called and p.is_current;
    insert into rotator_internal.escalation_policy (tenant_id, id, name, revision, priorities)
    values (target, made, called, next_revision, wanted);
    insert into rotator_internal.escalation_step
    select r.* from unnest(rungs) as r;

    select
        jsonb_strip_nulls(jsonb_build_object(
            'name', called, 'revision', next_revision, 'priorities', to_jsonb(wanted), 'taken_over_from', taken_over,
            'steps', jsonb_agg(
                case when s.step ? 'recipient' then s.step || '{"recipient": "set"}' else s.step end order by s.place))),
        jsonb_object_agg(
            format('steps.%s.recipient', s.place),
            jsonb_build_object('new', s.step -> 'recipient', 'channel', s.step -> 'channel')) filter (where s.step ? 'recipient')
    into described, addresses
    from (
        select jsonb_strip_nulls(e.step) as step, e.place
        from jsonb_array_elements(steps) with ordinality as e (step, place)
    ) as s;
    if addresses is null then
        perform rotator_internal.record_event(
            target, 'escalation_policy.set', 'escalation_policy', made::text, described);
    else
        perform rotator_internal.record_event_with_values(
            target, 'escalation_policy.set', 'escalation_policy', made::text, described, addresses);
    end if;
    return made;
end
$$;

comment on function rotator.set_escalation_policy(text, jsonb, text[]) is
    'Makes a ladder, or the next revision of it, and returns its id: 1 to 50 steps like {"after": "4 hours", "target": '
    '"secondary_owner"}. after counts from the last reminder before the expiry, or with "from": "expiry" from that; targets '
    'are owner, secondary_owner, team_lead, manager and admins, or a recipient with its channel; optional channel, '
    'repeat_every and repeats. priorities: those that it is for from now on. Alerts that are open keep the revision they '
    'began with. For a tenant admin. Errors: 22023, naming the step.';

create or replace function rotator_internal.current_ladder(tenant uuid, called text) returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_id uuid;
begin
    select p.id into found_id
    from rotator_internal.escalation_policy as p
    where p.tenant_id = current_ladder.tenant and p.name = called and p.is_current;
    if found_id is null then
        perform rotator_internal.refuse(
            'PT404', 'no such escalation policy', 'List them with select name from rotator.escalation_policies;');
    end if;
    return found_id;
end
$$;

comment on function rotator_internal.current_ladder(uuid, text) is 'The current revision of a policy; else PT404.';

create or replace function rotator.use_escalation_policy(secret_id uuid, name text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('admin');
    called text := rotator_internal.check_line('name', name, 63);
    locked rotator_internal.secret;
    changed integer;
begin
    perform rotator_internal.lock_policies(target);
    locked := rotator_internal.lock_secret(target, secret_id);
    perform rotator_internal.refuse_retired(locked);
    if called is null then
        delete from rotator_internal.escalation_choice as c
        where c.tenant_id = target and c.secret_id = locked.id;
    else
        perform rotator_internal.current_ladder(target, called);
        insert into rotator_internal.escalation_choice as c (tenant_id, secret_id, policy_name)
        values (target, locked.id, called)
        on conflict on constraint escalation_choice_pkey do update
        set policy_name = excluded.policy_name
        where c.policy_name <> excluded.policy_name;
    end if;
    get diagnostics changed = row_count;
    if changed > 0 then
        perform rotator_internal.record_event(
            target, 'secret.escalation_policy', 'secret', locked.id::text, jsonb_build_object('policy', called));
    end if;
end
$$;

comment on function rotator.use_escalation_policy(uuid, text) is
    'Has a secret''s alerts begin with this ladder; null: with that of its priority again. An alert that is open keeps its '
    'own. For a tenant admin. Errors: PT404, PT409 retired.';

create or replace function rotator.remove_escalation_policy(name text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('admin');
    called text := rotator_internal.check_line('name', name, 63);
    removed uuid;
    left_over integer;
begin
    perform rotator_internal.lock_policies(target);
    removed := rotator_internal.current_ladder(target, called);
    update rotator_internal.escalation_policy as p
    set is_current = false
    where p.tenant_id = target and p.id = removed;
    delete from rotator_internal.escalation_choice as c
    where c.tenant_id = target and c.policy_name = called;
    get diagnostics left_over = row_count;
    perform rotator_internal.record_event(
        target, 'escalation_policy.removed', 'escalation_policy', removed::text,
        jsonb_build_object('name', called, 'secrets', left_over));
end
$$;

comment on function rotator.remove_escalation_policy(text) is
    'Removes a ladder: alerts to come begin with that of their priority, or the built-in one; those that are open keep it. '
    'For a tenant admin. Errors: PT404.';

create or replace view rotator.escalation_policies
with (security_invoker = true)
as
select
    p.id,
    p.name,
    p.revision,
    p.priorities,
    (
        select jsonb_agg(
            jsonb_strip_nulls(jsonb_build_object(
                'after', s.after::text,
                'from', s.anchor,
                'target', nullif(s.target, 'recipient'),
                'channel', s.channel,
                'recipient_hint', rotator_internal.recipient_hint(
                    s.channel::text, rotator_internal.open_field(r.tenant_id, 'recipient.address', r.id, r.address)),
                'repeat_every', s.repeat_every::text,
                'repeats', nullif(s.repeats, 0)))
            order by s.position)
        from rotator_internal.escalation_step as s
        left join rotator_internal.recipient as r on r.tenant_id = s.tenant_id and r.id = s.recipient_id
        where s.tenant_id = p.tenant_id and s.policy_id = p.id
    ) as steps,
    (
        select count(*)
        from rotator_internal.escalation_choice as c
        where c.tenant_id = p.tenant_id and c.policy_name = p.name
    ) as secrets,
    p.created_at
from rotator_internal.escalation_policy as p
where p.tenant_id = (select rotator.current_tenant()) and p.is_current;

comment on view rotator.escalation_policies is
    'Ladders that alerts begin with. Where none is for a priority: 4 hours to the secondary owner, 8 hours to the team lead, '
    'and for P1 24 hours after the expiry to the manager and to PagerDuty.';
