#!/usr/bin/env bash
# Makes the extension's scripts in target/sql: the install script, which is the files of sql/manifest in its order; for
# every released version (sql/upgrade/VERSION.sha256) one script that upgrades it to this version; and the control file.
# Each part stands under a line that names its file. With an argument N it says instead which source file and line the
# install script's line N is. It refuses when a released file was changed. The rules: sql/upgrade/README.md.
#   scripts/assemble.sh [LINE]
set -euo pipefail
source "$(dirname "$0")/lib.sh"

manifest=$ROOT/sql/manifest
out=$TARGET/sql
current=$(extension_version)
script=$out/rotator--$current.sql

if [[ -n ${1:-} ]]; then
  awk -v line="$1" '
    NR > line { exit }
    /^-- file: / { file = $3; start = NR }
    END { if (file != "") printf "sql/%s:%d\n", file, line - start }
  ' "$script"
  exit
fi

[[ -f $manifest ]] || die "sql/manifest is missing"
mapfile -t files < <(sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$manifest")

# ---- what was released, and stays as it is ----

# The released versions, oldest first.
released_versions() {
  local list
  for list in "$ROOT"/sql/upgrade/*.sha256; do
    if [[ -f $list ]]; then basename "$list" .sha256; fi
  done | sort -V
}

# The files that were frozen with version $1: its whole schema/, and the steps that led to it.
released_files() { sed 's/^[0-9a-f]* [ *]//' "$ROOT/sql/upgrade/$1.sha256"; }

check_released() {
  local version changed file
  for version in "$@"; do
    changed=$(cd "$ROOT/sql" && sha256sum --check --quiet --strict "upgrade/$version.sha256" 2>/dev/null) ||
      die "these files belong to release $version and must stay as they are (folder sql/):" "$changed" \
        "undo the change; a new file in sql/schema says what differs from now on: sql/upgrade/README.md"
    while read -r file; do
      [[ $file != schema/* || " ${files[*]} " = *" $file "* ]] ||
        die "sql/manifest no longer names $file, which belongs to release $version"
    done < <(released_files "$version")
  done
}

# The steps from version $1 to this one, one file a line: each version has exactly one step that leads on.
steps_from() {
  local version=$1 next steps
  while [[ $version != "$current" ]]; do
    steps=("$ROOT/sql/upgrade/rotator--$version"--*.sql)
    [[ -f ${steps[0]} && ${#steps[@]} = 1 ]] ||
      die "exactly one step must lead on from version $version: sql/upgrade/rotator--$version--NEXT.sql" \
        "it may be a mere comment; sql/upgrade/README.md says what goes into it"
    next=$(basename "${steps[0]}" .sql)
    next=${next##*--}
    [[ $next != "$version" && $(printf '%s\n' "$version" "$next" | sort -V | head -n 1) = "$version" ]] ||
      die "$(basename "${steps[0]}") leads backwards"
    [[ $(printf '%s\n' "$next" "$current" | sort -V | tail -n 1) = "$current" ]] ||
      die "$(basename "${steps[0]}") leads past $current, the version in extension/rotator.control"
    printf 'upgrade/%s\n' "$(basename "${steps[0]}")"
    version=$next
  done
}

# ---- the scripts ----

# write_script FILE COMMAND PART…: PostgreSQL runs it; psql only says how.
write_script() {
  local work part
  work=$(mktemp "$out/.assemble.XXXXXX")
  {
    printf '\\echo Use "%s" to load this file. \\quit\n' "$2"
    for part in "${@:3}"; do
      [[ -f $ROOT/sql/$part ]] || die "sql/manifest names $part, which is not in sql/"
      printf '\n-- file: %s\n' "$part"
      cat "$ROOT/sql/$part"
    done
  } >"$work" || { rm -f "$work" && exit 1; }
  chmod 644 "$work"
  mv "$work" "$1"
}

# An upgrade is what the install script does, without what that version had already: first the steps, which make room
# (drop what is gone or changes its signature), then the manifest without the schema files of that release.
upgrade_from() {
  local version=$1 had file parts steps
  had=" $(released_files "$version" | tr '\n' ' ')"
  steps=$(steps_from "$version")
  mapfile -t parts <<<"$steps"
  for file in "${files[@]}"; do
    if [[ $file != schema/* || $had != *" $file "* ]]; then parts+=("$file"); fi
  done
  write_script "$out/rotator--$version--$current.sql" "alter extension rotator update" upgrade/preflight.sql "${parts[@]}"
}

versions=$(released_versions)
if [[ -n $versions ]]; then mapfile -t versions <<<"$versions"; else versions=(); fi
[[ " ${versions[*]} " != *" $current "* ]] ||
  die "version $current is released already, and extension/rotator.control still names it" "scripts/release.sh goes on to the next"
check_released "${versions[@]}"

mkdir -p "$out"
write_script "$script" "create extension rotator" "${files[@]}"
for version in "${versions[@]}"; do upgrade_from "$version"; done
for stale in "$out"/rotator--*.sql; do # of another version
  if [[ $stale != "$script" && $stale != *--"$current.sql" ]]; then rm -f "$stale"; fi
done
cp "$ROOT/extension/rotator.control" "$out/rotator.control"
