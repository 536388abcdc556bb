"""Small reports, rows and detectors for the tests of evaluation."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import torch

from domain.features import FeatureSpace
from domain.reports import (
    AttackReport,
    CleanReport,
    CurvePoint,
    DriftReport,
    Estimate,
    ProductionReport,
    RobustnessReport,
)
from evaluation.decision.inputs import DecisionInputs
from evaluation.detectors.detector import Detector
from evaluation.detectors.portable import build_network
from evaluation.rows import LabelledRows
from evaluation.statistics.intervals import clopper_pearson

DAY = datetime(2026, 1, 2, tzinfo=UTC)
SPACE = FeatureSpace.model_validate(
    {
        "version": 1,
        "name": "toy",
        "features": [
            {"name": "speed", "low": 0, "high": 1, "mutability": "free"},
            {"name": "volume", "low": 0, "high": 1000, "transform": "log1p", "mutability": "increase-only"},
            {"name": "port", "low": 0, "high": 1, "mutability": "fixed", "reason": "set by the service"},
            {
                "name": "service",
                "kind": "categorical",
                "categories": ["web", "mail", "dns"],
                "mutability": "fixed",
                "reason": "set by the victim",
            },
        ],
    }
)


def toy_detector() -> Detector:
    """A linear detector: logit = 10 * (speed - 0.5)."""
    architecture = {"kind": "mlp", "width": SPACE.encoded_width, "hidden": []}
    network = build_network(architecture)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[1].weight[0, 0] = 10.0
        network[1].bias[0] = -5.0
    return Detector(architecture, network.eval(), SPACE, threshold=0.0)


def toy_rows(n: int = 600, seed: int = 0, per_cluster: int = 1) -> LabelledRows:
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(np.int8)
    raw = np.stack(
        [
            np.clip(rng.normal(0.3 + 0.4 * y, 0.15), 0, 1),
            rng.lognormal(2, 1, n),
            rng.random(n),
            rng.integers(0, 3, n).astype(float),
        ],
        axis=1,
    )
    family = np.where(y == 1, np.where(np.arange(n) % 2 == 0, "scan", "flood"), "benign").astype(object)
    return LabelledRows(raw, y, (np.arange(n) // per_cluster).astype(str).astype(object), family)


def rate(value: float, n: int = 1000) -> Estimate:
    return clopper_pearson(round(value * n), n)


def clean(detection: float = 0.95) -> CleanReport:
    return CleanReport(
        rows=3000, malicious=1000, benign=2000, threshold=0.0, detection_rate=rate(detection),
        realised_false_positive_rate=rate(0.01, 2000), detection_rate_at_budget=rate(detection),
        threshold_at_budget=0.1, macro_detection_rate=rate(detection), roc_auc=rate(0.98), pr_auc=rate(0.97),
        calibration_error=rate(0.03), alerts_per_day=Estimate(value=2000, low=1800, high=2200, n=3000),
    )  # fmt: skip


def production(
    detected: int = 190, malicious: int = 200, false_positives: int = 20, benign: int = 2000, **changes: object
) -> ProductionReport:
    report = ProductionReport(
        rows=10_000, quarantined=10, labelled=malicious + benign, audited=1500, malicious=malicious, benign=benign,
        label_coverage=1.0, detection_rate=clopper_pearson(detected, malicious),
        false_positive_rate=clopper_pearson(false_positives, benign), identified=True,
    )  # fmt: skip
    return report.model_copy(update=changes)


def robust(value: float = 0.7, **changes: object) -> RobustnessReport:
    report = RobustnessReport(
        suite="quick", suite_digest="a" * 64, space_digest="b" * 64, rows_digest="c" * 64, level="expected",
        norm="linf", epsilon=0.2, rows=400, infeasible_clean=0, clean_detection_rate=rate(0.95, 400),
        robust_detection_rate=rate(value, 400),
        attacks=(
            AttackReport(
                name="apgd", parameters={}, rows=380, broken=100, rejected=1, robust_detection_rate=value,
                cpu_seconds=1.0, queries=1000,
            ),
        ),
        curve=(CurvePoint(epsilon=0.2, robust_detection_rate=rate(value, 400)),), flags=(), reliable=True, seed=0,
        queries=1000, cpu_seconds=1.0,
    )  # fmt: skip
    return report.model_copy(update=changes)


def drift(share: float) -> DriftReport:
    return DriftReport(
        method="psi", reference_rows=1000, current_rows=1000, columns=(), drifted_share=share, share_limit=0.3,
        drifted=share > 0.3,
    )  # fmt: skip


def inputs(**changes: object) -> DecisionInputs:
    values: dict[str, object] = {
        "monitor": "toy",
        "version": 1,
        "window_start": datetime(2026, 1, 1, tzinfo=UTC),
        "window_end": DAY,
        "budget": 0.01,
        "production": production(),
        "baseline_clean": clean(),
    }
    return DecisionInputs(**{**values, **changes})  # type: ignore[arg-type]


def traffic(
    detected: int, missed: int, false_positives: int, quiet: int, *, audit_every: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A window in which every alert is labelled and every `audit_every`-th negative is audited (0: none)."""
    kinds = [(True, 1)] * detected + [(True, 0)] * false_positives + [(False, 1)] * missed + [(False, 0)] * quiet
    n = len(kinds)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{index}" for index in range(n)],
            "subject": [f"host{index}" for index in range(n)],
            "event_time": pd.Timestamp(DAY),
            "score": 0.5,
            "verdict": [int(verdict) for verdict, _ in kinds],
            "speed": rng.random(n),
            "volume": rng.random(n) * 100,
            "port": rng.random(n),
            "service": "web",
        }
    )
    rows, negatives = [], 0
    for index, (verdict, value) in enumerate(kinds):
        negatives += not verdict
        audited = not verdict and audit_every > 0 and negatives % audit_every == 0
        if verdict or audited:
            kind, probability = ("alert", 1.0) if verdict else ("audit", 1 / audit_every)
            rows.append((f"s{index}", value, kind, 1.0, probability, pd.Timestamp(DAY), "scan" if value else "benign"))
    columns = ["sample_id", "value", "kind", "trust", "inclusion_probability", "time", "family"]
    return frame, pd.DataFrame(rows, columns=columns)
