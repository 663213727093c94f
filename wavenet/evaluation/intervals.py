"""Means over recordings with 95% confidence intervals, by the bootstrap: which differences are more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from wavenet.evaluation.metrics import Comparison

CONFIDENCE = 0.95
RESAMPLES = 20_000
BLOCK = 2**20  # values drawn at a time, which bounds the memory
FEWEST = 5  # values for an interval that is wide enough; no mean of a resample lies beyond the extreme values


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval. NaN: no value to average, or no two values for an interval."""

    mean: float
    low: float
    high: float
    count: int  # of values


def estimate(values: ArrayLike) -> Estimate:
    """The mean of values [n] and its 95% confidence interval. NaN are left out. The result is deterministic.

    The expanded percentile interval of the bootstrap (Efron 1979; Hesterberg 2015, "What teachers should know about
    the bootstrap"): quantiles of the means of 20,000 resamples. The quantiles are those that make it as wide as
    Student's t for normal values; those at 2.5% and 97.5% of ten values cover the mean in only 90%.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    count = len(known)
    if count < 2:
        return Estimate(float(known[0]) if count else math.nan, math.nan, math.nan, count)
    generator, means = np.random.default_rng(0), np.empty(RESAMPLES)
    for block in np.array_split(means, math.ceil(RESAMPLES * count / BLOCK)):
        block[:] = known[generator.integers(count, size=(len(block), count))].mean(axis=1)
    tail = float(ndtr(math.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - CONFIDENCE) / 2)))
    low, high = np.quantile(means, (tail, 1 - tail))
    return Estimate(float(known.mean()), float(low), float(high), count)


def estimates(comparisons: Sequence[Comparison]) -> dict[str, Estimate]:
    """The mean over recordings of each figure of `Comparison`, by the name of its field."""
    return {name: estimate(column) for name, column in _columns(comparisons).items()}


def differences(first: Sequence[Comparison], second: Sequence[Comparison]) -> dict[str, Estimate]:
    """The mean difference, first minus second, of each figure of two copies of the same recordings, in their order.

    The interval is that of the paired difference: what differs from recording to recording, but is equal for both
    copies, does not widen it. Recordings for which one of the two figures is NaN are left out.
    """
    minuends, subtrahends = _columns(first), _columns(second)
    return {name: estimate(minuends[name] - subtrahends[name]) for name in minuends}


def _columns(comparisons: Sequence[Comparison]) -> dict[str, NDArray[np.float64]]:
    """Each figure of all comparisons, float64 [comparisons]."""
    names = [field.name for field in fields(Comparison)]
    return {name: np.array([getattr(row, name) for row in comparisons], np.float64) for name in names}
