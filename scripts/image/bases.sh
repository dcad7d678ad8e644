#!/usr/bin/env bash
# The Dockerfile's two base images where no registry can be reached: puts what stands for them into buildah's storage,
# made by debootstrap and of this machine's Rust toolchain. Pulled ones are preferred, and present ones are left alone.
#   scripts/image/bases.sh        needs root, buildah and debootstrap; 2 minutes, 2 GB
set -euo pipefail
source "$(dirname "$0")/../lib.sh"

release=$(sed -n 's/^ARG DEBIAN=//p' "$ROOT/Dockerfile")
rust=$(sed -n 's/^ARG RUST=//p' "$ROOT/Dockerfile")
debian_base=docker.io/library/debian:$release-slim
rust_base=docker.io/library/rust:$rust-slim-$release
work=$TARGET/image
mirror=${ROTATOR_DEBIAN_MIRROR:-http://deb.debian.org/debian}

present() { buildah inspect --type image "$1" >/dev/null 2>&1; }
pulled() { timeout 60 buildah pull -q "$1" >/dev/null 2>&1; }

# A debootstrap that is killed leaves no mount: they are in its own namespace.
make_debian() {
  local system=$work/$release container
  command -v debootstrap >/dev/null || die "debootstrap not found" "apt-get install debootstrap"
  say "no registry can be reached: making $debian_base by debootstrap"
  rm -rf --one-file-system "$system"
  mkdir -p "$work"
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child -- \
    debootstrap --variant=minbase "$release" "$system" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    die "debootstrap failed" "$(tail -n 3 "$work/debootstrap.log")"
  rm -rf "$system"/var/cache/apt/archives/*.deb "$system"/var/lib/apt/lists/* "${system:?}"/dev/*
  container=$(buildah from scratch)
  buildah add -q "$container" "$system" / >/dev/null
  buildah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah commit -q --rm "$container" "$debian_base" >/dev/null
  rm -rf --one-file-system "$system"
}

make_rust() {
  local container sysroot
  sysroot=$(cd "$ROOT" && rustc --print sysroot)
  [[ $(rustc --version) = "rustc $rust."* ]] || die "the Dockerfile builds with Rust $rust, and here is $(rustc --version)"
  say "no registry can be reached: making $rust_base of $sysroot"
  container=$(buildah from --pull-never "$debian_base")
  buildah run --isolation chroot "$container" -- sh -c \
    'apt-get update -q=2 && apt-get install -y -q=2 --no-install-recommends ca-certificates gcc libc6-dev' >"$work/rust.log" 2>&1 ||
    die "the packages could not be installed" "$(tail -n 3 "$work/rust.log")"
  buildah add -q "$container" "$sysroot" /usr/local/rustup/toolchain >/dev/null
  # The certificates that this machine trusts, for registries behind a company's proxy.
  buildah add -q "$container" "$(readlink -f /etc/ssl/certs/ca-certificates.crt)" /etc/ssl/certs/ca-certificates.crt >/dev/null
  buildah config --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/usr/local/rustup/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah commit -q --rm "$container" "$rust_base" >/dev/null
}

if ! present "$debian_base" && ! pulled "$debian_base"; then make_debian; fi
if ! present "$rust_base" && ! pulled "$rust_base"; then make_rust; fi
