"""What a pilot says about the campaign to come: how many blocks it needs, and which arms are not yet warm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from testbed.analysis import markdown, words
from testbed.analysis.statistics import pilot
from testbed.analysis.statistics.pilot import BlocksNeeded
from testbed.analysis.tables import frames, ladder, metrics
from testbed.analysis.tables.ladder import STRATUM, Question
from testbed.errors import SpecError
from testbed.record import Status, Tier
from testbed.rundir import LoadedCampaign

_REQUIRED = ("block", "measurer", "value")
_HEADER = (
    *("workload", "measurer", "n", "spread", "A/A spread", "detectable effect (80 % power)"),
    *("blocks to detect", "blocks to show equality"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotRow:
    """One contrast of a pilot; ``needed`` is ``None`` where it has fewer than 2 blocks or no A/A."""

    stratum: tuple[str, ...]
    treatment: str
    needed: BlocksNeeded | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotResult:
    """All contrasts, for an overhead of ``wanted`` and equality within ``delta`` (relative).

    ``cold``: arms whose timed iterations still become faster or slower, in words. ``tested``: whether any arm has the
    two timed iterations that such a test needs.
    """

    rows: tuple[PilotRow, ...]
    wanted: float
    delta: float
    cold: tuple[str, ...]
    tested: bool

    @property
    def blocks(self) -> int | None:
        """The number of blocks that answers every contrast: each is detected, or shown to be equal."""
        needs = [row.needed for row in self.rows]
        counts = [n for need in needs if need for n in (need.to_find, need.to_equate)]
        known = [n for n in counts if n is not None]
        return max(known) if needs and None not in needs and len(known) == len(counts) else None


def of_campaign(loaded: LoadedCampaign, *, wanted: float | None = None, delta: float | None = None) -> PilotResult:
    """Ask a campaign. ``wanted``: the overhead to detect, default delta; ``delta``: default the campaign's."""
    question = Question.of(loaded.plan.tier, loaded.facts)
    if metrics.reading(metrics.PRIMARY, question.tier) is None:
        raise SpecError(
            f"{loaded.campaign.path}: tier {question.tier} measures nothing", "run the pilot on kvm or icount"
        )
    return ask(frames.rows(loaded), question, wanted=wanted, delta=delta, where=loaded.campaign.path)


def of_csv(
    path: Path, *, baseline: str, duplicate: str, wanted: float | None = None, delta: float | None = None
) -> PilotResult:
    """Ask a CSV file with the columns ``block measurer value``, and ``workload`` if there are several.

    Rows of one block, measurer and workload are iterations, in order. Raises ``SpecError`` naming the column.
    """
    try:
        table = pd.read_csv(path, dtype={"measurer": str, "workload": str})
    except (OSError, ValueError) as error:
        raise SpecError(
            f"{path}: cannot be read as CSV: {error}", f"give the columns {', '.join(_REQUIRED)}"
        ) from error
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise SpecError(f"{path}: expected columns {', '.join(_REQUIRED)}, no {', '.join(missing)}", "name the columns")
    values = pd.to_numeric(table["value"], errors="coerce")
    if not (values > 0).all():
        line = int(values.index[~(values > 0)][0]) + 2
        raise SpecError(f"{path}: line {line}: value: expected a number above 0", "correct the file")
    named = table.assign(value=values, workload=table.get("workload", path.stem))
    iterations = named.groupby(["workload", "measurer", "block"]).cumcount()
    rows = named.assign(
        iteration=iterations,
        kernel="",
        runtime="",
        attack="none",
        metric=metrics.PRIMARY,
        operations=1.0,
        status=str(Status.OK),
        oracle=None,
        current=True,
        warmup=False,
        cell=path.name,
    )
    question = Question(tier=Tier.KVM, baseline=baseline, duplicate=duplicate, delta=delta or metrics.DELTA[Tier.KVM])
    return ask(rows, question, wanted=wanted, delta=delta, where=path)


