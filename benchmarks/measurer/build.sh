#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Build what `testbed bench` brings into a guest. Runs INSIDE the build
# root of a kernel (see bpf/build.sh), as any user, without network.
#
#   sh build.sh SOURCE OUT RELEASE
#
# On success OUT holds bench, host, true (all static) and testbed_floor.ko.

set -eu
export LC_ALL=C
SOURCE=$1
OUT=$2
RELEASE=$3
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

clang -O2 -std=gnu11 -static -Wall -Wextra -Werror -o "$OUT/bench" "$SOURCE/bench.c"
clang -O2 -std=gnu11 -static -Wall -Wextra -Werror -o "$OUT/host" "$SOURCE/host.c"
clang -O2 -std=gnu11 -static -nostdlib -Wall -Wextra -Werror -o "$OUT/true" "$SOURCE/true.c"
cp "$SOURCE/Kbuild" "$SOURCE/testbed_floor.c" "$WORK/"
make --no-print-directory -s -C "/lib/modules/$RELEASE/build" M="$WORK" modules
llvm-strip --strip-debug -o "$OUT/testbed_floor.ko" "$WORK/testbed_floor.ko"
