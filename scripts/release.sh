#!/usr/bin/env bash
# Ends the development of the version that is here and begins the next. It keeps the install script of this version for
# the upgrade test (tests/released), freezes its schema files and steps by their checksums (sql/upgrade), writes the
# next version into Cargo.toml, Cargo.lock, the control file and the names of the images, and begins the step from this
# version to the next.
# It refuses when that can't be right, changes files only, and prints what is left to do: to tag, and to commit.
#   scripts/release.sh NEXT      like 0.2.0; run `make test` first
set -euo pipefail
source "$(dirname "$0")/lib.sh"

next=${1:-}
[[ $next =~ ^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$ ]] || die "usage: scripts/release.sh NEXT, like 0.2.0"
cd "$ROOT"
current=$(extension_version)
list=sql/upgrade/$current.sha256
kept=tests/released/rotator--$current.sql.gz
step=sql/upgrade/rotator--$current--$next.sql

# ---- whether it can be released ----

crates=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' Cargo.toml)
[[ $crates = "$current" ]] || die "Cargo.toml says $crates, extension/rotator.control says $current"
[[ $next != "$current" && $(printf '%s\n' "$current" "$next" | sort -V | tail -n 1) = "$next" ]] ||
  die "$next doesn't come after $current"
for file in "$list" "$kept"; do [[ ! -e $file ]] || die "version $current is released already: there is $file"; done
grep -Eq "^## \[${current//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md ||
  die "CHANGELOG.md doesn't date this release" "it takes a line like: ## [$current] - $(date +%F)"
changed=$(git status --porcelain) || die "this is no checkout of git"
[[ -z $changed ]] || die "what is released must be what is tagged, and these files aren't committed:" "$changed"
if git rev-parse -q --verify "refs/tags/v$current" >/dev/null; then
  [[ $(git rev-parse "v$current^{commit}") = $(git rev-parse HEAD) ]] || die "tag v$current is on another commit"
fi
"$ROOT/scripts/assemble.sh" # refuses when a file of an earlier release was changed, or a step is missing

# ---- what is kept and frozen ----

commit=$(git rev-parse HEAD)
mkdir -p "${kept%/*}"
gzip -9n <"$TARGET/sql/rotator--$current.sql" >"$kept"
(cd "${kept%/*}" && sha256sum "${kept##*/}" >>SHA256SUMS)
(
  cd sql
  mapfile -t frozen < <(sed -n 's/^\(schema\/[^ #]*\).*/\1/p' manifest)
  for file in upgrade/rotator--*--"$current.sql"; do if [[ -f $file ]]; then frozen+=("$file"); fi; done
  sha256sum "${frozen[@]}"
) >"$list"
chmod 644 "$kept" "$list" "${kept%/*}/SHA256SUMS"

# ---- the next version ----

sed -i "/^\[workspace.package\]/,/^\[/s/^version *= *\".*\"/version = \"$next\"/" Cargo.toml
sed -i "s/^default_version *= *'.*'/default_version = '$next'/" extension/rotator.control
sed -i "/^name = \"rotator-[a-z]*\"$/{n;s/^version = \"$current\"$/version = \"$next\"/}" Cargo.lock
for file in Dockerfile compose.yaml docs/image.md; do
  if [[ -f $file ]]; then
    sed -i -E "s/(VERSION=|rotator(-postgres)?:)${current//./\\.}([^0-9.]|$)/\1$next\3/g" "$file"
  fi
done
cat >"$step" <<STEP
-- From $current to $next: what must be out of the way before the files of sql/manifest are run again, and nothing else.
-- sql/upgrade/README.md has the recipes. Frozen once $next is released.
-- Covered by tests/tests/behaviour/upgrade.rs.
STEP
"$ROOT/scripts/assemble.sh"

say "$current is kept as $kept; this is $next now"
note "what is left to do:"
note "  git tag -a v$current -m 'rotator $current' $commit"
note "  make test"
note "  git add -A && git commit -m 'Development of $next begins'"
