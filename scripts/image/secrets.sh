#!/usr/bin/env bash
# Makes the files that compose.yaml mounts as secrets, in the folder secrets beside it (or the one given), each only if
# it isn't there: a master key, three passwords, and the sidecar's database URL, which holds one of them.
#   scripts/image/secrets.sh [FOLDER]
# Keep a copy of rotator_master_key apart from the backups of the database: without it nothing can be decrypted.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"

folder=${1:-$ROOT/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
umask 077

# put NAME COMMAND…: what the command prints becomes the file, at once.
put() {
  local file=$folder/$1
  shift
  if [[ -s $file ]]; then return; fi
  "$@" >"$file.new"
  mv "$file.new" "$file"
  note "made $file"
}

password() { head -c 24 /dev/urandom | base64 -w 0 | tr '+/' '-_'; }
master_key() { printf 'master-%s:%s\n' "$(date -u +%Y%m%d)" "$(head -c 32 /dev/urandom | base64 -w 0)"; }
database_url() {
  printf 'postgres://rotator_serve:%s@database:5432/app?sslmode=prefer\n' "$(<"$folder/rotator_serve_password")"
}

put rotator_master_key master_key
put postgres_password password
put rotator_serve_password password
put rotator_ops_password password
put rotator_database_url database_url
# The sidecar is another user, and reads it through its mount; on this machine the folder is closed to others.
chmod 644 "$folder/rotator_database_url"
