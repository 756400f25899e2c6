#!/bin/bash
# Smoke tests on the cloud flavour of a series. Debian builds it without 9p, which our guests get their
# files by, so that is compiled for it from the kernel's source; nothing else of it changes.
# usage: tests/cloud.sh SERIES PYTHON      (root: its headers are installed)
set -euo pipefail
series=$1 python=$(realpath --no-symlinks "$2")
work=$PWD/build/cloud/$series
release=$("$python" -m tools.vm kernels "$series")
release=${release%-amd64}-cloud-amd64
headers=/usr/src/linux-headers-$release
# A cache of its own, so that nobody else takes this kernel for Debian's.
export XDG_CACHE_HOME=$work/cache
kernel=$XDG_CACHE_HOME/livedump/kernels/$release

mkdir -p "$work"
DEBIAN_FRONTEND=noninteractive apt-get -qqy install "linux-headers-$release"
"$python" -m tools.vm fetch "$release"

cd "$work"
if ! [[ -d linux-source-$series ]]; then
	apt-get -qq download "linux-source-$series"
	dpkg-deb --fsys-tarfile linux-source-*.deb |
		tar --extract --to-stdout "./usr/src/linux-source-$series.tar.xz" |
		tar --extract --xz "linux-source-$series/"{net,fs}/9p
	rm linux-source-*.deb
fi
source=$work/linux-source-$series
make -C "$headers" M="$source/net/9p" CONFIG_NET_9P=m CONFIG_NET_9P_VIRTIO=m modules
make -C "$headers" M="$source/fs/9p" CONFIG_9P_FS=m \
	KBUILD_EXTRA_SYMBOLS="$source/net/9p/Module.symvers" modules
install -D --mode=644 --target-directory="$kernel/lib/modules/$release/extra" \
	"$source"/net/9p/9pnet.ko "$source"/net/9p/9pnet_virtio.ko "$source"/fs/9p/9p.ko
/sbin/depmod -b "$kernel" "$release"

cd "$OLDPWD"
make -s -C tests/kmod STRICT=1 KRELEASE="$release" O="$PWD/build/kmod/$release"
exec "$python" -m tools.vm run --kernel "$release" --memory 1536M \
	--disk "build/test/$release.img:3G" --timeout 1200 -- \
	"$python" -m pytest --durations=8 tests/guest -m smoke
