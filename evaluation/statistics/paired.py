"""Two detectors on the same rows: the difference of their rates, resampled by cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from domain.errors import NotEnoughRows
from domain.reports import PairedDifference
from evaluation.statistics.clusters import cluster_codes, resampled_sums


def paired_difference(
    name: str,
    first: NDArray[Any],
    second: NDArray[Any],
    clusters: NDArray[Any],
    *,
    seed: int,
    confidence: float = 0.95,
    weights: NDArray[np.float64] | None = None,
    resamples: int = 2000,
) -> PairedDifference:
    """Return the mean of `second - first` over rows `(n,)` with an interval; swapping the two only flips signs.

    The interval covers both the cluster bootstrap's percentiles and the interval of Bonett and Price (2012) on
    clusters: the latter keeps its width where no row is discordant and the bootstrap would claim certainty.

    Raises:
        NotEnoughRows: no row, or no row of positive weight.
        ValueError: the arrays differ in length.
    """
    lengths = {len(first), len(second), len(clusters), len(first if weights is None else weights)}
    if len(lengths) != 1:
        raise ValueError(f"{name}: paired rows need equal lengths, got {sorted(lengths)}")
    weight = np.ones(len(first)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.sum() <= 0:
        raise NotEnoughRows(f"{name}: a paired difference needs at least one row of positive weight, got none")
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    codes, count = cluster_codes(np.asarray(clusters))
    gained, lost, mass = (
        np.bincount(codes, weights=part, minlength=count).astype(np.float64)
        for part in (weight * np.maximum(b - a, 0.0), weight * np.maximum(a - b, 0.0), weight)
    )
    total = float(mass.sum())
    # Resampling in the orientation of the first discordant cluster makes the swap of the two detectors exact.
    discordant = np.flatnonzero(gained != lost)
    flip = bool(discordant.size and gained[discordant[0]] < lost[discordant[0]])
    up, down = (lost, gained) if flip else (gained, lost)
    low, high = _interval(up, down, mass, np.random.default_rng(seed), confidence, resamples)
    low, high = (-high, -low) if flip else (low, high)
    difference = float(gained.sum() - lost.sum()) / total
    return PairedDifference(
        name=name, first=float(weight @ a) / total, second=float(weight @ b) / total, difference=difference,
        low=min(low, difference), high=max(high, difference), n=len(a), clusters=count, confidence=confidence,
    )  # fmt: skip


def _interval(
    up: NDArray[np.float64],
    down: NDArray[np.float64],
    mass: NDArray[np.float64],
    rng: np.random.Generator,
    confidence: float,
    resamples: int,
) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    sums = resampled_sums(np.stack([up - down, mass], axis=1), rng, resamples)
    means = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.inf)
    low, high = (float(bound) for bound in np.quantile(means, [tail, 1 - tail]))
    size = float(mass.sum()) ** 2 / float(mass @ mass)
    gain, loss = ((float(side.sum() / mass.sum()) * size + 1) / (size + 2) for side in (up, down))
    centre = gain - loss
    half = float(stats.norm.ppf(1 - tail)) * np.sqrt(max(0.0, gain + loss - centre**2) / (size + 2))
    return max(-1.0, min(low, centre - half)), min(1.0, max(high, centre + half))
