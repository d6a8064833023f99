#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Build a kernel from Debian's source package. Runs INSIDE a build root that has
# that package and its tools, as any user, without network, and changes nothing
# but OUT.
#
#   sh build.sh configure OUT CONFIG
#   sh build.sh compile OUT
#
# CONFIG is laid over allnoconfig: everything that it does not name is off, unless
# it is pulled in. The first step leaves OUT/config, for its caller to compare
# with CONFIG; after the second, OUT also holds
#
#   release  vmlinuz  initrd  modules/  headers/
#
# headers/ is what modules are built against, with vmlinux, of which the types and
# symbols are left. initrd is an archive without a file: the kernel mounts its
# root by itself.

set -eu
export LC_ALL=C KBUILD_BUILD_USER=testbed KBUILD_BUILD_HOST=testbed KBUILD_BUILD_VERSION=1
KBUILD_BUILD_TIMESTAMP=$(date -u -d "@${SOURCE_DATE_EPOCH:-0}")
export KBUILD_BUILD_TIMESTAMP

die() {
	echo "build.sh: $*" >&2
	exit 1
}

run() {
	make -s -C "$TREE" -j"$(nproc)" "$@" || die "make $* failed"
}

configure() {
	set -- "$1" /usr/src/linux-source-*.tar.xz
	[ $# -eq 2 ] && [ -f "$2" ] || die "want one source package of the kernel, found: $*"
	mkdir "$TREE"
	tar -C "$TREE" --strip-components=1 -xf "$2"
	# Given a file, allnoconfig takes answers from there and says no to the rest.
	KCONFIG_ALLCONFIG=$1 run allnoconfig
	cp "$TREE/.config" "$OUT/config"
}

compile() {
	run bzImage modules
	RELEASE=$(make -s -C "$TREE" kernelrelease)
	run INSTALL_MOD_PATH="$OUT/modules" INSTALL_MOD_STRIP=1 modules_install
	rm -f "$OUT/modules/lib/modules/$RELEASE/build" "$OUT/modules/lib/modules/$RELEASE/source"
	# The kernel's own list of what a package of headers must have: resolve_btfids
	# is in it, vmlinux is not.
	run KBUILD_RUN_COMMAND="+scripts/package/install-extmod-build $OUT/headers" run-command
	strip --strip-debug -o "$OUT/headers/vmlinux" "$TREE/vmlinux"
	readelf -S "$OUT/headers/vmlinux" | grep -q '\.BTF ' || die "the kernel has no BTF"
	cp "$TREE/arch/x86/boot/bzImage" "$OUT/vmlinuz"
	cpio --quiet -o -H newc </dev/null >"$OUT/initrd"
	echo "$RELEASE" >"$OUT/release"
}

[ $# -ge 2 ] || die "usage: build.sh configure OUT CONFIG | build.sh compile OUT"
STEP=$1
OUT=$2
TREE=$OUT/tree
shift 2
case $STEP in
configure) configure "$@" ;;
compile) compile ;;
*) die "no such step: $STEP" ;;
esac
