#!/usr/bin/env bash
# The database image's entry point: makes the cluster in the volume at the first start, puts the master key where the
# extension wants it, and becomes the server as user postgres. Names of variables are those of Docker's own PostgreSQL
# image; each with _FILE at its end is the path of a file with the value, for mounted secrets.
#
#   POSTGRES_PASSWORD       the superuser's; without it nobody logs in as postgres over the network
#   POSTGRES_DB             database with rotator and pg_cron (default app)
#   ROTATOR_MASTER_KEY_FILE the mounted master key (default /run/secrets/rotator_master_key)
#   ROTATOR_MASTER_KEY      `generate` makes one beside the data, for trying out: a copy of the volume then holds both
#
#   ROTATOR_SERVE_PASSWORD, ROTATOR_OPS_PASSWORD   of the login roles rotator_serve (the sidecar) and rotator_ops
#
#   rotator-postgres [postgres [option…]]     ·   healthcheck   ·   place-master-key   ·   any other command: is run
# Scripts (*.sh, *.sql) in /docker-entrypoint-initdb.d run once, in order, before anybody can connect.
set -euo pipefail

KEY=/run/rotator/master.key
KEY_SOURCE=${ROTATOR_MASTER_KEY_FILE:-/run/secrets/rotator_master_key}
VOLUME=/var/lib/postgresql
GENERATED=$VOLUME/generated-master.key
export POSTGRES_DB=${POSTGRES_DB:-app}

say() { printf 'rotator-postgres: %s\n' "$*" >&2; }
die() {
  say "$1"
  shift
  for line in "$@"; do say "  $line"; done
  exit 1
}

[[ $POSTGRES_DB =~ ^[a-zA-Z0-9_-]+$ ]] || die "POSTGRES_DB is letters, digits, _ and -, not $POSTGRES_DB"

# Where files must belong to postgres: as that user already, where the container was started so.
as_postgres() {
  if ((EUID == 0)); then setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; else "$@"; fi
}

# ---- the master key ----

