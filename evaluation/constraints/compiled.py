"""A feature space compiled for one attacker: the only door of attacks and training to the rules of a domain."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domain.features import FeatureSpace, Level
from evaluation.constraints.ball import Ball
from evaluation.constraints.checker import Check, Checker
from evaluation.constraints.geometry import Geometry
from evaluation.constraints.penalty import Penalty
from evaluation.constraints.projection import Projection
from evaluation.constraints.relations import RelationSystem
from evaluation.detectors.portable import Encoding

# Largest distance, in model space, of a candidate from the place of the row that it decodes to.
PLACE_TOLERANCE = 1e-7


class CompiledSpace:
    """Checker, penalty and projection of one feature space for one attacker level, from one compiled form.

    Attributes:
        movable: bool `(D,)`, columns of model space that the attacker can change.
        cost: `(D,)`, price of one unit of model space per column; the ball is weighted by it.
    """

    def __init__(self, space: FeatureSpace, level: Level) -> None:
        self.space = space
        self.level: Level = level
        self.encoding = Encoding([feature.model_dump(mode="json") for feature in space.features])
        self._geometry = Geometry(space, level, self.encoding)
        self._system = RelationSystem(space)
        self._checker = Checker(space, level, self._system)
        self._penalty = Penalty(self.encoding, self._system)
        self._projection = Projection(space, self.encoding, self._geometry, self._system, self._checker)
        self.movable = torch.as_tensor(self._geometry.may_rise | self._geometry.may_fall)
        self.cost = torch.as_tensor(self._geometry.cost)

    def encode(self, raw: NDArray[np.float64]) -> Tensor:
        """Return model-space rows `(n, D)` float64 of raw rows `(n, d)`."""
        return torch.as_tensor(self.encoding.encode(raw))

    def decode(self, x: Tensor) -> NDArray[np.float64]:
        """Return raw rows `(n, d)`: whole numbers and categories legal, an empty one-hot group as NaN."""
        return self._projection.decode(_array(x))

    def check(self, raw: NDArray[np.float64], clean: NDArray[np.float64]) -> Check:
        """Return what raw rows respect, against the clean rows they were made from."""
        return self._checker.check(raw, clean)

    def relation_violations(self, raw: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which relations each raw row breaks, `(n, r)`."""
        return self._system.violations(raw)

    def penalty(self, x: Tensor) -> Tensor:
        """Return how far rows `(..., D)` are from their relations, `(...)`; differentiable, 0 where all hold."""
        return self._penalty(x)

    def limits(self, x0: Tensor, ball: Ball) -> tuple[Tensor, Tensor]:
        """Return the box per row `(n, D)` of bounds, directions and ball (for L2 the box around the ball)."""
        low, high = self._geometry.limits(_array(x0), ball)
        return torch.as_tensor(low).to(x0.device), torch.as_tensor(high).to(x0.device)

    def project(self, x: Tensor, x0: Tensor, ball: Ball) -> Tensor:
        """Return the projection of rows `(..., D)` onto what the attacker can make of `x0` (same shape or broadcast).

        Idempotent and always in the ball. The result passes `feasible`, or equals a clean row that is illegal itself.
        """
        start = x0.expand(x.shape)
        width = self.encoding.width
        projected = self._projection.project(
            _array(x).reshape(-1, width).copy(), _array(start).reshape(-1, width), ball
        )
        return torch.as_tensor(projected.reshape(x.shape)).to(x.device)

    def feasible(self, x: Tensor, x0: Tensor, ball: Ball) -> NDArray[np.bool_]:
        """Return which rows `(n, D)` an attacker of this level and budget can really produce from `x0`, `(n,)`.

        Judged in float64 on the decoded row: ball, box, types, relations, mutability. The candidate must lie on the
        place of the row that it decodes to, and the clean row must be legal itself.
        """
        raw, clean, start = self.decode(x), self.decode(x0), _array(x0)
        with np.errstate(all="ignore"):
            real = self.encoding.encode(raw)
            placed = np.all(np.abs(real - _array(x)) <= PLACE_TOLERANCE, axis=1)
            inside = self._geometry_contains(real - start, ball)
        legal = self._checker.check(raw, clean).ok & self._checker.check(clean, clean).ok
        return np.asarray(legal & placed & inside)

    def _geometry_contains(self, delta: NDArray[np.float64], ball: Ball) -> NDArray[np.bool_]:
        return ball.contains(delta, self._geometry.cost)


def _array(x: Tensor) -> NDArray[np.float64]:
    return np.asarray(x.detach().cpu().double().numpy())
