"""The projection: the nearest legal row that we know how to reach, or the clean row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domain.features import FeatureSpace
from evaluation.constraints.ball import Ball
from evaluation.constraints.checker import Checker
from evaluation.constraints.geometry import Geometry
from evaluation.constraints.relations import RelationSystem
from evaluation.constraints.repair import Repair
from evaluation.detectors.portable import Encoding

Array = NDArray[np.float64]
# Slack, in model space, within which a value counts as the whole number above: float64 dust of encode and decode.
_TRUNCATION_SLACK = 1e-12
WIDE_SWEEPS, RETREAT_SWEEPS = 3, 8
RETREATS = (1.0, 0.5, 0.25, 0.125)


class Projection:
    """Projects model-space rows `(n, D)` onto what the attacker can produce from the clean rows.

    The order: limits, categories, ball, whole numbers (truncated toward the clean value, which never leaves the ball),
    repair with all the room the attacker has, repair that only retreats toward the clean row, the same from points
    further back, and at last the clean row. Retreat works since the clean row keeps all relations; a clean row that
    does not is returned as it is.
    """

    def __init__(
        self, space: FeatureSpace, encoding: Encoding, geometry: Geometry, system: RelationSystem, checker: Checker
    ) -> None:
        self._encoding, self._geometry, self._system, self._checker = encoding, geometry, system, checker
        self._repair = Repair(space, system)
        kinds = np.array([feature.kind for feature in space.features])
        self._whole = np.isin(kinds[encoding.numeric], ["integer", "binary"])

    def decode(self, x: Array) -> Array:
        """Return legal raw rows `(n, d)`: whole numbers rounded, categories by their largest column, NaN if none."""
        encoding = self._encoding
        with np.errstate(over="ignore", invalid="ignore"):
            raw = encoding.decode(x)
        whole = encoding.numeric[self._whole]
        raw[:, whole] = np.rint(raw[:, whole])
        for index, categories in enumerate(encoding.categories):
            if categories:
                group = x[:, encoding.offsets[index] : encoding.offsets[index] + len(categories)]
                raw[~(group.max(axis=1) > 0), index] = np.nan
        return raw

    def project(self, x: Array, x0: Array, ball: Ball) -> Array:
        """Return projected rows `(n, D)`; always in the ball, and legal unless equal to an illegal clean row."""
        clean = self.decode(x0)
        x = self._into_region(np.where(np.isfinite(x), x, x0), x0, clean, ball)
        if not self._system.rules:
            return self._keep_illegal(x, x0, clean)
        x = self._keep_illegal(x, x0, clean)
        broken = self._system.violations(self.decode(x)).any(axis=1)
        broken &= ~np.all((x == x0) | np.isnan(x0), axis=1)
        rows = np.flatnonzero(broken)
        if rows.size:
            x[rows] = self._mend(x[rows], x0[rows], clean[rows], ball)
        return x

    def _keep_illegal(self, x: Array, x0: Array, clean: Array) -> Array:
        return np.where(self._checker.check(clean, clean).ok[:, None], x, x0)

    def _into_region(self, x: Array, x0: Array, clean: Array, ball: Ball) -> Array:
        low, high = self._geometry.limits(x0, ball)
        x = np.clip(x, low, high)
        x = self._geometry.settle_groups(x, x0, ball)
        x = self._geometry.shrink(x, x0, ball)
        return self._snap(x, x0, clean, low, high)

    def _snap(self, x: Array, x0: Array, clean: Array, low: Array, high: Array) -> Array:
        """Truncate whole numbers toward the clean value and put them exactly on their place in model space."""
        columns = self._encoding.columns[self._whole]
        if not columns.size:
            return x
        features = self._encoding.numeric[self._whole]
        span, log = self._encoding.span[self._whole], self._encoding.log[self._whole]
        start, value = clean[:, features], self._values(x)[:, self._whole]
        with np.errstate(invalid="ignore"):
            slack = np.minimum(_TRUNCATION_SLACK * span * np.where(log, 1.0 + np.abs(value), 1.0), 0.25)
            steps = np.trunc(value - start + np.sign(value - start) * slack)
            place = self._places(start + steps, self._whole)
        snapped = np.where(steps == 0, x0[:, columns], np.clip(place, low[:, columns], high[:, columns]))
        x[:, columns] = np.where(np.isfinite(steps), snapped, x0[:, columns])
        return x

    def _values(self, x: Array) -> Array:
        """Return raw values of the numeric features, not rounded."""
        encoding = self._encoding
        values = x[:, encoding.columns] * encoding.span + encoding.low
        return np.where(encoding.log, np.expm1(np.where(encoding.log, values, 0.0)), values)

    def _places(self, values: Array, pick: NDArray[np.bool_]) -> Array:
        """Return model-space places of raw values of the numeric features in `pick`."""
        encoding = self._encoding
        log = encoding.log[pick]
        moved = np.where(log, np.log1p(np.where(log, np.maximum(values, -0.5), 0.0)), values)
        return np.asarray((moved - encoding.low[pick]) / encoding.span[pick])

    def _raw_limits(self, x0: Array, clean: Array, ball: Ball) -> tuple[Array, Array]:
        low, high = self._geometry.limits(x0, ball)
        lowest, highest = clean.copy(), clean.copy()
        numeric = self._encoding.numeric
        down, up = self._values(low), self._values(high)
        dust = _TRUNCATION_SLACK * self._encoding.span
        wide = np.minimum(dust * np.where(self._encoding.log, 1.0 + np.abs(up), 1.0), 0.25)
        lowest[:, numeric] = np.where(self._whole, np.ceil(down - wide), down)
        highest[:, numeric] = np.where(self._whole, np.floor(up + wide), up)
        return np.fmin(lowest, clean), np.fmax(highest, clean)

    def _mend(self, x: Array, x0: Array, clean: Array, ball: Ball) -> Array:
        low, high = self._raw_limits(x0, clean, ball)
        wide = self._write(x, self._repair.sweep(self.decode(x), low, high, WIDE_SWEEPS), x0, clean, ball)
        good = self._good(wide, x0, clean, ball)
        result = np.where(good[:, None], wide, x0)
        left = np.flatnonzero(~good)
        for share in RETREATS:
            if not left.size:
                break
            start, home = x0[left] + share * (wide[left] - x0[left]), clean[left]
            start = self._into_region(start, x0[left], home, ball)
            raw = self.decode(start)
            closer = (np.fmin(raw, home), np.fmax(raw, home))
            mended = self._repair.sweep(raw, *self._with_room(closer, low[left], high[left]), RETREAT_SWEEPS)
            candidate = self._write(start, mended, x0[left], home, ball)
            good = self._good(candidate, x0[left], home, ball)
            result[left[good]] = candidate[good]
            left = left[~good]
        return result

    def _good(self, x: Array, x0: Array, clean: Array, ball: Ball) -> NDArray[np.bool_]:
        legal = self._checker.check(self.decode(x), clean).ok
        return np.asarray(legal & ball.contains(x - x0, self._geometry.cost))

    def _with_room(self, closer: tuple[Array, Array], low: Array, high: Array) -> tuple[Array, Array]:
        """Give features that a non-linear equality defines all their room: they follow from the others."""
        for atom in self._system.atoms:
            if atom.linear is None and atom.target >= 0:
                closer[0][:, atom.target] = low[:, atom.target]
                closer[1][:, atom.target] = high[:, atom.target]
        return closer

    def _write(self, x: Array, raw: Array, x0: Array, clean: Array, ball: Ball) -> Array:
        """Return `x` with the numeric values that differ from `raw` replaced, inside the region."""
        encoding = self._encoding
        wanted, now, home = raw[:, encoding.numeric], self.decode(x)[:, encoding.numeric], clean[:, encoding.numeric]
        places = self._places(wanted, np.ones(wanted.shape[1], dtype=bool))
        places = np.where(wanted == home, x0[:, encoding.columns], places)
        written = x.copy()
        written[:, encoding.columns] = np.where(wanted == now, x[:, encoding.columns], places)
        return self._into_region(written, x0, clean, ball)
