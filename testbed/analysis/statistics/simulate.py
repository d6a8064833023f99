"""Simulated campaigns: how often the verdicts are wrong where the truth is known. Pure, seeded, without a machine.

The code that judges real campaigns (``effect.estimate``, ``effect.conclude``) judges simulated ones. Their arms are in
Williams order: the baseline twice, and one arm for each truth. They have the disturbances of real ones::

    ln value = truth of the arm + boot + (boot x arm) + slot in the block + drift of the campaign + noise + spike
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed import progress
from testbed.analysis.statistics import effect as stats
from testbed.analysis.statistics import multiple, power
from testbed.analysis.statistics.effect import Conclusion
from testbed.plan import williams

CAMPAIGNS = 2000
_FOUND = (Conclusion.OVERHEAD, Conclusion.OVERHEAD_BELOW_DELTA, Conclusion.SPEED_UP, Conclusion.SPEED_UP_BELOW_DELTA)
_EQUAL = (Conclusion.NO_DETECTABLE_OVERHEAD, Conclusion.OVERHEAD_BELOW_DELTA, Conclusion.SPEED_UP_BELOW_DELTA)
# The pilot that states the smallest effect must be independent of the campaigns that test it.
_PILOT_SEED = 1_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What disturbs a value, as differences of logarithms (0.01 is about 1 %).

    ``arm``: standard deviation of each arm's value. ``boot``: of what a boot does to all its arms. ``boot_arm``: of
    what it does to one of them. ``slot``: of what each position in a block adds to the arm there, the same in all
    blocks of a campaign. ``drift``: from a campaign's first run to its last. ``spike``: what is added to a share
    ``spikes`` of the runs. ``carry``: what an arm that is not a baseline leaves to the arm after it; no order of arms
    removes that, so it is 0 unless asked for.
    """

    arm: float
    boot: float
    boot_arm: float
    slot: float
    drift: float
    spike: float
    spikes: float
    carry: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How a campaign is made: its ``blocks``, its margin, the clock's ``resolution``, its noise.

    ``balanced``: in Williams order; else all blocks have the same order, to show what that does.
    """

    blocks: int
    delta: float
    noise: Noise
    resolution: float = 0.0
    balanced: bool = True


# Instructions, and seconds on a shared host; spikes of 5 times the noise.
COUNTED = Design(
    blocks=6,
    delta=0.005,
    resolution=1e-4,
    noise=Noise(arm=0.0005, boot=0.01, boot_arm=0.0003, slot=0.0003, drift=0.001, spike=0.0025, spikes=0.02),
)
TIMED = Design(
    blocks=24,
    delta=0.02,
    noise=Noise(arm=0.014, boot=0.03, boot_arm=0.004, slot=0.015, drift=0.03, spike=0.08, spikes=0.05),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The verdicts on an arm that costs ``truth`` (logarithm), as shares of the campaigns.

    ``found``: called overhead or speed-up. ``equal``: called equal within delta. ``covered``: the 95 % interval holds
    the truth. The rest of them: ``inconclusive``, ``invalid``.
    """

    truth: float
    found: float
    equal: float
    inconclusive: float
    invalid: float
    covered: float


def rates(design: Design, truths: Sequence[float], *, campaigns: int = CAMPAIGNS, seed: int = 1) -> tuple[Rates, ...]:
    """Simulate campaigns of the baseline twice and an arm for each truth (logarithm); one result a truth, in order."""
    simulated = values(design, truths, campaigns=campaigns, seed=seed)
    judged = [_judge(blocks, design) for blocks in progress.each(simulated, "simulated", unit="campaigns")]
    return tuple(_rates(truth, [arms[number] for arms in judged]) for number, truth in enumerate(truths))


def family(design: Design, *, campaigns: int = CAMPAIGNS, seed: int = 1) -> tuple[float, float]:
    """Return in what share of campaigns any of four arms that cost nothing has p <= 0.05: raw, and after Holm."""
    simulated = values(design, (0.0,) * 4, campaigns=campaigns, seed=seed)
    judged = (_judge(blocks, design) for blocks in progress.each(simulated, "arms without an effect", unit="campaigns"))
    raw = np.array([[effect.p for effect, _ in arms] for arms in judged])
    adjusted = np.array([multiple.holm(p) for p in raw])
    return float((raw <= 0.05).any(axis=1).mean()), float((adjusted <= 0.05).any(axis=1).mean())


