#!/usr/bin/env bash
# Installs what is missing to build, test and demonstrate rotator, and nothing else: on Debian and Ubuntu from apt (with
# sudo unless root), elsewhere it lists what is missing and ends with 1. Instant when everything is there.
#   scripts/setup.sh [build|demo|test|bench]    default test; PG=NN chooses the server's version
# The machine's own PostgreSQL stays as it is, and a server that gets installed here comes without a running cluster.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

purpose=${1:-test}
[[ $purpose =~ ^(build|demo|test|bench)$ ]] || die "usage: scripts/setup.sh [build|demo|test|bench]"
missing=()
updated=no
wants_chrome=no
dropin=/etc/postgresql-common/createcluster.d/rotator-setup.conf

exists() { compgen -G "$1" >/dev/null; }
need() { missing+=("$1"); }
is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) = installed ]]; }
on_debian() { [[ -f /etc/debian_version ]] && command -v apt-get >/dev/null; }

# ---- Rust comes from rustup, not from here: an older toolchain of the distribution can't build this ----

check_rust() {
  local wanted have
  wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
  have=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
  if ! command -v cargo >/dev/null || [[ -z $have || $(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1) != "$wanted" ]]; then
    die "rotator needs Rust $wanted or newer${have:+, and rustc here is $have}" \
      "where the distribution has it:  apt-get install rustup && rustup default stable" \
      "everywhere else:  https://rustup.rs"
  fi
}

# ---- what is missing ----

