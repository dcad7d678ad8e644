#!/usr/bin/env bash
# Builds the extension's library against one PostgreSQL and the rotator binary, with plain cargo.
# The library is kept as target/lib/pgNN/rotator.so: one a server version, and out of the way of builds without one.
#   scripts/build.sh [extension|sidecar]    PG_CONFIG or PG choose the server
set -euo pipefail
source "$(dirname "$0")/root.sh"
enter_root "$0" "$@"

part=${1:-all}

if [[ $part != sidecar ]]; then
  choose_postgres
  has_headers "$PG_CONFIG" || die "PostgreSQL $PG has no headers" "apt-get install postgresql-server-dev-$PG"
  say "building the extension for PostgreSQL $PG ($PG_CONFIG)"
  PGRX_PG_CONFIG_PATH=$PG_CONFIG run_cargo build "${LOCKED[@]}" --release -p rotator-extension --lib --features "pg$PG"
  mkdir -p "$TARGET/lib/pg$PG"
  if ! cmp -s "$TARGET/release/librotator.so" "$TARGET/lib/pg$PG/rotator.so"; then
    # A new file, not the old one rewritten: a server that runs from the old one keeps it.
    cp "$TARGET/release/librotator.so" "$TARGET/lib/pg$PG/.rotator.so.new"
    mv "$TARGET/lib/pg$PG/.rotator.so.new" "$TARGET/lib/pg$PG/rotator.so"
  fi
fi

if [[ $part != extension ]]; then
  say "building the rotator binary"
  run_cargo build "${LOCKED[@]}" --release -p rotator-sidecar --bin rotator
fi
