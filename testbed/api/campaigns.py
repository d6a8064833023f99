"""Campaigns: what was measured, what it costs, which evidence there is. Source: ``testbed.analysis``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from testbed import rundir
from testbed.analysis import agreement
from testbed.analysis.report import event_costs
from testbed.analysis.report import overhead as overhead_section
from testbed.analysis.tables import metrics, tables, worst_check
from testbed.analysis.tables.ladder import STRATUM
from testbed.analysis.tables.tables import Tables
from testbed.api.given import PathLike, directory, one_of
from testbed.errors import SpecError
from testbed.plan import Cell, Plan
from testbed.record import Record
from testbed.rundir import Campaign, LoadedCampaign

if TYPE_CHECKING:  # matplotlib is slow to import, and most calls draw nothing
    from matplotlib.figure import Figure

VARIABLE = "TESTBED_RESULTS"
_REPOSITORY = Path(__file__).parents[2]
_REFERENCE = "results/reference"
_AXES = {"kernel": "kernel", "runtime": "runtime", "workload": "workload", "measurer": "treatment"}


@dataclass(frozen=True, kw_only=True)
class CampaignResults:
    """A campaign, read once.

    ``loaded``: plan, facts and records. ``checks``: ``checks.parquet``, ``None`` if no report was written yet.
    """

    loaded: LoadedCampaign
    checks: pd.DataFrame | None

    @cached_property
    def tables(self) -> Tables:
        """Everything that is computed from the records (``analysis.tables``); it takes seconds, once.

        Raises ``IncompatibleRuns`` if the runs must not be pooled, ``EvidenceError`` for a record of no planned cell.
        """
        return tables.read(self.loaded, self.checks)

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row for each judged run, as in ``checks.parquet``; empty if no report was written yet.

        ``verdict`` is ``ok``, ``unexpected`` or ``missed``. ``promised``: how many entries ground truth demands.
        """
        return pd.DataFrame(columns=["run", "verdict"]) if self.checks is None else self.checks

    @property
    def path(self) -> Path:
        """The campaign's directory."""
        return self.loaded.campaign.path

    @property
    def plan(self) -> Plan:
        """Which cells were planned in which blocks, in which order, on which tier."""
        return self.loaded.plan

    @property
    def rows(self) -> pd.DataFrame:
        """One row for each sample: ``value`` in the base unit ``unit``; ``oracle`` is ``ok`` where it counts."""
        return self.tables.rows

    def record(self, run: str) -> Record:
        """Return the record of a run by the name of its directory. Raises ``SpecError`` if there is none."""
        known = {path.name: record for path, record in self.loaded.records}
        if run not in known:
            raise SpecError(f"run: expected the name of a directory in {self.path / 'runs'}, got {run!r}")
        return known[run]

    def __repr__(self) -> str:
        plan = self.plan
        planned = sum(len(block.cells) for block in plan.blocks)
        runs = f"{len(self.loaded.current)} of {planned} runs in {len(plan.blocks)} blocks"
        return f"<campaign {plan.campaign}: tier {plan.tier}, {len(plan.cells)} cells, {runs}>"


def load(campaign: PathLike | None = None) -> CampaignResults:
    """Read a campaign's directory. Its tables are computed when they are first used. Nothing is judged again.

    Without ``campaign``: the one that the environment variable ``TESTBED_RESULTS`` names, which ``make jupyter`` sets,
    else ``results/reference``; both are relative to the repository.

    Raises ``SpecError`` if there is no such directory, ``EvidenceError`` if it is no campaign or a record is malformed.
    Source: ``testbed figures`` reads the same.

    >>> load("results/reference")
    <campaign overhead-icount-f7069a6d: tier icount, 72 cells, 432 of 432 runs in 6 blocks>
    """
    if campaign is None:
        campaign = _REPOSITORY / Path(os.environ.get(VARIABLE) or _REFERENCE).expanduser()
    path = directory("campaign", campaign)
    return CampaignResults(loaded=rundir.load(Campaign(path=path)), checks=worst_check.read(path))


