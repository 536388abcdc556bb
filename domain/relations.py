"""The relation language: small, readable rules that tie features to each other.

    length_hostname <= length_url
    total = sent + received
    port_80 > 0 => sent > 0
    bytes / packets <= 1500

Grammar: `comparison` or `comparison => comparison`; a comparison is `expression OP expression` with OP one of
`<= >= = < >`; expressions know `+ - * /`, parentheses, numbers and feature names. Python's own parser reads the
text, and only the node types named here are accepted, so a relation can never execute anything.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from domain.errors import RelationError

Operator = Literal["<=", ">=", "=", "<", ">"]
Arithmetic = Literal["+", "-", "*", "/"]
MAX_RELATION_LENGTH = 20_000
# Trees are walked by recursion; this many levels are far below what the interpreter takes.
MAX_RELATION_DEPTH = 400


@dataclass(frozen=True, slots=True)
class Constant:
    """A number."""

    value: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A feature, by its position among the features of the space."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right`."""

    op: Arithmetic
    left: Expression
    right: Expression


Expression = Constant | Reference | Binary


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left op right`, which holds or does not hold for a row."""

    op: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Implication:
    """`premise => conclusion`: broken only where the premise holds and the conclusion does not."""

    premise: Comparison
    conclusion: Comparison


@dataclass(frozen=True, slots=True)
class Relation:
    """One parsed rule with the text it came from."""

    text: str
    rule: Comparison | Implication

    @property
    def references(self) -> frozenset[int]:
        """Positions of all features that the rule mentions."""
        parts = [self.rule.premise, self.rule.conclusion] if isinstance(self.rule, Implication) else [self.rule]
        return frozenset(index for part in parts for side in (part.left, part.right) for index in references(side))


_ARITHMETIC: dict[type[ast.operator], Arithmetic] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARE: dict[type[ast.cmpop], Operator] = {ast.LtE: "<=", ast.GtE: ">=", ast.Lt: "<", ast.Gt: ">", ast.Eq: "="}


def references(expression: Expression) -> frozenset[int]:
    """Return the positions of the features that `expression` mentions."""
    if isinstance(expression, Reference):
        return frozenset({expression.index})
    if isinstance(expression, Binary):
        return references(expression.left) | references(expression.right)
    return frozenset()


def parse_relation(text: str, names: Sequence[str]) -> Relation:
    """Parse `text` over the features `names`.

    Raises:
        RelationError: the text is not of the language, or names a feature that the space lacks.
    """
    if len(text) > MAX_RELATION_LENGTH:
        raise RelationError(f"a relation may have {MAX_RELATION_LENGTH} characters, got {len(text)}: {text[:80]!r}...")
    positions = {name: index for index, name in enumerate(names)}
    sides = text.split("=>")
    if len(sides) == 2:
        return Relation(
            text, Implication(_comparison(sides[0], text, positions), _comparison(sides[1], text, positions))
        )
    if len(sides) > 2:
        raise RelationError(f"relation {text!r} has more than one `=>`; write one rule per implication")
    return Relation(text, _comparison(text, text, positions))


def _comparison(part: str, text: str, positions: dict[str, int]) -> Comparison:
    # `=` is assignment to Python's parser; a lone one (not part of <=, >=, ==) means equality here.
    source = part.strip()
    if "==" not in source and "<=" not in source and ">=" not in source:
        source = source.replace("=", "==")
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RelationError(f"relation {text!r} cannot be parsed near {part.strip()!r}: {error}") from error
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in _COMPARE:
        raise RelationError(f"relation {text!r}: expected one comparison with <=, >=, =, < or >, got {part.strip()!r}")
    if (depth := _depth(tree)) > MAX_RELATION_DEPTH:
        raise RelationError(
            f"relation {text[:80]!r}... is nested {depth} levels deep, {MAX_RELATION_DEPTH} are allowed; split it"
        )
    left, right = _expression(tree.left, text, positions), _expression(tree.comparators[0], text, positions)
    return Comparison(_COMPARE[type(tree.ops[0])], left, right)


def _depth(tree: ast.AST) -> int:
    deepest, level = 0, [tree]
    while level:
        deepest, level = deepest + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


def _number(value: float, text: str) -> Constant:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RelationError(f"relation {text[:80]!r}: numbers must be finite and at most about 1.8e308")
    return Constant(number)


def _expression(node: ast.expr, text: str, positions: dict[str, int]) -> Expression:
    match node:
        case ast.Constant(value=bool()):
            raise RelationError(f"relation {text!r}: write 0 or 1 instead of {node.value!r}")
        case ast.Constant(value=int() | float() as value):
            return _number(value, text)
        case ast.Name(id=name) if name in positions:
            return Reference(positions[name], name)
        case ast.Name(id=name):
            raise RelationError(f"relation {text!r} names {name!r}, which is no feature of the space")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return Binary(
                _ARITHMETIC[type(op)], _expression(left, text, positions), _expression(right, text, positions)
            )
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Binary("-", Constant(0.0), _expression(operand, text, positions))
        case _:
            raise RelationError(
                f"relation {text!r}: `{ast.unparse(node)}` is not allowed; use + - * /, numbers and names"
            )
