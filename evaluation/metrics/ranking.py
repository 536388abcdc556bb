"""Ranking metrics that are sorted once and then re-weighted: what makes 200 resamples of 50,000 rows quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15


def threshold_at_budget(benign_logits: NDArray[np.float64], budget: float) -> float:
    """Return the lowest threshold at which at most `budget` of these benign rows are alerts (`logit >= threshold`)."""
    ordered = np.sort(benign_logits)[::-1]
    allowed = int(np.floor(budget * ordered.size + 1e-9))
    if allowed >= ordered.size:
        return float(ordered[-1])
    return float(np.nextafter(ordered[allowed], np.inf))


@dataclass(frozen=True)
class Ranking:
    """n rows sorted by descending logit, ready to be evaluated under many row weights.

    Attributes:
        order: `(n,)` positions by descending logit.
        starts: `(g,)` where each group of equal logits begins.
        y: `(n,)` float labels in that order.
        score: `(n,)` calibrated scores in that order.
        bins: `(k,)` starts of the equal-mass bins of the calibration error.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    y: NDArray[np.float64]
    score: NDArray[np.float64]
    bins: NDArray[np.int64]

    @classmethod
    def of(cls, logit: NDArray[np.float64], score: NDArray[np.float64], y: NDArray[Any]) -> Ranking:
        """Sort the rows."""
        order = np.argsort(-logit, kind="stable")
        ordered = logit[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        bins = np.unique(np.linspace(0, logit.size, CALIBRATION_BINS + 1).astype(np.int64)[:-1])
        return cls(order=order, starts=starts, y=y[order].astype(np.float64), score=score[order], bins=bins)

    def roc_auc(self, weights: NDArray[np.float64]) -> float:
        """Return the area under the ROC curve for row weights `(n,)`; NaN where a class has no weight."""
        true, false = self._groups(weights)
        below = false.sum() - np.cumsum(false)
        pairs = true.sum() * false.sum()
        return float(true @ (below + 0.5 * false) / pairs) if pairs > 0 else float("nan")

    def pr_auc(self, weights: NDArray[np.float64]) -> float:
        """Return the average precision; NaN without malicious weight."""
        true, false = self._groups(weights)
        found = np.cumsum(true)
        flagged = found + np.cumsum(false)
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        return float(true @ precision / true.sum()) if true.sum() > 0 else float("nan")

    def calibration_error(self, weights: NDArray[np.float64]) -> float:
        """Return the expected calibration error over 15 bins of equal mass."""
        weight = weights[self.order]
        gaps = np.add.reduceat(weight * (self.y - self.score), self.bins)
        return float(np.abs(gaps).sum() / weight.sum())

    def detection_at_budget(self, weights: NDArray[np.float64], budget: float) -> float:
        """Return the detection rate where the weighted false-positive rate is still within the budget."""
        true, false = self._groups(weights)
        inside = np.cumsum(false) <= budget * false.sum() + 1e-9
        return float(np.cumsum(true)[inside][-1] / true.sum()) if inside.any() and true.sum() > 0 else 0.0

    def _groups(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight = weights[self.order]
        true = np.add.reduceat(weight * self.y, self.starts)
        return true, np.add.reduceat(weight, self.starts) - true
