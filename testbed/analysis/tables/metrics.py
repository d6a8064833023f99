"""What a metric means on a tier, and how its numbers are named."""

from __future__ import annotations

from dataclasses import dataclass

from testbed import plugins
from testbed.record import Tier

PRIMARY = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How to show a metric: ``label`` for people, ``unit`` after multiplying the recorded value by ``scale``.

    ``each``: the value of an iteration is shared out over its operations. ``inverse``: 1/value is shown, so that more
    is always worse.
    """

    label: str
    unit: str
    scale: float = 1.0
    each: bool = True
    inverse: bool = False


# One virtual nanosecond is one instruction under icount (shift=0), so a second of CPU time there is 1e9 of them, and
# seconds would be a lie. Elapsed time is absent: it contains waits for the TPM, which pass in the host's real time.
_READINGS = {
    (Tier.ICOUNT, "cpu"): Reading(
        label="guest instructions (cgroup CPU time under icount)", unit="instructions", scale=1e9
    ),
    (Tier.ICOUNT, "cpu_running"): Reading(
        label="guest instructions once it runs (the container's cgroup CPU time without its start)",
        unit="instructions",
        scale=1e9,
    ),
    (Tier.KVM, "cpu"): Reading(label="CPU time (cgroup)", unit="s"),
    (Tier.KVM, "cpu_running"): Reading(label="CPU time once it runs (the container's cgroup)", unit="s"),
    (Tier.KVM, "elapsed"): Reading(label="elapsed time (guest, monotonic)", unit="s"),
    (Tier.KVM, "throughput"): Reading(label="time per request (1/throughput)", unit="s", each=False, inverse=True),
    (Tier.KVM, "latency_p50"): Reading(label="latency, median", unit="s", each=False),
    (Tier.KVM, "latency_p99"): Reading(label="latency, 99th percentile", unit="s", each=False),
}
# What one system call takes, by its metric (workload ``calls``): the account of the container's cgroup, shared out.
SINGLE = {
    f"cpu_{name.replace('/', '_')}": name for name in ("open/close", "stat", "create/unlink", "mmap", "fork", "execve")
}
_READINGS |= {
    (tier, metric): Reading(label=f"{cpu.label} of one {name}", unit=cpu.unit, scale=cpu.scale, each=False)
    for tier in (Tier.ICOUNT, Tier.KVM)
    for cpu in (_READINGS[tier, PRIMARY],)
    for metric, name in SINGLE.items()
}
# What servers report about themselves, by the guest's clock.
SERVED = ("throughput", "latency_p50", "latency_p99")

# The smallest relative difference between two arms that means anything: from one saved machine icount repeats to
# 0.01 %. On kvm it is the A/A interval that says it.
RESOLUTION = {Tier.ICOUNT: 1e-4, Tier.KVM: 0.0, Tier.TCG: 0.0}
DELTA = {Tier.ICOUNT: 0.005, Tier.KVM: 0.02, Tier.TCG: 0.02}

MEANING = {
    Tier.KVM: "The numbers are time on this host, and they hold for this host.",
    Tier.ICOUNT: (
        "The numbers are guest instructions, not time. They do not include caches, cycles per instruction or TPM "
        "latency. They hold for these images, this QEMU version and this CPU model."
    ),
    Tier.TCG: "This tier has no meaningful clock. It shows correctness, and no overhead is claimed.",
}
# Of a kernel that is not tuned; nothing is said of others, because no other is compared with them.
AS_SHIPPED = (
    "The guests' kernel was booted as Debian ships it, without the words and settings with which counts repeat. Equal "
    "runs differ by more than on a tuned kernel; compare ratios, never counts, with a campaign on such a kernel."
)


# The expected width of the A/A, relative: equal runs of one process execute equally many instructions, those of several
# processes that wait for each other do not (``Workload.steady``). The report mentions it; no verdict uses it.
EXPECTED_FLOOR = {True: 0.001, False: 0.005}


def is_steady(workload: str) -> bool:
    """Whether equal runs of a workload execute equally many instructions; one that is not known here counts as such."""
    known = plugins.known_workload(workload)
    return known is None or known.steady


def operation_of(workload: str) -> str:
    """Return what a workload's cost is of (``start``, ``exec``, ...); empty for one that is not known here."""
    known = plugins.known_workload(workload)
    return known.operation if known else ""


def reading(metric: str, tier: Tier) -> Reading | None:
    """Return how to show ``metric`` on ``tier``; ``None`` if its overhead means nothing there."""
    return _READINGS.get((tier, metric))


def readable(tier: Tier) -> tuple[str, ...]:
    """Return the metrics whose overhead means something on ``tier``, the primary one first."""
    return tuple(metric for known, metric in _READINGS if known is tier)
