"""Rates with intervals that stay honest for few rows, unequal weights and clusters.

One idea carries the module: a rate is the odds of two counts, "hit" and "miss". For plain rows its exact interval is
Clopper and Pearson's. Where a miss was only found because a random one of many negatives was audited, it stands for
1 / inclusion probability rows; the interval of the *counts* stays exact, and only the odds are rescaled. So ten
audited negatives without a miss never prove a detection rate of 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from domain.reports import Estimate
from evaluation.statistics.clusters import cluster_codes, design_effect

EMPTY = Estimate(value=None)


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> Estimate:
    """Return `k / n` with its exact interval; `k` and `n` may be effective (fractional) counts.

    Raises:
        ValueError: unless `0 <= k <= n`.
    """
    if not 0 <= k <= n:
        raise ValueError(f"a rate needs 0 <= k <= n, got k={k}, n={n}")
    if n == 0:
        return Estimate(value=None, confidence=confidence)
    low, high = _beta_bounds(k, n - k, confidence)
    return Estimate(value=k / n, low=low, high=high, n=round(n), confidence=confidence)


def _beta_bounds(hits: float, misses: float, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, hits, misses + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, misses)) if misses > 0 else 1.0
    return low, high


def weighted_rate(
    outcomes: NDArray[Any],
    weights: NDArray[np.float64],
    clusters: NDArray[Any],
    *,
    confidence: float = 0.95,
    unseen_weight: tuple[float, float] | None = None,
) -> Estimate:
    """Return the weighted share of true `outcomes` `(n,)` with an interval for unequal weights and clusters.

    Each side counts with its effective size (Kish), divided by the design effect of the clusters; the exact interval
    of the two counts is then mapped through the weight that one count of each side stands for. With equal weights and
    single-row clusters this is Clopper and Pearson's interval.

    Args:
        unseen_weight: what a (true, false) row would have stood for where none was seen; default the mean weight.

    Raises:
        ValueError: a weight is negative or not finite.
    """
    used = weights > 0
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"weights must be finite and >= 0, got values in [{weights.min()}, {weights.max()}]")
    true, weights = np.asarray(outcomes)[used].astype(np.float64), weights[used]
    if true.size == 0:
        return Estimate(value=None, confidence=confidence)
    codes, _ = cluster_codes(np.asarray(clusters)[used])
    effect = design_effect(true, weights, codes)
    mean = float(weights.mean())
    seen_by_default = unseen_weight or (mean, mean)
    hits, hit_weight = _side(weights[true == 1], seen_by_default[0], effect)
    misses, miss_weight = _side(weights[true == 0], seen_by_default[1], effect)
    low, high = _beta_bounds(hits, misses, confidence)
    scale = miss_weight / hit_weight
    value = float(weights @ true) / float(weights.sum())
    return Estimate(
        value=value, low=min(value, _rescale(low, scale)), high=max(value, _rescale(high, scale)),
        n=int(true.size), confidence=confidence,
    )  # fmt: skip


def _side(weights: NDArray[np.float64], unseen: float, effect: float) -> tuple[float, float]:
    """Return the effective count of one side, and the weight that one effective count stands for."""
    if weights.size == 0:
        return 0.0, unseen
    total = float(weights.sum())
    kish = total**2 / float(weights @ weights)
    return kish / effect, total / kish


def _rescale(share: float, scale: float) -> float:
    return share / (share + scale * (1 - share)) if share < 1 else 1.0


def wilson_half_width(rate: float, n: int, confidence: float = 0.95) -> float:
    """Return half the width of Wilson's interval: what a sample of n rows can resolve at `rate`."""
    z = float(stats.norm.ppf(1 - (1 - confidence) / 2))
    return z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))


def combine(parts: list[tuple[float, Estimate]], n: int, *, ceiling: float = 1.0) -> Estimate:
    """Return the sum of `coefficient * estimate` over independent estimates, coefficients >= 0.

    The interval recovers the variances from the parts' own bounds (MOVER, Zou and Donner 2008), so it keeps their
    asymmetry. Empty where a part is.
    """
    if not parts or any(part.value is None or part.low is None or part.high is None for _, part in parts):
        return EMPTY
    value = sum(weight * (part.value or 0.0) for weight, part in parts)
    below = math.sqrt(sum((weight * ((part.value or 0.0) - (part.low or 0.0))) ** 2 for weight, part in parts))
    above = math.sqrt(sum((weight * ((part.high or 0.0) - (part.value or 0.0))) ** 2 for weight, part in parts))
    return Estimate(
        value=value, low=max(0.0, value - below), high=min(ceiling, value + above), n=n,
        confidence=min(part.confidence for _, part in parts), weak=any(part.weak for _, part in parts),
    )  # fmt: skip
