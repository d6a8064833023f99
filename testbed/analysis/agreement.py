"""Do campaigns that asked the same question on other boots, or on a busy host, give the same numbers?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from testbed import plugins
from testbed.analysis import markdown, words
from testbed.analysis.tables import metrics
from testbed.analysis.tables.ladder import STRATUM, climb
from testbed.errors import SpecError

_HEADER = ("workload", "measurer", "overhead", "largest difference", "allowed", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One overhead in several campaigns. ``ratios``: to the baseline; ``allowed``: relative, by ``Workload.steady``."""

    stratum: tuple[str, ...]
    treatment: str
    ratios: tuple[float, ...]
    allowed: float

    @property
    def difference(self) -> float:
        """The largest relative difference between two campaigns, 0.001 for 0.1 %."""
        return max(abs(math.log(a / b)) for a, b in itertools.combinations(self.ratios, 2))

    @property
    def ok(self) -> bool:
        """Whether the campaigns agree as well as they may be expected to."""
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


def compare(tables: Mapping[str, pd.DataFrame]) -> tuple[list[Agreement], list[CampaignNoise]]:
    """Compare the ladders (``ladder.ladder``) of at least two campaigns, by name. Raises ``SpecError`` for fewer."""
    if len(tables) < 2:
        raise SpecError(f"{len(tables)} campaign with overheads: nothing to compare", "give two or more")
    keys = [*STRATUM, "treatment"]
    ratios: dict[tuple[str, ...], list[float]] = {}
    noise = []
    for name, table in tables.items():
        for row in table.to_dict("records"):
            ratios.setdefault(tuple(str(row[key]) for key in keys), []).append(float(row["ratio"]))
        for row in table.drop_duplicates(list(STRATUM)).to_dict("records"):
            stratum = tuple(str(row[key]) for key in STRATUM)
            noise.append(
                CampaignNoise(
                    campaign=name,
                    stratum=stratum,
                    low=row["floor_low"],
                    high=row["floor_high"],
                    allowed=_allowed(stratum),
                )
            )
    agreements = [
        Agreement(stratum=key[:-1], treatment=key[-1], ratios=tuple(values), allowed=_allowed(key[:-1]))
        for key, values in ratios.items()
        if len(values) == len(tables)
    ]
    return sorted(agreements, key=lambda agreement: (agreement.stratum, climb(agreement.treatment))), noise


def _allowed(stratum: tuple[str, ...]) -> float:
    return metrics.EXPECTED_FLOOR[plugins.workload(stratum[STRATUM.index("workload")]).steady]


def text(agreements: Sequence[Agreement], noise: Sequence[CampaignNoise]) -> Iterator[str]:
    """Yield the lines of a page: a table of all overheads, the largest difference, the A/A intervals."""
    cells = (
        (
            f"`{agreement.stratum[STRATUM.index('workload')]}`",
            f"`{agreement.treatment}`",
            ", ".join(words.signed(100 * (ratio - 1), 2) for ratio in agreement.ratios) + " %",
            f"{100 * agreement.difference:.3f} %",
            f"{100 * agreement.allowed:g} %",
            "" if agreement.ok else "**!**",
        )
        for agreement in agreements
    )
    yield from markdown.table(_HEADER, cells)
    yield ""
    for steady, kind in ((True, "one process at a time"), (False, "servers")):
        group = [agreement for agreement in agreements if agreement.allowed == metrics.EXPECTED_FLOOR[steady]]
        if group:
            worst = max(group, key=lambda agreement: agreement.difference)
            where = f"{worst.treatment} on {worst.stratum[STRATUM.index('workload')]}"
            yield f"Largest difference, {kind}: {100 * worst.difference:.3f} % ({where})."
    wide = [interval for interval in noise if not interval.ok]
    yield f"A/A: {len(noise) - len(wide)} of {len(noise)} intervals lie within what is allowed."
    for interval in wide:
        where = f"{interval.stratum[STRATUM.index('workload')]} in {interval.campaign}"
        yield f"- {where}: {words.bounds(interval.low, interval.high)} %, allowed ±{100 * interval.allowed:g} %"
