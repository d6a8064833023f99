"""The cells of a page's generated tables, computed again: what each must show, and what differs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recomputed import estimates
from recomputed.claims import Claims, UnknownItem
from recomputed.estimates import Number
from recomputed.page import Shown, Table, numbers

_MARKS = {
    "OVERHEAD": "",
    "OVERHEAD, below δ": "(below δ)",
    "SPEED-UP": "**(speed-up)**",
    "SPEED-UP, below δ": "(speed-up, below δ)",
    "NO DETECTABLE OVERHEAD": "(no detectable overhead)",
    "INCONCLUSIVE": "(inconclusive)",
    "INVALID": "**(INVALID)**",
}
# The same in the table of operations, behind the percentage.
_REMARKS = {
    "OVERHEAD": "",
    "OVERHEAD, below δ": "; below δ",
    "SPEED-UP": "; speed-up",
    "SPEED-UP, below δ": "; speed-up, below δ",
    "NO DETECTABLE OVERHEAD": "; none detectable",
    "INCONCLUSIVE": "; inconclusive",
    "INVALID": "; INVALID",
}
# Rows of that table that are prices.
_OPERATIONS = {"A byte of a new file": "bytes", "An exec or mapping of a known file": "lookups"}
# What the table of prices calls steps and events.
_STEPS = {
    "plain IMA": "ima",
    "hooks alone": "hook",
    "files of containers": "file",
    "start of a known image": "launch",
    "first start of an image": "image",
    "files of containers, seen first": "content",
}
_EVENTS = {
    "one run of a BPF program": "runs",
    "one decision of the hooks": "decisions",
    "one hashed byte": "bytes",
    "one new file": "files",
    "one lookup of a known file": "lookups",
    "one extend": "extends",
    "one launch entry": "launches",
    "one file of a known image": "walked",
    "one byte of an image": "image_bytes",
    "one file of an image": "image_files",
    "the runtime's own program": "runtimes",
}
_PARTS = {
    "hooks that decide nothing": "hooks",
    "lookups of known files": "lookups",
    "SHA-256 of files' bytes": "hash",
    "SHA-256 of an image's bytes": "tree",
    "new files": "entries",
    "images": "launches",
    "files": "rest",
}


@dataclass(frozen=True)
class Cell:
    """One cell: what it shows, and what differs from what was computed (empty: nothing)."""

    line: int
    text: str
    differs: str


def cells(table: Table, claims: Claims) -> Iterator[Cell]:
    """Yield the checked cells of a table. Raises ``UnknownItem`` for a kind, a column or a row that is not known."""
    kind, *arguments = table.kind.split()
    known: dict[str, Callable[..., Iterator[tuple[int, str, str]]]] = {
        "operations": _operations,
        "overhead": _overhead,
        "cost": _cost,
        "prices": _prices,
        "parts": _parts,
        "hosts": _hosts,
    }
    if kind not in known:
        raise UnknownItem(f"table {kind!r}: expected one of {', '.join(known)}")
    for row, text, differs in known[kind](table, claims, *arguments):
        yield Cell(table.line + 3 + row, text, differs)


def _overhead(table: Table, claims: Claims, metric: str) -> Iterator[tuple[int, str, str]]:
    """Yield workloads by arms: overhead with its verdict; the last column is the A/A, the last row the mean."""
    arms = [column.strip("`") for column in table.header[1:-1]]
    samples = claims.samples
    seen: set[str] = set()
    for n, (name, *values, floor) in enumerate(table.rows):
        workload = _plain(name)
        if name.startswith("geometric mean"):
            yield n, name, _shows(name.partition(",")[0], [Number(len(seen))])
            for arm, text in zip(arms, values, strict=True):
                yield n, text, _shows(text.strip("*"), [estimates.mean(samples, metric, arm)])
            continue
        seen.add(workload)
        for arm, text in zip(arms, values, strict=True):
            found = estimates.contrast(samples, metric, arm, workload)
            if found is None:
                yield n, text, "" if not text else "the campaign has no such number"
                continue
            effect = estimates.percent(estimates.hodges_lehmann(found.logs))
            mark = _MARKS[estimates.verdict(found, samples.delta)]
            yield n, text, _shows(text, [effect]) or ("" if text.endswith(mark or "]") else f"verdict: {mark}")
        same = estimates.same(samples, metric, workload)
        yield n, floor, _shows(floor, [estimates.percent(estimates.hodges_lehmann(same))] if len(same) else [])
    missing = {w for w in samples.workloads if len(samples.values(metric, w))} - seen
    if missing:
        yield -3, "", f"rows are missing: {', '.join(sorted(missing))}"


def _cost(table: Table, claims: Claims, metric: str) -> Iterator[tuple[int, str, str]]:
    """Yield workloads by arms: instructions of one operation; before the arms stand operation and baseline."""
    arms = [column.strip("`") for column in table.header[3:]]
    for n, (name, _, base, *values) in enumerate(table.rows):
        workload = _plain(name)
        yield n, base, _shows(base, [Number(estimates.base(claims.samples, metric, workload))])
        for arm, text in zip(arms, values, strict=True):
            number = estimates.cost(claims.samples, metric, arm, workload)
            yield n, text, _shows(text, [number]) if number else ("" if not text else "the campaign has no such number")


def _operations(table: Table, claims: Claims) -> Iterator[tuple[int, str, str]]:
    """Yield operations by arms: what is added, its percentage and its verdict; prices of events stand between them."""
    arms = [column.strip("`") for column in table.header[2:]]
    samples = claims.samples
    for n, (name, base, *values) in enumerate(table.rows):
        event = next((event for start, event in _OPERATIONS.items() if name.startswith(start)), None)
        if event is not None:
            for arm, text in zip(arms, values, strict=True):
                yield n, text, _shows(_with_unit(text), [claims.prices.of_arm(arm).get(event)])
            continue
        workload, metric = name.split("`")[1], "cpu_running" if " once it runs" in name else "cpu"
        yield n, base, _shows(_with_unit(base), [Number(estimates.base(samples, metric, workload))])
        for arm, text in zip(arms, values, strict=True):
            found = estimates.contrast(samples, metric, arm, workload)
            if found is None:
                yield n, text, "" if not text else "the campaign has no such number"
                continue
            share = Number(estimates.percent(estimates.hodges_lehmann(found.logs)).value)
            mark = _REMARKS[estimates.verdict(found, samples.delta)]
            differs = _shows(_with_unit(text), [estimates.cost(samples, metric, arm, workload), share])
            yield n, text, differs or ("" if text.endswith(f"{mark or ' %'})") else f"verdict: {mark}")


def _with_unit(text: str) -> str:
    """Put the unit of the table's head behind the prefix of a number."""
    return re.sub(r" ([kMG])(?= \(|$)", r" \1 instr", text)


