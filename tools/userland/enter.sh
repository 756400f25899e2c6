#!/bin/bash
# Runs as root in mount and PID namespaces of its own: makes a root a machine's, and CMD its first.
# usage: enter.sh ROOT CHECKOUT CACHE BUILD CMD...
# CHECKOUT and CACHE are seen in the same places, BUILD as CHECKOUT/build.
set -Eeuo pipefail
trap 'echo "userland: error: cannot enter $root: it takes CAP_SYS_ADMIN" >&2; exit 125' ERR
root=$1
checkout=$2
cache=$3
build=$4
shift 4

# bind SOURCE TARGET: and what is mounted below it.
bind() {
	if [[ -d $1 ]]; then mkdir -p "$root$2"; else touch "$root$2"; fi
	mount --rbind "$1" "$root$2"
}

mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
bind /sys /sys
bind /dev /dev
for folder in /run /tmp; do
	mount -t tmpfs -o mode=1777 tmpfs "$root$folder"
done
# The host's network: names, and whom it trusts. Copies: packages replace these files.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
	if [[ -e $file ]]; then cp -L --remove-destination "$file" "$root$file"; fi
done
bind "$cache" "$cache"
bind "$checkout" "$checkout"
bind "$build" "$checkout/build"

exec chroot "$root" /bin/bash -c 'cd "$1" && shift && exec "$@"' bash "$checkout" "$@"
