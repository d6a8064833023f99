"""Runs in the guest: mount a file server that has an empty directory and nothing else, and serve it in the background.

    python3 served.py PATH

It speaks the protocol of /dev/fuse (linux/fuse.h, version 7.31), and ends when it is unmounted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

REQUEST, REPLY = struct.Struct("<IIQ"), struct.Struct("<IiQ")
GETATTR, STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 3, 17, 18, 25, 26, 27, 28, 29
# No reply is expected: FORGET, INTERRUPT, BATCH_FORGET.
SILENT = {2, 36, 42}
ANSWERS = {
    INIT: struct.pack("<IIIIHHII32x4x", 7, 31, 1 << 17, 0, 12, 9, 1 << 17, 1),
    GETATTR: struct.pack("<QII6Q10I", 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0),
    STATFS: struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0),
    OPENDIR: bytes(16),
    **dict.fromkeys((RELEASE, FLUSH, RELEASEDIR, READDIR), b""),
}


def serve(device: int) -> None:
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError:
            return  # unmounted
        _, what, unique = REQUEST.unpack_from(request)
        if what not in SILENT:
            answer = ANSWERS.get(what)
            error = 0 if answer is not None else -errno.ENOSYS
            os.write(device, REPLY.pack(REPLY.size + len(answer or b""), error, unique) + (answer or b""))


def main() -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if ctypes.CDLL(None).mount(b"served", os.fsencode(sys.argv[1]), b"fuse", 0, options.encode()):
        sys.exit("the kernel does not mount it")
    if os.fork():
        os._exit(0)
    os.setsid()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    serve(device)


main()
