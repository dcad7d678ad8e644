#!/usr/bin/env bash
# A private PostgreSQL for the demo, the tests and development: a relocated copy of the installed server with the
# extension in it, and throwaway clusters that run from that copy. The machine's own PostgreSQL is never touched.
# Everything lies in target/, or, where the server's user can't reach that, in a private folder under ${TMPDIR:-/tmp}.
#   scripts/private_pg.sh install                 copy the server (once) and the current build of the extension
#   scripts/private_pg.sh create NAME [option…]   make a cluster; options: --cron-database DB, --no-master-key,
#                                                 --clock (its time follows a file, by libfaketime), --set 'a = b'
#   scripts/private_pg.sh start|stop|crash|restart|remove|show NAME      ·   remove-family NAME   ·   clean
# Other scripts source this file for its functions; the test harness calls it as a command.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# ---- who runs the server, and where ----

STATE=
if ((EUID == 0)); then SERVER_USER=postgres; else SERVER_USER=$(id -un); fi
ROLE=

# PostgreSQL refuses to run as root. From / because the server's user may not be able to enter this folder.
as_server() {
  if ((EUID == 0)); then (cd / && runuser -u "$SERVER_USER" -- "$@"); else (cd / && "$@"); fi
}

own_folder() { [[ -d $1 && ! -L $1 && -O $1 ]]; }

# Sets STATE, the folder that holds the copy and the clusters.
choose_state() {
  [[ -z ${STATE:-} ]] || return 0
  if ((EUID == 0)); then
    id "$SERVER_USER" >/dev/null 2>&1 || die "PostgreSQL can't run as root and there is no user $SERVER_USER" \
      "scripts/setup.sh installs what is missing"
  fi
  mkdir -p "$TARGET"
  STATE=$TARGET
  if ! as_server test -x "$TARGET"; then
    local base
    for base in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
      if as_server test -x "$base"; then break; fi
    done
    STATE=$base/rotator-$EUID-$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
    mkdir -m 755 "$STATE" 2>/dev/null || own_folder "$STATE" || die "$STATE exists and belongs to somebody else"
  fi
  mkdir -p "$STATE/pg" "$STATE/cluster"
  chmod a+rx "$STATE/pg" "$STATE/cluster"
}

# ---- the copy of the server ----

# Sets TREE and BIN. The copy keeps the installed paths below its root, since PostgreSQL finds its files relative to
# its programs; so installing the extension into it is `make install` with DESTDIR.
use_tree() {
  choose_postgres
  choose_state
  TREE=$STATE/pg/$PG
  BIN=$TREE$("$PG_CONFIG" --bindir)
}

copy_server() {
  use_tree
  local bindir libdir sharedir stamp
  bindir=$("$PG_CONFIG" --bindir)
  libdir=$("$PG_CONFIG" --pkglibdir)
  sharedir=$("$PG_CONFIG" --sharedir)
  [[ -x $bindir/initdb ]] || die "PostgreSQL $PG has headers but no server in $bindir" "apt-get install postgresql-$PG"
  stamp="$("$bindir/postgres" --version) $(stat -c %Y "$libdir" "$sharedir/extension" | tr '\n' ' ')"
  if [[ $(cat "$TREE/complete" 2>/dev/null) != "$stamp" ]]; then
    say "copying PostgreSQL $PG to $TREE"
    rm -rf "$TREE.new"
    mkdir -p "$TREE.new$bindir" "$TREE.new$libdir" "$TREE.new$sharedir"
    cp -rL "$bindir/." "$TREE.new$bindir"
    cp -rL "$sharedir/." "$TREE.new$sharedir"
    (cd "$libdir" && find . -maxdepth 1 -type f \( -name '*.so*' -o -name 'llvmjit_types.bc' \) -exec cp -L -t "$TREE.new$libdir" {} +)
    printf '%s\n' "$stamp" >"$TREE.new/complete"
    chmod -R a+rX "$TREE.new"
    rm -rf "$TREE"
    mv "$TREE.new" "$TREE"
  fi
}

install_private() {
  choose_state
  if [[ $STATE != "$TARGET" ]]; then
    say "user $SERVER_USER can't reach $TARGET: the private server and its clusters go to $STATE"
  fi
  exec 9>"$STATE/pg/lock"
  flock 9
  copy_server
  (umask 022 && DESTDIR=$TREE "$ROOT/scripts/install.sh")
  flock -u 9
  exec 9>&-
}

# ---- clusters ----

