"""Blocks within builds: how much of the spread is between builds, and what that allows one to say. Pure functions.

A build of the machine's disks is a level above the block: all blocks of one build share it. With ``k`` builds there are
``k - 1`` degrees of freedom for what builds differ by, however many blocks each of them has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from testbed.analysis.statistics.effect import CONFIDENCE, Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Two standard deviations: of the blocks of one build (``within``), and of builds beyond that (``between``).

    ``apart``: the largest difference between the means of two builds. ``interval``: of the mean over builds, from
    Student's t with one degree of freedom less than there are builds.
    """

    within: float
    between: float
    apart: float
    interval: Interval


def levels(groups: Sequence[ArrayLike]) -> Levels:
    """Return the levels of blocks that are grouped by build: the estimates of a one-way analysis of variance.

    ``within`` is NaN if no build has two blocks; then ``between`` has the blocks' spread in it. Raises ``ValueError``
    for fewer than two builds, or for one without a block.
    """
    samples = [np.asarray(group, dtype=np.float64) for group in groups]
    if len(samples) < 2 or not all(len(sample) for sample in samples):
        raise ValueError("expected at least two builds, each with a block")
    sizes = np.array([len(sample) for sample in samples], dtype=np.float64)
    means = np.array([sample.mean() for sample in samples])
    total, count = sizes.sum(), len(samples)
    grand = float((sizes * means).sum() / total)
    of_builds = float((sizes * (means - grand) ** 2).sum()) / (count - 1)
    spare = total - count
    of_blocks = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples) / spare if spare else math.nan
    each = (total - float((sizes**2).sum()) / total) / (count - 1)
    beyond = of_builds - (of_blocks if spare else 0.0)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * float(means.std(ddof=1)) / math.sqrt(count)
    middle = float(means.mean())
    return Levels(
        within=math.sqrt(of_blocks) if spare else math.nan,
        between=math.sqrt(max(0.0, beyond / each)),
        apart=float(means.max() - means.min()),
        interval=Interval(low=middle - reach, high=middle + reach),
    )