def stated_mde(design: Design, *, campaigns: int = CAMPAIGNS, seed: int = _PILOT_SEED) -> float:
    """Return the effect (logarithm) that the design says it finds with 80 % power, from the spreads of a pilot."""
    pilot = values(design, (0.0,), campaigns=campaigns, seed=seed)
    none, none2, null = (np.log(pilot[:, :, arm]) for arm in range(3))
    spread, aa_spread = (
        math.sqrt(float(blocks.var(axis=1, ddof=1).mean())) for blocks in (null - (none + none2) / 2, none2 - none)
    )
    return power.mde(spread, design.blocks, floor=design.resolution, aa_spread=aa_spread)


def usual_truths(design: Design) -> tuple[float, ...]:
    """Return the usual truths: no effect, the stated smallest effect, and delta in either direction."""
    return 0.0, stated_mde(design), math.log1p(design.delta), math.log1p(-design.delta)


def values(design: Design, truths: Sequence[float], *, campaigns: int, seed: int) -> NDArray[np.float64]:
    """Return what was measured, shaped (campaigns, blocks, arms): the baseline twice, then an arm for each truth."""
    random, noise = np.random.default_rng(seed), design.noise
    truth = np.array([0.0, 0.0, *truths])
    shape = (campaigns, design.blocks, len(truth))
    order = _orders(design, shape, random)
    slots = random.normal(0, noise.slot, (campaigns, 1, len(truth)))
    passed = np.arange(design.blocks * len(truth)).reshape(shape[1:]) / (design.blocks * len(truth))
    left = np.concatenate([np.zeros((*shape[:2], 1)), noise.carry * (order[:, :, :-1] >= 2)], axis=2)
    # Up to here by position in the block; now each arm takes the value of its position.
    placed = slots + noise.drift * passed + left
    by_arm = np.take_along_axis(placed, np.argsort(order, axis=2), axis=2)
    boots = random.normal(0, noise.boot, (*shape[:2], 1)) + random.normal(0, noise.boot_arm, shape)
    spikes = noise.spike * (random.random(shape) < noise.spikes)
    measured: NDArray[np.float64] = np.exp(truth + by_arm + boots + random.normal(0, noise.arm, shape) + spikes)
    return measured


def _orders(design: Design, shape: tuple[int, int, int], random: np.random.Generator) -> NDArray[np.intp]:
    """Return which arm stands at each place: rows of a square in shuffled order, as which arm is which number."""
    campaigns, blocks, arms = shape
    if not design.balanced:
        return np.broadcast_to(np.arange(arms), shape)
    square = np.array(williams(arms))
    rows = np.argsort(random.random((campaigns, len(square))), axis=1)[:, np.arange(blocks) % len(square)]
    names = np.argsort(random.random((campaigns, arms)), axis=1)
    return np.take_along_axis(names[:, None, :], square[rows], axis=2)


def _judge(blocks: NDArray[np.float64], design: Design) -> list[tuple[stats.EffectEstimate, Conclusion]]:
    none, none2, *treatments = blocks.T
    same = stats.estimate(stats.log_ratio(none2, none))
    floor = stats.Floor(estimate=same, resolution=design.resolution)
    effects = [stats.estimate(stats.log_ratio(arm, none, none2)) for arm in treatments]
    return [(effect, stats.conclude(effect, floor, delta=design.delta)) for effect in effects]


def _rates(truth: float, judged: list[tuple[stats.EffectEstimate, Conclusion]]) -> Rates:
    verdicts = [verdict for _, verdict in judged]
    intervals = [effect.interval for effect, _ in judged]
    return Rates(
        truth=truth,
        found=_share(verdict in _FOUND for verdict in verdicts),
        equal=_share(verdict in _EQUAL for verdict in verdicts),
        inconclusive=_share(verdict is Conclusion.INCONCLUSIVE for verdict in verdicts),
        invalid=_share(verdict is Conclusion.INVALID for verdict in verdicts),
        covered=_share(bounds is not None and bounds.low <= truth <= bounds.high for bounds in intervals),
    )


def _share(which: Iterable[bool]) -> float:
    return float(np.mean(list(which)))
