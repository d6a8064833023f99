"""Do campaigns give the same overheads in the cells that they share, and what differs between them otherwise?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from testbed.analysis import differences, markdown, words
from testbed.analysis.differences import Difference
from testbed.analysis.tables import frames, metrics
from testbed.analysis.tables.ladder import STRATUM, Question, climb
from testbed.analysis.tables.tables import ladders
from testbed.errors import SpecError
from testbed.rundir import LoadedCampaign

_HEADER = ("workload", "measurer", "overhead", "largest difference", "allowed", "", "what else differs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One overhead in several campaigns. ``ratios``: to the baseline; ``allowed``: relative, by ``Workload.steady``.

    ``differs``: the names of what differs between the cells, beside the boots.
    """

    stratum: tuple[str, ...]
    treatment: str
    ratios: tuple[float, ...]
    allowed: float
    differs: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """The largest relative difference between two campaigns, 0.001 for 0.1 %."""
        return max(abs(math.log(a / b)) for a, b in itertools.combinations(self.ratios, 2))

    @property
    def ok(self) -> bool:
        """Whether the campaigns differ by no more than is allowed."""
        return self.difference <= self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignNoise:
    """The A/A interval of one workload in one campaign, as ratios; infinite where there are too few blocks."""

    campaign: str
    stratum: tuple[str, ...]
    low: float
    high: float
    allowed: float

    @property
    def ok(self) -> bool:
        """Whether the interval lies within what is allowed."""
        return max(abs(math.log(self.low)), abs(math.log(self.high))) <= self.allowed if self.low > 0 else False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several campaigns. ``left_out``: how many overheads are not in all of them; ``differs``: in what they differ."""

    campaigns: tuple[str, ...]
    agreements: tuple[Agreement, ...]
    noise: tuple[CampaignNoise, ...]
    left_out: int
    differs: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether all shared overheads agree and no A/A interval is too wide."""
        return all(one.ok for one in self.agreements) and all(one.ok for one in self.noise)


def compare(campaigns: Sequence[LoadedCampaign], found: Sequence[Difference] | None = None) -> Comparison:
    """Compare the overheads of the cells that all campaigns have.

    ``found``: what differs otherwise, if the caller knows it; then campaigns that must not be pooled are not refused.
    Raises ``SpecError`` for fewer than two campaigns and where no overhead is in all of them, ``IncompatibleRuns`` for
    another tier or version of QEMU.
    """
    if len(campaigns) < 2:
        raise SpecError(
            f"expected two or more campaigns, got {len(campaigns)}", "name another, or give `--across` an axis"
        )
    found = differences.differences(campaigns) if found is None else found
    tables = [_ladder(one) for one in campaigns]
    keys = [set(map(tuple, table[[*STRATUM, "treatment"]].astype(str).to_numpy())) for table in tables]
    shared = set.intersection(*keys)
    if not shared:
        counts = ", ".join(f"{one.campaign.path} has {len(key)}" for one, key in zip(campaigns, keys, strict=True))
        raise SpecError(
            f"expected overheads that all campaigns have, got none: {counts}",
            "compare campaigns that share kernel, runtime, workload and measurer; `testbed report` lists them",
        )
    agreements = [_agreement(key, tables, campaigns, found) for key in shared]
    return Comparison(
        campaigns=tuple(str(one.campaign.path) for one in campaigns),
        agreements=tuple(sorted(agreements, key=lambda one: (one.stratum, climb(one.treatment)))),
        noise=tuple(_noise(campaigns, tables, {key[:-1] for key in shared})),
        left_out=len(set.union(*keys) - shared),
        differs=tuple(one for one in found if any(one.concerns(_named(key)) for key in shared)),
    )


def _ladder(loaded: LoadedCampaign) -> pd.DataFrame:
    question = Question.of(loaded.plan.tier, loaded.facts)
    empty = pd.DataFrame(columns=[*STRATUM, "treatment"])
    return ladders(frames.rows(loaded), question).get(metrics.PRIMARY, empty)


