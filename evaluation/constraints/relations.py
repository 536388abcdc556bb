"""All relations of a feature space, judged for many rows at once: one matrix product for the linear ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.features import FeatureSpace
from domain.relations import Comparison, Implication, references
from evaluation.constraints.expressions import Atom, compile_comparison, evaluate

EQUALITY_TOLERANCE = 1e-6
INEQUALITY_TOLERANCE = 1e-9
# Distance by which a repair clears a strict inequality over real numbers, as a share of the range of its terms.
STRICT_GAP = 1e-9


@dataclass(frozen=True)
class Rule:
    """One relation over atoms, by position; `premise` is -1 for a plain comparison."""

    premise: int
    conclusion: int


class RelationSystem:
    """Compiled relations: `r` rules over `a` atoms on raw rows `(n, d)`.

    Attributes:
        atoms: comparisons in the form `g(row) op 0`.
        rules: relations over the atoms, in the order of the space.
        matrix, offset: linear part, g = raw @ matrix.T + offset; `(a, d)` and `(a,)`, zero for other atoms.
        gap: how far below zero a repair must bring g, `(a,)`; 0 except for strict inequalities.
        strict_gap: the same if each atom were strict, needed where a premise has to be made false.
    """

    def __init__(self, space: FeatureSpace) -> None:
        atoms: list[Atom] = []
        rules: list[Rule] = []
        for relation in space.parsed_relations:
            parts: list[Comparison] = (
                [relation.rule.premise, relation.rule.conclusion]
                if isinstance(relation.rule, Implication)
                else [relation.rule]
            )
            first = len(atoms)
            atoms.extend(compile_comparison(part, space.features) for part in parts)
            rules.append(Rule(first if len(parts) == 2 else -1, len(atoms) - 1))
        self.atoms, self.rules = tuple(atoms), tuple(rules)
        width, count = len(space.features), len(atoms)
        self.matrix, self.offset = np.zeros((count, width)), np.zeros(count)
        self.uses = np.zeros((count, width), dtype=bool)
        for row, atom in enumerate(atoms):
            self.uses[row, sorted(references(atom.left) | references(atom.right))] = True
            if atom.linear is not None:
                self.matrix[row], self.offset[row] = atom.linear.coefficients, atom.linear.constant
        self.size = np.abs(self.matrix)
        self.is_linear = np.array([atom.linear is not None for atom in atoms], dtype=bool)
        self.integral = np.array([atom.integral for atom in atoms], dtype=bool)
        self.is_equality = np.array([atom.op == "=" for atom in atoms], dtype=bool)
        self.is_strict = np.array([atom.op == "<" for atom in atoms], dtype=bool)
        span = np.array([feature.high - feature.low for feature in space.features])
        self.strict_gap = np.where(self.integral, 1.0, STRICT_GAP * np.maximum(self.size @ span, 1e-3))
        self.gap = np.where(self.is_strict, self.strict_gap, 0.0)
        self.premises = np.array([rule.premise for rule in rules], dtype=int)
        self.conclusions = np.array([rule.conclusion for rule in rules], dtype=int)
        self._tolerance = np.where(self.is_equality, EQUALITY_TOLERANCE, INEQUALITY_TOLERANCE)
        self._largest_tolerance = np.where(self.integral, 0.25, np.inf)
        self._matrix_t, self._size_t = np.ascontiguousarray(self.matrix.T), np.ascontiguousarray(self.size.T)
        self._curved = [(column, atom) for column, atom in enumerate(atoms) if atom.linear is None]

    def values(
        self, raw: NDArray[np.float64], pick: NDArray[np.int_] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return g and the size of its terms for raw rows `(n, d)`, both `(n, a)`; NaN where a term is missing.

        `pick` restricts the work to some atoms, by position.
        """
        if pick is None:
            matrix, size, offset, curved = self._matrix_t, self._size_t, self.offset, self._curved
        else:
            matrix, size, offset = self.matrix[pick].T, self.size[pick].T, self.offset[pick]
            curved = [(column, self.atoms[index]) for column, index in enumerate(pick) if not self.is_linear[index]]
        finite = np.isfinite(raw)
        complete = bool(finite.all())
        known = raw if complete else np.where(finite, raw, 0.0)
        value = known @ matrix + offset
        magnitude = np.abs(known) @ size + np.abs(offset)
        if curved:
            with np.errstate(all="ignore"):
                for column, atom in curved:
                    left = evaluate(atom.left, lambda feature: known[:, feature])
                    right = evaluate(atom.right, lambda feature: known[:, feature])
                    value[:, column] = left - right
                    magnitude[:, column] = np.abs(left) + np.abs(right)
        if not complete:
            uses = self.uses if pick is None else self.uses[pick]
            value[~finite @ uses.T] = np.nan
        return value, magnitude

    def holds(self, raw: NDArray[np.float64], pick: NDArray[np.int_] | None = None) -> NDArray[np.bool_]:
        """Return which atoms hold, `(n, a)`; an undefined value (missing term, division by zero) does not."""
        value, magnitude = self.values(raw, pick)
        chosen = slice(None) if pick is None else pick
        equality = self.is_equality[chosen]
        with np.errstate(all="ignore"):
            limit = np.minimum(self._tolerance[chosen] * magnitude + 1e-12, self._largest_tolerance[chosen])
            held = np.where(self.is_strict[chosen], value < 0, value <= limit) & (~equality | (value >= -limit))
            return np.asarray(held & np.isfinite(value))

    def violations(self, raw: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which relations each raw row breaks, `(n, r)`."""
        if not self.rules:
            return np.zeros((raw.shape[0], 0), dtype=bool)
        held = self.holds(raw)
        premise = held[:, self.premises] | (self.premises < 0)
        return np.asarray(premise & ~held[:, self.conclusions])

    def broken(self, index: int, raw: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which raw rows break the relation at `index`, `(n,)`."""
        rule = self.rules[index]
        pick = np.array([rule.conclusion] if rule.premise < 0 else [rule.conclusion, rule.premise])
        held = self.holds(raw, pick)
        return np.asarray(~held[:, 0] if rule.premise < 0 else held[:, 1] & ~held[:, 0])
