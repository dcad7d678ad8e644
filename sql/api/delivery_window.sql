-- The hours in which people are told, by the clocks of the tenant's time zone: what a window may be, when it opens next,
-- and how much of a wait passes inside it. Open is what the clock on the wall shows: an hour that comes twice is open
-- twice, one that daylight saving skips isn't open at all. What waits for an opening: api/deferral.sql.
-- Table: schema/delivery_window.sql. Covered by tests/tests/behaviour/delivery_window.rs.

create or replace function rotator_internal.zone_change(first timestamptz, last timestamptz, zone text) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    before interval := (first at time zone zone) - (first at time zone 'UTC');
    low bigint := 0;
    high bigint := extract(epoch from last - first)::bigint;
    middle bigint;
    instant timestamptz;
begin
    if (last at time zone zone) - (last at time zone 'UTC') = before then
        return null;
    end if;
    while high - low > 1 loop
        middle := (low + high) / 2;
        instant := first + make_interval(secs => middle);
        if (instant at time zone zone) - (instant at time zone 'UTC') = before then
            low := middle;
        else
            high := middle;
        end if;
    end loop;
    return first + make_interval(secs => high);
end
$$;

comment on function rotator_internal.zone_change(timestamptz, timestamptz, text) is
    'The second in which the clocks of a zone change between two instants of a day; null when they don''t.';

create or replace function rotator_internal.open_hours(
    hours rotator_internal.delivery_window, zone text, day date, out opens_at timestamptz, out closes_at timestamptz)
returns setof record
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    first timestamptz := day::timestamp at time zone zone;
    last timestamptz := (day + 1)::timestamp at time zone zone;
    shift interval := (first at time zone zone) - (first at time zone 'UTC');
    change timestamptz;
    from_wall timestamp := day + hours.opens; -- 24:00 is the next day's midnight
    to_wall timestamp := day + hours.closes;
begin
    -- A zone may leave out a whole day.
    if last <= first or extract(isodow from day) <> all (hours.days) or day = any (hours.holidays) then
        return;
    end if;
    change := rotator_internal.zone_change(first, last - interval '1 second', zone);
    -- By offsets, so also on a day whose first hour is skipped: what the clocks don't show isn't open.
    if change is null then
        opens_at := greatest(first, (from_wall - shift) at time zone 'UTC');
        closes_at := least(last, (to_wall - shift) at time zone 'UTC');
        if opens_at < closes_at then
            return next;
        end if;
        return;
    end if;
    -- With the offset from before a change up to it, and with the one from after it.
    for opens_at, closes_at in
        select greatest(p.begins, (from_wall - p.shift) at time zone 'UTC'), least(p.ends, (to_wall - p.shift) at time zone 'UTC')
        from (values
            (first, change, shift),
            (change, last, (change at time zone zone) - (change at time zone 'UTC'))) as p (begins, ends, shift)
        order by p.begins
    loop
        if opens_at < closes_at then
            return next;
        end if;
    end loop;
end
$$;

comment on function rotator_internal.open_hours(rotator_internal.delivery_window, text, date) is
    'When the window is open on a day: none on a closed one; two stretches at most, on a day on which the clocks change.';

create or replace function rotator_internal.next_opening(instant timestamptz, tenant uuid) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    hours rotator_internal.delivery_window;
    zone text;
    day date;
    found_at timestamptz;
begin
    select w.* into hours
    from rotator_internal.delivery_window as w
    where w.tenant_id = next_opening.tenant;
    if hours.tenant_id is null or not isfinite(instant) then
        return instant;
    end if;
    zone := rotator_internal.zone_of(tenant);
    day := (instant at time zone zone)::date;
    -- As many days as the longest list of holidays can close.
    for ahead in 0 .. 7 + 7 * cardinality(hours.holidays) loop
        select min(greatest(o.opens_at, instant)) into found_at
        from rotator_internal.open_hours(hours, zone, day + ahead) as o
        where o.closes_at > instant;
        exit when found_at is not null;
    end loop;
    return found_at;
end
$$;

comment on function rotator_internal.next_opening(timestamptz, uuid) is
    'The first instant, from this one on, at which the tenant''s delivery window is open: this one if it is open, or if '
    'there is no window.';

create or replace function rotator_internal.add_wait(start timestamptz, wait interval, zone text) returns timestamptz
language sql stable
return rotator_internal.add_in_zone(start, date_trunc('day', wait), zone) + (wait - date_trunc('day', wait));

comment on function rotator_internal.add_wait(timestamptz, interval, text) is
    'start plus a wait: its days by the calendar of the zone, its hours as they pass.';

create or replace function rotator_internal.add_working_time(
    start timestamptz, wait interval, tenant uuid, latest timestamptz default null) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    hours rotator_internal.delivery_window;
    zone text;
    day date;
    left_over numeric := extract(epoch from wait);
    open_for numeric;
    stretch record;
begin
    select w.* into hours
    from rotator_internal.delivery_window as w
    where w.tenant_id = add_working_time.tenant;
    zone := rotator_internal.zone_of(tenant);
    if hours.tenant_id is null or left_over <= 0 or not isfinite(start) then
        return rotator_internal.add_wait(start, wait, zone);
    end if;
    day := (start at time zone zone)::date;
    -- A year, and no day after the latest end: all tenants' ticks ask this, and a window may be open a minute a week.
    for ahead in 0 .. least(366, extract(day from latest - start) + 2)::integer loop
        continue when extract(isodow from day + ahead) <> all (hours.days) or day + ahead = any (hours.holidays);
        for stretch in
            select greatest(o.opens_at, start) as opens_at, o.closes_at
            from rotator_internal.open_hours(hours, zone, day + ahead) as o
            where o.closes_at > start
        loop
            open_for := extract(epoch from stretch.closes_at - stretch.opens_at);
            if left_over <= open_for then
                return least(stretch.opens_at + make_interval(secs => left_over::double precision), latest);
            end if;
            left_over := left_over - open_for;
        end loop;
    end loop;
    return least(rotator_internal.add_wait(start + interval '366 days', wait, zone), latest);
end
$$;

comment on function rotator_internal.add_working_time(timestamptz, interval, uuid, timestamptz) is
    'The first instant by which the tenant''s delivery window has been open for that long since start: within a year, and no '
    'later than latest. Without a window: start plus the wait, by the calendar of the tenant''s zone.';

create or replace function rotator_internal.read_clock(field text, value jsonb) returns time
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if jsonb_typeof(value) = 'string' and value #>> '{}' ~ '^(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$' then
        return (value #>> '{}')::time;
    end if;
    perform rotator_internal.refuse('22023', format('%s is no time of day', field), 'Write it like 09:00; 24:00 ends a day.');
end
$$;

comment on function rotator_internal.read_clock(text, jsonb) is 'A time of day written HH:MM; else 22023.';

create or replace function rotator_internal.read_window(tenant uuid, hours jsonb) returns rotator_internal.delivery_window
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    week constant text[] := '{mon,tue,wed,thu,fri,sat,sun}';
    made rotator_internal.delivery_window;
    wrong text;
    named text;
    listed jsonb;
begin
    perform rotator_internal.refuse_secret('hours', hours::text);
    if jsonb_typeof(hours) <> 'object' then
        perform rotator_internal.refuse(
            '22023', 'hours must be a JSON object',
            'Like {"days": ["mon", "tue"], "from": "09:00", "to": "17:00", "holidays": ["2026-12-25"]}, or null for none.');
    end if;
    select min(k.key) into wrong
    from jsonb_object_keys(hours) as k (key)
    where k.key <> all ('{days,from,to,holidays}');
    if wrong is not null or not hours ?& '{days,from,to}' then
        perform rotator_internal.refuse(
            '22023',
            case when wrong is null then 'days, from or to is missing' else 'hours has an unknown key' end,
            'It has days, from and to, and may have holidays.');
    end if;

    made.tenant_id := tenant;
    listed := hours -> 'days';
    if jsonb_typeof(listed) = 'array' and jsonb_array_length(listed) <= 7 then
        made.days := array(
            select distinct array_position(week, lower(d.value #>> '{}'))::smallint
            from jsonb_array_elements(listed) as d
            order by 1);
    end if;
    if coalesce(cardinality(made.days), 0) = 0 or array_position(made.days, null) is not null then
        perform rotator_internal.refuse(
            '22023', 'days must be a list of weekdays', 'One or more of mon, tue, wed, thu, fri, sat and sun.');
    end if;
    made.opens := rotator_internal.read_clock('from', hours -> 'from');
    made.closes := rotator_internal.read_clock('to', hours -> 'to');
    if made.opens >= made.closes then
        perform rotator_internal.refuse(
            '22023', 'from must be earlier than to', 'A window lies within a day; the end of the day is 24:00.');
    end if;

    listed := coalesce(nullif(hours -> 'holidays', 'null'), '[]');
    if jsonb_typeof(listed) <> 'array' or jsonb_array_length(listed) > 1000 then
        perform rotator_internal.refuse(
            '22023', 'holidays must be a list of up to 1,000 dates', 'For example ["2026-12-25", "2027-01-01"].');
    end if;
    made.holidays := '{}';
    for named in select distinct d.value #>> '{}' as day from jsonb_array_elements(listed) as d order by day loop
        begin
            if named is null or named !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' then
                raise invalid_datetime_format;
            end if;
            made.holidays := made.holidays || named::date;
        exception
            when invalid_datetime_format or datetime_field_overflow then
                perform rotator_internal.refuse(
                    '22023', 'a holiday is no date', 'Dates are YYYY-MM-DD, for example 2026-12-25.');
        end;
    end loop;
    return made;
end
$$;

comment on function rotator_internal.read_window(uuid, jsonb) is 'A delivery window as it is given in JSON; else 22023.';

create or replace function rotator.set_delivery_window(hours jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    target uuid := rotator_internal.require_role('admin');
    given rotator_internal.delivery_window;
    removed boolean := hours is null or jsonb_typeof(hours) = 'null';
begin
    if not removed then
        given := rotator_internal.read_window(target, hours);
    end if;
    perform rotator_internal.lock_policies(target);
    delete from rotator_internal.delivery_window as w
    where w.tenant_id = target;
    if removed then
        if not found then
            return;
        end if;
    else
        insert into rotator_internal.delivery_window select given.*;
        if rotator_internal.next_opening(clock_timestamp(), target) > clock_timestamp() + interval '1 year' is not false then
            perform rotator_internal.refuse(
                '22023', 'the window would not open for a year', 'Leave out some of the holidays, or add a weekday.');
        end if;
    end if;

    -- Ladders are looked at again: their waits may count these hours. Before what waits, the order of whoever changes a
    -- secret's priority. Planned each time.
    execute $sql$
        update rotator_internal.alert as a
        set next_escalation_at = clock_timestamp()
        where a.tenant_id = $1 and a.state = 'open' and a.reminded_at is not null
    $sql$ using target;
    -- What waits, too: it may go now, or later than was thought.
    update rotator_internal.deferral as d
    set opens_at = clock_timestamp()
    where d.tenant_id = target and d.ended_at is null;
    perform rotator_internal.record_event(
        target, case when removed then 'delivery_window.removed' else 'delivery_window.set' end,
        'delivery_window', target::text,
        case when removed then '{}' else jsonb_build_object('hours', hours) end);
end
$$;

comment on function rotator.set_delivery_window(jsonb) is
    'Sets the hours in which people are told, by the clocks of the tenant''s time zone: {"days": ["mon", …], "from": "09:00", '
    '"to": "17:00", "holidays": ["2026-12-25"]}; null for always. What comes due outside waits for the next opening, but '
    'never until the expiry; P1 ignores it. For a tenant admin. Errors: 22023.';

create or replace view rotator.delivery_windows
with (security_invoker = true)
as
select
    array(
        select ('{mon,tue,wed,thu,fri,sat,sun}'::text[])[d.day]
        from unnest(w.days) with ordinality as d (day, place)
        order by d.place) as days,
    left(w.opens::text, 5) as opens,
    left(w.closes::text, 5) as closes,
    w.holidays
from rotator_internal.delivery_window as w
where w.tenant_id = (select rotator.current_tenant());

comment on view rotator.delivery_windows is 'The hours in which the tenant''s people are told; no row: always.';
