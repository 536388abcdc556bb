"""What training takes and gives: the split data, one record per epoch, the trained detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from domain.errors import NotEnoughRows
from domain.features import FeatureSpace
from evaluation.detectors.detector import Detector
from evaluation.detectors.portable import Encoding
from evaluation.rows import LabelledRows

Progress = Callable[[str, float], None]  # a message, and the share of the work that is done


@dataclass(frozen=True)
class TrainingData:
    """Three disjoint parts; no cluster is in two of them.

    Attributes:
        train: rows the weights are fitted to.
        selection: rows the checkpoint is chosen on (its malicious rows are attacked).
        calibration: benign rows that set the operating point, and malicious rows for Platt scaling.
    """

    train: LabelledRows
    selection: LabelledRows
    calibration: LabelledRows


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did.

    Attributes:
        loss: mean training loss.
        detection_rate: share of malicious selection rows at or above the operating point.
        robust_rate: the same under the inner attack; None where nothing was attacked.
        recent_rate: detection rate on the recent held-out rows; None without recent rows.
        score: what the checkpoint is chosen on.
    """

    epoch: int
    loss: float
    detection_rate: float
    robust_rate: float | None
    recent_rate: float | None
    score: float


@dataclass(frozen=True)
class TrainingResult:
    """A detector at its operating point, and how it came about.

    Attributes:
        seconds: CPU seconds of the process.
        score: selection score of the chosen checkpoint.
    """

    detector: Detector
    history: list[EpochRecord]
    seconds: float
    score: float = 0.0


def encoding_of(space: FeatureSpace) -> Encoding:
    """Return the map between raw rows and model space of `space`."""
    return Encoding([feature.model_dump(mode="json") for feature in space.features])


def encode(space: FeatureSpace, rows: LabelledRows) -> torch.Tensor:
    """Return `rows` in model space, `(n, D)` float32."""
    return torch.as_tensor(encoding_of(space).encode(rows.raw), dtype=torch.float32)


def require_both_classes(rows: LabelledRows, purpose: str) -> None:
    """Raise `NotEnoughRows` unless `rows` hold benign and malicious rows."""
    benign, malicious = int((rows.y == 0).sum()), int((rows.y == 1).sum())
    if benign == 0 or malicious == 0:
        raise NotEnoughRows(
            f"{purpose} needs benign and malicious rows, got {benign} benign and {malicious} malicious;"
            " check the label column or widen the split"
        )


def cap_rows(rows: LabelledRows, limit: int, seed: int) -> tuple[LabelledRows, NDArray[np.int64]]:
    """Return at most `limit` rows and their positions: all malicious ones first, the rest benign.

    Where the malicious rows alone exceed half of the limit both classes keep at least half of it, or all they have,
    so that no class can crowd out the other.
    """
    if len(rows) <= limit:
        return rows, np.arange(len(rows))
    rng = np.random.default_rng([seed, 101])
    malicious, benign = np.flatnonzero(rows.y == 1), np.flatnonzero(rows.y == 0)
    kept_malicious = min(len(malicious), max(limit // 2, limit - len(benign)))
    kept_benign = min(len(benign), limit - kept_malicious)
    chosen = np.sort(
        np.concatenate(
            [rng.choice(malicious, kept_malicious, replace=False), rng.choice(benign, kept_benign, replace=False)]
        )
    )
    return rows.take(chosen), chosen


def without_objects(rows: LabelledRows) -> LabelledRows:
    """Return `rows` without their raw objects."""
    return replace(rows, objects=None)
