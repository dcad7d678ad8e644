#!/usr/bin/env bash
# Sourced by every script here: where things are, how to speak, and which PostgreSQL to build against.
# ROOT is the checkout, TARGET cargo's output folder. PG_CONFIG names one pg_config; PG names a major version; with
# neither the newest server whose headers are installed is taken.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
[[ $TARGET = /* ]] || TARGET=$ROOT/$TARGET
OLDEST_PG=15
NEWEST_PG=18

# A toolchain made by rustup, but not yet on the PATH of this shell.
if ! command -v cargo >/dev/null 2>&1 && [[ -x ${HOME:-/root}/.cargo/bin/cargo ]]; then
  PATH=$PATH:${HOME:-/root}/.cargo/bin
fi

say() { printf '==> %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# The extension's version, as CREATE EXTENSION will look for it.
extension_version() {
  local version
  version=$(sed -n "s/^default_version *= *'\([^']*\)'.*/\1/p" "$ROOT/extension/rotator.control")
  [[ -n $version ]] || die "extension/rotator.control names no default_version"
  printf '%s\n' "$version"
}

# pg_major /path/to/pg_config: 15
pg_major() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

has_headers() { [[ -f $("$1" --includedir-server)/postgres.h ]]; }

# Every pg_config of a supported server with headers, newest first; of equal ones that of the PATH.
pg_configs() {
  local candidate major
  for candidate in "$(command -v pg_config || true)" /usr/lib/postgresql/*/bin/pg_config /usr/pgsql-*/bin/pg_config \
    /usr/local/pgsql/bin/pg_config; do
    if [[ -n $candidate && -x $candidate ]] && has_headers "$candidate"; then
      major=$(pg_major "$candidate")
      if ((major >= OLDEST_PG && major <= NEWEST_PG)); then printf '%s %s\n' "$major" "$candidate"; fi
    fi
  done | sort -s -k1,1nr
}

# Sets PG_CONFIG and PG, or ends with what to install.
choose_postgres() {
  local found
  if [[ -n ${PG_CONFIG:-} ]]; then
    PG_CONFIG=$(command -v "$PG_CONFIG") || die "PG_CONFIG is not a program"
    PG=$(pg_major "$PG_CONFIG")
  else
    found=$(pg_configs)
    if [[ -n ${PG:-} ]]; then found=$(awk -v major="$PG" '$1 == major' <<<"$found"); fi
    [[ -n $found ]] || die "no PostgreSQL ${PG:-server} with headers found" \
      "on Debian or Ubuntu: scripts/setup.sh, or apt-get install postgresql-server-dev-${PG:-NN}" \
      "a version that this release lacks: PG=${PG:-17} scripts/root.sh run bash gives a shell where it is" \
      "elsewhere: make PG_CONFIG=/path/to/pg_config"
    read -r PG PG_CONFIG <<<"${found%%$'\n'*}"
  fi
  ((PG >= OLDEST_PG && PG <= NEWEST_PG)) ||
    die "PostgreSQL $PG is not supported: rotator needs $OLDEST_PG to $NEWEST_PG ($PG_CONFIG)"
  export PG PG_CONFIG
}

# What is tested is what is shipped: with the lock file where there is one.
LOCKED=()
# shellcheck disable=SC2034 # for the scripts that source this
if [[ -f $ROOT/Cargo.lock ]]; then LOCKED=(--locked); fi

# Cargo, in the checkout.
run_cargo() {
  command -v cargo >/dev/null 2>&1 || die "cargo not found" "scripts/setup.sh says how to get Rust"
  (cd "$ROOT" && cargo "$@")
}

# Waits until COMMAND succeeds: wait_for SECONDS COMMAND…
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}
