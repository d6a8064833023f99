"""Which surroundings make a run's numbers count for nothing, and on which tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.lab import health
from testbed.lab.health import HostCounters
from testbed.record import Sample, Tier
from testbed.spec import Limits

CALM: dict[str, Any] = {
    "clocksource": "tsc",
    "clocksource_after": "tsc",
    "taint": 0,
    "host_steal": 0.0,
    "host_pressure": 1.0,
}
COUNTERS = {"files": 20, "unmeasured_mprotect": 0}


def rejected(
    *,
    tier: Tier = Tier.KVM,
    facts: dict[str, Any] | None = None,
    stolen: float = 0.0,
    warmup: bool = False,
    counters: dict[str, int] | None = None,
    dmesg: str = "[    1.0] all is well",
    limits: Limits | None = None,
) -> str:
    sample = Sample(metric="guest_steal", unit="1", value=stolen, iteration=0, warmup=warmup)
    return health.rejection(
        tier,
        limits or Limits(),
        facts=CALM | (facts or {}),
        samples=[sample],
        counters=COUNTERS | (counters or {}),
        dmesg=dmesg,
    )


@pytest.mark.parametrize("tier", list(Tier))
def test_calm_is_no_reason(tier: Tier) -> None:
    assert rejected(tier=tier) == ""


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dmesg": "[  9.0] BUG: KASAN: use-after-free in x"}, "splat: BUG: KASAN"),
        ({"facts": {"taint": 512}}, "taint: the guest's kernel has 0x200"),
        ({"facts": {"clocksource_after": "hpet"}}, "clocksource: tsc became hpet"),
        ({"counters": {"unmeasured_mprotect": 3}}, "lost events: unmeasured_mprotect = 3"),
    ],
)
def test_what_broke_spoils_a_run_on_every_tier(tier: Tier, change: dict[str, Any], says: str) -> None:
    assert says in rejected(tier=tier, **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stolen": 0.021}, "guest_steal: 0.021, at most 0.02"),
        ({"facts": {"host_steal": 0.5}}, "host_steal: 0.5"),
        ({"facts": {"host_pressure": 10.5}}, "host_pressure: 10.5, at most 10"),
    ],
)
def test_a_busy_host_spoils_time_but_no_count_of_instructions(change: dict[str, Any], says: str) -> None:
    assert says in rejected(tier=Tier.KVM, **change)
    assert rejected(tier=Tier.ICOUNT, **change) == ""
    assert rejected(tier=Tier.KVM, limits=Limits(guest_steal=1, host_steal=1, host_pressure=100), **change) == ""


def test_what_was_stolen_from_a_warm_up_does_not_matter() -> None:
    assert rejected(stolen=0.9, warmup=True) == ""


def test_every_reason_is_told() -> None:
    told = rejected(facts={"taint": 1, "host_steal": 1.0}, counters={"unmeasured_x": 1})
    assert told.count(";") == 2


def test_the_hosts_counters_become_shares(tmp_path: Path) -> None:
    stat, pressure = tmp_path / "stat", tmp_path / "cpu"
    stat.write_text("cpu  100 0 50 800 10 0 0 40 7 0\ncpu0 1 2 3\n")
    pressure.write_text("some avg10=1.00 avg60=1.00 avg300=1.00 total=1000000\nfull avg10=0 avg60=0 avg300=0 total=0\n")
    before = HostCounters.now(stat, pressure)
    assert (before.steal, before.ticks, before.waited) == (40, 1000, 1_000_000)
    after = HostCounters(at=before.at + 10, steal=90, ticks=2000, waited=2_000_000)
    assert after.since(before) == {"host_steal": 0.05, "host_pressure": pytest.approx(10.0)}


def test_a_host_without_pressure_information_tells_none(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 1 0 0 1\n")
    before = HostCounters.now(stat, tmp_path / "none")
    assert before.waited is None
    assert before.since(before) == {"host_steal": 0.0}
