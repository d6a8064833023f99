#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Build the measurer for the kernel of a build root. Runs INSIDE that root (a
# Debian root file system of the kernel's own suite), as any user, without
# network, and changes nothing but OUT and a directory under TMPDIR.
#
#   sh build.sh SOURCE OUT [RELEASE]
#
# SOURCE is this directory, or that of another measurer (may be read-only): its
# Makefile gets O=OUT and KDIR, a private copy of the kernel's headers with
# vmlinux (BTF) and resolve_btfids in it, and makes `all`. RELEASE is needed only
# where more than one kernel's headers are installed. On success OUT holds, of
# this directory,
#
#   testbed_measurer.ko  measurer  release  work/
#
# Packages that the root must have, all suites:
#
#   linux-image-cloud-amd64 linux-headers-cloud-amd64 clang llvm bpftool
#   libbpf-dev libelf-dev zlib1g-dev libzstd-dev make pahole zstd lz4
#
# and also, in bookworm (its headers lack resolve_btfids):
#
#   linux-source-6.1 xz-utils

set -eu
export LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

die() {
	echo "build.sh: $*" >&2
	exit 1
}

[ $# -eq 2 ] || [ $# -eq 3 ] || {
	echo "usage: build.sh SOURCE OUT [RELEASE]" >&2
	exit 2
}
SOURCE=$(cd "$1" && pwd) || die "no source directory: $1"
mkdir -p "$2"
OUT=$(cd "$2" && pwd)

for tool in clang llvm-strip bpftool make pahole readelf; do
	command -v "$tool" >/dev/null || die "$tool is missing: add its package to the build root"
done

# ---- which kernel ----

if [ $# -eq 3 ]; then
	RELEASE=$3
else
	set -- /lib/modules/*/build
	[ $# -eq 1 ] && [ -e "$1" ] ||
		die "want one kernel with headers, found: $*: name the release as third argument"
	RELEASE=$(basename "$(dirname "$1")")
fi
HEADERS=$(readlink -f "/lib/modules/$RELEASE/build") || die "no headers for $RELEASE"
[ -f "$HEADERS/Module.symvers" ] || die "no headers for $RELEASE: install linux-headers-$RELEASE"

# ---- a private copy of the headers, as the system's tree must not change ----

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
trap 'exit 1' HUP INT TERM
KDIR=$WORK/headers
# Links are followed: scripts/ and tools/ of Debian point into another package.
cp -rL "$HEADERS" "$KDIR"
chmod -R u+w "$KDIR"

# ---- vmlinux: only its BTF is needed ----

has_btf() {
	readelf -S "$1" 2>/dev/null | grep -q '\.BTF'
}

# unpack MAGIC COMMAND...: try each place where the image has the magic bytes.
unpack() {
	magic=$(printf "$1")
	shift
	for offset in $(grep -aobF "$magic" "$IMAGE" | cut -d: -f1); do
		tail -c "+$((offset + 1))" "$IMAGE" | "$@" >"$KDIR/vmlinux" 2>/dev/null || true
		has_btf "$KDIR/vmlinux" && return 0
	done
	return 1
}

if ! has_btf "$KDIR/vmlinux"; then
	IMAGE=/boot/vmlinuz-$RELEASE
	[ -r "$IMAGE" ] || die "$IMAGE cannot be read: its BTF is needed"
	unpack '\050\265\057\375' zstd -dc ||
		unpack '\002\041\114\030' lz4 -dc ||
		unpack '\037\213\010' gzip -dc ||
		unpack '\3757zXZ' xz -dc ||
		die "no kernel with BTF in $IMAGE"
fi

# ---- resolve_btfids: patches the kfuncs' BTF ids into the module ----

RESOLVE=tools/bpf/resolve_btfids/resolve_btfids
if [ ! -x "$KDIR/$RESOLVE" ]; then
	set -- /usr/src/linux-source-*.tar.xz
	[ $# -eq 1 ] && [ -f "$1" ] ||
		die "the headers lack resolve_btfids: install linux-source of this kernel"
	TOP=$(basename "$1" .tar.xz)
	# Its own makefiles would build a libbpf too, and need Python for that: the
	# few sources that it consists of link with the libbpf of the root.
	tar -C "$WORK" -xf "$1" "$TOP/tools/bpf/resolve_btfids" "$TOP/tools/lib" \
		"$TOP/tools/include" "$TOP/tools/arch/x86/include"
	TOOLS=$WORK/$TOP/tools
	LIB=$TOOLS/lib
	SUBCMD=$LIB/subcmd
	clang -O2 -w -D_GNU_SOURCE -I"$TOOLS/include" -I"$TOOLS/include/uapi" -I"$LIB" \
		-o "$WORK/resolve_btfids" "$TOOLS/bpf/resolve_btfids/main.c" \
		"$LIB/rbtree.c" "$LIB/zalloc.c" "$LIB/string.c" "$LIB/ctype.c" "$LIB/str_error_r.c" \
		"$SUBCMD/exec-cmd.c" "$SUBCMD/help.c" "$SUBCMD/pager.c" "$SUBCMD/parse-options.c" \
		"$SUBCMD/run-command.c" "$SUBCMD/sigchain.c" "$SUBCMD/subcmd-config.c" \
		-lbpf -lelf -lz || die "resolve_btfids did not build"
	mkdir -p "$(dirname "$KDIR/$RESOLVE")"
	cp "$WORK/resolve_btfids" "$KDIR/$RESOLVE"
fi

# ---- the measurer ----

make -C "$SOURCE" --no-print-directory O="$OUT" KDIR="$KDIR" V="${V:-0}" all
[ ! -e "$OUT/testbed_measurer.ko" ] || readelf -S "$OUT/testbed_measurer.ko" | grep -q '\.BTF ' ||
	die "the module has no BTF: its kfuncs could not be called"
echo "$RELEASE" >"$OUT/release"
