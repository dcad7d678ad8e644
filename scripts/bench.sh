#!/usr/bin/env bash
# Measures: builds, starts a private cluster of its own with durable commits, and runs the benches of
# tests/src/bin/bench against it. Each is one JSON object a line in target/bench/results.jsonl and a row of the table
# that is printed; it fails if one misses its bar. T=filter runs only those whose name has it.
set -euo pipefail
source "$(dirname "$0")/root.sh"
enter_root "$0" "$@"
source "$ROOT/scripts/private_pg.sh"
source "$ROOT/scripts/databases.sh"

name=bench-$$

"$ROOT/scripts/setup.sh" bench
choose_postgres
"$ROOT/scripts/build.sh"
run_cargo build "${LOCKED[@]}" --release -p rotator-tests --bin bench
install_private
trap 'remove_family "$name"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
create_cluster "$name" --set 'shared_buffers = 1GB' --set 'max_wal_size = 8GB' --set 'checkpoint_timeout = 30min' \
  --set 'autovacuum = off' --set 'jit = off' --set 'max_parallel_workers_per_gather = 0'
start_cluster "$name"
make_template || die "the extension could not be created"

mkdir -p "$TARGET/bench"
ROTATOR_CLUSTER=$name "$TARGET/release/bench" "$TARGET/bench/results.jsonl" ${T:+"$T"}
