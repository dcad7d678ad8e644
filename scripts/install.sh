#!/usr/bin/env bash
# Copies what is built to the folders that PG_CONFIG names: rotator.so, rotator.control, the install script, and one
# script for each released version that upgrades it to this one.
# It builds nothing unless the library for this server version isn't there yet, and then says so. DESTDIR goes before
# each path, as in PostgreSQL's own make install.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

choose_postgres
library=$TARGET/lib/pg$PG/rotator.so
if [[ ! -f $library ]]; then
  say "there is no library for PostgreSQL $PG yet ($library): building it first"
  "$ROOT/scripts/build.sh" extension
fi
"$ROOT/scripts/assemble.sh"

libdir=${DESTDIR:-}$("$PG_CONFIG" --pkglibdir)
sharedir=${DESTDIR:-}$("$PG_CONFIG" --sharedir)/extension
mkdir -p "$libdir" "$sharedir" 2>/dev/null || true
[[ -w $libdir && -w $sharedir ]] || die "can't write to $libdir and $sharedir" "try: sudo make install PG_CONFIG=$PG_CONFIG"

# Each file is replaced in one step: a running server keeps the old library until it restarts.
put() {
  install -m "$1" "$2" "$3/.$(basename "$2").new"
  mv "$3/.$(basename "$2").new" "$3/$(basename "$2")"
}
put 755 "$library" "$libdir"
put 644 "$TARGET/sql/rotator.control" "$sharedir"
for script in "$TARGET/sql/rotator--"*.sql; do put 644 "$script" "$sharedir"; done

if [[ -z ${DESTDIR:-} ]]; then
  say "installed into PostgreSQL $PG: $libdir/rotator.so and $sharedir/rotator.control"
  note "in postgresql.conf: shared_preload_libraries = 'rotator' and rotator.master_key_file = '…', then restart,"
  note "then in a database: create extension rotator; or alter extension rotator update;"
fi
