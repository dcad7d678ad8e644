#!/usr/bin/env bash
# Every test: sets up and builds, starts one private cluster for the run, then the unit tests of the extension's core
# and of the sidecar, then the behaviour tests against the cluster and the real sidecar. The last line is
# "N passed, N failed" over all of them. PG=NN another server version, T=filter only tests whose name has it,
# ROTATOR_SOAK=1 the full counts.
set -euo pipefail
source "$(dirname "$0")/root.sh"
enter_root "$0" "$@"
source "$ROOT/scripts/private_pg.sh"
source "$ROOT/scripts/databases.sh"

passed=0
failed=0
name=test-$$
logs=$TARGET/test
threads=$(($(nproc) * 2)) # they mostly wait: for the server, the sidecar, a retry

# ---- one suite: a package's tests, by nextest where it is installed ----

run_suite() {
  local title=$1 log=$logs/$2.log run ok=0 bad=0 status=0 profile=default
  if [[ -n ${ROTATOR_SOAK:-} ]]; then profile=soak; fi
  shift 2
  say "$title"
  if cargo nextest --version >/dev/null 2>&1; then
    run=(nextest run --config-file "$ROOT/tests/nextest.toml" --profile "$profile" --no-fail-fast --no-tests pass --test-threads "$threads"
      "${LOCKED[@]}" --release "$@" ${T:+"$T"})
  else
    run=(test --no-fail-fast "${LOCKED[@]}" --release "$@" -- --test-threads "$threads" ${T:+"$T"})
  fi
  run_cargo "${run[@]}" 2>&1 | tee "$log" || status=$?
  # nextest: "Summary [ 1.0s] 9 tests run: 7 passed (1 slow), 2 failed"; cargo test: "test result: ok. 9 passed; 0 failed".
  read -r ok bad < <(sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^ *Summary \[/ && match($0, /[0-9]+(\/[0-9]+)? tests? run: [0-9]+ passed/) {
      split(substr($0, RSTART, RLENGTH), word, /[ \/]/)
      n = split(substr($0, RSTART, RLENGTH), all, " ")
      ok += all[n - 1]; bad += word[1] - all[n - 1]
    }
    /^test result: / { ok += $4; bad += $6 }
    END { print ok + 0, bad + 0 }')
  if ((status != 0 && bad == 0)); then bad=1; fi # it didn't compile, or died
  passed=$((passed + ok))
  failed=$((failed + bad))
}

"$ROOT/scripts/setup.sh" test
choose_postgres
"$ROOT/scripts/build.sh"
install_private
rm -rf "$logs"
mkdir -p "$logs"

run_suite "unit tests of the extension's core" extension -p rotator-extension --lib
run_suite "unit tests of the sidecar" sidecar -p rotator-sidecar --lib

say "starting a private PostgreSQL $PG for the behaviour tests"
trap 'remove_family "$name"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
create_cluster "$name" --set 'max_connections = 300' --set 'fsync = off'
start_cluster "$name"
make_template || die "the extension could not be created"
export ROTATOR_CLUSTER=$name
export RUST_LIB_BACKTRACE=0 # errors speak for themselves; panics keep theirs
run_suite "behaviour tests on PostgreSQL $PG" behaviour -p rotator-tests

if ((passed + failed == 0)); then die "no test has ${T:-anything} in its name"; fi
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
