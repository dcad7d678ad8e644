#!/usr/bin/env bash
# A PostgreSQL version that this machine has no packages of: the script that was called goes on, as a whole, in a root: a
# small Debian of the release that has that version, below target/root. Made the first time (3 minutes, 3 GB).
#
# Everything happens in there, because library, server, libclang, libfaketime and tests must fit one glibc and one
# install tree; so inside it is just a machine with that release, the other scripts need to know nothing of it, and cargo
# has an output folder of its own. The checkout, the toolchain (rustup's) and cargo's downloads are bind-mounted at their
# own paths. It has its own mount and process namespaces: whatever ends it, however rudely, no mount and no server stays.
# The network is the machine's, so the demo's links work. Needs root or sudo, and debootstrap.
#
#   source scripts/root.sh; enter_root "$0" "$@"     goes on in a root if PG asks for what isn't here, else returns
#   PG=NN scripts/root.sh make|remove    ·   PG=NN scripts/root.sh run COMMAND… (a shell, say)    ·   remove-all
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MIRROR=${ROTATOR_DEBIAN_MIRROR:-http://deb.debian.org/debian}
MADE_BY=1 # raise it when roots made by an older version of this script won't do

# The Debian release that has this version.
release_of() {
  case $1 in
    15) printf 'bookworm\n' ;;
    17) printf 'trixie\n' ;;
    18) printf 'forky\n' ;;
    *) die "no Debian release has PostgreSQL $1, so no root can be made for it" \
      "install it here from https://wiki.postgresql.org/wiki/Apt, or name one: make PG_CONFIG=/path/to/pg_config" \
      "whether the library fits its headers: scripts/check_versions.sh" ;;
  esac
}

# Whether this machine has the version, or has packages of it that setup.sh can install.
has_natively() {
  if pg_configs | grep -q "^$1 "; then return 0; fi
  [[ -f /etc/debian_version ]] && command -v apt-get >/dev/null || return 0 # setup.sh says what to do there
  if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then as_root apt-get update -q=2; fi
  apt-cache show --no-all-versions "postgresql-server-dev-$1" >/dev/null 2>&1
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "PostgreSQL $PG isn't packaged for this machine, and making a root for it needs root or sudo" \
      "or give the pg_config of one that you installed: make PG_CONFIG=/path/to/pg_config"
  fi
}

# Sets RELEASE, FOLDER (all about this root), SYSTEM (what becomes /) and INSIDE_TARGET (cargo's output).
choose_root() {
  RELEASE=$(release_of "$PG")
  FOLDER=$TARGET/root/pg$PG
  SYSTEM=$FOLDER/system
  INSIDE_TARGET=$FOLDER/target
  [[ $FOLDER != *[[:space:]]* ]] || die "debootstrap can't work in a folder with a space in its name: $FOLDER" \
    "set CARGO_TARGET_DIR to another"
}

# ---- making it ----

complete() { [[ $(cat "$FOLDER/complete" 2>/dev/null) = "$RELEASE $MADE_BY" ]]; }

# What a killed run left. Nothing can be mounted in it: mounts live and die with the namespace of that run.
discard_system() {
  if as_root grep -q " $SYSTEM" /proc/self/mounts; then die "something is mounted below $SYSTEM: umount it first"; fi
  rm -f "$FOLDER/complete"
  as_root rm -rf --one-file-system "$SYSTEM"
}