def ask(
    rows: pd.DataFrame, question: Question, *, wanted: float | None, delta: float | None, where: Path
) -> PilotResult:
    """Return what the rows (of ``frames.rows``) say. Raises ``SpecError`` if no arm can be compared with a baseline."""
    margin = delta or question.delta
    aim = wanted or margin
    contrasts = list(ladder.contrasts(rows, question))
    if not contrasts:
        raise SpecError(
            f"{where}: expected blocks with {question.baseline} and another measurer, got none",
            "name the baseline as the file does",
        )
    listed = tuple(
        PilotRow(
            stratum=tuple(str(contrast.stratum[name]) for name in STRATUM),
            treatment=contrast.treatment,
            needed=_needed(contrast, aim, margin),
        )
        for contrast in contrasts
    )
    trends = list(_trends(rows))
    cold = tuple(f"{name}: tau {found.tau:+.2f}, p {found.p:.2g}" for name, found in trends if found.warns)
    return PilotResult(rows=listed, wanted=aim, delta=margin, cold=cold, tested=bool(trends))


def _needed(contrast: ladder.Contrast, wanted: float, delta: float) -> BlocksNeeded | None:
    floor = contrast.floor
    if floor is None or floor.estimate.n < 2 or len(contrast.arms) < 2:
        return None
    return pilot.blocks_needed(
        contrast.logs, floor.estimate.spread, wanted=wanted, delta=delta, resolution=floor.resolution
    )


def _trends(rows: pd.DataFrame) -> Iterator[tuple[str, pilot.Trend]]:
    """Yield the trend of each arm that has two or more timed iterations in its blocks."""
    good = frames.counted(rows[(rows["attack"] == "none") & (rows["metric"] == metrics.PRIMARY)])
    timed = good[~good["warmup"].fillna(value=False).astype(bool)]
    for key, group in timed.groupby([*STRATUM, "measurer"]):
        table = group.pivot_table(index="block", columns="iteration", values="value").dropna()
        if len(table) and table.shape[1] > 1:
            yield f"{key[-1]} on {key[STRATUM.index('workload')]}", pilot.trend(table)


def text(result: PilotResult) -> Iterator[str]:
    """Yield the lines of a page: a row per contrast, then the number of blocks that answers all of them."""
    yield from markdown.table(_HEADER, (_cells(row) for row in result.rows))
    yield ""
    yield (
        f"To detect: an overhead of {100 * result.wanted:g} %, in 80 % of campaigns. "
        f"To show equality: within δ = ±{100 * result.delta:g} %, if the truth is 0."
    )
    if any(row.needed is None for row in result.rows):
        yield "No number without 2 blocks of the arm, of the baseline and of its duplicate (A/A)."
    if result.blocks is not None:
        yield f"Blocks needed for every row: {result.blocks}."
    fewest = min((row.needed.n for row in result.rows if row.needed), default=0)
    if 0 < fewest < 6:
        yield f"The spreads are of {fewest} blocks and uncertain: plan more blocks than this says."
    if not result.tested:
        yield "Not tested whether iterations are warm: that needs two timed iterations."
    elif result.cold:
        yield "Not warm, raise `warmups`:"
        yield from markdown.bullets(result.cold)
    else:
        yield "No trend over the timed iterations: they are warm."


def _cells(row: PilotRow) -> tuple[object, ...]:
    kernel, runtime, workload = row.stratum
    where = ", ".join(name for name in (kernel, runtime) if name)
    named = (f"`{workload}`" + (f" ({where})" if where else ""), f"`{row.treatment}`")
    need = row.needed
    if need is None:
        return (*named, "", "", "", "", "unknown", "unknown")
    return (
        *named,
        need.n,
        f"{100 * need.spread:.3g} %",
        f"{100 * need.aa_spread:.3g} %",
        f"{words.signed(100 * math.expm1(need.detectable), 2)} %"
        if math.isfinite(need.detectable)
        else "below 6 blocks",
        "none would" if need.to_find is None else need.to_find,
        "none would" if need.to_equate is None else need.to_equate,
    )