def _prices(table: Table, claims: Claims) -> Iterator[tuple[int, str, str]]:
    """Yield steps and events with their price, the number of blocks and of workloads."""
    shown: dict[str, set[str]] = {}
    for n, (title, _, words, price, blocks, workloads) in enumerate(table.rows):
        step = _STEPS.get(title)
        event = next((event for start, event in _EVENTS.items() if words.startswith(start)), None)
        if step is None or event is None:
            raise UnknownItem(f"table of prices: {title!r}, {words!r}: not a step or an event that is known here")
        fit = claims.prices.fit(step)
        if fit is None or event not in fit.prices:
            yield n, price, "these workloads give no such price"
            continue
        shown.setdefault(step, set()).add(event)
        yield n, price, _shows(price, [fit.prices[event]])
        yield (
            n,
            f"{blocks}, {workloads}",
            _shows(f"{blocks} {workloads}", [Number(fit.blocks), Number(len(fit.workloads))]),
        )
    for step in claims.prices.steps:
        fit = claims.prices.fit(step)
        left_out = set(fit.prices) - shown.get(step, set()) if fit else set()
        if left_out:
            yield -3, "", f"prices are missing: {step}: {', '.join(sorted(left_out))}"


def _parts(table: Table, claims: Claims) -> Iterator[tuple[int, str, str]]:
    """Yield workloads by parts: shares in percent of what the whole ladder adds."""
    columns = [(n, _PARTS[name.partition(":")[0].removesuffix(", %")]) for n, name in enumerate(table.header) if n > 2]
    for n, row in enumerate(table.rows):
        shares = claims.prices.shares(_plain(row[0]))
        for column, part in columns:
            yield n, row[column], _shows(row[column], [Number(shares[part])] if part in shares else [])


def _hosts(table: Table, claims: Claims) -> Iterator[tuple[int, str, str]]:
    """Yield workloads and arms: counts on both hosts, how far they and their ratios differ, how far boots differ."""
    for n, (name, arm_cell, both, count, ratio, spreads, _) in enumerate(table.rows):
        workload, arm = _plain(name), _plain(arm_cell)
        yield n, both, _shows(re.sub(r" ([kMG])(?= and|$)", r" \1 instr", both), list(claims.counts(arm, workload)))
        yield n, spreads, _shows(spreads, list(claims.spreads(arm, workload)))
        if claims.same_measurer(arm):
            yield n, count, _shows(count, [claims.host_count(arm, workload)])
            yield n, ratio, _shows(ratio, [claims.host_ratio(arm, workload)])
        else:
            yield n, count, "" if (count, ratio) == ("other measurer", "") else "the measurers differ"


def _plain(cell: str) -> str:
    return cell.replace("`", "")


def _shows(text: str, given: list[Number | None]) -> str:
    """Return what differs between the numbers of a text and those that were computed."""
    shown = list(numbers(_unmarked(text)))
    expected = [number for number in given if number is not None]
    if len(shown) != len(expected):
        return f"{len(shown)} numbers, computed: {expected}"
    wrong = [_ends(one, number) for one, number in zip(shown, expected, strict=True)]
    return "; ".join(", ".join(f"{end:.6g}" for end in ends) for ends in wrong if ends)


def _ends(shown: Shown, number: Number) -> tuple[float, ...]:
    interval = () if shown.low is None else (number.low, number.high)
    ends = interval if shown.value is None else (number.value, *interval)
    return () if shown.fits(*ends) else ends


def _unmarked(text: str) -> str:
    return re.sub(r"`[^`]*`", "", text)
