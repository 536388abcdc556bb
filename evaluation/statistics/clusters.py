"""Resampling by cluster: rows of one host, session or campaign are not independent and are drawn together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS_AT_ONCE = 4_000_000


def cluster_codes(clusters: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """Return the cluster of each row as a code `(n,)` in `0..C-1`, and C."""
    names, codes = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    return codes.astype(np.int64), int(names.size)


def resampled_weights(
    codes: NDArray[np.int64], count: int, rng: np.random.Generator, resamples: int
) -> Iterator[NDArray[np.float64]]:
    """Yield, for each resample, how often each row `(n,)` was drawn when whole clusters are drawn with replacement."""
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, count, size=count), minlength=count)
        yield drawn[codes].astype(np.float64)


def resampled_sums(sums: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """Return the column sums `(resamples, m)` of per-cluster sums `(C, m)` under the cluster bootstrap.

    Clusters with equal sums are exchangeable, so one multinomial draw over the distinct ones is exact and cheap.
    """
    distinct, multiplicity = np.unique(sums, axis=0, return_counts=True)
    count = int(sums.shape[0])
    chunk = max(1, DRAWS_AT_ONCE // max(1, distinct.shape[0]))
    shares = multiplicity / count
    parts = [
        rng.multinomial(count, shares, size=min(chunk, resamples - start)) @ distinct
        for start in range(0, resamples, chunk)
    ]
    return np.concatenate(parts)


def design_effect(outcomes: NDArray[np.float64], weights: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    """Return how many times clustering inflates the variance of the weighted mean of `outcomes`; at least 1.

    Ratio of the linearised variance over cluster totals to the one over rows (Korn and Graubard 1998). Where all
    outcomes agree nothing can be estimated, and rows of one cluster may agree because they are one event: the effect
    is that of whole clusters, effective rows divided by effective clusters (Kish 1965), so that each cluster counts as
    one row. One single cluster counts as one row, too.
    """
    total = float(weights.sum())
    if total <= 0:
        return 1.0
    residual = weights * (outcomes - float(weights @ outcomes) / total)
    per_row = float(residual @ residual)
    if per_row <= 1e-12 * total:
        masses = np.bincount(codes, weights=weights)
        return max(1.0, float(masses @ masses) / float(weights @ weights))
    count = int(np.unique(codes).size)
    if count == 1:
        return float(residual.size)
    totals = np.bincount(codes, weights=residual)
    correction = count / (count - 1) * (residual.size - 1) / residual.size
    return max(1.0, float(totals @ totals) / per_row * correction)
