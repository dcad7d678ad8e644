-- The engine's own state: when a tick last ran, whoever ran it. Not part of a dump: a restored database has not ticked.
-- Behaviour: api/tick.sql, read by api/doctor.sql. Covered by tests/tests/behaviour/{tick,tick_races}.rs.

create table rotator_internal.heartbeat (
    only_row boolean primary key default true check (only_row),
    last_tick_at timestamptz not null
) with (fillfactor = 50);

comment on table rotator_internal.heartbeat is 'When a tick last finished: how the sidecar knows whether pg_cron is alive.';
