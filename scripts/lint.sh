#!/usr/bin/env bash
# Formatting and clippy over the workspace, warnings as errors; and shellcheck over these scripts where it is installed.
set -euo pipefail
source "$(dirname "$0")/root.sh"
enter_root "$0" "$@"

"$ROOT/scripts/setup.sh" build
choose_postgres

say "cargo fmt"
run_cargo fmt --all --check
say "cargo clippy, extension for PostgreSQL $PG"
PGRX_PG_CONFIG_PATH=$PG_CONFIG run_cargo clippy "${LOCKED[@]}" --release -p rotator-extension --features "pg$PG" --all-targets -- -D warnings
say "cargo clippy, sidecar and tests"
run_cargo clippy "${LOCKED[@]}" --release -p rotator-sidecar -p rotator-tests --all-targets -- -D warnings
if command -v shellcheck >/dev/null; then
  say "shellcheck"
  (cd "$ROOT" && shellcheck -S warning -x -P scripts scripts/*.sh scripts/image/*.sh .ci/run)
fi
