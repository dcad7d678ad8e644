#!/usr/bin/env bash
# The whole product on one screen: sets up, builds, starts a private cluster, loads real input for two tenants, lets
# pg_cron tick and the sidecar deliver to the console, then shows what was delivered, what people do about it, and stays
# (Ctrl-C stops all).
# ONCE=1 prints a summary instead, stops all, and succeeds only if all that was due was delivered.
# With ROTATOR_SLACK_BOT_TOKEN and DEMO_SLACK_CHANNEL, or ROTATOR_SMTP_URL and DEMO_EMAIL, one owner is also told there.
set -euo pipefail
source "$(dirname "$0")/root.sh"
enter_root "$0" "$@"
source "$ROOT/scripts/private_pg.sh"

work=$TARGET/demo
outbox=$work/outbox.log # the console channel: what people were told
log=$work/sidecar.log
tenants=(acme globex)
sidecar=

stop_all() {
  trap - EXIT
  if [[ -n $sidecar ]] && kill -TERM "$sidecar" 2>/dev/null; then wait "$sidecar" || true; fi
  rm -f "$work/sidecar.pid"
  stop_cluster demo fast || true
}

# What an earlier demo left running, if it was killed.
stop_earlier() {
  local old
  old=$(cat "$work/sidecar.pid" 2>/dev/null || true)
  if [[ -n $old && $(readlink "/proc/$old/exe" 2>/dev/null) = "$TARGET/release/rotator"* ]]; then
    kill -TERM "$old" 2>/dev/null || true
  fi
  remove_cluster demo
  rm -rf "$work"
  mkdir -p "$work"
}

# ---- a cluster with the extension, two tenants, people ----

password() { head -c 16 /dev/urandom | base64 | tr -dc 'a-zA-Z0-9'; }

start_server() {
  say "starting a private PostgreSQL $PG"
  create_cluster demo --cron-database demo --no-master-key
  "$TARGET/release/rotator" keys new-master | write_master_key demo
  start_cluster demo
  cluster_psql postgres -c 'create database demo'
  cluster_psql demo -c 'create extension pg_cron' -c 'create extension rotator'
  note "$(psql_command demo)"
}

# A login role of the demo, and its password as the variable password_NAME.
make_login() {
  local secret
  secret=$(password)
  printf -v "password_$1" '%s' "$secret"
  cluster_psql demo <<<"create role $1 login password '$secret' in role $2;"
}

make_people() {
  say "two tenants, acme in Berlin and globex in New York, and the people in them"
  make_login demo_operator rotator_admin
  make_login demo_sidecar rotator_sidecar
  make_login acme_admin rotator_user
  make_login globex_admin rotator_user
  cluster_psql demo -c 'grant usage on schema cron to demo_operator'
  as_operator >/dev/null <<'SQL'
select rotator.create_tenant('acme', 'Acme GmbH', 'Europe/Berlin');
select rotator.create_tenant('globex', 'Globex Inc.', 'America/New_York');
select rotator.add_member('db:acme_admin', 'admin', 'acme');
select rotator.add_member('db:globex_admin', 'admin', 'globex');
select rotator.add_member('nina@acme.example', 'editor', 'acme');
select rotator.add_member(name || '@globex.example', 'editor', 'globex')
from unnest(array['priya', 'tom', 'mei', 'alex', 'ines', 'noor']) as name;
select rotator.use_tenant('acme');
select rotator.set_contact('nina@acme.example', 'console', 'Nina, Acme platform team');
select rotator.use_tenant('globex');
select rotator.set_contact(name || '@globex.example', 'console', initcap(name) || ', Globex')
from unnest(array['priya', 'tom', 'mei', 'alex', 'ines', 'noor']) as name;
SQL
  if [[ -n ${ROTATOR_SLACK_BOT_TOKEN:-} && -n ${DEMO_SLACK_CHANNEL:-} ]]; then
    add_contact slack "$DEMO_SLACK_CHANNEL"
  fi
  if [[ -n ${ROTATOR_SMTP_URL:-} && -n ${DEMO_EMAIL:-} ]]; then add_contact email "$DEMO_EMAIL"; fi
}

add_contact() {
  note "priya@globex.example is also told by $1"
  as_operator -v channel="$1" -v recipient="$2" >/dev/null <<'SQL'
select rotator.use_tenant('globex');
select rotator.set_contact('priya@globex.example', :'channel', :'recipient');
SQL
}

