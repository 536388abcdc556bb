"""Bring raw rows back to their relations, one relation at a time, within bounds per row.

Row-action projections (Kaczmarz; Dykstra without the memory term) onto linear inequalities, with the correction
shared in proportion to the room that each feature has; equalities move the feature that they define first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domain.features import FeatureSpace
from domain.relations import Reference
from evaluation.constraints.expressions import evaluate
from evaluation.constraints.relations import RelationSystem

Array = NDArray[np.float64]
_DUST = 1e-9


class Repair:
    """Repairs raw rows `(n, d)`; every value stays within its bounds per row, whole numbers stay whole."""

    def __init__(self, space: FeatureSpace, system: RelationSystem) -> None:
        self._system = system
        self._whole = np.array([feature.kind != "real" for feature in space.features], dtype=bool)

    def sweep(self, raw: Array, low: Array, high: Array, sweeps: int) -> Array:
        """Return rows after at most `sweeps` passes over the broken relations; `low`, `high` are `(n, d)`.

        A pass treats inequalities before equalities, which would otherwise be undone.
        """
        system, raw = self._system, raw.copy()
        order = sorted(range(len(system.rules)), key=lambda k: bool(system.is_equality[system.rules[k].conclusion]))
        broken = system.violations(raw)
        for _ in range(sweeps):
            rows = np.flatnonzero(broken.any(axis=1))
            if not rows.size:
                break
            work, lowest, highest, state = raw[rows], low[rows], high[rows], broken[rows]
            for index in order:
                hit = np.flatnonzero(state[:, index])
                if hit.size:
                    mended = self._repair_rule(index, work[hit], lowest[hit], highest[hit])
                    work[hit], state[hit] = mended, system.violations(mended)
            raw[rows], broken[rows] = work, state
        return raw

    def _repair_rule(self, index: int, raw: Array, low: Array, high: Array) -> Array:
        system, rule = self._system, self._system.rules[index]
        conclusion = rule.conclusion
        if system.is_equality[conclusion]:
            raw = self._equality(conclusion, raw, low, high)
        elif system.is_linear[conclusion]:
            raw = self._lower(
                raw, system.matrix[conclusion], system.offset[conclusion] + system.gap[conclusion], low, high
            )
        premise = rule.premise
        if premise < 0 or not system.is_linear[premise] or system.is_equality[premise]:
            return raw
        rows = np.flatnonzero(system.broken(index, raw))
        if rows.size:
            # Where the conclusion is out of reach, make the premise false: -g <= 0, or -g < 0 for a weak premise.
            gap = 0.0 if system.is_strict[premise] else system.strict_gap[premise]
            raw[rows] = self._lower(
                raw[rows], -system.matrix[premise], gap - system.offset[premise], low[rows], high[rows]
            )
        return raw

    def _lower(self, raw: Array, coefficients: Array, offset: float, low: Array, high: Array) -> Array:
        """Bring `coefficients . row + offset` to at most 0, each feature by its share of the room there is."""
        used = np.flatnonzero(coefficients)
        a, values = coefficients[used], raw[:, used]
        excess = values @ a + offset
        room = np.where(a > 0, values - low[:, used], high[:, used] - values)
        slack = np.abs(a) * np.maximum(room, 0.0)
        share = np.clip(excess / np.maximum(slack.sum(axis=1), 1e-300), 0.0, 1.0)
        moved = values - np.sign(a) * room * share[:, None]
        rounded = np.where(a > 0, np.floor(moved + _DUST), np.ceil(moved - _DUST))
        moved = np.where(self._whole[used], rounded, moved)
        raw[:, used] = np.where(share[:, None] > 0, np.clip(moved, low[:, used], high[:, used]), values)
        return raw

    def _equality(self, atom: int, raw: Array, low: Array, high: Array) -> Array:
        system, target = self._system, self._system.atoms[atom].target
        if not system.is_linear[atom]:
            return self._define(atom, raw, low, high)
        coefficients = system.matrix[atom]
        used = sorted(np.flatnonzero(coefficients), key=lambda column: column != target)
        for column in used:
            excess = raw @ coefficients + system.offset[atom]
            moved = np.clip(raw[:, column] - excess / coefficients[column], low[:, column], high[:, column])
            if self._whole[column]:
                step = moved - raw[:, column]
                moved = raw[:, column] + np.trunc(step + np.sign(step) * _DUST)
            raw[:, column] = moved
        return raw

    def _define(self, atom: int, raw: Array, low: Array, high: Array) -> Array:
        """Set the feature that stands alone on one side of an equality to the value of the other side."""
        compiled = self._system.atoms[atom]
        target = compiled.target
        if target < 0:
            return raw
        alone_left = isinstance(compiled.left, Reference) and compiled.left.index == target
        other = compiled.right if alone_left else compiled.left
        with np.errstate(all="ignore"):
            value = np.asarray(evaluate(other, lambda column: raw[:, column]), dtype=np.float64)
        value = np.where(np.isfinite(value), np.rint(value) if self._whole[target] else value, raw[:, target])
        raw[:, target] = np.clip(value, low[:, target], high[:, target])
        return raw
