"""The counts of two campaigns, arm by arm: do two hosts execute equally many guest instructions, and what is equal?

Ratios hide what all arms share. So here each arm's own count is compared, the baseline's too. An arm whose programs
were compiled from other sources counts something else: it is shown, and no difference is claimed of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from testbed import plugins
from testbed.analysis import differences, markdown, words
from testbed.analysis.differences import Difference
from testbed.analysis.tables import frames, metrics
from testbed.analysis.tables.ladder import STRATUM, Question, arm_values, baseline_of, climb
from testbed.errors import SpecError
from testbed.rundir import LoadedCampaign

# What makes a guest, of the facts of a kernel and of the tools; with what a reader knows them as.
_GUEST = {
    "kernel": "kernel",
    "image": "guest image",
    "command_line": "kernel command line",
    "cpu": "CPU model",
    "measurer": "measurer",
}
_KINDS = ("one process at a time", "starts of a container", "servers")
_HEADER = ("workload", "measurer", "instructions", "count differs by", "ratio differs by", "between boots", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountCell:
    """One arm on one workload in two campaigns. ``counts``: guest instructions of an iteration, median over the boots.

    ``spreads``: highest over lowest boot, less 1. ``ratios``: to the baseline, NaN where there is none. ``same``:
    whether both ran the same measurer; otherwise the counts are of two programs.
    """

    stratum: tuple[str, ...]
    measurer: str
    counts: tuple[float, float]
    spreads: tuple[float, float]
    ratios: tuple[float, float]
    same: bool

    @property
    def difference(self) -> float:
        """The relative difference of the counts, second over first: 0.001 for 0.1 %."""
        return self.counts[1] / self.counts[0] - 1

    @property
    def of_ratios(self) -> float:
        """The relative difference of the ratios to the baseline."""
        return self.ratios[1] / self.ratios[0] - 1

    @property
    def workload(self) -> str:
        """The name of the workload."""
        return self.stratum[STRATUM.index("workload")]

    @property
    def kind(self) -> str:
        """What kind of workload it is, as differences are summarised."""
        if not metrics.is_steady(self.workload):
            return _KINDS[2]
        return _KINDS[1] if metrics.operation_of(self.workload) == "start" else _KINDS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostComparison:
    """Two campaigns by their counts. ``hosts``: their processors; ``equal``: what of the guest is equal, in words.

    ``boots``: how many boots each has. ``differs``: what differs, with its values.
    """

    campaigns: tuple[str, str]
    hosts: tuple[str, str]
    boots: tuple[int, int]
    cells: tuple[CountCell, ...]
    equal: tuple[str, ...]
    differs: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether all counts of the same measurer agree as campaigns of one host must (``metrics.EXPECTED_FLOOR``)."""
        return all(abs(cell.difference) <= _allowed(cell) for cell in self.cells if cell.same)


def compare(campaigns: Sequence[LoadedCampaign]) -> HostComparison:
    """Compare the counts of the cells that both campaigns have.

    Raises ``SpecError`` for other than two campaigns, for a tier that counts no instructions, and where no cell is in
    both; ``IncompatibleRuns`` for another tier or version of QEMU.
    """
    if len(campaigns) != 2:
        raise SpecError(f"--counts: expected two campaigns, got {len(campaigns)}", "name the campaigns of two hosts")
    found = differences.differences(campaigns)
    reading = metrics.reading(metrics.PRIMARY, campaigns[0].plan.tier)
    if reading is None or reading.unit != "instructions":
        tier = campaigns[0].plan.tier
        raise SpecError(f"--counts: expected campaigns of tier icount, got {tier}", "only icount counts instructions")
    first, second = (_counts(one, reading) for one in campaigns)
    shared = sorted(first.keys() & second.keys(), key=lambda key: (key[:-1], climb(key[-1])))
    if not shared:
        raise SpecError("--counts: expected cells that both campaigns have, got none", "`testbed report` lists them")
    return HostComparison(
        campaigns=(str(campaigns[0].campaign.path), str(campaigns[1].campaign.path)),
        hosts=(_host(campaigns[0]), _host(campaigns[1])),
        boots=(len(campaigns[0].plan.blocks), len(campaigns[1].plan.blocks)),
        cells=tuple(_cell(key, first[key], second[key], found) for key in shared),
        equal=tuple(_equal(campaigns)),
        differs=found,
    )


def text(comparison: HostComparison) -> Iterator[str]:
    """Yield the lines of a page: hosts, what is equal, each count, the largest difference of each kind of workload."""
    for campaign, host, boots in zip(comparison.campaigns, comparison.hosts, comparison.boots, strict=True):
        yield f"- {campaign}: {host}, {boots} boots"
    yield ""
    yield f"Equal in both: {'; '.join(comparison.equal) or 'nothing that makes the guest'}."
    yield ""
    yield from table(comparison)
    yield ""
    yield from _largest(comparison.cells)
    others = sorted({cell.measurer for cell in comparison.cells if not cell.same}, key=climb)
    if others:
        shown = ", ".join(f"`{arm}`" for arm in others)
        yield f"Not compared: {shown}. The campaigns have different measurers, so these are counts of two programs."
    if comparison.differs:
        yield f"What differs, in the order {' | '.join(comparison.campaigns)}:"
        yield from markdown.bullets(differences.lines(comparison.differs))


