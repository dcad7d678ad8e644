#!/usr/bin/env bash
# Builds both images with buildah and lives with what was built: first start, roles, pg_cron's tick, a reminder through
# the sidecar to its console, health checks, stop signals, a second start with and without the master key. Where no
# registry can be reached the bases are made by debootstrap. Needs root and buildah: else it says so and is skipped.
# Takes 5 to 12 minutes; containers, data and secrets of the check are removed, images and the build's cache stay.
#   scripts/image_check.sh [--no-build]
set -euo pipefail
source "$(dirname "$0")/lib.sh"

skip() {
  printf 'skipped: the images were not built and checked: %s\n' "$1"
  exit 0
}
command -v buildah >/dev/null || skip "buildah is not installed (apt-get install buildah)"
((EUID == 0)) || skip "it needs root"

version=$(extension_version)
work=$TARGET/image/check
database=rotator-check-database-$$
sidecar=rotator-check-sidecar-$$
port=$((20000 + RANDOM % 5000))
page_port=$((port + 5000))

ok() { printf 'ok: %s\n' "$*"; }
fail() { die "$@" "the log of the database: $(tail -n 5 "$work/database.log" 2>/dev/null)" "of the sidecar: $(tail -n 5 "$work/sidecar.log" 2>/dev/null)"; }

# ---- containers: buildah runs a command in one, with the image's settings but its entry point ----

# config IMAGE 'go template': from the image's own settings.
config() { buildah inspect --type image --format "{{$2}}" "$1"; }

in_database() { buildah run --isolation chroot "${mounts[@]}" "${@:1:$#-1}" "$database" -- bash -c "${!#}"; }

# Starts the database as an engine would: entry point and command of the image, as its user.
start_database() {
  buildah run --isolation chroot "$@" --env PGPORT="$port" "$database" -- \
    rotator-postgres postgres -c port="$port" -c listen_addresses=127.0.0.1 >>"$work/database.log" 2>&1 &
  database_job=$!
}

start_sidecar() {
  buildah run --isolation chroot -v "$work/secrets/rotator_database_url:/run/secrets/rotator_database_url:ro" \
    --env ROTATOR_DATABASE_URL_FILE=/run/secrets/rotator_database_url --env ROTATOR_LISTEN="0.0.0.0:$page_port" \
    "$sidecar" -- rotator serve >"$work/console.log" 2>"$work/sidecar.log" &
  sidecar_job=$!
}

postmaster() { head -n 1 "$work/data/17/main/postmaster.pid" 2>/dev/null; }
sidecar_process() {
  local process
  for process in /proc/[0-9]*; do
    if [[ $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) = "/usr/local/bin/rotator serve " ]] &&
      tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "ROTATOR_LISTEN=0.0.0.0:$page_port"; then
      printf '%s\n' "${process#/proc/}"
      return
    fi
  done
}

database_healthy() { in_database --env PGPORT="$port" 'rotator-postgres healthcheck' >/dev/null 2>&1; }
sidecar_healthy() {
  buildah run --isolation chroot --env ROTATOR_LISTEN="0.0.0.0:$page_port" "$sidecar" -- rotator healthcheck >"$work/health.log" 2>&1
}
# Or it ended: then there is nothing to wait for.
database_settled() { database_healthy || gone "$database_job"; }
sidecar_settled() { sidecar_healthy || gone "$sidecar_job"; }
gone() { ! kill -0 "$1" 2>/dev/null; }

clean_up() {
  trap - EXIT
  local process
  for process in "$(sidecar_process)" "$(postmaster)"; do
    if [[ -n $process ]]; then kill -QUIT "$process" 2>/dev/null || true; fi
  done
  wait 2>/dev/null || true
  buildah rm "$database" "$sidecar" >/dev/null 2>&1 || true
  rm -rf "$work"
}

# as LOGIN SQL: over TCP with its password, as people come in.
as() {
  in_database --env PGPASSWORD="$(<"$work/secrets/$1_password")" --env PGOPTIONS= \
    "psql -X -q -A -t -v ON_ERROR_STOP=1 'host=127.0.0.1 port=$port user=$1 dbname=app' -c \"$2\""
}

check_settings() {
  local image=localhost/rotator:$version
  [[ $(config "$image" .Docker.Config.User) = 10001:10001 ]] || fail "the sidecar's image runs as root"
  [[ $(config "$image" .Docker.Config.Healthcheck.Test) = '[CMD rotator healthcheck]' ]] || fail "the sidecar's image has no health check"
  [[ $(config "$image" '(index .Docker.Config.Labels "org.opencontainers.image.version")') = "$version" ]] || fail "wrong version label"
  [[ $(config "localhost/rotator-postgres:$version" .Docker.Config.StopSignal) = SIGINT ]] || fail "the database's stop signal isn't SIGINT"
  ok "settings of the images"
}

