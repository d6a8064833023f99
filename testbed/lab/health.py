"""Whether a run was disturbed: judged by its surroundings alone, blind to what was measured.

Two kinds of disturbance. A fault (a splat, another clock source, events that the programs lost) makes a run useless on
every tier. Other users of the processor disturb time, but not a count of instructions: they reject a run on ``kvm``
only, and are recorded everywhere.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.lab import splat
from testbed.record import Sample, Tier, unmeasured
from testbed.spec import Limits

_STAT = Path("/proc/stat")
_PRESSURE = Path("/proc/pressure/cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCounters:
    """What the host's counters said at one moment: seconds, clock ticks, microseconds in which some task waited."""

    at: float
    steal: int
    ticks: int
    waited: int | None

    @classmethod
    def now(cls, stat: Path = _STAT, pressure: Path = _PRESSURE) -> HostCounters:
        """Read the counters; without pressure information (an old kernel, or off) ``waited`` is ``None``."""
        figures = [int(figure) for figure in stat.read_text(encoding="utf-8").splitlines()[0].split()[1:]]
        try:
            match = re.search(r"^some .*total=(\d+)", pressure.read_text(encoding="utf-8"), re.MULTILINE)
        except OSError:
            match = None
        return cls(
            at=time.monotonic(),
            # The last two, time of guests, are in the first two already (proc(5)).
            steal=figures[7] if len(figures) > 7 else 0,
            ticks=sum(figures[:8]),
            waited=int(match[1]) if match else None,
        )

    def since(self, before: HostCounters) -> dict[str, float]:
        """Return facts of the time since ``before``: share that was stolen, percent in which some task waited."""
        facts = {"host_steal": (self.steal - before.steal) / max(1, self.ticks - before.ticks)}
        if self.waited is not None and before.waited is not None:
            facts["host_pressure"] = (self.waited - before.waited) / 1e4 / max(1e-3, self.at - before.at)
        return facts


def rejection(
    tier: Tier,
    limits: Limits,
    *,
    facts: Mapping[str, Any],
    samples: Iterable[Sample],
    counters: Mapping[str, int],
    dmesg: str,
) -> str:
    """Return why a run's numbers do not count, empty if they do.

    ``facts``: of the run, with ``clocksource`` and ``clocksource_after``, ``taint``, ``host_steal``, ``host_pressure``;
    ``samples``: with ``guest_steal``, a share.
    """
    reasons = [*_broken(facts, counters, dmesg)]
    if tier is Tier.KVM:
        reasons += _crowded(limits, facts, samples)
    return "; ".join(reasons)


def _broken(facts: Mapping[str, Any], counters: Mapping[str, int], dmesg: str) -> Iterator[str]:
    for report in splat.in_log(dmesg):
        yield f"splat: {report.head}"
    if facts.get("taint"):
        yield f"taint: the guest's kernel has {facts['taint']:#x}"
    before, after = facts.get("clocksource"), facts.get("clocksource_after")
    if before != after:
        yield f"clocksource: {before} became {after}"
    for name, count in sorted(unmeasured(counters).items()):
        yield f"lost events: {name} = {count}"


def _crowded(limits: Limits, facts: Mapping[str, Any], samples: Iterable[Sample]) -> Iterator[str]:
    stolen = max(
        (sample.value for sample in samples if sample.metric == "guest_steal" and not sample.warmup), default=0.0
    )
    seen = {
        "guest_steal": (stolen, limits.guest_steal),
        "host_steal": (facts.get("host_steal", 0.0), limits.host_steal),
        "host_pressure": (facts.get("host_pressure", 0.0), limits.host_pressure),
    }
    for name, (value, limit) in seen.items():
        if value > limit:
            yield f"{name}: {value:.4g}, at most {limit:g} is allowed"
