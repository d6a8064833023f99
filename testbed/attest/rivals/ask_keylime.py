"""Ask Keylime about a log. Runs as a program, in a Python that has Keylime; imports nothing else of this project.

    python ask_keylime.py --probe
    python ask_keylime.py BANK VALUE ASCII_LOG POLICY

prints one JSON object: ``verdict``, ``detail``, and the cost: ``load_seconds`` for the policy file, ``lines_seconds``
to read the log and cut it into lines, ``seconds`` and ``cpu_seconds`` (user and system) of Keylime's own call,
``beyond_kib``: the peak of memory beyond what the process had after loading the policy, and ``peak_kib``: the peak in
all.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.metadata
import json
import logging
import resource
import sys
import time
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

_DETAIL = 300


def main(argv: list[str]) -> dict[str, Any]:
    """Answer one question; an exception of Keylime is an answer too."""
    try:
        ima = _keylime("keylime.ima.ima")
        if argv == ["--probe"]:
            return {"verdict": "accepts", "detail": importlib.metadata.version("keylime")}
        return _judge(ima, *argv)
    except ImportError as error:
        return {"verdict": "absent", "detail": str(error)}
    except Exception as error:  # noqa: BLE001 - its own failures are what is looked for
        return {"verdict": "crashed", "detail": f"{type(error).__name__}: {error}"[:_DETAIL]}


def _keylime(module: str) -> Any:
    # Its loggers write a line for each entry that does not fit; with a million of them nothing else would be measured.
    logging.disable(logging.CRITICAL)
    try:
        importlib.import_module("gpg")
    except ImportError:
        # Bindings of a C library, which Keylime needs only for signed policies; the policies here are not signed.
        sys.modules["gpg"] = types.ModuleType("gpg")
    return importlib.import_module(module)


def _judge(ima: Any, bank: str, value: str, log: str, policy: str) -> dict[str, Any]:
    start = time.perf_counter()
    rules = ima.deserialize_runtime_policy(Path(policy).read_text(encoding="utf-8"))
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what has been freed is not held
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak to the current use
    held, loaded = _kib("VmRSS"), time.perf_counter()
    # Its verifier gets one string over the network and splits it like this (keylime.tpm.tpm_main).
    lines = Path(log).read_bytes().decode(errors="replace").split("\n")
    cut = time.perf_counter()
    agent = _keylime("keylime.agentstates").AgentAttestState("agent")
    algorithm = _keylime("keylime.common.algorithms").Hash(bank)
    begun, cpu = time.perf_counter(), _cpu()
    _, failure = ima.process_measurement_list(agent, lines, rules, pcrval=value, hash_alg=algorithm)
    took = {"seconds": time.perf_counter() - begun, "cpu_seconds": _cpu() - cpu}
    took |= {"load_seconds": loaded - start, "lines_seconds": cut - loaded}
    took |= {"beyond_kib": _kib("VmHWM") - held, "peak_kib": _kib("VmHWM")}
    events = list(dict.fromkeys(event.event_id for event in failure.events))
    detail = ", ".join(events)[:_DETAIL] or f"{len(lines) - 1} lines"
    return {"verdict": "rejects" if failure else "accepts", "detail": detail, **took}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _kib(field: str) -> int:
    """Read memory use from Linux: ``ru_maxrss`` survives ``exec`` and would be the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0])


if __name__ == "__main__":
    json.dump(main(sys.argv[1:]), sys.stdout)
