"""The values that claims are about: each metric computes one from a campaign or from the slides.

A metric returns an ``Amount``, or ``Unknown`` with the reason. It never raises for data that says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from testbed.analysis.paper import evaluated
from testbed.analysis.paper.live import LiveLog
from testbed.analysis.paper.material import CampaignData, PaperData
from testbed.analysis.paper.slides import LineState, shared_digests
from testbed.analysis.statistics.effect import Conclusion
from testbed.analysis.tables import metrics
from testbed.analysis.tables.worst_check import CheckVerdict

SLIDES = "slides"
"""The experiment of claims about the slides' listings, which need no machine."""

_EXACT = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A value with its interval. ``basis``: what the interval is: ``95 %, n = 6``, ``exact``, a range."""

    value: float
    low: float
    high: float
    unit: str
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Why there is no value."""

    why: str


Answer = Amount | Unknown
Where = Mapping[str, Any]
Metric = Callable[[PaperData, CampaignData | None, Where], Answer]


def exact(value: float, unit: str) -> Amount:
    """Return a counted value, whose interval is itself."""
    return Amount(value=value, low=value, high=value, unit=unit, basis=_EXACT)


def _overhead(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return an arm's overhead on a workload, in percent. ``where``: workload, measurer, metric (default cpu)."""
    row = _contrast(campaign, where)
    if isinstance(row, Unknown):
        return row
    if row["verdict"] == Conclusion.INVALID:
        return Unknown(why="the comparison is invalid: the A/A is biased or too many runs failed")
    ends = [100 * (float(row[name]) - 1) for name in ("ratio", "low", "high")]
    return Amount(value=ends[0], low=ends[1], high=ends[2], unit="%", basis=_interval(row["n"]))


def _cost(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return what an arm adds to one operation of a workload, in millions of the tier's unit."""
    row = _contrast(campaign, where)
    if isinstance(row, Unknown):
        return row
    ends = [float(row[name]) / 1e6 for name in ("cost", "cost_low", "cost_high")]
    return Amount(value=ends[0], low=ends[1], high=ends[2], unit=f"M {row['unit']}", basis=_interval(row["n"]))


def _mean_overhead(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return an arm's geometric mean over all workloads, in percent. ``where``: measurer, workloads (how many)."""
    assert campaign is not None
    table = campaign.tables.overall
    mine = table[table["treatment"] == where["measurer"]]
    if len(mine) != 1:
        return Unknown(why=f"{len(mine)} geometric means of {where['measurer']}, expected one")
    row = mine.iloc[0]
    if int(row["workloads"]) != where["workloads"]:
        return Unknown(why=f"{row['workloads']} workloads, and the claim is about {where['workloads']}")
    ends = [100 * (float(row[name]) - 1) for name in ("ratio", "low", "high")]
    return Amount(value=ends[0], low=ends[1], high=ends[2], unit="%", basis=_interval(row["n"]))


def _floor(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return how far the A/A of some workloads reaches from 0, in percent: its farthest end."""
    assert campaign is not None
    table, wanted = campaign.tables.ladder, set(where["workloads"])
    mine = table[table["workload"].isin(wanted)]
    if missing := wanted - set(mine["workload"]):
        return Unknown(why=f"no overhead of {', '.join(sorted(missing))}")
    reach = max(abs(100 * (float(mine[name].iloc[at]) - 1)) for name in _ENDS for at in range(len(mine)))
    count = int(mine["floor_n"].min())
    return Amount(value=reach, low=reach, high=reach, unit="%", basis=f"farthest end of 95 %, n = {count}")


def _price(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return the fitted price of an event. ``where``: step, term."""
    assert campaign is not None
    for fit in campaign.tables.fits:
        if fit.step.name == where["step"] and where["term"] in fit.prices:
            price = fit.prices[where["term"]]
            low, high = evaluated.ends(price.interval)
            return Amount(value=price.center, low=low, high=high, unit=fit.unit, basis=_interval(price.n))
    return Unknown(why=f"no price of {where['term']} in the step {where['step']}: too few workloads")


def _hash_share(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return the share of hashing in what the ladder adds, in percent: from the smallest to the largest workload."""
    assert campaign is not None
    table, left_out = campaign.tables.parts, set(where.get("without", ()))
    mine = table[(table["part"] == "hash") & ~table["workload"].isin(left_out)]
    if mine.empty:
        return Unknown(why="no event has a price: too few workloads")
    shares = 100 * mine["share"].astype(float)
    basis = f"range of {len(mine)} workloads"
    return Amount(
        value=float(shares.median()), low=float(shares.min()), high=float(shares.max()), unit="%", basis=basis
    )


def _times(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return how many times as much a measurer takes as another one: the range over the blocks, not an interval."""
    assert campaign is not None
    rows = campaign.tables.rows
    if metrics.reading(metrics.PRIMARY, campaign.tables.plan.tier) is None:
        return Unknown(why=f"tier {campaign.tables.plan.tier} has no clock that means anything")
    mine = rows[(rows["metric"] == metrics.PRIMARY) & (rows["workload"] == where["workload"])]
    timed = mine[(mine["status"] == "ok") & mine["current"].astype(bool) & ~mine["warmup"].fillna(value=False)]
    values = timed.groupby(["block", "measurer"])["value"].median().unstack("measurer")  # noqa: PD010 - a pivot
    if missing := {where["measurer"], where["over"]} - set(values):
        return Unknown(why=f"no run of {', '.join(sorted(missing))}")
    ratios = (values[where["measurer"]] / values[where["over"]]).dropna()
    if ratios.empty:
        return Unknown(why="no block has both measurers")
    low, high = float(ratios.min()), float(ratios.max())
    return Amount(
        value=float(ratios.median()), low=low, high=high, unit="times", basis=f"range of {len(ratios)} blocks"
    )


def _complete(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return the share of planned runs that ran and were judged as expected, in percent."""
    assert campaign is not None
    if campaign.checks is None:
        return Unknown(why="nobody judged the runs: `testbed report` does")
    planned = campaign.runs[campaign.runs["measurer"].isin(where.get("measurers", set(campaign.runs["measurer"])))]
    if planned.empty:
        return Unknown(why="no run was planned")
    checks = campaign.checks
    wrong = set(checks.loc[checks["verdict"] != str(CheckVerdict.OK), "run"])
    good = set(checks["run"]) - wrong
    ran = planned[planned["status"] == "ok"]
    count = sum(path.name in good for path in ran["path"])
    return exact(100 * count / len(planned), f"% of {len(planned)} runs")


def _wrong_entries(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return how many entries of a measurer are missing, extra, stale, or of another container or content."""
    mine = _checks(campaign, where)
    if isinstance(mine, Unknown):
        return mine
    # Zero entries are not success.
    if not (mine["promised"].fillna(0) > 0).all():
        return Unknown(why=f"in some runs no entry was demanded of {where['measurer']}")
    kinds = [str(finding["kind"]) for findings in mine["findings"] for finding in findings]
    count = sum(kind in evaluated.WRONG for kind in kinds)
    return exact(count, f"entries in {len(mine)} runs, {mine['promised'].sum():.0f} demanded")


def _trusted(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return the share of a measurer's runs whose verdict is *trusted*, in percent."""
    mine = _checks(campaign, where)
    if isinstance(mine, Unknown):
        return mine
    return exact(100 * float((mine["judgement"] == "trusted").mean()), f"% of {len(mine)} runs")


def _found(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return the share of a measurer's runs in which the verifier has a finding of a kind, in percent."""
    mine = _checks(campaign, where)
    if isinstance(mine, Unknown):
        return mine
    having = [where["kind"] in {finding["kind"] for finding in findings} for findings in mine["findings"]]
    return exact(100 * sum(having) / len(having), f"% of {len(mine)} runs")


def _entries(_: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return how many entries a start adds to the log. ``where``: workload, measurer, first (of the machine or not)."""
    assert campaign is not None
    known = evaluated.entries(campaign.tables)
    mine = known[(known["measurer"] == where["measurer"]) & (known["workload"] == where["workload"])]
    mine = mine[mine["first"] == where["first"]]
    if mine.empty:
        return Unknown(why=f"no such iteration of {where['measurer']} on {where['workload']}")
    return exact(float(mine["entries"].iloc[0]), "entries per start")


def _bits(data: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return how many bits of content digests bind: the range over the entries whose rule is known."""
    known = [(bits, bound) for bits, bound in _bindings(data, campaign, where) if bits is not None]
    if not known:
        return Unknown(why="no entry that names a container and whose rule is known")
    bits = [float(bits) for bits, _ in known]
    basis = f"range of {len(bits)} entries"
    return Amount(value=sorted(bits)[len(bits) // 2], low=min(bits), high=max(bits), unit="bits", basis=basis)


def _bound(data: PaperData, campaign: CampaignData | None, where: Where) -> Answer:
    """Return the share of entries whose digest binds the container that they name, in percent."""
    known = [bound for bits, bound in _bindings(data, campaign, where) if bits is not None]
    if not known:
        return Unknown(why="no entry that names a container and whose rule is known")
    return exact(100 * sum(known) / len(known), f"% of {len(known)} entries")


def _damaged(data: PaperData, _: CampaignData | None, where: Where) -> Answer:
    """Return how many lines of a listing do not fit their digest as they are printed. ``where``: listing, state."""
    for listing in data.listings:
        if listing.slide.name == where["listing"]:
            count = listing.states[LineState(where["state"])] if "state" in where else listing.damaged
            return exact(count, f"of {len(listing.lines)} lines")
    return Unknown(why=f"no listing {where['listing']}")


def _shared(data: PaperData, _: CampaignData | None, __: Where) -> Answer:
    """Return how many digests of the slides stand for several namespaces."""
    return exact(len(shared_digests(data.listings)), "digests")


_ENDS = ("floor_low", "floor_high")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMetric:
    """A metric by its function, and the keys that ``where`` must have for it."""

    compute: Metric
    needs: tuple[str, ...] = ()


METRICS: Mapping[str, ClaimMetric] = {
    "overhead": ClaimMetric(compute=_overhead, needs=("workload", "measurer")),
    "cost": ClaimMetric(compute=_cost, needs=("workload", "measurer")),
    "mean-overhead": ClaimMetric(compute=_mean_overhead, needs=("measurer", "workloads")),
    "floor": ClaimMetric(compute=_floor, needs=("workloads",)),
    "price": ClaimMetric(compute=_price, needs=("step", "term")),
    "hash-share": ClaimMetric(compute=_hash_share),
    "times": ClaimMetric(compute=_times, needs=("workload", "measurer", "over")),
    "complete": ClaimMetric(compute=_complete),
    "wrong-entries": ClaimMetric(compute=_wrong_entries, needs=("measurer",)),
    "trusted": ClaimMetric(compute=_trusted, needs=("measurer",)),
    "found": ClaimMetric(compute=_found, needs=("measurer", "kind")),
    "entries": ClaimMetric(compute=_entries, needs=("workload", "measurer", "first")),
    "bits": ClaimMetric(compute=_bits),
    "bound": ClaimMetric(compute=_bound),
    "damaged": ClaimMetric(compute=_damaged, needs=("listing",)),
    "shared": ClaimMetric(compute=_shared),
}


def _contrast(campaign: CampaignData | None, where: Where) -> pd.Series[Any] | Unknown:
    assert campaign is not None
    table = campaign.tables.ladders.get(where.get("metric", metrics.PRIMARY))
    if table is None or table.empty:
        return Unknown(why=f"tier {campaign.tables.plan.tier} has no such overhead")
    mine = table[(table["workload"] == where["workload"]) & (table["treatment"] == where["measurer"])]
    if len(mine) != 1:
        return Unknown(why=f"{len(mine)} rows of {where['measurer']} on {where['workload']}, expected one")
    row: pd.Series[Any] = mine.iloc[0]
    return row


def _checks(campaign: CampaignData | None, where: Where) -> pd.DataFrame | Unknown:
    assert campaign is not None
    if campaign.checks is None:
        return Unknown(why="nobody judged the runs: `testbed report` does")
    mine = campaign.checks[(campaign.checks["measurer"] == where["measurer"]) & (campaign.checks["attack"] == "none")]
    return mine if len(mine) else Unknown(why=f"no run of {where['measurer']} was judged")


def _bindings(data: PaperData, campaign: CampaignData | None, where: Where) -> Iterable[tuple[int | None, bool]]:
    """Yield bits and binding of each entry that names a container: of a listing, or of a measurer's live log."""
    if "listing" in where:
        lines = [line for one in data.listings if one.slide.name == where["listing"] for line in one.lines]
        return [(line.bits, line.bound) for line in lines if line.namespaced]
    log: LiveLog | None = campaign.live.get(str(where.get("measurer"))) if campaign is not None else None
    return [(one.bits, one.bound) for one in log.measured if one.namespaced] if log is not None else []


def _interval(count: Any) -> str:
    return f"95 %, n = {int(count)}" if not math.isnan(float(count)) else "no blocks"
