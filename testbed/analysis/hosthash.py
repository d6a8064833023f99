"""How fast this host hashes: SHA-256 over memory, measured natively, with the name of its processor.

It is the one number of the time model that is a time. The file ``host-sha256.json`` in a campaign's directory keeps it,
so that a report is the same when it is written again, on another host too.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testbed.errors import EvidenceError, HostError
from testbed.files import open_plain, write_plain

FILE = "host-sha256.json"
# Larger than a processor's second cache, smaller than its third: files are read once, from the page cache.
_CHUNK = 4 << 20
_SECONDS = 0.3
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHash:
    """``rate``: bytes a second of CPU time, the fastest of ``n`` hashes of 4 MiB; ``least``: the slowest of them.

    Other load on the host can only slow a hash down, so the fastest is the processor's own. ``cpu``: the
    processor's name; ``mhz``: its clock when it was measured; ``sha_ni``: it has instructions for SHA-256.
    """

    cpu: str
    mhz: float
    sha_ni: bool
    rate: float
    least: float
    n: int

    @property
    def cycles(self) -> float:
        """Cycles a byte at that clock."""
        return self.mhz * 1e6 / self.rate


def measure(seconds: float = _SECONDS) -> HostHash:
    """Hash for so long (at least three times), and return how fast it was. Raises ``HostError`` without a clock."""
    cpu, mhz, flags = _processor(_CPUINFO)
    chunk = bytes(_CHUNK)
    hashlib.sha256(chunk).digest()
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        begin = time.thread_time()
        hashlib.sha256(chunk).digest()
        spent = time.thread_time() - begin
        # A clock that did not move says nothing.
        rates += [_CHUNK / spent] if spent > 0 else []
    return HostHash(cpu=cpu, mhz=mhz, sha_ni="sha_ni" in flags, rate=max(rates), least=min(rates), n=len(rates))


def of_campaign(path: Path) -> HostHash:
    """Return what the campaign's directory has kept, else measure now and keep it.

    Raises ``EvidenceError`` if the file is damaged, ``HostError`` as ``measure`` does.
    """
    file = path / FILE
    try:
        with open_plain(file) as opened:
            return _read(file, opened.read())
    except FileNotFoundError:
        measured = measure()
        write_plain(file, (json.dumps(asdict(measured), indent=1, sort_keys=True) + "\n").encode())
        return measured


def _read(path: Path, raw: bytes) -> HostHash:
    try:
        known: dict[str, Any] = json.loads(raw)
        mhz, rate, least = (float(known[name]) for name in ("mhz", "rate", "least"))
        kept = HostHash(
            cpu=str(known["cpu"]), mhz=mhz, sha_ni=bool(known["sha_ni"]), rate=rate, least=least, n=int(known["n"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, repr(error)) from error
    if not min(mhz, rate, least) > 0:
        raise _damaged(path, "a number that is not above 0")
    return kept


def _damaged(path: Path, why: str) -> EvidenceError:
    hint = "remove it, and `testbed report --cpi LOW-HIGH` measures this host again"
    return EvidenceError(f"{path}: expected the speed of a host's SHA-256, got {why}", hint)


def _processor(path: Path) -> tuple[str, float, frozenset[str]]:
    """Return the name, the clock in MHz and the flags of the first processor."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}", "the time model needs the processor's name and clock") from error
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        mhz = float(known["cpu MHz"])
    except (KeyError, ValueError):
        hint = "write it yourself into host-sha256.json in the campaign's directory (docs/statistics.md)"
        raise HostError(f"{path}: expected the processor's clock, `cpu MHz`, got none", hint) from None
    return known.get("model name", "unknown"), mhz, frozenset(known.get("flags", "").split())
