#!/bin/sh
# Runs while the image is built: completes the folder that becomes the sidecar's whole file system, around
# usr/local/bin/rotator. It gets the libraries that the binary names, certificates, time zones and one user.
set -eu
root=$1
binary=$root/usr/local/bin/rotator

# Each library, and the package it came from where image scanners look for packages without a package manager.
mkdir -p "$root/var/lib/dpkg/status.d"
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root${library%/*}"
  cp -L "$library" "$root$library"
  package=$(dpkg-query -S "$library" "/usr$library" 2>/dev/null | grep -v '^diversion' | head -n 1 | cut -d: -f1 || true)
  [ -n "$package" ] || continue
  dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
  mkdir -p "$root/usr/share/doc/$package"
  cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/"
done

mkdir -p "$root/etc/ssl/certs" "$root/usr/share" "$root/tmp"
chmod 1777 "$root/tmp"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp -RL /usr/share/zoneinfo "$root/usr/share/"
rm -rf "$root/usr/share/zoneinfo/right" "$root/usr/share/zoneinfo/posix"
cp /etc/debian_version "$root/etc/"
cp -L /etc/os-release "$root/etc/os-release"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/sbin/nologin\nrotator:x:10001:10001:rotator:/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nrotator:x:10001:\n' >"$root/etc/group"

# It starts in what was put together, and finds nothing missing.
chroot "$root" /usr/local/bin/rotator --version
