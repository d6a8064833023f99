"""The claims of a paper, as data, and their verdicts: each is computed from a campaign, and each can fail.

``claims.toml`` states for each claim its experiment, its metric, and which values support it (a *band*). The verdict
compares the metric's whole interval with the band:

- inside: the claim *holds*;
- outside: it *does not hold*;
- neither, or no value: it *cannot be judged from this data*.
"""

from __future__ import annotations

import enum
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.analysis.paper.amounts import METRICS, SLIDES, Amount, Unknown
from testbed.analysis.paper.material import PaperData
from testbed.errors import SpecError

SCHEMA = 1
_BANDS = ("expected", "at_least", "at_most")


class ClaimVerdict(enum.StrEnum):
    """What data says of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNKNOWN = "cannot be judged from this data"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperClaim:
    """One claim: values of ``metric`` from ``low`` to ``high`` support it.

    ``says``: the claim in words. ``experiment``: whose campaign has the data; ``slides`` for the slides' listings.
    ``where``: what the metric is asked about. ``minutes``: to make that data on two cores, without the first build.
    ``tier``: the only tier that the claim is about; empty if the tier does not matter.
    """

    id: str
    says: str
    experiment: str
    metric: str
    low: float
    high: float
    minutes: float
    where: Mapping[str, Any] = field(default_factory=dict)
    tier: str = ""

    @property
    def band(self) -> str:
        """The values that support the claim, in words."""
        if self.low == self.high:
            return f"{self.low:.6g}"
        if math.isinf(self.low):
            return f"at most {self.high:.6g}"
        return f"at least {self.low:.6g}" if math.isinf(self.high) else f"{self.low:.6g} to {self.high:.6g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedClaim:
    """A claim with its verdict. ``why``: why it cannot be judged, empty otherwise."""

    claim: PaperClaim
    verdict: ClaimVerdict
    amount: Amount | None = None
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of JSON; an infinite end of an interval is ``null``."""
        amount = self.amount
        return {
            "id": self.claim.id,
            "claim": self.claim.says,
            "experiment": self.claim.experiment,
            "metric": self.claim.metric,
            "where": dict(self.claim.where),
            "expected": [_finite(self.claim.low), _finite(self.claim.high)],
            "value": None if amount is None else amount.value,
            "interval": None if amount is None else [_finite(amount.low), _finite(amount.high)],
            "unit": "" if amount is None else amount.unit,
            "basis": "" if amount is None else amount.basis,
            "verdict": str(self.verdict),
            "why": self.why,
            "minutes": self.claim.minutes,
        }


def read(path: Path) -> tuple[PaperClaim, ...]:
    """Read ``claims.toml``. Raises ``SpecError`` naming the file, the claim and what is wrong with it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        raise SpecError(f"{path}: expected claims in TOML, got: {error}", "docs/artifact.md describes them") from error
    if raw.get("schema") != SCHEMA or not isinstance(raw.get("claim"), list):
        raise SpecError(f"{path}: expected schema = {SCHEMA} and [[claim]]", "docs/artifact.md describes them")
    claims = tuple(_claim(path, number, entry) for number, entry in enumerate(raw["claim"], 1))
    twice = sorted({claim.id for claim in claims if [other.id for other in claims].count(claim.id) > 1})
    if twice:
        raise SpecError(f"{path}: two claims are named {', '.join(twice)}", "give each an id of its own")
    return claims


def judge(claims: Iterable[PaperClaim], data: PaperData) -> tuple[JudgedClaim, ...]:
    """Judge claims by data. A claim whose experiment has no campaign there cannot be judged."""
    return tuple(_judged(claim, data) for claim in claims)


def compare(claim: PaperClaim, amount: Amount) -> ClaimVerdict:
    """Compare an amount's interval with the values that support a claim."""
    if math.isnan(amount.value) or not (math.isfinite(amount.low) and math.isfinite(amount.high)):
        return ClaimVerdict.UNKNOWN
    if claim.low <= amount.low and amount.high <= claim.high:
        return ClaimVerdict.HOLDS
    return ClaimVerdict.FAILS if amount.high < claim.low or claim.high < amount.low else ClaimVerdict.UNKNOWN


