#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Build what `make kasan` brings into its guest. Runs INSIDE the kernel's build
# root (see bpf/build.sh), as any user, without network.
#
#   sh build.sh SOURCE OUT RELEASE
#
# On success OUT holds soak and tiny (both static) and testbed_fault.ko.

set -eu
export LC_ALL=C
SOURCE=$1
OUT=$2
RELEASE=$3
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

clang -O2 -std=gnu11 -static -Wall -Wextra -Werror -o "$OUT/soak" "$SOURCE/soak.c"
clang -O2 -std=gnu11 -static -nostdlib -Wall -Wextra -Werror -s \
	-Wl,--build-id=none -Wl,-z,noseparate-code \
	-o "$OUT/tiny" "$SOURCE/tiny.c"
cp "$SOURCE/Kbuild" "$SOURCE/testbed_fault.c" "$WORK/"
make --no-print-directory -s -C "/lib/modules/$RELEASE/build" M="$WORK" modules
llvm-strip --strip-debug -o "$OUT/testbed_fault.ko" "$WORK/testbed_fault.ko"
