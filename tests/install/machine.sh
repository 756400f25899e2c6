#!/bin/bash
# In a mount namespace of its own: a copy of this file system at $MACHINE whose changes stay in memory,
# below $MACHINE_CHANGES, but for the checkout's and the cache's; then CMD, outside of it.
# usage: unshare --mount machine.sh CMD...
set -euo pipefail
checkout=$PWD
cache=${XDG_CACHE_HOME:-$HOME/.cache}/livedump
memory=/run/livedump-machine
export MACHINE=$memory/root MACHINE_CHANGES=$memory/changes

mkdir -p "$memory"
mount -t tmpfs -o size=3G tmpfs "$memory"
mkdir "$MACHINE" "$MACHINE_CHANGES"

# lay NAME LOWER AT
lay() {
	mkdir -p "$MACHINE_CHANGES/$1" "$memory/work-$1" "$3"
	mount -t overlay "$1" -o "lowerdir=$2,upperdir=$MACHINE_CHANGES/$1,workdir=$memory/work-$1" "$3"
}

lay root / "$MACHINE"
for system in proc sys dev; do
	mount --rbind "/$system" "$MACHINE/$system"
done
for folder in run tmp; do
	mount -t tmpfs -o mode=1777 tmpfs "$MACHINE/$folder"
done
mount --rbind "$cache" "$MACHINE$cache"
mount --rbind "$checkout" "$MACHINE$checkout"
# A guest finds its modules where its kernel was unpacked to: the same, as DKMS changes it.
for modules in "$cache"/kernels/*/lib/modules/*; do
	release=${modules##*/}
	lay "modules-$release" "$modules" "$MACHINE$modules"
	mkdir -p "$MACHINE/usr/lib/modules/$release"
	mount --bind "$MACHINE$modules" "$MACHINE/usr/lib/modules/$release"
done
exec "$@"
