"""What the counts of `testbed bench measurer` are made into."""

from __future__ import annotations

import pytest

from testbed.analysis.bench import prices
from testbed.analysis.bench.prices import EventCost

MEBIBYTE = 1 << 20


def row(arm: str, event: str, median: float, size: int = 0) -> EventCost:
    return EventCost(arm=arm, event=event, size=size, median=median, low=median, high=median, n=1)


def counted(start: float = 1020, cold: float = 1_100_000, arm: str = "container-file") -> list[EventCost]:
    return [
        row("none", "start", 995),
        row("hooks-only", "start", 1000),
        row("hooks-only", "map-cold", 10_000, MEBIBYTE),
        row("container-file", "floor", 1_000_000, MEBIBYTE),
        row(arm, "start", start),
        row(arm, "map-cold", cold, MEBIBYTE),
    ]


def test_lines_become_medians_and_the_middle_half() -> None:
    text = "start 0 5\nmap-cold 64 7\nstart 0 1\nstart 0 3\nmap-cold 1024 9\n"
    rows = prices.summarize("none", text)
    assert [(one.event, one.size, one.median, one.n) for one in rows] == [
        ("start", 0, 3, 3),
        ("map-cold", 64, 7, 1),
        ("map-cold", 1024, 9, 1),
    ]
    assert (rows[0].low, rows[0].high) == (1, 5)
    assert (rows[1].low, rows[1].high) == (7, 7)


def test_a_line_of_another_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="unpack"):
        prices.summarize("none", "start 0\n")


def test_ratios_are_over_hooks_only_and_the_floor() -> None:
    hook, hot, cold = prices.ratios(counted())
    assert (round(hook.value, 3), hook.target, hook.ok) == (1.005, 1.007, True)
    assert (hot.value, hot.target, hot.ok) == (1.02, 1.03, True)
    assert (cold.value, cold.target, cold.ok) == (1.09, 1.15, True)


@pytest.mark.parametrize(
    ("start", "cold", "kept"), [(1031, 0, [True, False, True]), (1000, 1_160_001, [True, True, False])]
)
def test_a_target_can_be_missed(start: float, cold: float, kept: list[bool]) -> None:
    rows = counted(start, cold)
    assert [ratio.ok for ratio in prices.ratios(rows)] == kept
    assert "NOT KEPT" in prices.markdown(rows)


def test_the_hooks_alone_have_a_target() -> None:
    rows = [row("none", "start", 1000), row("hooks-only", "start", 1008)]
    assert [(ratio.target, ratio.ok) for ratio in prices.ratios(rows)] == [(1.007, False)]


def test_the_prototype_has_no_target() -> None:
    rows = counted(9000, 9e9, arm="prototype-file")
    assert [(ratio.target, ratio.ok) for ratio in prices.ratios(rows)[1:]] == [(None, True)] * 2


def test_other_sizes_have_no_target() -> None:
    rows = [
        row("hooks-only", "map-cold", 1, 64),
        row("container-file", "map-cold", 101, 64),
        row("container-file", "floor", 1, 64),
    ]
    assert [(ratio.value, ratio.target) for ratio in prices.ratios(rows)] == [(100, None)]


def test_an_arm_that_was_not_run_has_no_row() -> None:
    assert prices.ratios([row("none", "start", 1)]) == []
    assert prices.prices([row("none", "start", 1)]) == []


@pytest.mark.parametrize(("last", "kept"), [(30_000, True), (9000, False)])
def test_an_image_costs_the_same_for_each_file(last: float, kept: bool) -> None:
    counts = {10: 30, 100: 300, 10_000: last, 5000: 15_000}
    rows = [row("container-file", "image-files", 7, files) for files in counts]
    rows += [row("container-image", "image-files", 7 + cost, files) for files, cost in counts.items()]
    (line,) = prices.ratios(rows)
    assert line.ok is kept


@pytest.mark.parametrize(("last", "kept"), [(699, True), (301, True), (1000, False)])
def test_what_has_verity_costs_the_same_whatever_its_size(last: float, kept: bool) -> None:
    sizes = (0, 1000, 2000)
    counts = {"image-bytes": (500, 10_500, 20_500), "image-verity": (500, 500 + (last - 500) / 2, last)}
    rows = [row("container-file", event, 7, size) for event in counts for size in sizes]
    rows += [
        row("container-image", event, 7 + cost, size)
        for event, costs in counts.items()
        for size, cost in zip(sizes, costs, strict=True)
    ]
    line, flat = prices.ratios(rows)
    assert line.ok
    assert flat.ok is kept
    assert "| image: image-verity, 1000 B |" in prices.markdown(rows)


def test_two_points_are_no_line() -> None:
    rows = [row(arm, "image-bytes", 1, size) for arm in ("container-file", "container-image") for size in (1, 2)]
    assert prices.ratios(rows) == []


def test_prices_are_differences() -> None:
    hook, hit = prices.prices(counted())
    assert (hook.cost, hook.base, hook.noise) == (5, 995, 0)
    assert (hit.cost, hit.base) == (20, 1000)
    assert "| hook alone: fork+exec+exit | +5 | 995 | ±0 |" in prices.markdown(counted())


@pytest.mark.parametrize(
    ("size", "text"), [(0, ""), (64, "64 B"), (1024, "1 KiB"), (1536, "1536 B"), (1 << 24, "16 MiB")]
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert prices.human(size) == text
