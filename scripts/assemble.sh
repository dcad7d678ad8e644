#!/usr/bin/env bash
# Makes the install script: the files of sql/manifest in its order, each under a line that names it, plus the control
# file, both in target/sql. With an argument N it says instead which source file and line the install script's line N is.
#   scripts/assemble.sh [LINE]
set -euo pipefail
source "$(dirname "$0")/lib.sh"

manifest=$ROOT/sql/manifest
out=$TARGET/sql
script=$out/rotator--$(extension_version).sql

if [[ -n ${1:-} ]]; then
  awk -v line="$1" '
    NR > line { exit }
    /^-- file: / { file = $3; start = NR }
    END { if (file != "") printf "sql/%s:%d\n", file, line - start }
  ' "$script"
  exit
fi

[[ -f $manifest ]] || die "sql/manifest is missing"
mkdir -p "$out"
work=$(mktemp "$out/.assemble.XXXXXX")
trap 'rm -f "$work"' EXIT
{
  printf '\\echo Use "create extension rotator" to load this file. \\quit\n'
  while read -r file; do
    [[ -f $ROOT/sql/$file ]] || die "sql/manifest names $file, which is not in sql/"
    printf '\n-- file: %s\n' "$file"
    cat "$ROOT/sql/$file"
  done < <(sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$manifest")
} >"$work"
chmod 644 "$work"
mv "$work" "$script"
trap - EXIT
cp "$ROOT/extension/rotator.control" "$out/rotator.control"
