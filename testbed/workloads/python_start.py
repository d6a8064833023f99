"""Starts of Python with what a small service imports: many small reads, some large libraries by dlopen."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from testbed.workloads import Output, Workload, expect_lines

STARTS = 2
# Hashes of strings are the same each time. The modules are compiled already, as in an image that somebody built.
SCRIPT = f"""
set -eu
export PYTHONHASHSEED=0 PYTHONHOME=/usr/local
for start in {" ".join(map(str, range(STARTS)))}; do python3 /srv/start.py; done
""".strip()
EXPECTED = {
    "ordered": ["grace", "edsger", "ada"],
    "sum": "1.750",
    "sha256": "09345ca58e578e37",
    "crc32": 2656779670,
    "day": "2000-03-01",
    "verifies": True,
}
# What import opens by dlopen, and its dependencies that Python itself does not have.
_MODULES = ("_bz2", "_decimal", "_hashlib", "_lzma", "_sqlite3", "_ssl")
_LIBRARIES = ("libbz2.so.1.0", "libcrypto.so.3", "liblzma.so.5", "libsqlite3.so.0", "libssl.so.3", "libzstd.so.1")


def parse(output: str) -> Output:
    """Compare each start's line with the expected results."""
    expect_lines(STARTS * (json.dumps(EXPECTED, sort_keys=True),), output)
    return Output(operations=STARTS)


WORKLOAD = Workload(
    name="python-start",
    summary=f"Python starts {STARTS} times in one container and imports JSON, TLS, SQL and more",
    image="python",
    argv=("/usr/bin/sh", "-c", SCRIPT),
    executes=(
        *map(PurePosixPath, ("/usr/bin/sh", "/usr/bin/python3")),
        *(
            PurePosixPath("/usr/local/lib/python3.13/lib-dynload", f"{name}.cpython-313-x86_64-linux-gnu.so")
            for name in _MODULES
        ),
        *(PurePosixPath("/usr/lib/x86_64-linux-gnu", name) for name in _LIBRARIES),
    ),
    parse=parse,
    operation="start of the interpreter",
)
