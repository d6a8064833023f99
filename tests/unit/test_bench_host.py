"""What the counts of the host's events are made into."""

from __future__ import annotations

import pytest

from testbed.analysis.bench import host_prices
from testbed.analysis.bench.host_prices import HostCounts


def counted(arm: str, fired: float = 0.0, **events: int) -> HostCounts:
    named = {f"host-{name.replace('_', '-')}": value for name, value in events.items()}
    lines = "".join(f"{name} 0 {value + step}\n" for name, value in named.items() for step in (-1, 0, 1))
    return HostCounts(arm=arm, text=lines, fired=dict.fromkeys(named, fired))


def test_an_arm_adds_what_its_median_is_above_the_baseline() -> None:
    listed = host_prices.prices([counted("none", rename=1000), counted("hooks-only", fired=2, rename=1300)])
    (price,) = listed
    assert (price.arm, price.event, price.base, price.added, price.fired) == ("hooks-only", "host-rename", 1000, 300, 2)
    assert price.each == 150


def test_without_the_baseline_nothing_is_priced() -> None:
    assert host_prices.prices([counted("hooks-only", fired=1, rename=1300)]) == []


def test_where_no_program_runs_none_has_a_price() -> None:
    (price,) = host_prices.prices([counted("none", chmod=1000), counted("hooks-only", fired=0.1, chmod=1001)])
    assert price.each is None
    assert [ratio.name for ratio in host_prices.ratios([price])] == ["hooks-only: host-chmod over none"]


@pytest.mark.parametrize(
    ("event", "most"),
    [("open_read", 1.12), ("open_write", 1.12), ("create_unlink", 1.05), ("fork", 1.02), ("execve", 1.02)],
)
@pytest.mark.parametrize(("beyond", "kept"), [(0, True), (1, False)])
def test_an_event_of_the_host_has_a_target(event: str, most: float, beyond: int, kept: bool) -> None:
    base = 100_000
    arm = counted("container-file", fired=1000, **{event: round(base * most) + beyond})
    over, hook = host_prices.ratios(host_prices.prices([counted("none", **{event: base}), arm]))
    assert (over.target, over.ok) == (most, kept)
    assert hook.ok


@pytest.mark.parametrize("event", ["mkdir_rmdir", "rename", "chmod"])
@pytest.mark.parametrize(("added", "kept"), [(750, True), (751, False)])
def test_other_events_are_held_to_the_price_of_a_hook(event: str, added: int, kept: bool) -> None:
    arm = counted("container-image", fired=3, **{event: 1000 + added})
    listed = host_prices.prices([counted("none", **{event: 1000}), arm])
    over, hook = host_prices.ratios(listed)
    assert (over.target, over.ok) == (None, True)
    assert (hook.target, hook.ok) == (250, kept)
    assert ("NOT KEPT" in host_prices.markdown(listed)) is not kept


def test_an_event_that_varies_by_more_than_its_hooks_may_add_has_no_target_for_them() -> None:
    loud = HostCounts(arm="none", text="host-chmod 0 500\nhost-chmod 0 1000\nhost-chmod 0 1500\n", fired={})
    listed = host_prices.prices([loud, counted("hooks-only", fired=1, chmod=2000)])
    over, hook = host_prices.ratios(listed)
    assert (listed[0].noise, listed[0].steady) == (500, False)
    assert (over.target, hook.value, hook.target) == (None, 1000, None)


def test_every_arm_and_event_has_a_line() -> None:
    arms = [counted("none", fork=5000, rename=900), counted("hooks-only", fired=1, fork=5100, rename=990)]
    text = host_prices.markdown(host_prices.prices(arms))
    assert "| host-fork | hooks-only | 5,000 | ±1 | +100 | +2.0 % | 1.0 | +100 |" in text
    assert "| host-rename | hooks-only | 900 | ±1 | +90 | +10.0 % | 1.0 | +90 |" in text