def overhead(
    campaign: CampaignResults | PathLike,
    *,
    workload: str | None = None,
    measurer: str | None = None,
    kernel: str | None = None,
    runtime: str | None = None,
    metric: str = metrics.PRIMARY,
) -> pd.DataFrame:
    """Return what each measurer costs over the baseline: a row for each kernel, runtime, workload and measurer.

    ``ratio`` is 1.05 for 5 % more, ``low`` and ``high`` its 95 % interval, ``n`` the number of blocks. ``cost`` (with
    ``cost_low``, ``cost_high``) and ``base`` are of one operation, in ``unit``. ``floor_low`` and ``floor_high``: the
    interval of the baseline against itself (A/A). ``verdict``: in words. ``metric``: ``cpu`` is the primary one.

    Empty on a tier without a meaningful clock. Raises ``SpecError`` for a name that the campaign does not have, and as
    ``load`` and ``tables``. Source: ``analysis.tables.ladder``, docs/statistics.md.

    >>> nginx = overhead("results/reference", workload="nginx", measurer="container-file")
    >>> nginx[["ratio", "low", "high"]].round(4).to_numpy().tolist()
    [[2.8492, 2.843, 2.853]]
    """
    results = _results(campaign)
    one_of("metric", metric, metrics.readable(results.plan.tier) or (metrics.PRIMARY,))
    table = results.tables.ladders.get(metric, results.tables.ladder.iloc[:0])
    given = {"kernel": kernel, "runtime": runtime, "workload": workload, "measurer": measurer}
    for axis, value in given.items():
        if value is not None:
            one_of(axis, value, {str(getattr(cell, axis)) for cell in results.plan.cells})
            table = table[table[_AXES[axis]] == value]
    return table.reset_index(drop=True)


def prices(campaign: CampaignResults | PathLike) -> pd.DataFrame:
    """Return what one event costs: a row for each step of the ladder and event, empty if nothing could be fitted.

    ``price`` with its 95 % interval ``low``, ``high`` is in ``unit`` for each ``event``; ``says``: the event in words.
    Raises as ``load``. Source: ``analysis.tables.costmodel``.

    >>> priced = prices("results/reference").set_index(["step", "event"])
    >>> round(float(priced.loc[("ima", "bytes"), "price"]), 1)
    55.2
    """
    listed = [
        {
            "kernel": fit.kernel,
            "step": fit.step.name,
            "event": event,
            "price": price.center,
            "low": price.interval.low if price.interval else None,
            "high": price.interval.high if price.interval else None,
            "unit": fit.unit,
            "n": price.n,
            "says": event_costs.EVENTS[event],
        }
        for fit in _results(campaign).tables.fits
        for event, price in fit.prices.items()
    ]
    columns = ["kernel", "step", "event", "price", "low", "high", "unit", "n", "says"]
    return pd.DataFrame(listed, columns=columns)


def doubts(campaign: CampaignResults | PathLike) -> list[str]:
    """Return the reasons to doubt the overheads and prices, in words. Raises as ``load``.

    The report also lists those about the evidence.
    """
    known = _results(campaign).tables
    return [*overhead_section.doubts(known), *event_costs.doubts(known)]


def bundles(campaign: CampaignResults | PathLike) -> pd.DataFrame:
    """Return which evidence is there: a row for each run with its ``bundle`` and ``ak`` (paths) and ``nonce`` (hex).

    The nonce is the one that the lab sent, from the run's record, so ``verify`` may trust it. A reference data set has
    the evidence of one run of each measurer. Raises as ``load``.

    >>> bundles("results/reference")["measurer"].tolist()
    ['none', 'none2', 'container-file', 'hooks-only', 'container-image', 'ima-exec']
    """
    results = _results(campaign)
    cells = results.loaded.cells
    listed = [
        _bundle(path, bundle, record, cells[record.cell_id])
        for path, record in results.loaded.current
        if record.evidence.ak and (bundle := rundir.bundle_of(path, record)) is not None
    ]
    columns = ["run", "kernel", "runtime", "workload", "measurer", "attack", "block", "bundle", "ak", "nonce", "log"]
    return pd.DataFrame(listed, columns=columns)


