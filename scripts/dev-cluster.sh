#!/usr/bin/env bash
# (Re)starts a private cluster with the current build and prints how to get in: database dev with rotator, pg_cron, and
# the template that the behaviour tests copy. While developing:
#   scripts/dev-cluster.sh [--no-build] [NAME]      NAME defaults to dev, or $ROTATOR_CLUSTER
#   cargo test --release -p rotator-tests install   runs tests against it (ROTATOR_CLUSTER=NAME for another)
# If the install script fails it says in which source file and line.
set -euo pipefail
source "$(dirname "$0")/private_pg.sh"
source "$ROOT/scripts/databases.sh"

build=yes
if [[ ${1:-} = --no-build ]]; then
  build=no
  shift
fi
name=${1:-${ROTATOR_CLUSTER:-dev}}

if [[ $build = yes ]]; then "$ROOT/scripts/build.sh"; fi
install_private
remove_family "$name"
create_cluster "$name" --cron-database dev --set 'max_connections = 200' --set 'fsync = off'
start_cluster "$name"
if ! make_databases dev; then exit 1; fi

say "cluster $name runs PostgreSQL $PG; its log is $LOG"
psql_command dev
printf '\n'
note "stop it: scripts/private_pg.sh remove $name"
