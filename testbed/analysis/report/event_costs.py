"""The report's part on what an event costs: prices, where the added instructions go, and a test of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.report import price_checks
from testbed.analysis.statistics import effect
from testbed.analysis.tables import events
from testbed.analysis.tables.attribution import OUTSIDE, PARTS
from testbed.analysis.tables.costmodel import FEWEST, Fit
from testbed.analysis.tables.holdout import MARGIN, HoldoutRole
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.analysis.tables.tables import Tables

# What a price is of, in words for a reader.
EVENTS: Mapping[str, str] = {
    "runs": "one run of a BPF program",
    "decisions": "one decision of the hooks (execve or executable mapping in a container)",
    "bytes": "one hashed byte",
    "files": "one new file",
    "lookups": "one lookup of a known file",
    "extends": "one extend",
    "launches": "one launch entry",
    "walked": "one file of a known image (its name is looked up again)",
    "image_bytes": "one byte of an image at its first start",
    "image_files": "one file of an image at its first start",
    "runtimes": "the runtime's own program, hashed at the first start in a machine",
}


_FITTED = (
    "Each block is fitted by itself: least squares, in which a workload weighs by what the arm below takes. The "
    "interval is over the blocks. One event has one price. Plain IMA hashes with other code, so a byte of it is "
    "another event."
)


def section(tables: Tables, figures: Mapping[str, str]) -> list[str]:
    """Return the lines on attribution and the cost model; none where nothing could be fitted."""
    if tables.parts.empty and not tables.fits:
        return []
    lines = ["## What an event costs", "", *_prices(tables.fits), ""]
    lines += [*_agreement(tables.events), "", *price_checks.hooks(tables), ""]
    lines += [*price_checks.bench(tables), ""] if tables.fits else []
    if len(tables.parts):
        lines += ["### Where the added instructions go", "", *_parts(tables.parts), ""]
        lines += markdown.picture(figures, "ladder-stack", "attribution")
    lines += ["### Test of the prices on other workloads", "", *_held_out(tables)]
    if "cost-model" in figures:
        lines += ["", f"![predicted against observed]({figures['cost-model']})"]
    return lines


def doubts(tables: Tables) -> list[str]:
    """Return the reasons to doubt the prices."""
    lines = [f"Events: {words}." for words in events.disagreements(tables.events)]
    unseen = tables.predictions[tables.predictions["role"] != str(HoldoutRole.OUTSIDE)]
    missed = unseen[~unseen["within"].astype(bool)]
    if len(missed):
        pairs = ", ".join(f"`{row['arm']}` on `{row['workload']}`" for row in missed.to_dict("records"))
        lines.append(f"The predictions of the cost model are off by more than {100 * MARGIN:g} % for {pairs}.")
    far = price_checks.apart(tables.checked)
    if far:
        names = ", ".join(f"`{row['event']}` of `{row['step']}` ({100 * row['apart']:+.0f} %)" for row in far)
        lines.append(
            f"Prices farther than {100 * MARGIN:g} % from the count of a single event: {names}.".replace(
                "-", words.MINUS
            )
        )
    return lines


def _prices(fits: tuple[Fit, ...]) -> list[str]:
    if not fits:
        return [f"No event has a price. That needs {FEWEST} or more workloads with different events."]
    rows, notes = [], []
    several = len({fit.kernel for fit in fits}) > 1
    for fit in fits:
        step = fit.step.title + (f" ({fit.kernel})" if several else "")
        arm = f"`{fit.step.arm}`"
        for term, price in fit.prices.items():
            bounds = price.interval or effect.Interval(low=float("-inf"), high=float("inf"))
            cost = words.amount(price.center, bounds.low, bounds.high, fit.unit)
            rows.append((step, arm, _named(term, fit), cost, price.n, len(fit.workloads)))
        if not fit.prices:
            continue
        if fit.taken:
            names = ", ".join(EVENTS[term] for term in fit.taken)
            notes.append(f"{step}: no price of its own, because another step has it: {names}")
        if fit.given_up:
            notes.append(f"{step}: no price of " + "; ".join(f"{EVENTS[t]} ({why})" for t, why in fit.given_up.items()))
    header = ("step of the ladder", "arm", "price of", "price, 95 % interval", "n", "workloads")
    return [
        _FITTED,
        "",
        *markdown.table(header, rows),
        *(["", *markdown.bullets(notes)] if notes else []),
    ]


def _named(term: str, fit: Fit) -> str:
    """Name what is priced. A term that could not be separated from another is priced together with it."""
    together = term == "files" and "extends" in fit.given_up
    return f"{EVENTS[term]}, with its entry and extend" if together else EVENTS[term]


def _agreement(table: pd.DataFrame) -> list[str]:
    agreed, wrong = events.agreed(table), events.disagreements(table)
    if not agreed and not wrong:
        return ["The measurers counted the events. No image was available to check them."]
    if wrong:
        return [
            f"The measurer's counters and the images give the same events in {agreed} runs, not in all (see Doubts)."
        ]
    return [
        f"The measurer's counters and the images give the same events in all {agreed} runs in which both are known."
    ]


def _parts(table: pd.DataFrame) -> list[str]:
    """Show a row for each workload: the parts in percent of what the whole ladder adds."""
    shown = [part for part in PARTS if part in set(table["part"])]
    rows = []
    for key, group in table.groupby(list(STRATUM)):
        share = dict(zip(group["part"], group["share"], strict=True))
        inside = group[group["part"] != OUTSIDE]
        added, base = float(inside["value"].sum()), float(group["base"].iloc[0])
        rows.append(
            [
                f"`{key[STRATUM.index('workload')]}`",
                words.size(added, _short(group["unit"].iloc[0])),
                f"{float(f'{100 * added / base:.3g}'):,.6g} %",
                *(words.signed(100 * share[part], 1) if part in share else "" for part in shown),
            ]
        )
    header = ("workload", "added", "of the baseline", *(f"{PARTS[part]}, %" for part in shown))
    cells = (
        "One timed iteration, all arms of the ladder together. Hooks and launches are differences of two arms. The "
        "other parts are one difference, divided by the prices above. A part is a difference, so it can be below 0."
    )
    return [
        cells,
        "",
        *markdown.table(header, rows),
    ]


def _short(unit: str) -> str:
    return "instr." if unit == "instructions" else unit


def _held_out(tables: Tables) -> list[str]:
    table = tables.predictions
    if table.empty:
        return ["Not tested: that needs four or more workloads."]
    unseen = table[table["role"] != str(HoldoutRole.OUTSIDE)]
    rule = (
        "The first, third, fifth, ... workload by name is fitted, and the others are held out and predicted. Then the "
        "halves are swapped. So every prediction comes from a fit without that workload."
    )
    lines = [rule, ""]
    for arm, group in sorted(unseen.groupby("arm"), key=lambda pair: climb(str(pair[0]))):
        by_rule = group[group["role"] == str(HoldoutRole.HELD_OUT)]
        worst = max(group.to_dict("records"), key=lambda row: abs(row["ratio"] - 1))
        lines.append(
            f"- `{arm}`: {int(by_rule['within'].sum())} of {len(by_rule)} held-out workloads are predicted within "
            f"±{100 * MARGIN:g} %, and after the swap {int(group['within'].sum())} of all {len(group)}. "
            f"The worst is `{worst['workload']}`: predicted / observed = {worst['ratio']:.3f}."
        )
    lines += ["", "The *null model* knows hashed bytes alone, and is fitted on the same workloads:", ""]
    lines += markdown.bullets(price_checks.null(table))
    header = (
        "workload",
        "arm",
        "role",
        "observed, 95 % interval",
        "predicted",
        "predicted / observed",
        "null / observed",
    )
    return [*lines, "", *markdown.table(header, _predictions(table))]


def _predictions(table: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    rows: list[dict[Any, Any]] = table.to_dict("records")
    for row in sorted(rows, key=lambda row: (row["kernel"], row["workload"], row["runtime"], climb(row["arm"]))):
        miss = "" if row["within"] or row["role"] == str(HoldoutRole.OUTSIDE) else " **!**"
        yield (
            f"`{row['workload']}`",
            f"`{row['arm']}`",
            row["role"],
            words.amount(row["observed"], row["low"], row["high"], _short(row["unit"])),
            words.size(row["predicted"], _short(row["unit"])),
            f"{row['ratio']:.3f}{miss}",
            "" if pd.isna(row["null_ratio"]) else f"{row['null_ratio']:.3f}",
        )