# Which server: the one asked for, else one with headers, else one that is installed, else the distribution's.
choose_version() {
  local found
  if [[ -n ${PG_CONFIG:-} ]]; then PG=$(pg_major "$PG_CONFIG"); fi
  if [[ -z ${PG:-} ]]; then
    found=$(pg_configs)
    PG=${found%% *}
  fi
  if [[ -z ${PG:-} ]]; then
    PG=$(for server in /usr/lib/postgresql/*/bin/postgres; do
      if [[ -x $server ]]; then basename "${server%/bin/postgres}"; fi
    done | awk -v oldest="$OLDEST_PG" -v newest="$NEWEST_PG" '$1 >= oldest && $1 <= newest' | sort -n | tail -n 1)
  fi
  if [[ -z ${PG:-} ]] && on_debian; then
    apt_update
    PG=$(apt-cache depends postgresql | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p' | head -n 1)
  fi
  PG=${PG:-$OLDEST_PG}
}

check_build() {
  local bindir=/usr/lib/postgresql/$PG/bin headers
  if [[ -n ${PG_CONFIG:-} ]]; then bindir=$("$PG_CONFIG" --bindir); fi
  headers=$("$bindir/pg_config" --includedir-server 2>/dev/null || true)
  if ! command -v cc >/dev/null || ! command -v make >/dev/null; then need build-essential; fi
  command -v pkg-config >/dev/null || need pkg-config
  # bindgen needs the library and the compiler's own headers, not the compiler.
  if ! { exists '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' || exists '/usr/lib*/clang/*/include/stddef.h'; } ||
    ! { exists '/usr/lib/llvm-*/lib/libclang*.so*' || exists '/usr/lib*/libclang.so*'; }; then
    need libclang-dev
  fi
  [[ -n $headers && -f $headers/postgres.h ]] || need "postgresql-server-dev-$PG"
  [[ $purpose = build || -x $bindir/postgres ]] || need "postgresql-$PG"
}

check_run() {
  local pkglibdir
  pkglibdir=$("${PG_CONFIG:-/usr/lib/postgresql/$PG/bin/pg_config}" --pkglibdir 2>/dev/null ||
    echo "/usr/lib/postgresql/$PG/lib")
  if [[ ! -f $pkglibdir/pg_cron.so ]]; then
    # No package adds it to a server that didn't come from one.
    if [[ -n ${PG_CONFIG:-} && $pkglibdir != /usr/* ]]; then
      note "$pkglibdir has no pg_cron: what needs it will fail"
    else
      need "postgresql-$PG-cron"
    fi
  fi
  [[ -f /etc/ssl/certs/ca-certificates.crt || -f /etc/pki/tls/certs/ca-bundle.crt ]] || need ca-certificates
}

check_test() {
  command -v pgbouncer >/dev/null || [[ -x /usr/sbin/pgbouncer ]] || need pgbouncer
  command -v openssl >/dev/null || need openssl
  exists '/usr/lib/*/faketime/libfaketimeMT.so.1' || exists '/usr/lib/faketime/libfaketimeMT.so.1' || need faketime
  /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null || python3 -c 'import aiosmtpd' 2>/dev/null || need python3-aiosmtpd
  /usr/bin/python3 -c 'import yaml' 2>/dev/null || python3 -c 'import yaml' 2>/dev/null || need python3-yaml
  # Debian has venv apart from Python, and says so only when it is used.
  if ! { has_peer moto && has_peer slack_sdk; } && ! "$(python)" -c 'import ensurepip, venv' 2>/dev/null; then need python3-venv; fi
}

# Programs of these names may be stubs that only say where the real ones are to be had.
has_browser() {
  local browser
  chromedriver --version >/dev/null 2>&1 || return 1
  for browser in chromium google-chrome chromium-browser; do
    if "$browser" --version >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

# A real browser, which opens the pages behind links. Ubuntu has it as a snap alone, and that can't be driven from here.
check_browser() {
  local library
  if has_browser || has_chrome; then return; fi
  if on_debian; then
    exists '/var/lib/apt/lists/*_Packages*' || apt_update
    # A name that other packages merely provide isn't shown: on Ubuntu those fetch the snap.
    if [[ -z $(apt-cache show --no-all-versions chromium-driver 2>/dev/null) ]]; then
      if [[ $(uname -m) != x86_64 ]]; then
        no_browser "no package source here has chromium and chromium-driver, and Google has no Chrome for $(uname -m)"
        return
      fi
      wants_chrome=yes
      command -v curl >/dev/null || need curl
      command -v unzip >/dev/null || need unzip
      is_installed fonts-liberation || need fonts-liberation
      # Since times have 64 bits everywhere some have another name.
      for library in asound2 atk-bridge2.0-0 atk1.0-0 atspi2.0-0 cairo2 cups2 dbus-1-3 expat1 gbm1 glib2.0-0 nspr4 nss3 \
        pango-1.0-0 udev1 x11-6 xcb1 xcomposite1 xdamage1 xext6 xfixes3 xkbcommon0 xrandr2; do
        if apt-cache show --no-all-versions "lib${library}t64" >/dev/null 2>&1; then library+=t64; fi
        is_installed "lib$library" || need "lib$library"
      done
      return
    fi
  fi
  need chromium
  need chromium-driver
}

no_browser() {
  note "$1:"
  note "the tests of link_browser.rs and link_scanner.rs will fail"
  note "Google Chrome and the chromedriver of its version, both in the PATH, will do instead"
}

# Chrome for Testing, with the chromedriver of its version: https://googlechromelabs.github.io/chrome-for-testing
CHROME_LATEST=${ROTATOR_CHROME_LATEST:-https://googlechromelabs.github.io/chrome-for-testing/LATEST_RELEASE_STABLE}
CHROME_FILES=${ROTATOR_CHROME_FILES:-https://storage.googleapis.com/chrome-for-testing-public}

has_chrome() { [[ -f $TARGET/chrome/complete ]]; }

install_chrome() {
  local place=$TARGET/chrome part version
  mkdir -p "$TARGET"
  exec 9>"$TARGET/chrome.lock"
  flock 9
  if has_chrome; then return; fi # somebody else just did
  rm -rf "$place"
  mkdir "$place"
  if ! version=$(curl -fsSL --retry 2 --max-time 60 "$CHROME_LATEST"); then
    no_browser "Google doesn't say which Chrome for Testing there is ($CHROME_LATEST)"
    return
  fi
  say "fetching Chrome for Testing $version, which tests need, into $place (once, 170 MB)"
  for part in chrome chromedriver; do
    if ! curl -fsSL --retry 2 --max-time 900 -o "$place/$part.zip" "$CHROME_FILES/$version/linux64/$part-linux64.zip" ||
      ! unzip -q "$place/$part.zip" -d "$place" || ! "$place/$part-linux64/$part" --version >"$place/version" 2>&1; then
      no_browser "Chrome for Testing $version could not be fetched, or doesn't run here ($place)"
      return
    fi
    rm "$place/$part.zip"
  done
  printf '%s\n' "$version" >"$place/complete"
  exec 9>&-
}

python() { if [[ -x /usr/bin/python3 ]]; then printf '/usr/bin/python3\n'; else printf 'python3\n'; fi; }

# ---- peers that no package of the distribution has: each gets an environment of its own ----
# moto is a stand-in for AWS KMS and S3; slack_sdk is Slack's own library, which signs callbacks and checks blocks.

has_peer() { cmp -s "$ROOT/tests/data/$1.txt" "$TARGET/$1/complete"; }

install_peer() {
  local peer=$1 size=$2 place=$TARGET/$1
  say "installing $peer, which tests need, in $place (once, $size)"
  mkdir -p "$TARGET"
  exec 9>"$TARGET/$peer.lock"
  flock 9
  if has_peer "$peer"; then return; fi # somebody else just did
  rm -rf "$place"
  "$(python)" -m venv "$place" || die "python3 can't make a virtual environment"
  # Trusting whom the machine trusts, a proxy that looks into TLS included.
  local trusted=/etc/ssl/certs/ca-certificates.crt
  if [[ -z ${PIP_CERT:-} && -f $trusted ]]; then export PIP_CERT=$trusted; fi
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$ROOT/tests/data/$peer.txt" ||
    die "$peer could not be installed: tests need it" "it comes from the Python package index, by pip"
  cp "$ROOT/tests/data/$peer.txt" "$place/complete"
  exec 9>&-
}

# ---- installing it ----

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root, and there is no sudo here; as root:" "apt-get install ${missing[*]:-postgresql}"
  fi
}

apt_update() {
  if [[ $updated = no ]]; then
    say "asking the package sources"
    as_root apt-get update -q=2
    updated=yes
  fi
}

install_missing() {
  local package
  apt_update
  for package in "${missing[@]}"; do
    apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || die "no package source here has $package" \
      "for other versions of PostgreSQL see https://wiki.postgresql.org/wiki/Apt"
  done
  say "installing ${missing[*]}"
  # While this file exists a new server package makes no cluster of its own. It goes away again: the machine's
  # configuration is not ours.
  as_root mkdir -p "${dropin%/*}"
  trap 'as_root rm -f "$dropin"' EXIT
  printf 'create_main_cluster = false\n' | as_root tee "$dropin" >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  # The tests run their own.
  if [[ " ${missing[*]} " = *' pgbouncer '* && -d /run/systemd/system ]]; then
    as_root systemctl disable --now pgbouncer
  fi
}

check_rust
choose_version
check_build
if [[ $purpose != build ]]; then check_run; fi
if [[ $purpose = test || $purpose = bench ]]; then check_test; fi
if [[ $purpose = test ]]; then check_browser; fi
if [[ $purpose = bench ]]; then command -v npm >/dev/null || need npm; fi # graphile-worker, to compare with

if ((${#missing[@]})); then
  on_debian || die "these are missing, and only Debian and Ubuntu have them installed from here (by their Debian names):" \
    "${missing[@]}"
  install_missing
  say "all that rotator needs is installed now"
fi
if [[ $purpose = test ]]; then
  has_peer moto || install_peer moto "about 15 seconds and 140 MB"
  has_peer slack_sdk || install_peer slack_sdk "about 10 seconds and 20 MB"
  if [[ $wants_chrome = yes ]]; then install_chrome; fi
fi
