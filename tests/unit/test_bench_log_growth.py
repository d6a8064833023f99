"""What the counts of `testbed bench log` are made into."""

from __future__ import annotations

import pytest

from testbed.analysis.bench import log_growth
from testbed.analysis.bench.log_growth import BUCKETS, Length

BASE, STEP, WRITE = 20_000, 10.0, 700


def length(entries: int, step: float = STEP) -> Length:
    passed = entries / BUCKETS
    text = "".join(
        f"{event} {entries} {round(value)}\n"
        for event, value in (
            ("write", WRITE),
            ("entry", WRITE + BASE + step * passed),
            ("again", WRITE + 9000 + step * passed / 2),
            ("new-file", 100_000 + step * passed),
            ("read", 5000 * entries),
        )
    )
    return log_growth.length("container-file", entries, text, 512.4)


def test_the_price_of_a_lookup_is_found_again() -> None:
    line = log_growth.lookup([length(entries) for entries in (1000, 10_000, 100_000, 1_000_000)])
    assert line
    assert [line.base, line.step] == pytest.approx([BASE, STEP], rel=0.001)
    # There passing the others is a tenth of the rest.
    assert STEP * line.matters_from / BUCKETS == pytest.approx(BASE / 10, rel=0.001)


def test_two_lengths_are_no_line_and_neither_is_what_does_not_grow() -> None:
    some = [length(1000), length(10_000)]
    assert log_growth.lookup(some) is None
    assert log_growth.lookup([length(entries, step=0) for entries in (1000, 10_000, 100_000)]) is None
    assert "cost of the hash table is unknown" in log_growth.markdown(some)


def test_a_row_has_prices_without_the_write() -> None:
    table = log_growth.markdown([length(entries) for entries in (1024, 102_400, 1_024_000)])
    assert "| 102,400 | 21,000 | 9,500 | 101,000 | 5,000 | 512 B |" in table
    assert "from about 204,800 entries on" in table


def test_what_was_not_counted_is_empty() -> None:
    whole = length(1024)
    rows = tuple(row for row in whole.rows if row.event != "read")
    table = log_growth.markdown([Length(entries=1024, rows=rows, entry_bytes=None)])
    assert "| 1,024 | 20,010 | 9,005 | 100,010 |  |  |" in table
