"""One-sided tests from estimates alone, so that a stored report can be judged again. Point estimates never decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from domain.reports import Estimate, PairedDifference

LARGEST_SAMPLE = 1e9


def p_below(estimate: Estimate, limit: float) -> float:
    """Return the p-value of `the rate is at least limit`; small means the rate is proven to be lower.

    The exact binomial test with the sample size that reproduces the estimate's own upper bound, so that test and
    interval never contradict each other.
    """
    if estimate.value is None or estimate.high is None or limit <= 0:
        return 1.0
    if limit >= 1:
        return p_below(estimate, 1 - 1e-12) if estimate.value < 1 else 1.0
    value, high = min(1.0, max(0.0, estimate.value)), estimate.high
    if value >= 1 or high >= 1:
        return 1.0
    size = _size_with_upper_bound(value, high, 1 - (1 - estimate.confidence) / 2)
    return float(stats.beta.sf(limit, size * value + 1, size * (1 - value)))


def p_above(estimate: Estimate, limit: float) -> float:
    """Return the p-value of `the rate is at most limit`; small means the rate is proven to be higher."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return 1.0
    mirrored = estimate.model_copy(
        update={"value": 1 - estimate.value, "low": 1 - estimate.high, "high": 1 - estimate.low}
    )
    return p_below(mirrored, 1 - limit)


def _size_with_upper_bound(value: float, high: float, level: float) -> float:
    """Return the sample size at which Clopper and Pearson's upper bound of `value` is `high`."""

    def excess(log_size: float) -> float:
        size = math.exp(log_size)
        return float(stats.beta.ppf(level, size * value + 1, size * (1 - value))) - high

    smallest, largest = math.log(1e-3), math.log(LARGEST_SAMPLE)
    if excess(largest) >= 0:
        return LARGEST_SAMPLE
    if excess(smallest) <= 0:
        return 1e-3
    return math.exp(float(optimize.brentq(excess, smallest, largest, xtol=1e-9)))


def two_sample(now: Estimate, before: Estimate, tolerance: float) -> float:
    """Return the p-value of `now is not lower than before by more than tolerance`, for independent samples.

    Newcombe's hybrid of the two intervals: each contributes the half width on the side that matters.
    """
    if now.value is None or before.value is None or now.high is None or before.low is None:
        return 1.0
    z_now, z_before = (float(stats.norm.ppf(1 - (1 - part.confidence) / 2)) for part in (now, before))
    error = math.hypot((now.high - now.value) / z_now, (before.value - before.low) / z_before)
    shift = now.value - before.value + tolerance
    if error == 0:
        return 0.0 if shift < 0 else 1.0
    return float(stats.norm.cdf(shift / error))


def p_worse(difference: PairedDifference, tolerance: float) -> float:
    """Return the p-value of `second is not worse than first by more than tolerance`; small proves a loss."""
    return _paired_p(difference.difference + tolerance, difference.high - difference.difference, difference.confidence)


def p_inferior(difference: PairedDifference, margin: float) -> float:
    """Return the p-value of `second is worse than first by the margin or more`; small proves non-inferiority.

    A negative margin asks for superiority by that much.
    """
    return _paired_p(-(difference.difference + margin), difference.difference - difference.low, difference.confidence)


def _paired_p(shift: float, half_width: float, confidence: float) -> float:
    error = half_width / float(stats.norm.ppf(1 - (1 - confidence) / 2))
    if error <= 0:
        return 0.0 if shift < 0 else 1.0
    return float(stats.norm.cdf(shift / error))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return adjusted p-values `(m,)` in the order given; those at most alpha are rejected with family error alpha.

    Holm 1979. Adjusted values keep the order of the p-values and never lie below them.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return p
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted
