"""A rate over clustered rows with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from domain.reports import Estimate

RESAMPLES = 1_000


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of `successes` out of `n` (Wilson, 1927)."""
    z = float(norm.ppf(0.5 + confidence / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def clustered_rate(
    outcomes: NDArray[np.bool_], clusters: NDArray[Any], seed: int, *, confidence: float = 0.95
) -> Estimate:
    """Return the share of true outcomes; whole clusters are resampled.

    Where every row is its own cluster, or all outcomes agree (a bootstrap would then have no width), the interval is
    Wilson's, with the number of clusters as sample size.
    """
    n = int(outcomes.size)
    if n == 0:
        return Estimate(value=None, n=0, confidence=confidence)
    rate = float(outcomes.mean())
    _, member = np.unique(clusters.astype(str), return_inverse=True)
    count = int(member.max()) + 1
    if count == n or rate in {0.0, 1.0} or count < 3:
        low, high = wilson(rate * count, count, confidence)
        return Estimate(value=rate, low=low, high=high, n=n, confidence=confidence)
    hits = np.bincount(member, weights=outcomes.astype(float))
    sizes = np.bincount(member).astype(float)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
    rates = (draws @ hits) / (draws @ sizes)
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value=rate, low=min(float(low), rate), high=max(float(high), rate), n=n, confidence=confidence)
