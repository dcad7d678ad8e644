-- One row that says how the tenant stands: counts by status as in the list (api/secrets_view.sql), alerts, and two rates
-- of the last 90 days. Nothing of its own is stored. Covered by tests/tests/behaviour/overview.rs.

create or replace view rotator.overview
with (security_invoker = true)
as
select
    s.total,
    s.healthy,
    s.expiring_soon,
    s.overdue,
    a.acknowledged,
    a.unacknowledged_alerts,
    a.mean_time_to_acknowledge,
    r.on_time_rate
from (
    select
        count(*) as total,
        count(*) filter (where x.expiring_soon_at > now() and x.expiry_date > now()) as healthy,
        count(*) filter (where x.expiring_soon_at <= now() and x.expiry_date > now()) as expiring_soon,
        count(*) filter (where x.expiry_date <= now()) as overdue
    from rotator_internal.secret as x
    where x.tenant_id = (select rotator.current_tenant()) and x.retired_at is null
) as s
cross join (
    select
        count(*) filter (where x.state = 'acknowledged') as acknowledged,
        count(*) filter (where x.state = 'open') as unacknowledged_alerts,
        -- Taking it on again, after an acknowledgement ran out, doesn't count.
        avg(coalesce(x.first_acknowledged_at, x.acknowledged_at) - x.opened_at)
            filter (where coalesce(x.first_acknowledged_at, x.acknowledged_at) > now() - interval '90 days')
            as mean_time_to_acknowledge
    from rotator_internal.alert as x
    where x.tenant_id = (select rotator.current_tenant())
) as a
cross join (
    select avg((x.rotated_at <= x.due_date)::integer)::double precision as on_time_rate
    from rotator_internal.rotation as x
    where x.tenant_id = (select rotator.current_tenant()) and x.recorded_at > now() - interval '90 days'
) as r
where (select rotator.current_tenant()) is not null;

comment on view rotator.overview is
    'How the tenant stands: secrets in use by status, alerts, and over the last 90 days the mean time to acknowledge and '
    'the share of rotations on time (0 to 1); null when there were none.';
