"""Files with fs-verity: enabled after a page of the file was pinned, with other parameters, and files beside them."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import struct
from pathlib import Path

from holes import pins, tails
from holes.extents import over
from holes.memory import EVIL, EXEC, GOOD, READ, drop, function, map_file, protect, refusal, unmap
from stress import PAGE, padded, program, run, write

# linux/fsverity.h: FS_IOC_ENABLE_VERITY, struct fsverity_enable_arg; FS_IOC_READ_VERITY_METADATA, of the descriptor.
ENABLE_VERITY, READ_METADATA, DESCRIPTOR = 0x40806685, 0xC0286687, 2
SHA256, SHA512 = 1, 2


def enable(path: str, *, algorithm: int = SHA256, block: int = PAGE, salt: bytes = b"") -> None:
    """Enable fs-verity of a file."""
    memory = ctypes.create_string_buffer(salt, max(len(salt), 1))
    argument = struct.pack("<IIIIQ", 1, algorithm, block, len(salt), ctypes.addressof(memory) if salt else 0)
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(file, ENABLE_VERITY, array.array("B", argument.ljust(128, b"\0")))
    finally:
        os.close(file)


def executed(place: str) -> dict[str, object]:
    """Execute a file, and again with fs-verity; get another one by every route; execute an empty one."""
    write(f"{place}/it", padded(b"it", GOOD))
    ran = [run(f"{place}/it")]
    enable(f"{place}/it")
    ran += [run(f"{place}/it"), run(f"{place}/it")]
    write(f"{place}/mapped", function(GOOD))
    enable(f"{place}/mapped")
    late = map_file(f"{place}/mapped", READ)
    protect(late, READ | EXEC)
    unmap(map_file(f"{place}/mapped", READ | EXEC))
    large = program(b"large", GOOD).ljust(300 * PAGE + 17, b"\1")
    write(f"{place}/large", large)
    enable(f"{place}/large")
    drop(f"{place}/large")
    return {"ran": [*ran, run(f"{place}/large")], "large": len(large)}


def parameters(place: str) -> dict[str, object]:
    """Execute files with fs-verity of other parameters."""
    said: dict[str, object] = {}
    for name, more in (("salted", {"salt": b"salt"}), ("long", {"algorithm": SHA512}), ("small", {"block": 1024})):
        write(f"{place}/{name}", padded(name.encode(), GOOD))
        # Smaller blocks came in 6.3.
        with refusal(said, name):
            enable(f"{place}/{name}", **more)
            said[f"ran-{name}"] = run(f"{place}/{name}")
    return said


def pinned(place: str) -> dict[str, object]:
    """Write to a page that was pinned before fs-verity was enabled."""
    source, fault, answer = pins.faulting(padded(b"evil", EVIL))
    path = f"{place}/it"
    return pins.attack(path, source, PAGE, begun=fault.wait, finish=answer.done, then=lambda: enable(path))


def behind(place: str) -> dict[str, object]:
    """Enable fs-verity of a file that has code behind its end, in its last page, and execute it."""
    path = f"{place}/it"
    content = bytearray(program(b"t" * 100))
    at = len(content) + 8
    content[24:32] = (0x400000 + at).to_bytes(8, "little")
    write(path, bytes(content))
    tails.put_behind(path, len(content), program(b"", EVIL)[120:])
    enable(path)
    return {"ran": run(path), "content": Path(path).read_bytes() == content}


def replaced(place: str) -> dict[str, object]:
    """Execute a file with fs-verity, put another one in its place, execute that."""
    ran = []
    for name, status in (("one", GOOD), ("other", EVIL)):
        write(f"{place}/{name}", padded(name.encode(), status))
        enable(f"{place}/{name}")
        Path(f"{place}/{name}").rename(f"{place}/it")
        ran.append(run(f"{place}/it"))
    return {"ran": ran}


def copied_up(place: str) -> dict[str, object]:
    """Execute a file with fs-verity below an overlay, then change it there: the copy has none."""
    Path(f"{place}/lower").mkdir()
    write(f"{place}/lower/it", padded(b"lower", GOOD))
    enable(f"{place}/lower/it")
    path = over(place, "it")
    ran = [run(path)]
    write(path, padded(b"upper", EVIL))
    return {"ran": [*ran, run(path)]}


def confused(place: str) -> dict[str, object]:
    """Map a file as code whose content is what the fs-verity digest of another file is computed of."""
    write(f"{place}/it", padded(b"it", GOOD))
    enable(f"{place}/it")
    ran = run(f"{place}/it")
    memory = ctypes.create_string_buffer(PAGE)
    file = os.open(f"{place}/it", os.O_RDONLY)
    argument = struct.pack("<QQQQQ", DESCRIPTOR, 0, PAGE, ctypes.addressof(memory), 0)
    size = fcntl.ioctl(file, READ_METADATA, array.array("B", argument))
    write(f"{place}/descriptor", memory.raw[:size])
    unmap(map_file(f"{place}/descriptor", READ | EXEC))
    return {"ran": ran, "descriptor": memory.raw[:size].hex()}