as_operator() { ROLE=demo_operator cluster_psql demo -A -t "$@"; }

# The address of the database for a login role, over TCP and with its password.
database_url() {
  local secret=password_$1
  printf 'postgres://%s:%s@127.0.0.1:%s/demo' "$1" "${!secret}" "$PORT"
}

# as_rotator ROLE command…: the command line tool as that login role.
as_rotator() {
  ROTATOR_DATABASE_URL=$(database_url "$1") "$TARGET/release/rotator" "${@:2}"
}

# ---- real input ----

load_secrets() {
  local bundle=/etc/ssl/certs/ca-certificates.crt
  if [[ ! -f $bundle ]]; then bundle=/etc/pki/tls/certs/ca-bundle.crt; fi
  say "acme: every certificate of $bundle"
  as_rotator acme_admin secrets import --certs "$bundle" --owner nina@acme.example --environment trust-store |
    tee "$work/acme.txt" | tail -n 3
  say "globex: the calendar of tests/data/calendar.csv, its dates counted from today"
  "$ROOT/scripts/calendar.sh" "$ROOT/tests/data/calendar.csv" >"$work/calendar.csv"
  as_rotator globex_admin secrets import "$work/calendar.csv" | tee "$work/globex.txt" | tail -n 3
}

# ---- the tick, by pg_cron itself ----

