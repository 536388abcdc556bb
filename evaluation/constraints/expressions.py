"""Syntax trees of relations as arithmetic: linear forms where possible, plain evaluation elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from domain.features import Feature
from domain.relations import Binary, Comparison, Constant, Expression, Reference

AtomOperator = Literal["<=", "<", "="]


@dataclass(frozen=True)
class Linear:
    """`coefficients . row + constant`."""

    coefficients: NDArray[np.float64]
    constant: float


@dataclass(frozen=True)
class Atom:
    """A comparison brought to the form `g(row) op 0` with op one of `<= < =`.

    Attributes:
        linear: g as a linear form, or None where it is not linear.
        left, right: g is `left - right`; used where `linear` is None.
        integral: only whole numbers can come out, so `< 0` means `<= -1` and tolerances stay below one unit.
        target: feature that an equality `name = expression` defines, else -1.
    """

    op: AtomOperator
    left: Expression
    right: Expression
    linear: Linear | None
    integral: bool
    target: int = -1


def linear_form(expression: Expression, width: int) -> Linear | None:
    """Return `expression` as a linear form over `width` features, or None."""
    match expression:
        case Constant(value=value):
            return Linear(np.zeros(width), value)
        case Reference(index=index):
            return Linear(np.eye(1, width, index)[0], 0.0)
        case Binary(op=op, left=left, right=right):
            first, second = linear_form(left, width), linear_form(right, width)
            if first is None or second is None:
                return None
            return _combine(op, first, second)


def _combine(op: str, first: Linear, second: Linear) -> Linear | None:
    if op in "+-":
        sign = 1.0 if op == "+" else -1.0
        return Linear(first.coefficients + sign * second.coefficients, first.constant + sign * second.constant)
    if op == "*" and not first.coefficients.any():
        first, second = second, first
    if second.coefficients.any() or (op == "/" and second.constant == 0):
        return None
    factor = second.constant if op == "*" else 1.0 / second.constant
    return Linear(first.coefficients * factor, first.constant * factor)


def compile_comparison(comparison: Comparison, features: Sequence[Feature]) -> Atom:
    """Return the comparison as an atom over the raw values of `features`.

    A quotient against a constant is multiplied out where the bounds fix the sign of the denominator, so that
    `bytes / packets <= 1500` is linear; a row with `packets = 0` then needs `bytes <= 0`.
    """
    left, right, op = comparison.left, comparison.right, comparison.op
    if op in {">=", ">"}:
        left, right, op = right, left, "<=" if op == ">=" else "<"
    atom_op: AtomOperator = "<" if op == "<" else "=" if op == "=" else "<="
    width = len(features)
    linear = linear_form(Binary("-", left, right), width) or _multiplied_out(left, right, features)
    if linear is not None and not (np.isfinite(linear.coefficients).all() and np.isfinite(linear.constant)):
        linear = None
    return Atom(atom_op, left, right, linear, _is_integral(linear, features), _target(atom_op, left, right))


def _multiplied_out(left: Expression, right: Expression, features: Sequence[Feature]) -> Linear | None:
    width = len(features)
    for quotient, other, sign in ((left, right, 1.0), (right, left, -1.0)):
        if not (isinstance(quotient, Binary) and quotient.op == "/"):
            continue
        top, bottom = linear_form(quotient.left, width), linear_form(quotient.right, width)
        limit = linear_form(other, width)
        if top is None or bottom is None or limit is None or limit.coefficients.any():
            continue
        lowest, highest = _range(bottom, features)
        if lowest < 0 < highest or lowest == highest == 0:
            continue
        direction = sign if lowest >= 0 else -sign
        return Linear(
            direction * (top.coefficients - limit.constant * bottom.coefficients),
            direction * (top.constant - limit.constant * bottom.constant),
        )
    return None


def _range(linear: Linear, features: Sequence[Feature]) -> tuple[float, float]:
    ends = np.array([[feature.low, feature.high] for feature in features]).T * linear.coefficients
    return float(ends.min(axis=0).sum() + linear.constant), float(ends.max(axis=0).sum() + linear.constant)


def _is_integral(linear: Linear | None, features: Sequence[Feature]) -> bool:
    if linear is None:
        return False
    used = np.flatnonzero(linear.coefficients)
    whole = all(features[int(index)].kind in {"integer", "binary"} for index in used)
    numbers = np.append(linear.coefficients, linear.constant)
    return whole and bool((numbers == np.rint(numbers)).all())


def _target(op: AtomOperator, left: Expression, right: Expression) -> int:
    if op != "=":
        return -1
    for side in (left, right):
        if isinstance(side, Reference):
            return side.index
    return -1


def evaluate(expression: Expression, column: Callable[[int], Any]) -> Any:
    """Return the value of `expression`, where `column` hands out the values of a feature (arrays or tensors)."""
    match expression:
        case Constant(value=value):
            return value
        case Reference(index=index):
            return column(index)
        case Binary(op=op, left=left, right=right):
            first, second = evaluate(left, column), evaluate(right, column)
            match op:
                case "+":
                    return first + second
                case "-":
                    return first - second
                case "*":
                    return first * second
                case "/":
                    # A constant zero divisor must give infinity like an array would, never an exception.
                    return first / (second if not isinstance(second, float) else np.float64(second))
