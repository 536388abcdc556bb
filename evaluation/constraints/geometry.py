"""The movable region of each row in model space: bounds, directions, ball, one-hot groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domain.features import FeatureSpace, Level
from evaluation.constraints.ball import BALL_TOLERANCE, Ball
from evaluation.detectors.portable import Encoding

Array = NDArray[np.float64]


class Geometry:
    """Per-row limits and the ball for an attacker of one level.

    Attributes:
        cost: `(D,)`, price of one unit of model space.
        may_rise, may_fall: `(D,)` bool, directions that the attacker can take.
        groups: columns of the categorical features that the attacker can change, each as a slice.
    """

    def __init__(self, space: FeatureSpace, level: Level, encoding: Encoding) -> None:
        width = encoding.width
        self.cost = np.ones(width)
        self.may_rise, self.may_fall = np.zeros(width, dtype=bool), np.zeros(width, dtype=bool)
        self.is_group = np.zeros(width, dtype=bool)
        self.groups: list[slice] = []
        for feature, offset, columns in zip(space.features, encoding.offsets, encoding.widths, strict=True):
            part = slice(offset, offset + columns)
            move = feature.mutability[level]
            self.cost[part] = feature.cost[level]
            self.may_rise[part] = move in {"free", "increase-only"}
            self.may_fall[part] = move in {"free", "decrease-only"}
            if feature.kind == "categorical":
                self.is_group[part] = True
                # Categories have no order: only `free` lets the attacker pick another one.
                self.may_rise[part] = self.may_fall[part] = move == "free"
                if move == "free":
                    self.groups.append(part)

    def limits(self, x0: Array, ball: Ball) -> tuple[Array, Array]:
        """Return the lowest and highest reachable model-space values, both `(n, D)`; the clean row lies between."""
        radius = ball.epsilon / self.cost
        # A category moves as a whole: two columns change by 1.
        step = 1.0 if ball.norm == "linf" else np.sqrt(2.0)
        radius = np.where(self.is_group & (self.cost * step > ball.epsilon * (1 + BALL_TOLERANCE)), 0.0, radius)
        low = np.where(self.may_fall, np.maximum(x0 - radius, np.minimum(0.0, x0)), x0)
        high = np.where(self.may_rise, np.minimum(x0 + radius, np.maximum(1.0, x0)), x0)
        return low, high

    def settle_groups(self, x: Array, x0: Array, ball: Ball) -> Array:
        """Return rows whose movable one-hot groups hold exactly one 1, the clean one where a change is too dear."""
        for part in self.groups:
            picked = np.zeros_like(x[:, part])
            # A tie goes to the clean category, so that a row without any opinion stays what it was.
            preference = x[:, part] + 1e-12 * x0[:, part]
            picked[np.arange(x.shape[0]), preference.argmax(axis=1)] = 1.0
            moved = np.abs(picked - x0[:, part]).max(axis=1) > 0
            # An unknown clean category has no column to leave: nothing is known of what a change would cost.
            allowed = x0[:, part].any(axis=1) & ball.contains(picked - x0[:, part], self.cost[part])
            x[:, part] = np.where((moved & allowed)[:, None], picked, x0[:, part])
        if self.groups and ball.norm == "l2":
            dear = ~ball.contains(np.where(self.is_group, x - x0, 0.0), self.cost)
            x = np.where(dear[:, None] & self.is_group, x0, x)
        return x

    def shrink(self, x: Array, x0: Array, ball: Ball) -> Array:
        """Return rows scaled toward the clean ones until they lie in an L2 ball; a Linf ball is a box already."""
        if ball.norm == "linf":
            return x
        delta = x - x0
        outside = ball.distance(delta, self.cost) > ball.epsilon * (1 + BALL_TOLERANCE)
        if not outside.any():
            return x
        weighted = (delta * self.cost) ** 2
        spent = weighted[:, self.is_group].sum(axis=1)
        wanted = weighted[:, ~self.is_group].sum(axis=1)
        factor = np.sqrt(np.maximum(ball.epsilon**2 - spent, 0.0) / np.maximum(wanted, 1e-300))
        scaled = x0 + delta * np.where(self.is_group, 1.0, np.minimum(factor, 1.0)[:, None])
        return np.where(outside[:, None], scaled, x)
