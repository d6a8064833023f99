"""tar and gzip: a tree of a hundred files is packed, compressed, unpacked again and compared with what it was."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Workload, WorkloadFailed, expect_lines

FILES = 100
# The metadata of each file in the archive is fixed, so that the archive is the same each time. From file to file,
# without pipes: the scheduler decides how often two programs at a pipe wait for each other.
SCRIPT = """
set -eu
tar --create --file=/tmp/tree.tar --directory=/srv --format=ustar --sort=name \
  --mtime=@1000000000 --owner=0 --group=0 --numeric-owner tree
cd /tmp
b2sum tree.tar
gzip --no-name tree.tar
gzip --list tree.tar.gz
gzip --decompress tree.tar.gz
tar --extract --file=tree.tar
b2sum --check /srv/BLAKE2SUMS
""".strip()
SIZE = 1_085_440
# BLAKE2b, as coreutils have it: the other sums are OpenSSL's, which is larger than all the rest of the image.
DIGEST = (
    "bcd5c638048555fbf6643359efd59843d88f29cace66272cc59ef8fefe1b6572"
    "a158b61ffd3533406e1daddb24d87dd5e4d871177283655d057770c765b4bcfa"
)
_CHECKED = tuple(f"tree/group{n % 10}/file{n:02}.txt: OK" for n in sorted(range(FILES), key=lambda n: (n % 10, n)))
_LISTED = re.compile(r"\s+(?P<compressed>\d+)\s+(?P<size>\d+)\s+\d+\.\d% tree\.tar")


def parse(output: str) -> Output:
    """Compare the archive and each unpacked file with the expected ones; gzip must have halved the archive."""
    lines = output.splitlines()
    listed = _LISTED.fullmatch(lines[2]) if len(lines) > 2 else None
    if listed is None or int(listed["size"]) != SIZE or int(listed["compressed"]) > SIZE // 2:
        raise WorkloadFailed(f"line 3: expected at most half of {SIZE} bytes, got {lines[2:3]!r}")
    heading = "         compressed        uncompressed  ratio uncompressed_name"
    expect_lines((f"{DIGEST}  tree.tar", heading, lines[2], *_CHECKED), output)
    return Output()


WORKLOAD = Workload(
    name="archive",
    summary=f"tar packs {FILES} files, gzip compresses them, both undo it; every file is compared",
    image="archive",
    argv=("/usr/bin/sh", "-c", SCRIPT),
    executes=tuple(PurePosixPath("/usr/bin") / name for name in ("sh", "tar", "gzip", "b2sum")),
    parse=parse,
    operation="archive",
)
