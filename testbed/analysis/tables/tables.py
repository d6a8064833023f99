"""All tables of a campaign, from raw rows to what a figure shows: computed in one place for report and notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from testbed import progress
from testbed.analysis.models import bench_check, byteprice, runlength
from testbed.analysis.models.bench_check import SingleCounts
from testbed.analysis.statistics import multiple
from testbed.analysis.tables import (
    attribution,
    builds,
    costmodel,
    curves,
    events,
    frames,
    holdout,
    ladder,
    metrics,
    overall,
    sizes,
    spread,
    waiting,
)
from testbed.analysis.tables.costmodel import Fit
from testbed.analysis.tables.events import Truth
from testbed.analysis.tables.ladder import Question
from testbed.plan import Plan
from testbed.rundir import LoadedCampaign

# Of ``compute``, for a reader who waits.
_PARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """``ladders`` by metric (``ladder.ladder``, with ``p_adjusted``); ``overall methods`` of ``overall``.

    ``observed``, ``fits``, ``predictions``: of the cost model (``holdout``); ``parts``: of ``attribution.parts``.
    ``starts``, ``scaling``: of ``curves``; ``sizes``, ``size_lines``: of ``sizes``; ``waiting``: of ``waiting``;
    ``builds``: of ``builds.builds``; ``noise``: of ``ladder.noise_table``.
    ``lengths`` of ``runlength``, ``byte_prices`` of ``byteprice``, ``spread`` of ``spread``; ``bench``: the counts of
    single events by kernel, and ``checked`` of ``bench_check`` the prices beside them.
    """

    plan: Plan
    question: Question
    rows: pd.DataFrame
    events: pd.DataFrame
    ladders: Mapping[str, pd.DataFrame]
    overall: pd.DataFrame
    methods: pd.DataFrame
    observed: Mapping[str, pd.DataFrame]
    fits: tuple[Fit, ...]
    predictions: pd.DataFrame
    parts: pd.DataFrame
    starts: pd.DataFrame
    scaling: pd.DataFrame
    sizes: pd.DataFrame
    size_lines: pd.DataFrame
    waiting: pd.DataFrame
    builds: pd.DataFrame
    noise: pd.DataFrame
    lengths: pd.DataFrame
    byte_prices: pd.DataFrame
    spread: pd.DataFrame
    bench: Mapping[str, SingleCounts]
    checked: pd.DataFrame

    @property
    def ladder(self) -> pd.DataFrame:
        """The ladder of the primary metric; empty on a tier where it means nothing."""
        return self.ladders.get(metrics.PRIMARY, pd.DataFrame(columns=[*ladder.STRATUM, "treatment"]))


def read(
    loaded: LoadedCampaign,
    checks: pd.DataFrame | None = None,
    truth: Truth | None = None,
    runs: LoadedCampaign | None = None,
) -> Tables:
    """Compute the tables from a campaign's records.

    ``checks``: of ``checks.checks``, else ``checks.parquet`` if it is there. ``truth``: what the images say of events,
    else ``events.parquet`` if it is there, else the measurers' counters alone. ``runs``: a campaign that counted how
    often the programs ran. Nothing is judged. Raises as ``frames.rows`` and ``bench_check.read`` do.
    """
    question = Question.of(loaded.plan.tier, loaded.facts)
    happened = events.read(loaded) if truth is None else events.events(loaded, truth)
    if runs is not None:
        happened = events.with_runs(happened, runs)
    kernels = sorted({cell.kernel for cell in loaded.plan.cells})
    found = {kernel: bench_check.read(loaded.campaign.path, kernel) for kernel in kernels}
    counts = {kernel: counted for kernel, counted in found.items() if counted is not None}
    return compute(loaded.plan, question, frames.rows(loaded, checks), happened, counts)


def compute(
    plan: Plan,
    question: Question,
    rows: pd.DataFrame,
    happened: pd.DataFrame,
    bench: Mapping[str, SingleCounts] | None = None,
) -> Tables:
    """Compute all tables from rows and events. ``bench``: the counts of single events, by kernel."""
    with progress.steps("tables", _PARTS) as work:
        tables = ladders(rows, question)
        work.advance()
        observed = holdout.observe(rows, happened, question)
        fits = tuple(holdout.fits(observed, question))
        work.advance()
        predictions = holdout.predictions(rows, observed, question)
        work.advance()
        contrasts = list(ladder.contrasts(rows, question))
        mean = overall.overall(contrasts)
        work.advance()
        by_method = overall.methods(contrasts, question.delta)
        work.advance()
    primary = tables.get(metrics.PRIMARY, pd.DataFrame())
    lengths = runlength.lengths(rows, question)
    return Tables(
        plan=plan,
        question=question,
        rows=rows,
        events=happened,
        ladders=tables,
        overall=mean,
        methods=by_method,
        observed=observed,
        fits=fits,
        predictions=predictions,
        parts=attribution.with_outside(
            attribution.parts(observed, fits, costmodel.unit_of(question.tier)), primary, lengths
        ),
        starts=curves.starts(rows, question),
        scaling=curves.scaling(primary),
        sizes=sizes.sizes(rows, question),
        size_lines=sizes.lines(rows, question),
        waiting=waiting.waiting(rows, question),
        builds=builds.builds(contrasts, plan),
        noise=ladder.noise_table(rows, question),
        lengths=lengths,
        byte_prices=byteprice.prices(primary, lengths, happened, fits, question),
        spread=spread.spread(rows, question),
        bench=bench or {},
        checked=bench_check.checked(fits, bench or {}),
    )


def ladders(rows: pd.DataFrame, question: Question) -> dict[str, pd.DataFrame]:
    """Return the ladder of each metric that means something on the tier and that was measured."""
    measured = set(rows["metric"].dropna())
    wanted = (metric for metric in metrics.readable(question.tier) if metric in measured)
    return {metric: multiple.adjust(ladder.ladder(rows, question, metric)) for metric in wanted}
