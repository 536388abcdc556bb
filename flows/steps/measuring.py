"""One detector measured on given rows: the same function for baseline, window, champion, challenger and anchor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.monitor import Monitor
from domain.reports import EvaluationReport
from evaluation.detectors.detector import Detector
from evaluation.metrics.clean import evaluate_clean
from evaluation.robustness import evaluate_robustness
from evaluation.rows import LabelledRows

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Measured:
    """A report with the outcome of every row behind it.

    Attributes:
        verdict: clean verdicts on the benchmark rows, `(n,)`.
        logit: logits on the benchmark rows, `(n,)`.
        robust: detected under the whole suite, over the attacked malicious rows, `(m,)`.
    """

    report: EvaluationReport
    verdict: NDArray[np.bool_]
    logit: NDArray[np.float64]
    robust: NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """The rows of one measurement.

    Attributes:
        clean: labelled rows of the clean benchmark.
        attacked: malicious rows that the suite attacks.
        benign: benign rows that attacks may steer toward; never those that set the threshold.
    """

    clean: LabelledRows
    attacked: LabelledRows
    benign: LabelledRows


def sample_malicious(rows: LabelledRows, count: int, seed: int) -> LabelledRows:
    """Return at most `count` malicious rows, chosen with `seed` and kept in order."""
    malicious = rows.malicious
    if len(malicious) <= count:
        return malicious
    chosen = np.random.default_rng(seed).choice(len(malicious), size=count, replace=False)
    return malicious.take(np.sort(chosen))


def measure(
    detector: Detector,
    rows: Rows,
    *,
    monitor: Monitor,
    version: int,
    digest: str,
    seed: int,
    progress: Progress | None = None,
) -> Measured:
    """Return clean and adversarial measurement of `detector` on `rows`."""
    clean = evaluate_clean(
        detector, rows.clean, budget=monitor.false_positive_budget, prevalence=monitor.prevalence,
        daily_volume=monitor.daily_volume, seed=seed,
    )  # fmt: skip
    robust = evaluate_robustness(
        detector, rows.attacked, threat=monitor.threat, suite=monitor.suite, benign=rows.benign, seed=seed,
        progress=progress,
    )  # fmt: skip
    report = EvaluationReport(
        monitor=monitor.name,
        version=version,
        detector_digest=digest,
        space_digest=detector.space.digest,
        benchmark_digest=rows.clean.digest,
        clean=clean.report,
        robustness=robust.report,
    )
    return Measured(report, clean.verdict, clean.logit, robust.detected)


def describe(report: EvaluationReport) -> dict[str, Any]:
    """Return the numbers of a report that a person looks at first."""
    return {
        "detection_rate": report.clean.detection_rate.value,
        "realised_false_positive_rate": report.clean.realised_false_positive_rate.value,
        "robust_detection_rate": report.robustness.robust_detection_rate.value,
        "reliable": report.robustness.reliable,
    }