# Sets CLUSTER (its folder), DATA, LOG, KEY, CLOCK, PORT and SOCKET of an existing cluster.
use_cluster() {
  choose_state
  [[ $1 =~ ^[a-zA-Z0-9_.-]+$ ]] || die "a cluster's name is letters, digits, dot, dash and underscore: $1"
  CLUSTER=$STATE/cluster/$1
  DATA=$CLUSTER/data
  LOG=$CLUSTER/server.log
  KEY=$CLUSTER/master.key
  CLOCK=$CLUSTER/clock
  # shellcheck source=/dev/null
  if [[ -f $CLUSTER/settings ]]; then source "$CLUSTER/settings"; fi
}

# A port on loopback that nobody listens on, below the range that the system gives to outgoing connections.
free_port() {
  local port
  while read -r port; do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s\n' "$port"
      return
    fi
  done < <(shuf -i 20000-32000 -n 50)
  die "no free port found on 127.0.0.1"
}

# One line for a master key file, its id made of a cluster's name; `rotator keys new-master` prints the like.
new_master_key() {
  local id=${1//[^a-z0-9-]/-}
  printf '%s:%s\n' "${id:0:64}" "$(head -c 32 /dev/urandom | base64 -w 0)"
}

create_cluster() {
  local name=$1 cron_database=postgres key=yes clock=no extra=() preload=rotator
  shift
  while (($#)); do
    case $1 in
      --cron-database) cron_database=$2 && shift 2 ;;
      --no-master-key) key=no && shift ;;
      --clock) clock=yes && shift ;;
      --set) extra+=("$2") && shift 2 ;;
      *) die "unknown option $1" ;;
    esac
  done
  use_tree
  use_cluster "$name"
  [[ -x $BIN/initdb ]] || die "there is no private copy of PostgreSQL $PG yet" "scripts/private_pg.sh install"
  [[ ! -e $CLUSTER ]] || die "cluster $name exists: $CLUSTER" "scripts/private_pg.sh remove $name"
  mkdir -m 700 "$CLUSTER"
  if ((EUID == 0)); then chown "$SERVER_USER" "$CLUSTER"; fi
  SOCKET=$CLUSTER
  # A socket's whole path has room for 107 bytes.
  if ((${#SOCKET} > 85)); then
    SOCKET=$(as_server mktemp -d /tmp/rotator-socket.XXXXXX)
  fi
  PORT=$(free_port)
  as_server "$BIN/initdb" --no-sync -U postgres -D "$DATA" -A trust -E UTF8 --locale=C.UTF-8 >"$CLUSTER/initdb.log" 2>&1 ||
    die "initdb failed" "$(tail -n 3 "$CLUSTER/initdb.log")"
  if [[ -f $TREE$("$PG_CONFIG" --pkglibdir)/pg_cron.so ]]; then preload=rotator,pg_cron; fi
  {
    printf "listen_addresses = '127.0.0.1'\nport = %s\n" "$PORT"
    printf "unix_socket_directories = '%s'\nunix_socket_permissions = 0700\n" "$SOCKET"
    printf "shared_preload_libraries = '%s'\nrotator.master_key_file = '%s'\n" "$preload" "$KEY"
    if [[ $preload = *pg_cron ]]; then
      printf "cron.database_name = '%s'\ncron.use_background_workers = on\n" "$cron_database"
    fi
    printf "max_worker_processes = 16\nlog_line_prefix = '%%m [%%p] %%q%%u@%%d '\nlog_destination = 'stderr'\n"
    if ((${#extra[@]})); then printf '%s\n' "${extra[@]}"; fi
  } | as_server tee "$DATA/rotator.conf" >/dev/null
  printf "include 'rotator.conf'\n" | as_server tee -a "$DATA/postgresql.conf" >/dev/null
  # The socket's folder is closed to others, so whoever gets there is trusted; over TCP a password is asked for.
  printf 'local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n' | as_server tee "$DATA/pg_hba.conf" >/dev/null
  if [[ $key = yes ]]; then new_master_key "$name" | write_master_key "$name"; fi
  if [[ $clock = yes ]]; then printf '+0\n' | as_server tee "$CLOCK" >/dev/null; fi
  # Not the pg_config of the PATH, which may be another version's by tomorrow.
  if [[ -x $("$PG_CONFIG" --bindir)/pg_config ]]; then PG_CONFIG=$("$PG_CONFIG" --bindir)/pg_config; fi
  printf 'SOCKET=%q\nPORT=%q\nPG=%q\nPG_CONFIG=%q\n' "$SOCKET" "$PORT" "$PG" "$PG_CONFIG" |
    as_server tee "$CLUSTER/settings" >/dev/null
}

# Writes standard input to the cluster's master key file, for nobody but the server's user.
write_master_key() {
  use_cluster "$1"
  (umask 077 && as_server tee "$KEY" >/dev/null)
}

libfaketime() {
  local library
  for library in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib/faketime/libfaketimeMT.so.1; do
    if [[ -f $library ]]; then
      printf '%s\n' "$library"
      return
    fi
  done
  die "libfaketime not found" "apt-get install faketime"
}

running() { as_server "$BIN/pg_ctl" -D "$DATA" status >/dev/null 2>&1; }

# start_cluster NAME. A port that was taken since the cluster was made is replaced, unless the cluster ran before.
start_cluster() {
  use_cluster "$1"
  [[ -d $DATA ]] || die "there is no cluster $1"
  use_tree
  local environment=(LC_ALL=C.UTF-8) log_size
  if [[ -f $CLOCK ]]; then
    environment+=("LD_PRELOAD=$(libfaketime)" "FAKETIME_TIMESTAMP_FILE=$CLOCK" FAKETIME_NO_CACHE=1
      FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1)
  fi
  for _ in 1 2 3 4 5; do
    log_size=$(stat -c %s "$LOG" 2>/dev/null || echo 0)
    if as_server env -u PGPORT -u PGHOST -u PGDATA "${environment[@]}" \
      "$BIN/pg_ctl" -D "$DATA" -l "$LOG" -w -t 60 -s start >"$CLUSTER/pg_ctl.log" 2>&1; then
      as_server touch "$CLUSTER/ran"
      return
    fi
    if [[ -e $CLUSTER/ran ]] || ! tail -c "+$log_size" "$LOG" | grep -q 'could not bind'; then break; fi
    PORT=$(free_port)
    as_server sed -i "s/^port = .*/port = $PORT/" "$DATA/rotator.conf"
    as_server sed -i "s/^PORT=.*/PORT=$PORT/" "$CLUSTER/settings"
  done
  tail -n 20 "$LOG" >&2 || true
  die "cluster $1 did not start" "its log is $LOG"
}

# stop_cluster NAME [fast|immediate]
stop_cluster() {
  use_cluster "$1"
  if [[ -d $DATA ]]; then
    use_tree
    if running; then as_server "$BIN/pg_ctl" -D "$DATA" -m "${2:-fast}" -w -t 60 -s stop; fi
  fi
}

remove_cluster() {
  stop_cluster "$1" immediate
  if [[ ${SOCKET:-} = /tmp/rotator-socket.* ]]; then rm -rf "$SOCKET"; fi
  rm -rf "$CLUSTER"
}

# remove_family NAME: this cluster and those that tests named after it, NAME-own…
remove_family() {
  choose_state
  local folder
  for folder in "$STATE/cluster/$1" "$STATE/cluster/$1"-own*; do
    if [[ -d $folder ]]; then (remove_cluster "${folder##*/}"); fi
  done
}

# Everything this script ever made.
clean_state() {
  choose_state
  local folder
  for folder in "$STATE/cluster"/*; do
    if [[ -d $folder ]]; then (remove_cluster "${folder##*/}"); fi
  done
  say "removing $STATE/cluster and $STATE/pg"
  rm -rf "$STATE/cluster" "$STATE/pg"
  if [[ $STATE != "$TARGET" ]]; then rmdir "$STATE"; fi
}

# What a client or the test harness needs to know, as lines key=value.
show_cluster() {
  use_cluster "$1"
  [[ -f $CLUSTER/settings ]] || die "there is no cluster $1" "scripts/dev-cluster.sh $1"
  use_tree
  printf '%s=%s\n' name "$1" folder "$CLUSTER" socket "$SOCKET" port "$PORT" bindir "$BIN" data "$DATA" log "$LOG" \
    master_key "$KEY" clock "$CLOCK" os_user "$SERVER_USER" major "$PG" \
    library "$TREE$("$PG_CONFIG" --pkglibdir)/rotator.so"
}

# Over the private socket, as superuser unless ROLE says whom: cluster_psql DATABASE psql-argument…
cluster_psql() {
  local database=$1
  shift
  env -u PGOPTIONS PGHOST="$SOCKET" PGPORT="$PORT" PGUSER="${ROLE:-postgres}" PGDATABASE="$database" \
    "$BIN/psql" -X -q -v ON_ERROR_STOP=1 "$@"
}

# The command that opens psql as the superuser of this cluster.
psql_command() { printf 'psql "host=%s port=%s user=postgres dbname=%s"' "$SOCKET" "$PORT" "$1"; }

[[ ${BASH_SOURCE[0]} = "$0" ]] || return 0

verb=${1:-help}
shift || true
case $verb in
  install) install_private ;;
  create | start | stop | remove | show) "${verb}_cluster" "$@" ;;
  crash) stop_cluster "$1" immediate ;;
  restart) stop_cluster "$1" fast && start_cluster "$1" ;;
  remove-family) remove_family "${1:?name}" ;;
  clean) clean_state && "$ROOT/scripts/root.sh" remove-all ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit 2 ;;
esac