# A mounted secret belongs to whoever made it; the extension reads a file of the server's user that nobody else can.
place_master_key() {
  local source=$KEY_SOURCE
  if [[ ! -e $source && -e $GENERATED ]]; then source=$GENERATED; fi
  if [[ ! -e $source ]]; then return 1; fi
  mkdir -p "${KEY%/*}" 2>/dev/null || true
  if ((EUID == 0)); then
    chown postgres:postgres "${KEY%/*}"
    chmod 700 "${KEY%/*}"
  fi
  ((EUID == 0)) || [[ -w ${KEY%/*} ]] || die "can't write to ${KEY%/*}" "mount a tmpfs there that user postgres may write to"
  [[ -r $source ]] || die "can't read $source" "give it to the user that this container runs as"
  install -m 600 "$source" "$KEY.new"
  if ((EUID == 0)); then chown postgres:postgres "$KEY.new"; fi
  mv "$KEY.new" "$KEY"
}

generate_master_key() {
  (
    umask 077
    printf 'generated-%s:%s\n' "$(date -u +%Y%m%d)" "$(head -c 32 /dev/urandom | base64 -w 0)" >"$GENERATED.new"
  )
  if ((EUID == 0)); then chown postgres:postgres "$GENERATED.new"; fi
  mv "$GENERATED.new" "$GENERATED"
  say "************************************************************************************************"
  say "A MASTER KEY WAS GENERATED: $GENERATED"
  say "It lies beside the data it protects, and without it nothing can be decrypted. For trying out only:"
  say "mount a key of your own at $KEY_SOURCE (rotator keys new-master prints one)."
  say "************************************************************************************************"
}

need_master_key() {
  if place_master_key; then return; fi
  if [[ ${ROTATOR_MASTER_KEY:-} = generate ]]; then
    generate_master_key
    place_master_key
  elif [[ -e $PGDATA/PG_VERSION ]]; then
    # The host application's data is served all the same; rotator's functions answer RT010.
    rm -f "$KEY"
    say "NO MASTER KEY at $KEY_SOURCE: rotator can't decrypt or encrypt anything until it is mounted again"
  else
    die "there is no master key at $KEY_SOURCE, so no database is made" \
      "make one, and keep a copy apart from the backups:  (umask 077; rotator keys new-master > master.key)" \
      "then mount it there; or, to try it out, set ROTATOR_MASTER_KEY=generate"
  fi
}

# ---- the first start ----

# value NAME: the variable, or the content of the file that NAME_FILE names.
value() {
  local file=${1}_FILE
  if [[ -n ${!file:-} ]]; then
    [[ -r ${!file} ]] || die "can't read ${!file}, which $file names"
    printf '%s' "$(<"${!file}")"
  else
    printf '%s' "${!1:-}"
  fi
}

# The cluster is made beside its place and moved there when it is complete: a first start that is killed begins anew.
make_cluster() {
  local new=$PGDATA.new sockets script name secret
  # Read as root, who can read every mounted secret, and known to nothing but what runs now.
  for name in POSTGRES_PASSWORD ROTATOR_SERVE_PASSWORD ROTATOR_OPS_PASSWORD; do
    secret=$(value "$name")
    export "$name=$secret"
  done
  say "making a cluster in $PGDATA, with database $POSTGRES_DB"
  # An empty folder may stand there, but not a mount: the cluster comes in by renaming.
  [[ ! -e $PGDATA ]] || rmdir "$PGDATA" 2>/dev/null ||
    die "$PGDATA is there, but is no cluster" "mount the volume at $VOLUME"
  rm -rf "$new"
  if ((EUID == 0)); then
    mkdir -p "${PGDATA%/*}"
    chown postgres:postgres "$VOLUME" "${PGDATA%/*}"
  fi
  as_postgres mkdir -p "${PGDATA%/*}"
  # The builtin locale doesn't change with the system's C library, so indexes outlive a new base image.
  as_postgres initdb -D "$new" -U postgres -E UTF8 --locale=C.UTF-8 --locale-provider=builtin --builtin-locale=C.UTF-8 \
    --data-checksums --auth-local=peer --auth-host=scram-sha-256 >/dev/null
  as_postgres tee -a "$new/postgresql.conf" >/dev/null <<CONF

# The image's settings, and those of whoever runs it.
cron.database_name = '$POSTGRES_DB'
include '/etc/postgresql/rotator.conf'
include_dir '/etc/postgresql/conf.d'
CONF
  printf 'local all all peer\nhost all all all scram-sha-256\nlocal replication all peer\n' |
    as_postgres tee "$new/pg_hba.conf" >/dev/null

  # Not yet where a client or the health check looks for it.
  sockets=$(as_postgres mktemp -d)
  as_postgres pg_ctl -D "$new" -w -s -o "-c listen_addresses='' -c unix_socket_directories='$sockets'" -l "$sockets/log" start ||
    die "the new cluster doesn't start" "$(tail -n 5 "$sockets/log")"
  export PGHOST=$sockets PGUSER=postgres
  as_postgres psql -X -q -v ON_ERROR_STOP=1 -d postgres <<'SQL'
\getenv name POSTGRES_DB
\getenv password POSTGRES_PASSWORD
select format('create database %I', :'name') where :'name' <> 'postgres' \gexec
select format('alter role postgres password %L', :'password') where :'password' <> '' \gexec
SQL
  for script in /docker-entrypoint-initdb.d/*; do
    case $script in
      *.sh) say "running $script" && as_postgres bash "$script" ;;
      *.sql) say "running $script" && as_postgres psql -X -q -v ON_ERROR_STOP=1 -d "$POSTGRES_DB" -f "$script" ;;
    esac || { as_postgres pg_ctl -D "$new" -m immediate -s stop; die "$script failed: see above"; }
  done
  as_postgres pg_ctl -D "$new" -m fast -w -s stop
  as_postgres mv "$new" "$PGDATA"
  rm -rf "$sockets"
}

serve() {
  need_master_key
  if [[ ! -e $PGDATA/PG_VERSION ]]; then (make_cluster); fi
  unset POSTGRES_PASSWORD ROTATOR_SERVE_PASSWORD ROTATOR_OPS_PASSWORD
  mkdir -p /run/postgresql
  if ((EUID == 0)); then
    chown postgres:postgres /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$@" -D "$PGDATA"
  fi
  exec "$@" -D "$PGDATA"
}

case ${1:-postgres} in
  postgres | -*)
    if [[ ${1:-} = postgres ]]; then shift; fi
    serve postgres "$@"
    ;;
  # As a role that gets in, or the log would fill with refused logins.
  healthcheck) as_postgres pg_isready -q -h /run/postgresql -U postgres -d "$POSTGRES_DB" ;;
  # After the mounted file changed; a session that meets a key it doesn't hold reads the file again.
  place-master-key) place_master_key || die "there is no master key at $KEY_SOURCE" ;;
  *) exec "$@" ;;
esac
