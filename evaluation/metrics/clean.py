"""Clean metrics: the detector on labelled rows without attack, at the frozen operating point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import NotEnoughRows
from domain.reports import CleanReport, Estimate, SliceReport
from evaluation.detectors.detector import Detector
from evaluation.metrics.ranking import Ranking, threshold_at_budget
from evaluation.rows import LabelledRows
from evaluation.statistics.clusters import cluster_codes, resampled_weights
from evaluation.statistics.intervals import EMPTY, combine, weighted_rate

RESAMPLES = 200
MOST_SLICES = 50
ROWS_PER_BUDGET = 100


@dataclass(frozen=True)
class CleanResult:
    """The report and what it was computed from, row by row.

    Attributes:
        verdict: `(n,)` bool at the frozen threshold.
        logit: `(n,)` malicious logits.
        score: `(n,)` calibrated scores in [0, 1].
    """

    report: CleanReport
    verdict: NDArray[np.bool_]
    logit: NDArray[np.float64]
    score: NDArray[np.float64]


def benign_rows_needed(budget: float) -> int:
    """Return the benign rows below which a rate at this false-positive budget is marked weak: 100 / budget."""
    return math.ceil(ROWS_PER_BUDGET / budget - 1e-9)


def evaluate_clean(
    detector: Detector, rows: LabelledRows, *, budget: float, prevalence: float, daily_volume: int, seed: int
) -> CleanResult:
    """Return all clean metrics of `detector` on `rows`, each with its interval.

    Args:
        budget: false-positive budget in (0, 1).
        prevalence: share of malicious rows in production, for alerts a day.
        daily_volume: rows a day in production.

    Raises:
        NotEnoughRows: one of the two classes has no row.
    """
    malicious = rows.y == 1
    if not malicious.any() or malicious.all():
        raise NotEnoughRows(
            f"clean metrics need rows of both classes, got {int(malicious.sum())} malicious and "
            f"{int((~malicious).sum())} benign; widen the window or the benchmark"
        )
    scores = detector.score_raw(rows.raw)
    weak = int((~malicious).sum()) < benign_rows_needed(budget)
    detection = _rate(scores.verdict, rows.cluster, malicious, weak=weak)
    false_positive = _rate(scores.verdict, rows.cluster, ~malicious, weak=weak)
    ranked = _ranked_metrics(scores.logit, scores.score, rows, budget, seed)
    slices = slices_by_family(scores.verdict, rows)
    found = [(1.0, part.detection_rate) for part in slices if part.malicious]
    report = CleanReport(
        rows=len(rows), malicious=int(malicious.sum()), benign=int((~malicious).sum()), threshold=detector.threshold,
        detection_rate=detection, realised_false_positive_rate=false_positive,
        detection_rate_at_budget=ranked["at_budget"].model_copy(update={"weak": weak}),
        threshold_at_budget=threshold_at_budget(scores.logit[~malicious], budget),
        macro_detection_rate=combine([(1 / len(found), part) for _, part in found], int(malicious.sum())),
        roc_auc=ranked["roc_auc"], pr_auc=ranked["pr_auc"], calibration_error=ranked["calibration_error"],
        alerts_per_day=alerts_per_day(detection, false_positive, prevalence=prevalence, daily_volume=daily_volume),
        slices=slices[:MOST_SLICES],
    )  # fmt: skip
    return CleanResult(report=report, verdict=scores.verdict, logit=scores.logit, score=scores.score)


def alerts_per_day(detection: Estimate, false_positive: Estimate, *, prevalence: float, daily_volume: int) -> Estimate:
    """Return the alerts a day that these rates mean at the given prevalence and daily volume."""
    parts = [(daily_volume * prevalence, detection), (daily_volume * (1 - prevalence), false_positive)]
    return combine(parts, detection.n + false_positive.n, ceiling=float(daily_volume))


def slices_by_family(
    verdict: NDArray[np.bool_],
    rows: LabelledRows,
    weights: NDArray[np.float64] | None = None,
    *,
    unseen_weight: tuple[float, float] | None = None,
) -> tuple[SliceReport, ...]:
    """Return one slice per family, the largest first; `unseen_weight` is that of `weighted_rate`."""

    def rate(part: NDArray[np.bool_]) -> Estimate:
        if not part.any():
            return EMPTY
        return weighted_rate(verdict[part], weight[part], rows.cluster[part], unseen_weight=unseen_weight)

    weight = np.ones(len(rows)) if weights is None else weights
    families, codes, counts = np.unique(rows.family.astype(str), return_inverse=True, return_counts=True)
    slices = []
    for index in np.lexsort((families, -counts)):
        here = codes == index
        bad, good = here & (rows.y == 1), here & (rows.y == 0)
        slices.append(
            SliceReport(
                kind="family", value=str(families[index]), malicious=int(bad.sum()), benign=int(good.sum()),
                detection_rate=rate(bad), false_positive_rate=rate(good),
            )
        )  # fmt: skip
    return tuple(slices)


def _rate(verdict: NDArray[np.bool_], cluster: NDArray[Any], rows: NDArray[np.bool_], *, weak: bool) -> Estimate:
    rate = weighted_rate(verdict[rows], np.ones(int(rows.sum())), cluster[rows])
    return rate.model_copy(update={"weak": weak})


def _ranked_metrics(
    logit: NDArray[np.float64], score: NDArray[np.float64], rows: LabelledRows, budget: float, seed: int
) -> dict[str, Estimate]:
    ranking = Ranking.of(logit, score, rows.y)
    codes, count = cluster_codes(rows.cluster)
    rng = np.random.default_rng(seed)

    def measure(weights: NDArray[np.float64]) -> list[float]:
        return [
            ranking.roc_auc(weights),
            ranking.pr_auc(weights),
            ranking.calibration_error(weights),
            ranking.detection_at_budget(weights, budget),
        ]

    values = measure(np.ones(len(rows)))
    resampled = np.array([measure(weights) for weights in resampled_weights(codes, count, rng, RESAMPLES)])
    bounds = np.nanquantile(resampled, [0.025, 0.975], axis=0) if np.isfinite(resampled).any() else None
    names = ("roc_auc", "pr_auc", "calibration_error", "at_budget")
    return {
        name: Estimate(
            value=value,
            low=None if bounds is None else min(value, float(bounds[0, index])),
            high=None if bounds is None else max(value, float(bounds[1, index])),
            n=len(rows),
        )
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    }
