#!/usr/bin/env bash
# Runs once, as user postgres, while the database image makes its cluster: the extensions, the login roles of sidecar and
# operators, and the schedule. The server's address and superuser are in PGHOST and PGUSER. Passwords come from
# ROTATOR_SERVE_PASSWORD and ROTATOR_OPS_PASSWORD (or files: …_FILE); a role without one can't log in until it has one.
set -euo pipefail

psql -X -q -v ON_ERROR_STOP=1 -d "$POSTGRES_DB" <<'SQL'
create extension pg_cron;
create extension rotator;

-- Nobody but who is named here gets into this database.
select format('revoke all on database %I from public', current_database()) \gexec
revoke create on schema public from public;

create role rotator_serve login in role rotator_sidecar;
create role rotator_ops login in role rotator_admin;
select format('grant connect on database %I to rotator_user, rotator_auditor, rotator_serve, rotator_ops', current_database()) \gexec
\getenv serve_password ROTATOR_SERVE_PASSWORD
\getenv ops_password ROTATOR_OPS_PASSWORD
select format('alter role rotator_serve password %L', :'serve_password') where :'serve_password' <> '' \gexec
select format('alter role rotator_ops password %L', :'ops_password') where :'ops_password' <> '' \gexec

-- The job belongs to who schedules it, and runs as that role.
grant usage on schema cron to rotator_ops;
set session authorization rotator_ops;
select rotator.enable_schedule() \g /dev/null
SQL

for role in SERVE OPS; do
  password=ROTATOR_${role}_PASSWORD
  if [[ -z ${!password} ]]; then
    printf 'rotator-postgres: no %s: rotator_%s can not log in before it has a password\n' "$password" "${role,,}" >&2
  fi
done