def _judged(claim: PaperClaim, data: PaperData) -> JudgedClaim:
    campaign = data.campaigns.get(claim.experiment)
    if campaign is None and claim.experiment != SLIDES:
        return JudgedClaim(claim=claim, verdict=ClaimVerdict.UNKNOWN, why=f"no campaign of {claim.experiment} is here")
    if claim.experiment == SLIDES and not data.listings:
        return JudgedClaim(claim=claim, verdict=ClaimVerdict.UNKNOWN, why="the slides' listings are not here")
    tier = campaign.tables.plan.tier if campaign is not None else ""
    if claim.tier and claim.tier != tier and claim.experiment != SLIDES:
        why = f"the claim is about tier {claim.tier}, and the campaign is of tier {tier}"
        return JudgedClaim(claim=claim, verdict=ClaimVerdict.UNKNOWN, why=why)
    amount = METRICS[claim.metric].compute(data, campaign, claim.where)
    if isinstance(amount, Unknown):
        return JudgedClaim(claim=claim, verdict=ClaimVerdict.UNKNOWN, why=amount.why)
    verdict = compare(claim, amount)
    why = _why(amount) if verdict is ClaimVerdict.UNKNOWN else ""
    return JudgedClaim(claim=claim, verdict=verdict, amount=amount, why=why)


def _why(amount: Amount) -> str:
    if not (math.isfinite(amount.low) and math.isfinite(amount.high)):
        return f"too few blocks for an interval ({amount.basis})"
    return "the interval is partly inside the expected values and partly outside: more blocks would decide"


def _claim(path: Path, number: int, entry: Any) -> PaperClaim:
    where = f"{path}: claim {number}"
    if not isinstance(entry, dict):
        raise SpecError(f"{where}: expected a table, got {entry!r}", "begin it with [[claim]]")
    where = f"{where} ({entry.get('id', 'without an id')})"
    low, high = _band(where, entry)
    known = {"id", "says", "experiment", "metric", "minutes", "where", "tier", "tolerance", *_BANDS}
    if unknown := sorted(set(entry) - known):
        raise SpecError(f"{where}: unknown key {unknown[0]!r}", f"there are: {', '.join(sorted(known))}")
    try:
        claim = PaperClaim(
            id=str(entry["id"]),
            says=str(entry["says"]),
            experiment=str(entry["experiment"]),
            metric=str(entry["metric"]),
            low=low,
            high=high,
            minutes=float(entry["minutes"]),
            where=dict(entry.get("where", {})),
            tier=str(entry.get("tier", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{where}: not of the expected shape: {error!r}", "see docs/artifact.md") from error
    if claim.metric not in METRICS:
        raise SpecError(f"{where}: no metric {claim.metric!r}", f"there are: {', '.join(METRICS)}")
    if missing := [name for name in METRICS[claim.metric].needs if name not in claim.where]:
        raise SpecError(f"{where}: key 'where': {missing[0]!r} is missing", f"metric {claim.metric} needs it")
    return claim


def _band(where: str, entry: Mapping[str, Any]) -> tuple[float, float]:
    given = [name for name in _BANDS if name in entry]
    if not given or ("expected" in given and len(given) > 1):
        raise SpecError(f"{where}: expected `expected` or `at_least`, `at_most`, got {given}", "say what supports it")
    for name in (*given, "tolerance"):
        value = entry.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SpecError(f"{where}: key {name!r}: expected a number, got {value!r}", "see docs/artifact.md")
    tolerance = float(entry.get("tolerance", 0.0))
    if tolerance < 0 or (tolerance and "expected" not in given):
        raise SpecError(f"{where}: key 'tolerance': {tolerance} needs `expected`, and at least 0", "correct it")
    if "expected" in given:
        return float(entry["expected"]) - tolerance, float(entry["expected"]) + tolerance
    return float(entry.get("at_least", -math.inf)), float(entry.get("at_most", math.inf))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