make_root() {
  choose_root
  as_root true # or the reason why not
  mkdir -p "$FOLDER" "$INSIDE_TARGET"
  # Shared while something runs in it, exclusive to make it or to remove it.
  exec 8>"$TARGET/root/pg$PG.lock"
  flock -s 8
  if complete; then return; fi
  flock 8
  if ! complete; then
    local recipe=/usr/share/debootstrap/scripts/$RELEASE
    command -v debootstrap >/dev/null || PATH=$PATH:/usr/sbin
    if ! command -v debootstrap >/dev/null || [[ ! -f /usr/share/keyrings/debian-archive-keyring.gpg ]]; then
      say "installing debootstrap"
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q=2 debootstrap debian-archive-keyring >&2
    fi
    # A release newer than this debootstrap is made as the newest that it knows.
    [[ -f $recipe ]] || recipe=/usr/share/debootstrap/scripts/sid
    say "making a Debian $RELEASE for PostgreSQL $PG in $FOLDER (once, about 3 minutes and 3 GB)"
    discard_system
    # In namespaces of its own too: it mounts /proc, and is killed with all it started when this script is.
    as_root setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child -- \
      debootstrap --variant=minbase --include=ca-certificates "$RELEASE" "$SYSTEM" "$MIRROR" "$recipe" \
      >"$FOLDER/debootstrap.log" 2>&1 8>&- ||
      die "debootstrap failed" "$(tail -n 3 "$FOLDER/debootstrap.log")" "its log is $FOLDER/debootstrap.log"
    # A mirror may lag behind; what it serves is signed all the same.
    printf 'Acquire::Check-Valid-Until "false";\n' | as_root tee "$SYSTEM/etc/apt/apt.conf.d/90rotator" >/dev/null
    inside "$ROOT/scripts/root.sh" prepared >"$FOLDER/setup.log" 2>&1 ||
      die "the root could not be set up" "$(tail -n 5 "$FOLDER/setup.log")" "the log is $FOLDER/setup.log"
    printf '%s %s\n' "$RELEASE" "$MADE_BY" >"$FOLDER/complete"
  fi
  flock -s 8
}

# ---- running something in it ----

# The caller's toolchain, by its real place: rustup's own programs would look for it below another home.
toolchain() {
  local sysroot
  command -v rustc >/dev/null || die "cargo not found" "scripts/setup.sh says how to get Rust"
  sysroot=$(cd "$ROOT" && rustc --print sysroot)
  [[ $sysroot != /usr ]] || die "the distribution's Rust can't be used in a root: it needs a toolchain of rustup" \
    "https://rustup.rs"
  printf '%s\n' "$sysroot"
}

