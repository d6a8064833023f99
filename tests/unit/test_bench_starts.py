"""What the counts of starts of containers are made into."""

from __future__ import annotations

import pytest

from testbed.analysis.bench import prices, starts
from testbed.analysis.bench.prices import EventCost


def row(arm: str, event: str, median: float, size: int = 0) -> EventCost:
    return EventCost(arm=arm, event=event, size=size, median=median, low=median - 1, high=median + 1, n=5)


def counted(file: float = 1015, drift: float | None = None) -> list[EventCost]:
    rows = [
        row("none", "container", 1000),
        row("none", "container", 1500, 32),
        row("container-file", "container", file),
        row("container-file", "container", file + 500, 32),
        row("container-file", "entries", 4),
        row("container-image", "container", file + 100),
        row("container-image", "container", file + 600 + 64, 32),
        row("container-image", "entries", 5),
        row("container-image", "mounts", 20),
    ]
    return rows + ([row("container-drift", "container", drift)] if drift else [])


def test_starts_are_over_none_and_their_entries_are_counted() -> None:
    found = starts.ratios(counted())
    assert [(one.value, one.target) for one in found[:4]] == [(1.015, 1.02), (4, None), (1.115, None), (5, None)]
    assert all(one.ok for one in found)


def test_a_mount_is_what_more_mounts_add_to_the_launch() -> None:
    (mount,) = [one for one in starts.prices(counted()) if one.name.startswith("launch")]
    assert (mount.cost, mount.base) == (2, 100)
    (share,) = [one for one in starts.ratios(counted()) if "share" in one.name]
    assert share.value == pytest.approx(0.4)
    assert "20 mounts" in share.name


@pytest.mark.parametrize(("file", "drift", "kept"), [(1021, 1015, [False, True]), (1020, 1016, [True, False])])
def test_targets_of_starts_can_be_missed(file: float, drift: float, kept: list[bool]) -> None:
    found = starts.ratios(counted(file, drift))
    assert [one.ok for one in found if one.target and "over none" in one.name] == kept


def test_a_second_start_of_many_files_is_over_one_of_few() -> None:
    rows = [
        row(arm, "again-files", cost, size)
        for arm, cost, size in (
            ("container-file", 0, 10),
            ("container-file", 0, 10_000),
            ("container-image", 900_000, 10),
            ("container-image", 1_000_000, 10_000),
        )
    ]
    (again,) = starts.ratios(rows)
    assert (again.value, again.target, again.ok) == (0.1, 0.05, False)


def test_arms_that_were_not_run_are_left_out() -> None:
    assert starts.ratios([row("container-file", "container", 5)]) == []
    assert starts.prices([row("none", "container", 5)]) == []


def test_the_table_says_mounts_where_sizes_are_mounts() -> None:
    rows = counted()
    text = prices.markdown(rows, priced=starts.prices(rows), judged=starts.ratios(rows))
    assert "| container | 32 more mounts | none |" in text
    assert "| known start: container-file | +15 | 1,000 | ±1 |" in text
    assert "| container-file: start of a container of known content over none | 1.0150 | at most 1.02: kept |" in text
