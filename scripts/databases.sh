#!/usr/bin/env bash
# Sourced: makes the databases of a running private cluster (use_cluster has been called). rotator_template has the
# extension and is what the behaviour tests copy; the database named by the caller has pg_cron besides.
# When the install script fails, it is run again as a plain script, to say in which source file and line.

make_template() {
  cluster_psql postgres -c 'create database rotator_template'
  if ! cluster_psql rotator_template -c 'create extension rotator'; then
    explain_install_failure
    return 1
  fi
}

# make_databases DATABASE: the template and, from it, this one.
make_databases() {
  make_template || return
  cluster_psql postgres -c "create database $1 template rotator_template"
  if [[ -f $TREE$("$PG_CONFIG" --sharedir)/extension/pg_cron.control ]]; then
    cluster_psql "$1" -c 'create extension pg_cron'
  fi
}

# CREATE EXTENSION reports no line, psql does. What only works inside CREATE EXTENSION is blanked, line by line.
explain_install_failure() {
  local script line
  script=$TARGET/sql/rotator--$(extension_version).sql
  line=$(sed -e '1s/.*//' -e "s/MODULE_PATHNAME/rotator/" -e 's/.*pg_extension_config_dump.*//' "$script" |
    cluster_psql rotator_template --single-transaction -f - 2>&1 >/dev/null |
    sed -n 's/^psql:<stdin>:\([0-9]*\): ERROR.*/\1/p' | head -n 1)
  if [[ -n $line ]]; then note "the statement ends at $("$ROOT/scripts/assemble.sh" "$line")"; fi
}
