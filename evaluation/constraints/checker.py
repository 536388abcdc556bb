"""The exact judge of raw rows: bounds, types, relations and what the attacker may move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.features import FeatureSpace, Level
from evaluation.constraints.relations import RelationSystem

BOX_TOLERANCE = 1e-9
TYPE_TOLERANCE = 1e-6
MOVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """What n rows respect, each `(n,)` bool.

    Attributes:
        box: every value is finite, within its bounds, and its category is known.
        types: integers are whole, binaries 0 or 1, categories a position.
        relations: no relation is broken.
        mutability: against the clean row, nothing moved that the attacker cannot move in that direction.
    """

    box: NDArray[np.bool_]
    types: NDArray[np.bool_]
    relations: NDArray[np.bool_]
    mutability: NDArray[np.bool_]

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Rows that respect everything."""
        return self.box & self.types & self.relations & self.mutability


class Checker:
    """Judges raw rows `(n, d)` in float64."""

    def __init__(self, space: FeatureSpace, level: Level, system: RelationSystem) -> None:
        features = space.features
        self._system = system
        count = [len(feature.categories) for feature in features]
        self._low = np.array([0.0 if n else feature.low for n, feature in zip(count, features, strict=True)])
        self._high = np.array([n - 1.0 if n else feature.high for n, feature in zip(count, features, strict=True)])
        self._slack = BOX_TOLERANCE * (1.0 + np.maximum(np.abs(self._low), np.abs(self._high)))
        self._whole = np.array([feature.kind != "real" for feature in features], dtype=bool)
        moves = [feature.mutability[level] for feature in features]
        self._may_rise = np.array([move in {"free", "increase-only"} for move in moves], dtype=bool)
        self._may_fall = np.array([move in {"free", "decrease-only"} for move in moves], dtype=bool)

    def check(self, raw: NDArray[np.float64], clean: NDArray[np.float64]) -> Check:
        """Return what `raw` respects, with `clean` the rows it was made from; both `(n, d)`."""
        with np.errstate(invalid="ignore"):
            inside = (raw >= self._low - self._slack) & (raw <= self._high + self._slack)
            whole = np.abs(raw - np.rint(raw)) <= TYPE_TOLERANCE
            slack = MOVE_TOLERANCE * (1.0 + np.abs(clean))
            moved = raw - clean
            # A comparison with NaN is false, so a missing value counts as moved only where it was not missing before.
            same = np.isnan(raw) & np.isnan(clean)
            kept = same | ((self._may_rise | (moved <= slack)) & (self._may_fall | (moved >= -slack)))
        return Check(
            box=inside.all(axis=1),
            types=(whole | ~self._whole | np.isnan(raw)).all(axis=1),
            relations=np.asarray(~self._system.violations(raw).any(axis=1)),
            mutability=np.asarray(kept.all(axis=1)),
        )