check_first_start() {
  local log
  log=$(in_database 'rotator-postgres postgres' 2>&1) && fail "it started without a master key"
  [[ $log = *"there is no master key"* && ! -e $work/data/17 ]] || fail "no clear word about the missing master key: $log"
  ok "without a master key no database is made"
  mounts+=(-v "$work/secrets:/run/secrets:ro")
  start_database "${mounts[@]}" --env POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password \
    --env ROTATOR_SERVE_PASSWORD_FILE=/run/secrets/rotator_serve_password \
    --env ROTATOR_OPS_PASSWORD_FILE=/run/secrets/rotator_ops_password
  { wait_for 120 database_settled && database_healthy; } || fail "the database did not get healthy"
  ok "first start: $(as rotator_ops "select version()" | cut -d' ' -f1-2), healthy"
  [[ $(stat -c %U:%a "$(buildah mount "$database")/run/rotator/master.key") = *:600 ]] || fail "the master key is open to others"
  [[ $(as postgres "select count(*) from cron.job where command = 'call rotator.run_tick()' and username = 'rotator_ops'") = 1 ]] ||
    fail "pg_cron has no job"
}

cron_ticked() {
  [[ $(as postgres "select count(*) > 0 from cron.job_run_details where status = 'succeeded' and command = 'call rotator.run_tick()'") = t ]]
}

check_reminder() {
  as rotator_ops "select rotator.create_tenant('acme', 'Acme GmbH')" >/dev/null
  as rotator_ops "select rotator.use_tenant('acme'); select rotator.add_member('dana', 'editor');
    select rotator.set_contact('dana', 'console', 'Dana');
    select rotator.register_secret('image-check-key', expiry_date => now() + interval '3 days', owner_id => 'dana')" >/dev/null
  start_sidecar
  { wait_for 60 sidecar_settled && sidecar_healthy; } || fail "the sidecar did not get healthy: $(<"$work/health.log")"
  [[ $(awk '/^Uid:/ { print $2, $3 }' "/proc/$(sidecar_process)/status") = "10001 10001" ]] || fail "the sidecar runs as root"
  ok "the sidecar is healthy, and user 10001"
  wait_for 130 cron_ticked || fail "pg_cron did not tick"
  wait_for 130 grep -q image-check-key "$work/console.log" || fail "no reminder came"
  ok "pg_cron ticked, and the sidecar delivered: $(grep -m 1 image-check-key "$work/console.log" | cut -c 1-90)"
}

check_stop_and_restart() {
  local process
  process=$(postmaster)
  kill -INT "$process"
  wait_for 60 gone "$process" || fail "SIGINT does not stop the database"
  wait "$database_job" || fail "the database ended badly"
  sidecar_healthy && fail "the sidecar is healthy without its database"
  ok "without its database the sidecar says: $(<"$work/health.log")"

  start_database "${mounts[@]}"
  { wait_for 60 database_settled && database_healthy; } || fail "the second start failed"
  { wait_for 60 sidecar_settled && sidecar_healthy; } || fail "the sidecar did not come back"
  kill -TERM "$(sidecar_process)"
  wait "$sidecar_job" || fail "the sidecar ended badly on SIGTERM"
  ok "both stop on their signals, and the second start finds the data"

  process=$(postmaster)
  kill -INT "$process"
  wait "$database_job" || true
  mounts=(-v "$work/data:/var/lib/postgresql" -v "$work/passwords:/run/secrets:ro")
  start_database "${mounts[@]}"
  { wait_for 60 database_settled && database_healthy; } || fail "it doesn't start without the master key"
  as rotator_ops "select rotator.use_tenant('acme', true); select name from rotator.secrets" >"$work/answer" 2>&1 &&
    fail "names can be read without the master key: $(<"$work/answer")"
  grep -q 'NO MASTER KEY' "$work/database.log" || fail "nothing was said about the missing master key"
  ok "without the master key the server runs, and says: $(grep -m 1 ERROR "$work/answer" | cut -c 1-90)"
}

if [[ ${1:-} != --no-build ]]; then
  "$ROOT/scripts/image/bases.sh"
  SECONDS=0
  ENGINE=buildah PULL_NEVER=1 "$ROOT/scripts/image.sh" >"$TARGET/image/build.log" 2>&1 ||
    die "the build failed" "$(tail -n 5 "$TARGET/image/build.log")" "the log is $TARGET/image/build.log"
  ok "built in $SECONDS seconds"
fi
buildah images --format '    {{.Name}}:{{.Tag}}  {{.Size}}' | grep -E "^ +localhost/rotator(-postgres)?:$version "

rm -rf "$work"
mkdir -p "$work/data" "$work/passwords"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$ROOT/scripts/image/secrets.sh" "$work/secrets" 2>/dev/null
sed -i "s/@database:5432/@127.0.0.1:$port/" "$work/secrets/rotator_database_url"
chmod 755 "$work/secrets"
buildah from --pull-never --name "$database" "localhost/rotator-postgres:$version" >/dev/null
buildah from --pull-never --name "$sidecar" "localhost/rotator:$version" >/dev/null
mounts=(-v "$work/data:/var/lib/postgresql")
check_settings
check_first_start
check_reminder
check_stop_and_restart
printf 'the images work\n'
