#!/usr/bin/env bash
# Builds the two images of the Dockerfile, rotator-postgres:VERSION and rotator:VERSION, with the first of docker, podman
# and buildah that works here (ENGINE=… chooses). `scripts/image_check.sh` also works where no registry can be reached.
#   scripts/image.sh [postgres|sidecar]
set -euo pipefail
source "$(dirname "$0")/lib.sh"

version=$(extension_version)
revision=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)

works() {
  case $1 in
    docker) docker info >/dev/null 2>&1 ;;
    podman) podman info >/dev/null 2>&1 ;;
    buildah) command -v buildah >/dev/null ;;
    *) die "ENGINE is docker, podman or buildah, not $1" ;;
  esac
}

if [[ -z ${ENGINE:-} ]]; then
  for candidate in docker podman buildah; do
    if works "$candidate"; then
      ENGINE=$candidate
      break
    fi
  done
fi
[[ -n ${ENGINE:-} ]] || die "no engine that builds images works here" \
  "install docker or podman and see that \`docker info\` answers, or: apt-get install buildah"
works "$ENGINE" || die "$ENGINE doesn't work here"

build() {
  local target=$1 name=$2:$version options=()
  case $ENGINE in
    docker) options=(build) ;;
    podman) options=(build --format docker) ;; # the other format knows no health check
    buildah) options=(build --format docker --layers --isolation "${BUILDAH_ISOLATION:-chroot}" ${PULL_NEVER:+--pull-never}) ;;
  esac
  say "building $name with $ENGINE"
  (cd "$ROOT" && DOCKER_BUILDKIT=1 "$ENGINE" "${options[@]}" --target "$target" --build-arg VERSION="$version" \
    --label org.opencontainers.image.revision="$revision" -t "$name" .)
}

case ${1:-both} in
  postgres) build postgres rotator-postgres ;;
  sidecar) build sidecar rotator ;;
  both) build postgres rotator-postgres && build sidecar rotator ;;
  *) die "usage: scripts/image.sh [postgres|sidecar]" ;;
esac
