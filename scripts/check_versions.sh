#!/usr/bin/env bash
# Whether the library compiles for every supported PostgreSQL, without warnings: against the headers of a server that this
# machine has or has packages of, or in a root (root.sh); and where neither is to be had (16 on Debian) against the bindings
# that pgrx ships, which checks types and names but links nothing. `make test PG=NN` runs what was built.
#   scripts/check_versions.sh [VERSION…]
set -euo pipefail
source "$(dirname "$0")/root.sh"

if (($# == 0)); then
  # shellcheck disable=SC2046 # one word each
  set -- $(seq "$OLDEST_PG" "$NEWEST_PG")
fi

for version in "$@"; do
  if (release_of "$version") >/dev/null 2>&1 || has_natively "$version"; then
    PG=$version PG_CONFIG='' "$ROOT/scripts/build.sh" extension || die "the library doesn't compile for PostgreSQL $version"
    printf 'ok: PostgreSQL %s, built\n' "$version"
  else
    say "no headers of PostgreSQL $version can be had here: checking types against the bindings that pgrx ships"
    # An output folder of its own: these bindings must not get into a build.
    DOCS_RS=1 run_cargo check "${LOCKED[@]}" --release --target-dir "$TARGET/check" -p rotator-extension --lib --features "pg$version" ||
      die "the library doesn't compile for PostgreSQL $version"
    printf 'ok: PostgreSQL %s, types checked\n' "$version"
  fi
done
