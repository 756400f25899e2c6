#!/bin/bash
# Runs in the guest, as root, started by virtme-ng's init: the last steps of set-up, then CMD.
# usage: guest.sh RUN_DIR VENV PYCACHE CHECKOUT
# RUN_DIR/env and RUN_DIR/argv are NUL-separated lists, written by tools.vm.machine.
run_dir=$1
venv=$2
pycache=$3
checkout=$4

# A writable /tmp. A checkout below it must stay in sight, with what is mounted in it.
if [[ $checkout/ == /tmp/* ]]; then
	new=/run/livedump-tmp
	mkdir -p "$new"
	mount -t tmpfs -o mode=1777 tmpfs "$new"
	mkdir -p "$new${checkout#/tmp}"
	mount --rbind "$checkout" "$new${checkout#/tmp}"
	mount --move "$new" /tmp
else
	mount -t tmpfs -o mode=1777 tmpfs /tmp
fi
[[ -d /sys/kernel/tracing/events ]] || mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
# As with /usr (see init.sh); these lie below build/, which init has mounted meanwhile.
cached=ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose
mount -t 9p -o "$cached" livedump.venv "$venv"
mount -t 9p -o "$cached" livedump.pycache "$pycache"

# Only what we choose: the kernel hands its unknown options to init as environment.
mapfile -d '' -t environment < "$run_dir/env"
mapfile -d '' -t argv < "$run_dir/argv"

# The host reads the time of this file: CMD starts now.
: > "$run_dir/ready"
echo "livedump-vm: ready" > /dev/kmsg
exec env -i "${environment[@]}" "${argv[@]}"