def compare(campaigns: Sequence[CampaignResults | PathLike]) -> pd.DataFrame:
    """Compare two or more campaigns in the overheads that all of them have: a row for each.

    ``ratio_1``, ``ratio_2``...: the ratio to the baseline in each campaign, in the order given. ``difference``: the
    largest relative one, 0.001 for 0.1 %; ``allowed``: the most that counts as the same; ``ok``: whether it is within.
    ``differs``: what else differs between these cells.

    Raises ``SpecError`` for fewer than two campaigns or if they share no overhead, ``IncompatibleRuns`` for another
    tier or version of QEMU, and as ``load``. Source: ``testbed compare``.

    >>> twice = compare(["results/reference", "results/reference"])
    >>> len(twice), float(twice["difference"].max()), bool(twice["ok"].all())
    (48, 0.0, True)
    """
    found = agreement.compare([_results(one).loaded for one in campaigns])
    listed: list[dict[str, Any]] = [
        dict(zip(STRATUM, one.stratum, strict=True))
        | {"treatment": one.treatment}
        | {f"ratio_{number}": ratio for number, ratio in enumerate(one.ratios, 1)}
        | {"difference": one.difference, "allowed": one.allowed, "ok": one.ok, "differs": ", ".join(one.differs)}
        for one in found.agreements
    ]
    return pd.DataFrame(listed)


def figures(campaign: CampaignResults | PathLike) -> tuple[str, ...]:
    """Return the names of the figures that ``figure`` can draw; not every campaign has something to show in each."""
    from testbed.analysis.report import draw  # noqa: PLC0415 - see TYPE_CHECKING

    results = _results(campaign)
    return tuple(name for name, make in draw.FIGURES.items() if make(results.tables) is not None)


def figure(campaign: CampaignResults | PathLike, name: str = "overhead") -> Figure | None:
    """Return a figure of the report by its name; ``None`` if the campaign has nothing to show in it.

    Raises ``SpecError`` for a name that is none, and as ``load``. Source: ``analysis.report.draw``.

    >>> figure("results/reference", "nonesuch")
    Traceback (most recent call last):
    testbed.errors.SpecError: figure: expected one of blocks, byte-price, cost-model, ...
    """
    from matplotlib import style  # noqa: PLC0415

    from testbed.analysis.figures.canvas import STYLE  # noqa: PLC0415
    from testbed.analysis.report import draw  # noqa: PLC0415

    make = draw.FIGURES[one_of("figure", name, draw.FIGURES)]
    with style.context(STYLE):
        return make(_results(campaign).tables)


def write_figures(campaign: CampaignResults | PathLike, directory: PathLike) -> dict[str, tuple[Path, ...]]:
    """Write every figure of a campaign as PDF (vector) and PNG; return the files by name. Raises as ``load``."""
    from testbed.analysis.report import draw  # noqa: PLC0415

    return draw.write(_results(campaign).tables, Path(directory).expanduser())


def use_style(kind: str = "png") -> None:
    """Have a notebook show figures in the style of the report: ``png``, or ``svg`` for vectors.

    Raises ``SpecError`` for another kind, ``ImportError`` outside Jupyter.
    """
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib import style  # noqa: PLC0415
    from matplotlib_inline.backend_inline import set_matplotlib_formats  # noqa: PLC0415

    from testbed.analysis.figures.canvas import STYLE  # noqa: PLC0415

    one_of("kind", kind, ("png", "svg"))
    style.use(STYLE)
    # The same figure has the same bytes each time: no date, and names that do not depend on chance.
    mpl.rcParams["svg.hashsalt"] = "testbed"
    set_matplotlib_formats(kind, metadata={"Date": None} if kind == "svg" else None)  # type: ignore[no-untyped-call]


def _results(campaign: CampaignResults | PathLike) -> CampaignResults:
    return campaign if isinstance(campaign, CampaignResults) else load(campaign)


def _bundle(path: Path, bundle: Path, record: Record, cell: Cell) -> dict[str, Any]:
    evidence = record.evidence
    axes = {name: getattr(cell, name) for name in ("kernel", "runtime", "workload", "measurer", "attack")}
    log = path / evidence.measurer_log if evidence.measurer_log else None
    return {"run": path.name, **axes, "block": record.block, "log": log if log and log.is_file() else None} | {
        "bundle": bundle,
        "ak": path / str(evidence.ak),
        "nonce": record.facts.get("nonce"),
    }
