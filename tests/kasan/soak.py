"""What is done in the guest, step by step, and how each step is judged."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steps import Notebook, Step

from testbed import files, measurers, plugins
from testbed.guest import Guest
from testbed.lab import facts, splat
from testbed.lab.build import cache, debian
from testbed.lab.build.kernel import Kernel
from testbed.measurers import Measurer
from testbed.runtimes import Start

HERE = Path(__file__).parent
SOURCE = HERE / "guest"
KNOWN = HERE / "known.toml"
# Where results of all kinds are; git does not see it.
RESULTS = HERE.parents[1] / "results" / "kasan"
STARTS, DETACHED = "starts", "detached"
# Executions a step, by so many containers at once with so many processes each.
ROUND, CONTAINERS, WORKERS = 1000, 4, 2
# Containers that start at once, and executions in each.
AT_ONCE, EXECS_EACH = 50, 16
_ROOT = "/opt/testbed/soak"
_DRIVE = f"{_ROOT}/drive.py"
_SECONDS = 3 * 3600.0
_NEEDED = 64 << 20
# Which counters of the measurer must have grown by which counts. A mode that is not here numbers containers at least.
_FILES, _CONTAINERS, _LAUNCHES = ("files", "new"), ("containers", "containers"), ("launches", "containers")
_FLOOR = {"file": (_FILES,), "image": (_FILES, _LAUNCHES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What containers did, what the measurer counted meanwhile, and what did not go well."""

    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()


_IDLE = _Done()


def wished() -> tuple[str, int]:
    """Return mode and number of executions, as `make kasan MODE=... EXECS=...` says."""
    return os.environ.get("TESTBED_KASAN_MODE", "file"), int(os.environ.get("TESTBED_KASAN_EXECS", "20000"))