def _agreement(
    key: tuple[str, ...],
    tables: Sequence[pd.DataFrame],
    campaigns: Sequence[LoadedCampaign],
    found: Sequence[Difference],
) -> Agreement:
    rows = [_row(table, key) for table in tables]
    arms = (key[-1], str(rows[0]["baseline"]))
    return Agreement(
        stratum=key[:-1],
        treatment=key[-1],
        ratios=tuple(float(row["ratio"]) for row in rows),
        allowed=_allowed(key),
        differs=differences.labels(found, _named(key), arms, campaigns),
    )


def _row(table: pd.DataFrame, key: tuple[str, ...]) -> pd.Series[float]:
    mine = table["treatment"] == key[-1]
    for name, value in _named(key).items():
        mine &= table[name] == value
    return table[mine].iloc[0]


def _noise(
    campaigns: Sequence[LoadedCampaign], tables: Sequence[pd.DataFrame], shared: set[tuple[str, ...]]
) -> Iterator[CampaignNoise]:
    for loaded, table in zip(campaigns, tables, strict=True):
        for row in table.drop_duplicates(list(STRATUM)).to_dict("records"):
            stratum = tuple(str(row[key]) for key in STRATUM)
            if stratum in shared:
                yield CampaignNoise(
                    campaign=str(loaded.campaign.path),
                    stratum=stratum,
                    low=row["floor_low"],
                    high=row["floor_high"],
                    allowed=_allowed(stratum),
                )


def _named(key: Sequence[str]) -> dict[str, str]:
    return dict(zip(STRATUM, key, strict=False))


def _allowed(key: Sequence[str]) -> float:
    return metrics.EXPECTED_FLOOR[metrics.is_steady(_named(key)["workload"])]


def text(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of a page: the shared overheads, the largest difference, the A/A intervals, what else differs."""
    agreements = comparison.agreements
    several = [axis for n, axis in enumerate(STRATUM) if len({one.stratum[n] for one in agreements}) > 1]
    cells = (
        (
            _where(agreement.stratum, several),
            f"`{agreement.treatment}`",
            ", ".join(words.signed(100 * (ratio - 1), 2) for ratio in agreement.ratios) + " %",
            f"{100 * agreement.difference:.3f} %",
            f"{100 * agreement.allowed:g} %",
            "" if agreement.ok else "**!**",
            ", ".join(agreement.differs),
        )
        for agreement in agreements
    )
    yield from markdown.table(_HEADER, cells)
    yield ""
    if comparison.left_out:
        yield f"Left out: {comparison.left_out} overheads that not all campaigns have."
    yield from _largest(agreements)
    wide = [interval for interval in comparison.noise if not interval.ok]
    count = len(comparison.noise)
    yield f"A/A: {count - len(wide)} of {count} intervals lie within what is allowed."
    for interval in wide:
        where = f"{_where(interval.stratum, several)} in {interval.campaign}"
        yield f"- {where}: {_percent(interval)}, allowed ±{100 * interval.allowed:g} %"
    if comparison.differs:
        yield f"What differs, in the order {' | '.join(comparison.campaigns)}:"
        yield from markdown.bullets(differences.lines(comparison.differs))


def _percent(interval: CampaignNoise) -> str:
    text = words.bounds(interval.low, interval.high)
    return text if text == words.NO_INTERVAL else f"{text} %"


def _largest(agreements: Sequence[Agreement]) -> Iterator[str]:
    for steady, kind in ((True, "one process at a time"), (False, "servers")):
        group = [agreement for agreement in agreements if agreement.allowed == metrics.EXPECTED_FLOOR[steady]]
        if group:
            worst = max(group, key=lambda agreement: agreement.difference)
            where = f"{worst.treatment} on {worst.stratum[STRATUM.index('workload')]}"
            yield f"Largest difference, {kind}: {100 * worst.difference:.3f} % ({where})."


def _where(stratum: Sequence[str], several: Sequence[str]) -> str:
    """Name the workload, with kernel and runtime where several are compared."""
    named = _named(stratum)
    extra = [named[axis] for axis in several if axis != "workload"]
    return f"`{named['workload']}`" + (f" ({', '.join(extra)})" if extra else "")
