"""Code that a container puts into the kernel: BPF programs and modules that are no file."""

from __future__ import annotations

import ctypes
import lzma
import os
import struct
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from holes.memory import system
from stress import child, libc

BPF, INIT_MODULE, EXECVEAT = 321, 175, 322
MAP_CREATE, MAP_UPDATE, PROG_LOAD, PROG_NEXT_ID, PROG_BY_ID, MAP_BY_ID, INFO_BY_FD = 0, 2, 5, 11, 13, 14, 15
SOCKET_FILTER, ARRAY, LSM, SYSCALL, SLEEPABLE = 1, 2, 29, 31, 16
AT_FDCWD, AT_EXECVE_CHECK = -100, 0x10000
_ATTRIBUTES = 144
# struct bpf_prog_info, as far as its maps.
_PROG_INFO = struct.Struct("<II8sIIQQQIIQ")


def bpf(command: int, attributes: bytes) -> int:
    memory = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    return system(BPF, command, memory, _ATTRIBUTES)


def next_program(number: int) -> int:
    """Return the number of the program after this one. Raises ``FileNotFoundError`` if there is none."""
    memory = ctypes.create_string_buffer(struct.pack("<I", number), _ATTRIBUTES)
    system(BPF, PROG_NEXT_ID, memory, _ATTRIBUTES)
    return int(struct.unpack_from("<I", memory, 4)[0])


def loaded(tag: int) -> dict[str, object]:
    """Load a BPF program that returns a number, make a map, take a program that is there by its number."""
    instructions = struct.pack("<BBhi", 0xB7, 0, 0, tag) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    code, licence = ctypes.create_string_buffer(instructions, len(instructions)), ctypes.create_string_buffer(b"GPL")
    where, named = ctypes.addressof(code), ctypes.addressof(licence)
    bpf(PROG_LOAD, struct.pack("<IIQQ", SOCKET_FILTER, len(instructions) // 8, where, named))
    bpf(MAP_CREATE, struct.pack("<IIII", ARRAY, 4, 8, 1))
    taken = bpf(PROG_BY_ID, struct.pack("<I", next_program(0)))
    return {"digest": sha256(instructions).hexdigest(), "size": len(instructions), "taken": taken > 0}


def refused() -> dict[str, object]:
    """Ask for a program as somebody who may not, and for a command that nobody knows."""
    said: dict[str, object] = {}

    def ask() -> None:
        os.setuid(65534)
        for command in (PROG_LOAD, MAP_UPDATE, 9999):
            with suppress(OSError):
                bpf(command, bytes(8))
                os._exit(1)

    said["status"] = os.waitstatus_to_exitcode(os.waitpid(child(ask), 0)[1])
    return said


def freed() -> dict[str, object]:
    """Load and free a BPF program that may sleep: the kernel waits for all that run before its memory is free."""
    instructions = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    code, licence = ctypes.create_string_buffer(instructions, len(instructions)), ctypes.create_string_buffer(b"GPL")
    where, named = ctypes.addressof(code), ctypes.addressof(licence)
    os.close(bpf(PROG_LOAD, struct.pack("<IIQQ20xI", SYSCALL, len(instructions) // 8, where, named, SLEEPABLE)))
    return {}


def inserted(path: str, words: str) -> dict[str, object]:
    """Load a kernel module from memory."""
    content = Path(path).read_bytes()
    if path.endswith(".xz"):
        content = lzma.decompress(content)
    system(INIT_MODULE, content, ctypes.c_ulong(len(content)), words.encode())
    return {"digest": sha256(content).hexdigest(), "size": len(content)}


def checked_only(path: str) -> dict[str, object]:
    """Ask whether a file could be executed, as an interpreter does before it reads a script."""
    arguments = (ctypes.c_char_p * 2)(path.encode(), None)
    got = libc.syscall(EXECVEAT, AT_FDCWD, path.encode(), arguments, None, AT_EXECVE_CHECK)
    return {"error": ctypes.get_errno() if got else 0}


def written_maps() -> dict[str, object]:
    """Try to change each map of each LSM program; return for each map's number the error, 0 if there is none."""
    said: dict[str, object] = {}
    number = 0
    while True:
        try:
            number = next_program(number)
        except FileNotFoundError:
            return said
        kind, maps = _maps_of(number)
        for one in maps if kind == LSM else ():
            said[str(one)] = _write_map(one)


def _maps_of(number: int) -> tuple[int, tuple[int, ...]]:
    """Return a program's kind and the numbers of its maps."""
    file = bpf(PROG_BY_ID, struct.pack("<I", number))
    maps = (ctypes.c_uint32 * 64)()
    info = ctypes.create_string_buffer(256)
    _PROG_INFO.pack_into(info, 0, 0, 0, b"", 0, 0, 0, 0, 0, 0, len(maps), ctypes.addressof(maps))
    _info(file, info)
    fields = _PROG_INFO.unpack_from(info)
    os.close(file)
    return fields[0], tuple(maps[: fields[9]])


def _info(file: int, memory: ctypes.Array[ctypes.c_char]) -> None:
    bpf(INFO_BY_FD, struct.pack("<IIQ", file, len(memory), ctypes.addressof(memory)))


def _write_map(number: int) -> int:
    file = bpf(MAP_BY_ID, struct.pack("<I", number))
    key, value = ctypes.create_string_buffer(512), ctypes.create_string_buffer(1 << 20)
    attributes = struct.pack("<I4xQQQ", file, ctypes.addressof(key), ctypes.addressof(value), 0)
    try:
        bpf(MAP_UPDATE, attributes)
    except OSError as error:
        return int(error.errno or 0)
    finally:
        os.close(file)
    return 0
