"""The attacker's budget as a ball around the clean row, in model space and weighted by cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.errors import AttackError
from domain.monitor import Norm

# Relative and absolute slack of the verifier: far above float64 dust, far below any unit of a feature.
BALL_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Ball:
    """All rows within `epsilon` of the clean one.

    The distance is the norm of `cost * (x - x0)`: a feature of cost 4 moves a quarter as far for the same budget.

    Attributes:
        norm: `linf` or `l2`.
        epsilon: radius in cost-weighted model space; 0 allows the clean row alone.

    Raises:
        AttackError: the norm is unknown or the radius is negative or not finite.
    """

    norm: Norm
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm not in {"linf", "l2"}:
            raise AttackError(f"norm must be 'linf' or 'l2', got {self.norm!r}")
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise AttackError(f"epsilon must be a finite number of at least 0, got {self.epsilon!r}")

    def distance(self, delta: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cost-weighted length of each row of `delta` `(n, D)`, shape `(n,)`."""
        weighted = np.abs(delta * cost)
        if self.norm == "linf":
            return np.asarray(weighted.max(axis=1, initial=0.0))
        return np.asarray(np.sqrt((weighted**2).sum(axis=1)))

    def contains(self, delta: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return True where a row of `delta` `(n, D)` stays within the budget; NaN never does."""
        return np.asarray(self.distance(delta, cost) <= self.epsilon * (1 + BALL_TOLERANCE) + BALL_TOLERANCE)
