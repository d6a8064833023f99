"""What an event costs: cost = constant + sum of (coefficient x count), fitted in each block by itself. Pure.

A block is the unit here too, because its rows share a boot. So each block is fitted by itself. A coefficient, or a
prediction, is the Hodges-Lehmann estimate over the blocks' fits with its exact interval. That interval says how well a
coefficient repeats. Rows that were not fitted say how well the model fits (``held_out``). Under icount, blocks repeat
so well that the two differ greatly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.optimize
from numpy.typing import NDArray

from testbed.analysis.statistics import effect
from testbed.analysis.statistics.effect import EffectEstimate

CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The columns of a table and their meaning. Rows are one arm of one workload in one block.

    ``cost`` is explained by the counts in ``events``, and by a constant of each row if ``constant``. ``nonnegative``:
    events whose coefficient cannot be below 0, as a hash gives no time back. ``weight``: column of positive weights of
    the residuals; 1/cost makes a percent of a small workload weigh as much as one of a large one. Default: all alike.
    """

    events: tuple[str, ...]
    cost: str = "cost"
    block: str = "block"
    constant: bool = False
    nonnegative: frozenset[str] = field(default_factory=frozenset)
    weight: str | None = None

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the coefficients, in order."""
        return (*((CONSTANT,) if self.constant else ()), *self.events)

    def design(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Return the counts by which the coefficients are multiplied: one line per row, one column per term."""
        counts = rows[list(self.events)].to_numpy(dtype=np.float64)
        return np.hstack([np.ones((len(rows), 1)), counts]) if self.constant else counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A fit: ``fits`` has a row per block (named in ``blocks``) and a column per term of ``form``.

    ``condition``: the worst block's condition number, columns scaled to length 1. Above 30 the terms are so alike that
    their coefficients can be wrong where their sum is right (Belsley, Kuh, Welsch, *Regression Diagnostics*, 1980).
    """

    form: Form
    blocks: tuple[object, ...]
    fits: NDArray[np.float64]
    condition: float

    @property
    def coefficients(self) -> Mapping[str, EffectEstimate]:
        """What each term costs, in the unit of ``form.cost`` an event, with its interval over the blocks."""
        return {term: effect.estimate(self.fits[:, n]) for n, term in enumerate(self.form.terms)}

    def predict(self, rows: pd.DataFrame) -> list[EffectEstimate]:
        """Return the predicted cost of each row, with its interval over the blocks' fits."""
        return [effect.estimate(costs) for costs in self.form.design(rows) @ self.fits.T]


def fit(table: pd.DataFrame, form: Form) -> Model:
    """Fit each block's rows by least squares, weighted and bounded as ``form`` says.

    A block that lost rows, so that the others cannot separate the terms, is left out; ``Model.blocks`` names those that
    are in. Raises ``ValueError`` if none is, and for a count, a cost or a weight that is no number.
    """
    _check(table, form)
    fits: dict[object, NDArray[np.float64]] = {}
    condition = 1.0
    for block, rows in table.groupby(form.block):
        weight = _weights(rows, form)
        weighted, cost = form.design(rows) * weight[:, None], rows[form.cost].to_numpy(dtype=np.float64) * weight
        length = np.linalg.norm(weighted, axis=0)
        scaled = weighted / np.where(length > 0, length, 1.0)
        if np.linalg.matrix_rank(scaled) == len(form.terms):
            fits[block] = _solve(scaled, cost, form) / length
            condition = max(condition, float(np.linalg.cond(scaled)))
    if not fits:
        raise ValueError(f"no block has rows that separate {', '.join(form.terms)}")
    return Model(form=form, blocks=tuple(fits), fits=np.array(list(fits.values())), condition=condition)


def held_out(table: pd.DataFrame, form: Form, *, by: str, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Return how well each value of ``by`` (a workload) is predicted by a fit of all the others.

    One row per (``by``, ``keys``), where ``keys`` distinguish rows of one block (the measurer): ``measured`` (Hodges-
    Lehmann over blocks), ``predicted low high``, and ``error error_low error_high``: predicted/measured - 1 in each
    block, over the ``n`` blocks that have both. Raises ``ValueError`` where the others do not separate the terms,
    where a measured cost is 0, and where ``keys`` leave several rows of a block.
    """
    listed = [row for name in table[by].unique() for row in _held_out(table, form, by, name, list(keys))]
    return pd.DataFrame(listed, columns=[by, *keys, *_HELD_OUT])


_HELD_OUT = ("measured", "predicted", "low", "high", "error", "error_low", "error_high", "n")


def _held_out(table: pd.DataFrame, form: Form, by: str, name: object, keys: list[str]) -> Iterator[dict[str, object]]:
    model = fit(table[table[by] != name], form)
    seen = table[(table[by] == name) & table[form.block].isin(model.blocks)]
    for key, rows in seen.groupby([by, *keys]):
        costs = rows[form.cost].to_numpy(dtype=np.float64)
        if not costs.all():
            raise ValueError(f"{key}: a measured cost of 0 has no relative error")
        if rows[form.block].duplicated().any():
            raise ValueError(f"{key}: several rows of one block")
        own = model.fits[[model.blocks.index(block) for block in rows[form.block]]]
        guessed = (form.design(rows) * own).sum(axis=1)
        predicted, error = effect.estimate(guessed), effect.estimate(guessed / costs - 1)
        yield {
            **dict(zip([by, *keys], key, strict=True)),
            "measured": effect.estimate(costs).center,
            "predicted": predicted.center,
            **dict(zip(("low", "high"), _ends(predicted), strict=True)),
            "error": error.center,
            **dict(zip(("error_low", "error_high"), _ends(error), strict=True)),
            "n": error.n,
        }


def _ends(estimate: EffectEstimate) -> tuple[float, float]:
    return (-np.inf, np.inf) if estimate.interval is None else (estimate.interval.low, estimate.interval.high)


def _solve(design: NDArray[np.float64], cost: NDArray[np.float64], form: Form) -> NDArray[np.float64]:
    least = np.array([0.0 if term in form.nonnegative else -np.inf for term in form.terms])
    solved: NDArray[np.float64]
    if np.isinf(least).all():
        solved = np.asarray(np.linalg.lstsq(design, cost)[0], dtype=np.float64)
    else:
        solved = scipy.optimize.lsq_linear(design, cost, bounds=(least, np.inf), method="bvls").x
    return solved


def _weights(rows: pd.DataFrame, form: Form) -> NDArray[np.float64]:
    return np.ones(len(rows)) if form.weight is None else rows[form.weight].to_numpy(dtype=np.float64)


def _check(table: pd.DataFrame, form: Form) -> None:
    unknown = form.nonnegative - set(form.terms)
    if unknown:
        raise ValueError(f"no term {', '.join(sorted(unknown))}; there are {', '.join(form.terms)}")
    columns = [*form.events, form.cost]
    bad = ~np.isfinite(table[columns].to_numpy(dtype=np.float64)).all(axis=1)
    weights = _weights(table, form)
    bad |= ~(np.isfinite(weights) & (weights > 0))
    if bad.any():
        raise ValueError(f"row {table.index[bad][0]}: counts and costs are numbers, weights above 0")