# inside COMMAND…: runs it in the root, as the caller. Interrupts are handed on.
inside() {
  local sysroot cargo_home nextest child='' status=0 binds elevate=()
  sysroot=$(toolchain)
  cargo_home=${CARGO_HOME:-$HOME/.cargo}
  nextest=$(command -v cargo-nextest || true)
  mkdir -p "$cargo_home"
  binds=("$ROOT" "$sysroot" "$cargo_home" "$INSIDE_TARGET")
  if [[ -n $nextest && $nextest != "$cargo_home"/* ]]; then binds+=("$nextest"); fi
  if ((EUID != 0)); then elevate=(sudo); fi
  trap 'hand_on "$child"' INT TERM HUP
  # No function here: what dies with its parent must have this shell as its parent.
  "${elevate[@]}" env -u PG_CONFIG -u TMPDIR ROTATOR_ROOT="$SYSTEM" PG="$PG" CARGO_TARGET_DIR="$INSIDE_TARGET" CARGO_HOME="$cargo_home" \
    HOME="$HOME" PATH="$sysroot/bin:$cargo_home/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child -- \
    "$ROOT/scripts/root.sh" first "$EUID:$(id -g)" "$PWD" "${#binds[@]}" "${binds[@]}" "$@" <&0 8>&- &
  child=$!
  # A signal ends `wait` early.
  while :; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  trap - INT TERM HUP
  return "$status"
}

# unshare blocks signals, so they go to what it started: the first process with another process namespace.
hand_on() {
  local process=$1 here
  here=$(readlink /proc/self/ns/pid)
  while [[ -n $process ]]; do
    if [[ $(as_root readlink "/proc/$process/ns/pid") != "$here" ]]; then
      as_root kill -TERM "$process" 2>/dev/null || true
      return 0
    fi
    process=$(cut -d' ' -f1 "/proc/$process/task/$process/children" 2>/dev/null || true)
  done
}

# The first process of the namespaces, as root: mounts, then goes into the root and runs the command.
first() {
  local who=$1 folder=$2 count=$3 place
  shift 3
  for place in "${@:1:count}"; do
    if [[ -d $place ]]; then mkdir -p "$ROTATOR_ROOT$place"; else
      mkdir -p "$ROTATOR_ROOT${place%/*}"
      : >>"$ROTATOR_ROOT$place"
    fi
    mount --bind "$place" "$ROTATOR_ROOT$place"
  done
  shift "$count"
  mount -t proc proc "$ROTATOR_ROOT/proc"
  mount --rbind /dev "$ROTATOR_ROOT/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$ROTATOR_ROOT/dev/shm"
  # Names and certificates as this machine has them.
  cp -L /etc/resolv.conf /etc/hosts "$ROTATOR_ROOT/etc/"
  cp -L /etc/ssl/certs/ca-certificates.crt "$ROTATOR_ROOT/etc/ssl/certs/" 2>/dev/null || true
  local child='' status=0
  trap 'if [[ -n $child ]]; then kill -TERM "$child" 2>/dev/null || true; fi' INT TERM HUP
  chroot "$ROTATOR_ROOT" "$ROOT/scripts/root.sh" second "$who" "$folder" "$@" <&0 &
  child=$!
  while :; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  exit "$status"
}

# In the root: installs what is missing, and becomes the caller.
second() {
  local who=$1 folder=$2
  shift 2
  # What an installation that was killed left undone.
  if compgen -G '/var/lib/dpkg/updates/[0-9]*' >/dev/null; then dpkg --configure -a >&2; fi
  "$ROOT/scripts/setup.sh" test >&2
  cd "$folder" 2>/dev/null || cd "$ROOT"
  if [[ $who = 0:* ]]; then exec "$@"; fi
  if ! getent passwd "${who%:*}" >/dev/null; then
    printf 'rotator:x:%s::%s:/bin/bash\n' "$who" "$HOME" >>/etc/passwd
  fi
  exec setpriv --reuid "${who%:*}" --regid "${who#*:}" --clear-groups -- "$@"
}

# enter_root SCRIPT ARGUMENT…: the caller ends here if a root is needed, with the status of itself in there.
enter_root() {
  [[ -z ${ROTATOR_ROOT:-} && -n ${PG:-} && -z ${PG_CONFIG:-} ]] || return 0
  ((PG >= OLDEST_PG && PG <= NEWEST_PG)) || return 0
  if has_natively "$PG"; then return 0; fi
  local status=0
  make_root
  say "PostgreSQL $PG is in $SYSTEM: going on in there, with $INSIDE_TARGET as cargo's folder"
  inside "$ROOT/scripts/${1##*/}" "${@:2}" || status=$?
  exit "$status"
}

# Every root, for clean-cluster.
remove_roots() {
  local folder
  for folder in "$TARGET"/root/pg*; do
    if [[ -d $folder ]]; then
      PG=${folder##*/pg}
      remove_root
    fi
  done
}

remove_root() {
  choose_root
  [[ -d $FOLDER ]] || return 0
  exec 8>"$TARGET/root/pg$PG.lock"
  flock -n 8 || die "something runs in $FOLDER, or it is being made: stop that first" \
    "processes: $(as_root fuser "$TARGET/root/pg$PG.lock" 2>/dev/null || echo unknown)"
  say "removing $FOLDER"
  discard_system
  as_root rm -rf --one-file-system "$FOLDER"
  exec 8>&-
}

[[ ${BASH_SOURCE[0]} = "$0" ]] || return 0

verb=${1:-help}
shift || true
case $verb in
  make) make_root ;;
  run) make_root && inside "$@" ;;
  remove) remove_root ;;
  remove-all) remove_roots ;;
  first | second) "$verb" "$@" ;;
  prepared) : ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit 2 ;;
esac
