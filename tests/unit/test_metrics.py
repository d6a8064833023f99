"""What a metric means on a tier: which are shown, the primary one first, and what is multiplied or turned round."""

from __future__ import annotations

import pytest

from testbed.analysis.tables import metrics
from testbed.record import Tier

CPU = (metrics.PRIMARY, "cpu_running")
SINGLE = tuple(metrics.SINGLE)


@pytest.mark.parametrize(
    ("tier", "shown"),
    [(Tier.ICOUNT, (*CPU, *SINGLE)), (Tier.KVM, (*CPU, "elapsed", *metrics.SERVED, *SINGLE)), (Tier.TCG, ())],
)
def test_a_tier_shows_what_its_clock_can_tell(tier: Tier, shown: tuple[str, ...]) -> None:
    assert metrics.readable(tier) == shown
    known = {*CPU, *SINGLE, "elapsed", *metrics.SERVED, "ima_entries"}
    assert {name for name in known if metrics.reading(name, tier) is not None} == set(shown)


@pytest.mark.parametrize("metric", CPU)
def test_a_second_of_icount_is_a_billion_instructions_and_one_of_kvm_is_a_second(metric: str) -> None:
    counted, timed = (metrics.reading(metric, tier) for tier in (Tier.ICOUNT, Tier.KVM))
    assert counted is not None
    assert timed is not None
    assert (counted.unit, counted.scale, timed.unit, timed.scale) == ("instructions", 1e9, "s", 1.0)


def test_what_is_of_one_request_already_is_not_shared_out_and_a_rate_is_turned_round() -> None:
    """Else more requests a second would look like an overhead."""
    for metric in metrics.readable(Tier.KVM):
        reading = metrics.reading(metric, Tier.KVM)
        assert reading is not None
        assert reading.each is (metric not in {*metrics.SERVED, *SINGLE}), metric
        assert reading.inverse is (metric == "throughput"), metric


def test_each_tier_has_a_meaning_a_margin_and_a_resolution_below_it() -> None:
    for tier in Tier:
        assert metrics.MEANING[tier].endswith(".")
        assert 0 <= metrics.RESOLUTION[tier] < metrics.DELTA[tier] < 0.05
    # From one saved machine icount repeats to 0.01 %; a floor of 0 would call every other instruction an overhead.
    assert metrics.RESOLUTION[Tier.ICOUNT] == 1e-4
    assert 0 < metrics.EXPECTED_FLOOR[True] < metrics.EXPECTED_FLOOR[False] <= metrics.DELTA[Tier.ICOUNT]