def table(comparison: HostComparison) -> list[str]:
    """Return the table of all counts, as Markdown."""
    named = names(comparison.cells)
    return markdown.table(_HEADER, (_row(cell, named[cell.stratum]) for cell in comparison.cells))


def _counts(loaded: LoadedCampaign, reading: metrics.Reading) -> dict[tuple[str, ...], tuple[float, float, float]]:
    """Return of each cell the count of an operation, how far its boots differ, and its ratio to the baseline."""
    rows = frames.rows(loaded)
    question = Question.of(loaded.plan.tier, loaded.facts)
    found: dict[tuple[str, ...], tuple[float, float, float]] = {}
    for key, group in rows[(rows["attack"] == "none")].groupby(list(STRATUM)):
        values = arm_values(group, metrics.PRIMARY, reading)
        bases = [arm for arm in (question.baseline, question.duplicate) if arm in values]
        base = pd.Series(baseline_of(values, bases), index=values.index) if bases else None
        for arm in values:
            known = values[arm].dropna().astype(float)
            if known.empty:
                continue
            ratio = math.nan if base is None else float((known / base).median())
            spread = float(known.max() / known.min() - 1)
            found[(*map(str, key), str(arm))] = (float(known.median()), spread, ratio)
    return found


def _cell(
    key: tuple[str, ...],
    first: tuple[float, float, float],
    second: tuple[float, float, float],
    found: Sequence[Difference],
) -> CountCell:
    counts, spreads, ratios = zip(first, second, strict=True)
    stratum = dict(zip(STRATUM, key, strict=False))
    other = any(one.label == _GUEST["measurer"] and one.concerns(stratum) for one in found)
    return CountCell(
        stratum=key[:-1],
        measurer=key[-1],
        counts=counts,
        spreads=spreads,
        ratios=ratios,
        same=not (other and _has_programs(key[-1])),
    )


def _has_programs(measurer: str) -> bool:
    """Whether the measurer of the campaign runs in this arm; of an arm that is not known here, it may."""
    return measurer not in plugins.names("measurers") or plugins.measurer(measurer).mode is not None


def _host(loaded: LoadedCampaign) -> str:
    return str((loaded.facts.get("host") or {}).get("cpu") or differences.NOT_STATED)


def _equal(campaigns: Sequence[LoadedCampaign]) -> Iterator[str]:
    first, second = (dict(differences.flat(one.facts)) for one in campaigns)
    same = {name for name in first.keys() & second.keys() if first[name] == second[name]}
    for kernel in sorted({name.split(".", 1)[1].rpartition(".")[0] for name in same if name.startswith("kernels.")}):
        named = [word for fact, word in _GUEST.items() if f"kernels.{kernel}.{fact}" in same]
        yield f"{', '.join(named)} ({kernel})"
    images = sorted(name.partition(".")[2] for name in same if name.startswith("images."))
    if images:
        yield f"archives of the images {', '.join(images)}"
    yield f"QEMU {first.get('qemu_version', differences.NOT_STATED)}"


def names(cells: Sequence[CountCell]) -> dict[tuple[str, ...], str]:
    """Return the name of each stratum: its workload, with kernel and runtime where there are several."""
    several = [
        n for n, axis in enumerate(STRATUM) if len({cell.stratum[n] for cell in cells}) > 1 or axis == "workload"
    ]
    last = STRATUM.index("workload")
    return {
        cell.stratum: cell.workload + "".join(f", {cell.stratum[n]}" for n in several if n != last) for cell in cells
    }


def _row(cell: CountCell, name: str) -> tuple[str, ...]:
    wide = cell.same and abs(cell.difference) > _allowed(cell)
    return (
        f"`{name}`",
        f"`{cell.measurer}`",
        " and ".join(words.size(count, "").strip() for count in cell.counts),
        _percent(cell.difference) if cell.same else "other measurer",
        _percent(cell.of_ratios) if cell.same and not math.isnan(cell.of_ratios) else "",
        " and ".join(f"{100 * spread:.3f} %" for spread in cell.spreads),
        "**!**" if wide else "",
    )


def _percent(difference: float) -> str:
    return f"{words.signed(100 * difference, 3)} %"


def _largest(cells: Sequence[CountCell]) -> Iterator[str]:
    for kind in _KINDS:
        group = [cell for cell in cells if cell.kind == kind and cell.same]
        if group:
            count = max(group, key=lambda cell: abs(cell.difference))
            ratio = max(group, key=lambda cell: 0.0 if math.isnan(cell.of_ratios) else abs(cell.of_ratios))
            yield (
                f"Largest difference, {kind}: counts {abs(100 * count.difference):.3f} % "
                f"({count.measurer} on {count.workload}), ratios {abs(100 * ratio.of_ratios):.3f} % "
                f"({ratio.measurer} on {ratio.workload})."
            )


def _allowed(cell: CountCell) -> float:
    return metrics.EXPECTED_FLOOR[metrics.is_steady(cell.workload)]