def names(execs: int) -> list[str]:
    """Return the steps of a soak, in their order."""
    return [STARTS, *(f"execs-{number:03}" for number in range(-(-execs // ROUND))), DETACHED]


def build_tools(kernel: Kernel) -> Path:
    """Return the directory with the programs and the module of ``guest/``, cached or compiled now."""

    def build(at: Path) -> None:
        argv = ("sh", "/src/build.sh", "/src", "/out", kernel.release)
        debian.enter(kernel.build_root, argv, read={SOURCE: "/src"}, write={at: "/out"})
        cache.write_meta(at, {"digest": files.tree_digest(at)})

    parts = {"source": files.tree_digest(SOURCE), "kernel": kernel.digest, "root": kernel.build_digest}
    return cache.entry("soak", cache.content_key(parts), build, needed=_NEEDED)


def measurer(mode: str) -> Measurer:
    """Return the measurer in a mode, beside plain IMA on PCR 10: their locks meet."""
    policy = (*plugins.measurer("ima-exec").policy, *plugins.measurer("container-file").policy)
    return Measurer(name=f"soak-{mode}", summary="for the soak", policy=policy, mode=mode, beat=60)


def deploy(guest: Guest, tools: Path) -> None:
    """Bring the programs and the lower layer of all containers into the guest."""
    guest.put((SOURCE / "drive.py").read_bytes(), _DRIVE)
    for name in ("soak", "tiny"):
        guest.put((tools / name).read_bytes(), f"{_ROOT}/lower/{name}", mode=0o755)
    guest.put((tools / "testbed_fault.ko").read_bytes(), f"{_ROOT}/testbed_fault.ko")
    script = f"""
    mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
    cd {_ROOT}/lower
    mkdir -p files volume lib dev proc sys
    cp /usr/lib/x86_64-linux-gnu/lib[cmz].so.[0-9]* /usr/lib/x86_64-linux-gnu/libcrypto.so.* lib/
    for worker in $(seq 0 {WORKERS - 1}); do cp tiny lib/lower-$worker; done
    """
    guest.run(("sh", "-ec", script), timeout=600)


def provoke(guest: Guest, fault: str, words: str) -> Step:
    """Have the kernel do one thing wrong, and see that it is reported: ``words``, and the module in the stack."""
    guest.run(("insmod", f"{_ROOT}/testbed_fault.ko", f"fault={fault}"), timeout=600)
    looked = look(guest)
    guest.run(("rmmod", "testbed_fault"), timeout=600)
    found = [report for report in _reports(looked) if report.ours and words in report.text]
    assert found, f"{fault}: no report says {words!r}, but:\n{looked['log']}\n{looked['leaks']}"
    return Step(
        name=fault,
        boot=looked["boot"],
        log_entries=looked["log_entries"],
        known=0,
        reports=tuple(report.text for report in found),
        complaints=(),
    )


def run(guest: Guest, mode: str, todo: Sequence[str], notebook: Notebook, say: cache.Progress) -> None:
    """Do steps with the measurer attached, take it out, and write each step down; end early if one is not clean."""
    # What the boot itself left is not looked for: all leaks from here on are.
    guest.run(("sh", "-c", "echo clear > /sys/kernel/debug/kmemleak"), timeout=600)
    last = _judge(guest, "booted", _IDLE)
    notebook.add(last)
    what = measurer(mode)
    with what.attach(what, guest):
        for name in todo:
            if not last.clean:
                return
            if name != DETACHED:
                last = _perform(guest, what, name)
                notebook.add(last)
                say(_line(last))
    if last.clean and DETACHED in todo:
        notebook.add(_judge(guest, DETACHED, _IDLE))


def look(guest: Guest) -> dict[str, Any]:
    """Have all detectors look, and return what ``drive.py look`` prints."""
    found: dict[str, Any] = json.loads(guest.run(("python3", _DRIVE, "look"), timeout=_SECONDS).out)
    return found


def _reports(looked: dict[str, Any]) -> list[splat.Report]:
    return splat.in_log(looked["log"]) + splat.in_kmemleak(looked["leaks"])


def _perform(guest: Guest, what: Measurer, name: str) -> Step:
    before = measurers.counters(what, guest)
    if name == STARTS:
        done = _containers(guest, AT_ONCE, EXECS_EACH, 1)
    else:
        done = _containers(guest, CONTAINERS, ROUND // CONTAINERS, WORKERS)
    after = measurers.counters(what, guest)
    counted = {key: value - before[key] for key, value in after.items() if value != before[key]}
    unseen = tuple(_unseen(what, done.counts, counted))
    return _judge(guest, name, replace(done, counted=counted, complaints=(*done.complaints, *unseen)))


def _unseen(what: Measurer, counts: dict[str, int], counted: dict[str, int]) -> Iterator[str]:
    """Yield a complaint if the measurer was not at work: then it had nothing to do wrong."""
    for counter, wanted in _FLOOR.get(str(what.mode), (_CONTAINERS,)):
        if (grew := counted.get(counter, 0)) < counts.get(wanted, 1):
            yield f"{wanted}: {counts.get(wanted)}, but the measurer's counter {counter} grew by {grew}"


def _judge(guest: Guest, name: str, done: _Done) -> Step:
    looked, taint = look(guest), facts.taint(guest)
    found = _reports(looked)
    unknown = splat.unknown(found, splat.load_known(KNOWN))
    complaints = list(done.complaints)
    if not looked["lockdep"]:
        complaints.append("lockdep is off: nothing that came after its report was looked at")
    if taint and not found:
        complaints.append(f"the kernel is tainted ({taint}), but no report was found")
    return Step(
        name=name,
        boot=looked["boot"],
        seconds=done.seconds,
        counts=done.counts,
        counted=done.counted,
        log_entries=looked["log_entries"],
        known=len(found) - len(unknown),
        reports=tuple(report.text for report in unknown),
        complaints=tuple(complaints),
    )


def _containers(guest: Guest, containers: int, execs: int, workers: int) -> _Done:
    """Run containers all at once."""
    steps = [_start((str(execs), str(workers), str(secrets.randbelow(1 << 24)))) for _ in range(containers)]
    request = json.dumps({"timeout": _SECONDS, "steps": steps}).encode()
    done = json.loads(guest.run(("python3", _DRIVE, "run"), input=request, timeout=_SECONDS + 600).out)
    counts = {"containers": containers}
    for line in "".join(one["out"] for one in done["runs"]).splitlines():
        kind, _, times = line.partition(" ")
        counts[kind] = counts.get(kind, 0) + int(times)
    failed = tuple(f"exit status {one['code']}: {one['err'].strip()}" for one in done["runs"] if one["code"] != 0)
    return _Done(seconds=round(done["seconds"], 1), counts=counts, complaints=failed)


def _start(words: tuple[str, ...]) -> dict[str, Any]:
    one = Start(id=f"s{secrets.token_hex(4)}", image=f"{_ROOT}/lower", argv=("/soak", *words), cgroup="/soak")
    made = plugins.runtime("crun").steps(one)
    files = {name: _with_volume(text) for name, text in made.files.items()}
    return {"files": files, "before": made.before, "run": made.run, "after": made.after}


def _with_volume(text: str) -> str:
    """Return a bundle's configuration with a tmpfs from which programs may be executed."""
    config = json.loads(text)
    options = ["nosuid", "nodev", "size=64m"]
    config["mounts"].append({"destination": "/volume", "type": "tmpfs", "source": "tmpfs", "options": options})
    return json.dumps(config)


def _line(step: Step) -> str:
    execs = sum(times for kind, times in step.counts.items() if kind.startswith("exec-"))
    maps = sum(times for kind, times in step.counts.items() if kind.startswith("map-"))
    said = f"{len(step.reports)} reports" if step.reports else "no report"
    return f"{step.name}: {execs} executions, {maps} mappings in {step.seconds} s, {said}"