ticked_since() {
  [[ $(cluster_psql demo -A -t -c "select count(*) from cron.job_run_details
    where command = 'call rotator.run_tick()' and status = 'succeeded' and start_time > '$1'") != 0 ]]
}

wait_for_cron() {
  local since
  as_operator -c 'select rotator.enable_schedule()' >/dev/null
  since=$(cluster_psql demo -A -t -c 'select clock_timestamp()')
  say "pg_cron runs call rotator.run_tick() each minute; the next is in $((60 - 10#$(date +%S))) seconds"
  wait_for 130 ticked_since "$since" || {
    cluster_psql demo -c "select start_time, status, return_message from cron.job_run_details order by 1 desc limit 3" >&2
    die "pg_cron did not run the tick" "the server's log is $LOG"
  }
  note "it ran, as login role demo_operator"
}

# ---- the sidecar ----

# Whether it says that it is ready, without needing a tool that may not be there.
ready() (
  exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
  printf 'GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
  read -r -t 5 _ status _ <&3 && [[ $status = 200 ]]
)

start_sidecar() {
  local port=8080
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  export ROTATOR_LISTEN=127.0.0.1:$port ROTATOR_PUBLIC_URL=http://127.0.0.1:$port
  say "starting the sidecar on $ROTATOR_PUBLIC_URL"
  if [[ -n ${ROTATOR_SMTP_URL:-} ]]; then export ROTATOR_EMAIL_FROM=${ROTATOR_EMAIL_FROM:-rotator@globex.example}; fi
  ROTATOR_DATABASE_URL=$(database_url demo_sidecar) "$TARGET/release/rotator" serve >"$outbox" 2>"$log" &
  sidecar=$!
  printf '%s\n' "$sidecar" >"$work/sidecar.pid"
  wait_for 30 ready "$port" || {
    tail -n 20 "$log" >&2
    die "the sidecar did not get ready" "its log is $log"
  }
}

# ---- what came of it ----

# The tenant's numbers: registered, healthy, expiring soon, overdue, queued, delivered, failed, pending.
numbers() {
  as_operator -F ' ' -v tenant="$1" <<'SQL'
select rotator.use_tenant(:'tenant') \g /dev/null
select o.total, o.healthy, o.expiring_soon, o.overdue, n.*
from rotator.overview as o
cross join (
  select count(*), count(*) filter (where state = 'sent'), count(*) filter (where state = 'dead'),
    count(*) filter (where state in ('queued', 'leased', 'retry', 'deferred'))
  from rotator.notifications
  where state <> 'merged') as n; -- a summary speaks for those
SQL
}

nothing_pending() {
  local tenant
  for tenant in "${tenants[@]}"; do
    [[ $(numbers "$tenant" | awk '{ print $8 }') = 0 ]] || return 1
  done
}

summary() {
  local tenant
  for tenant in "${tenants[@]}"; do
    printf '%s ' "$tenant"
    numbers "$tenant"
  done | awk '
    function line(name, n) {
      printf "%-8s %10d %8d %13d %8d %20d %10d %7d\n", name, n[2], n[3], n[4], n[5], n[6], n[7], n[8]
    }
    BEGIN { printf "%-8s %10s %8s %13s %8s %20s %10s %7s\n", "", "registered", "healthy", "expiring soon", "overdue",
      "notifications queued", "delivered", "failed" }
    { for (i = 2; i <= NF; i++) { row[i] = $i; all[i] += $i } line($1, row) }
    END { line("total", all); exit !(all[6] > 0 && all[7] == all[6] && all[8] == 0) }'
}

show_delivered() {
  say "delivered to the console ($outbox):"
  cat "$outbox"
  printf '\n'
  say "open a link in a browser: it shows what it is about, and changes nothing until you choose"
  { grep -oE "$ROTATOR_PUBLIC_URL/a/[A-Za-z0-9_-]+" "$outbox" || true; } | awk '!seen[$0]++' | head -n 3 | sed 's/^/    /'
  say "look around as a member of one tenant (globex_admin, or acme_admin for the other):"
  printf '    psql "host=%s port=%s user=globex_admin dbname=demo"\n' "$SOCKET" "$PORT"
  printf '    select name, status, days_until_expiry, owner_id from rotator.secrets order by expiry_date limit 20;\n'
  printf '    select rotator.mark_rotated(id) from rotator.secrets where name = '\''stripe-prod-key-2026'\'';\n'
  printf '    export ROTATOR_DATABASE_URL="host=%s port=%s user=globex_admin dbname=demo" # for %s\n\n' \
    "$SOCKET" "$PORT" "$TARGET/release/rotator"
}

# ---- what people do about it ----

# run_as ROLE ARGUMENT…: shows the command, and what it prints.
run_as() {
  local word
  printf '    $ rotator'
  for word in "${@:2}"; do
    if [[ $word = *[!a-zA-Z0-9.,:/_-]* ]]; then word="'$word'"; fi
    printf ' %s' "$word"
  done
  printf '\n'
  as_rotator "$@" | sed 's/^/    /'
  printf '\n'
}

show_people() {
  local expiring
  say "globex: why somebody was told, and what comes next if nobody acts"
  run_as globex_admin secrets explain stripe-webhook-endpoint
  run_as globex_admin secrets preview rds-master-password
  say "globex: about what nobody would hear if its owner stays silent"
  run_as globex_admin secrets coverage
  say "acme: a ladder, hours in which people are told, and a certificate that can wait"
  echo '[{"after": "4 hours", "target": "owner"}, {"after": "1 day", "from": "expiry", "target": "admins"}]' >"$work/ladder.json"
  run_as acme_admin escalation set certificates "$work/ladder.json" --priority p1,p2,p3
  run_as acme_admin escalation list
  run_as acme_admin window set --days mon-fri --from 08:00 --to 18:00
  expiring=$(as_operator <<'SQL'
select rotator.use_tenant('acme') \g /dev/null
select name from rotator.search_secrets(status => 'expiring_soon', max_rows => 1);
SQL
  )
  if [[ -n $expiring ]]; then
    run_as acme_admin secrets snooze "$expiring" --until "$(date -d '+2 days' +%F)" --reason 'the new one is ordered'
    run_as acme_admin secrets preview "$expiring"
  fi
}

"$ROOT/scripts/setup.sh" demo
choose_postgres
"$ROOT/scripts/build.sh"
install_private
stop_earlier
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
start_server
make_people
load_secrets
wait_for_cron
start_sidecar
delivered=yes
wait_for 180 nothing_pending || delivered=no

show_delivered
show_people
complete=yes
summary || complete=no

if [[ -n ${ONCE:-} && ${ONCE:-} != 0 ]]; then
  [[ $delivered = yes && $complete = yes ]] || die "not all that was due was delivered" "the sidecar's log is $log"
  say "all that was due was delivered"
  exit 0
fi

say "running; new reminders appear below, Ctrl-C stops everything"
tail -n 0 -F --pid "$sidecar" "$outbox" 2>/dev/null &
wait "$sidecar" || die "the sidecar ended" "$(tail -n 5 "$log")"
