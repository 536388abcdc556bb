"""The operating point at a false-positive budget, and Platt scaling of logits into probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domain.errors import NotEnoughRows
from evaluation.detectors.detector import Calibration

PLATT_ITERATIONS = 100
PLATT_RIDGE = 1e-6
# Distance of a threshold from the row that must not count, relative to 1 + |logit|. The logit of a row differs by a few
# 1e-7 between batch sizes; equal rows right below a threshold would all become false positives at once.
CLEARANCE = 1e-5


def operating_point(
    benign_logits: NDArray[np.float64], budget: float, weights: NDArray[np.float64] | None = None
) -> float:
    """Return the smallest threshold whose false-positive rate on these benign rows is at most `budget`.

    A row is a false positive where its logit reaches the threshold, so the threshold lies just above the logit of the
    first row that must not count: by `CLEARANCE`, so that rounding errors put no group of equal rows on the other side.
    It is rounded up to float32, in which networks and attacks compute; with ties and with fewer than `1 / budget` rows
    the realised rate is below the budget, never above.

    Args:
        benign_logits: `(n,)` finite.
        budget: allowed rate, in (0, 1).
        weights: `(n,)` positive, such as inverse inclusion probabilities of labelled rows; equal by default.

    Raises:
        NotEnoughRows: there are no benign rows.
        ValueError: a logit is not finite, or budget or weights are out of range.
    """
    logits = np.asarray(benign_logits, dtype=np.float64)
    mass = np.ones(logits.shape[0]) if weights is None else np.asarray(weights, dtype=np.float64)
    if logits.shape[0] == 0:
        raise NotEnoughRows("the operating point needs benign calibration rows, got none")
    if not 0 < budget < 1:
        raise ValueError(f"the false-positive budget must lie in (0, 1), got {budget}")
    if not np.isfinite(logits).all():
        raise ValueError(f"{int((~np.isfinite(logits)).sum())} of {logits.shape[0]} benign logits are not finite")
    if mass.shape != logits.shape or not (np.isfinite(mass).all() and (mass > 0).all()):
        raise ValueError(f"weights must be {logits.shape[0]} positive finite numbers")
    order = np.argsort(-logits, kind="stable")
    over = np.cumsum(mass[order]) > budget * mass.sum() * (1 + 1e-12)
    first_excluded = float(logits[order][int(np.argmax(over))])
    clear = first_excluded + CLEARANCE * (1 + abs(first_excluded))
    return float(np.nextafter(np.float32(clear), np.float32(np.inf)))


def platt(logits: NDArray[np.float64], y: NDArray[np.int8]) -> Calibration:
    """Return slope and intercept such that `sigmoid(slope * logit + intercept)` estimates P(malicious).

    Newton's method on the regularised likelihood with smoothed targets: Lin, Lin & Weng, "A note on Platt's
    probabilistic outputs for support vector machines", Machine Learning 68 (2007). The probability refers to the class
    shares of the given rows. The slope stays positive, so that the score never reverses the order of the logits.

    Raises:
        NotEnoughRows: one class is missing.
    """
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    if positives == 0 or negatives == 0:
        raise NotEnoughRows(f"Platt scaling needs both classes, got {positives} malicious and {negatives} benign rows")
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale = max(float(np.std(logits)), 1e-6)
    design = np.stack([logits / scale, np.ones_like(logits)], axis=1)
    parameters = np.array([1.0, np.log((positives + 1) / (negatives + 1))])

    def loss(candidate: NDArray[np.float64]) -> float:
        z = design @ candidate
        return float(np.mean(np.logaddexp(0, z) - target * z) + PLATT_RIDGE * candidate @ candidate)

    current = loss(parameters)
    for _ in range(PLATT_ITERATIONS):
        p = 1 / (1 + np.exp(-np.clip(design @ parameters, -60, 60)))
        gradient = design.T @ (p - target) / len(y) + 2 * PLATT_RIDGE * parameters
        hessian = (design * (p * (1 - p))[:, None]).T @ design / len(y) + 2 * PLATT_RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while length > 1e-10 and loss(parameters - length * step) > current - 1e-4 * length * float(gradient @ step):
            length /= 2
        parameters = parameters - length * step
        previous, current = current, loss(parameters)
        if previous - current < 1e-12:
            break
    return Calibration(slope=max(float(parameters[0]) / scale, 1e-6), intercept=float(parameters[1]))
