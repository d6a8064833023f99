# ruff: noqa: INP001 - programs, not a package
"""What is measured, one contestant in one fresh process: `contestants.py NAME DIRECTORY [ARGUMENT]` prints JSON.

`seconds` and `cpu_seconds` (user and system, of children too) are of the one call that judges the log, reading of the
file included. Starting Python, importing and loading a policy are not in them; `load_seconds` is the latter.
`beyond_kib`: what the call needed at its worst over what the process held before it.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import resource
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from testbed.attest.policy.reference import load_policy
from testbed.attest.verify import verify

NONCE = bytes(range(32))
SINCE_CALLS = 5
_HEAD = struct.Struct("<I20sI")


def verdict(directory: str, processes: str) -> dict[str, Any]:
    """Give this project's verdict: quote, replay of both PCRs, every entry's digest and fields, every file's policy."""
    place = Path(directory)
    start = time.perf_counter()
    policy = load_policy(place / "policy.json")
    loaded = time.perf_counter() - start
    ak = (place / "ak.pem").read_bytes()

    def judge() -> None:
        said = verify(place, ak=ak, nonce=NONCE, policy=policy, processes=int(processes))
        if not said.ok:
            raise SystemExit(f"not trusted: {said.findings[:3]}")

    return {**_measured(judge), "load_seconds": loaded}


def bare(directory: str) -> dict[str, Any]:
    """Do the same without a policy: what is needed then cannot hide in memory that loading one has left free."""
    place = Path(directory)
    ak = (place / "ak.pem").read_bytes()

    def judge() -> None:
        if not verify(place, ak=ak, nonce=NONCE).ok:
            raise SystemExit("not trusted")

    return _measured(judge)


def hostile(directory: str) -> dict[str, Any]:
    """Judge a log that takes as much as possible; no state is made, as for one that is not trusted."""
    place = Path(directory)
    ak = (place / "ak.pem").read_bytes()

    def judge() -> None:
        verify(place, ak=ak, nonce=NONCE, make_state=False).as_json()

    return _measured(judge)


def increment(directory: str, later: str) -> dict[str, Any]:
    """Judge the log that has grown since it was verified whole, by the state of that; the median of some calls."""
    policy = load_policy(Path(later) / "policy.json")
    ak = (Path(directory) / "ak.pem").read_bytes()
    whole = verify(Path(directory), ak=ak, nonce=NONCE, policy=policy)

    def judge() -> None:
        said = verify(Path(later), ak=ak, nonce=NONCE, policy=policy, since=whole.state)
        if whole.state is None or not said.ok:
            raise SystemExit(f"not trusted: {said.findings[:3]}")

    return sorted((_measured(judge) for _ in range(SINCE_CALLS)), key=lambda one: one["seconds"])[SINCE_CALLS // 2]


def loop(directory: str) -> dict[str, Any]:
    """Replay a log in the plainest Python: framing, SHA-1 of each entry compared, each PCR extended. No fields."""
    place = Path(directory)

    def judge() -> None:
        log = (place / "ima.bin").read_bytes()
        values = {10: bytes(32), 11: bytes(32)}
        at = 0
        sha1, sha256, head = hashlib.sha1, hashlib.sha256, _HEAD.unpack_from
        while at < len(log):
            pcr, shown, size = head(log, at)
            at += 28 + size
            start = at + 4
            at = start + int.from_bytes(log[at:start], "little")
            data = log[start:at]
            if sha1(data).digest() != shown:
                raise SystemExit("another template digest")
            values[pcr] = sha256(values[pcr] + sha256(data).digest()).digest()
        _compare(place, values)

    return _measured(judge)


def hashes(directory: str) -> dict[str, Any]:
    """Compute a log's hashes and nothing else: three for each entry, its bytes cut out before."""
    place = Path(directory)
    log = (place / "ima.bin").read_bytes()
    work, at = [], 0
    while at < len(log):
        pcr, _, size = _HEAD.unpack_from(log, at)
        start = at + 32 + size
        at = start + int.from_bytes(log[start - 4 : start], "little")
        work.append((pcr, log[start:at]))

    def judge() -> None:
        values = {10: bytes(32), 11: bytes(32)}
        sha1, sha256 = hashlib.sha1, hashlib.sha256
        for pcr, data in work:
            sha1(data).digest()
            values[pcr] = sha256(values[pcr] + sha256(data).digest()).digest()
        _compare(place, values)

    return _measured(judge)


def _compare(place: Path, values: dict[int, bytes]) -> None:
    told = json.loads((place / "bundle.json").read_bytes())["pcr_values"]
    if {str(pcr): value.hex() for pcr, value in values.items()} != told:
        raise SystemExit("other PCR values")


def _measured(call: Callable[[], None]) -> dict[str, Any]:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what has been freed is not held
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again, from the memory that is held now
    held, cpu, start = _kib("VmRSS"), _cpu(), time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu_seconds": _cpu() - cpu, "beyond_kib": _kib("VmHWM") - held}


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _kib(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0])


CONTESTANTS: dict[str, Callable[..., dict[str, Any]]] = {
    "verdict": verdict,
    "bare": bare,
    "increment": increment,
    "hostile": hostile,
    "loop": loop,
    "hashes": hashes,
}

if __name__ == "__main__":
    json.dump(CONTESTANTS[sys.argv[1]](*sys.argv[2:]), sys.stdout)
