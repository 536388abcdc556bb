"""How far rows are from their relations, as a differentiable number."""

from __future__ import annotations

import torch
from torch import Tensor

from evaluation.constraints.expressions import evaluate
from evaluation.constraints.relations import RelationSystem
from evaluation.detectors.portable import Encoding


class Penalty:
    """Sum over relations of the violation divided by the size of its terms, so that bytes and flags weigh alike."""

    def __init__(self, encoding: Encoding, system: RelationSystem) -> None:
        self._system = system
        self._width = len(encoding.names)
        self._columns, self._numeric = torch.as_tensor(encoding.columns), torch.as_tensor(encoding.numeric)
        self._low, self._span = torch.as_tensor(encoding.low), torch.as_tensor(encoding.span)
        self._log = torch.as_tensor(encoding.log)
        self._matrix, self._offset = torch.as_tensor(system.matrix), torch.as_tensor(system.offset)

    def raw(self, x: Tensor) -> Tensor:
        """Return differentiable raw values `(..., d)` of model-space rows `(..., D)`; categories are zero."""
        device = x.device
        values = x[..., self._columns.to(device)].double() * self._span.to(device) + self._low.to(device)
        log = self._log.to(device)
        values = torch.where(log, torch.expm1(torch.where(log, values, 0.0)), values)
        raw = torch.zeros((*x.shape[:-1], self._width), dtype=torch.float64, device=device)
        return raw.index_copy(-1, self._numeric.to(device), values)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penalty `(...)` of model-space rows `(..., D)`; 0 up to rounding where all relations hold."""
        system = self._system
        if not system.rules:
            return (x * 0.0).sum(dim=-1)
        raw = self.raw(x)
        matrix, offset = self._matrix.to(x.device), self._offset.to(x.device)
        value = list((raw @ matrix.T + offset).unbind(-1))
        size = list((raw.detach().abs() @ matrix.T.abs() + offset.abs()).unbind(-1))
        for index in (~system.is_linear).nonzero()[0]:
            left = evaluate(system.atoms[index].left, lambda column: raw[..., column])
            right = evaluate(system.atoms[index].right, lambda column: raw[..., column])
            # Division by zero has no slope to follow; a constant one keeps every other gradient finite.
            value[index] = torch.nan_to_num(torch.as_tensor(left - right), nan=1.0, posinf=1e12, neginf=-1e12)
            size[index] = value[index].detach().abs() + 1.0
        total = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
        for rule in system.rules:
            broken = self._broken(rule.conclusion, value) / (size[rule.conclusion] + 1.0)
            if rule.premise >= 0:
                held = self._held(rule.premise, value) / (size[rule.premise] + 1.0)
                broken = torch.minimum(held, broken)
            total = total + broken
        return total.to(x.dtype)

    def _broken(self, atom: int, value: list[Tensor]) -> Tensor:
        if self._system.is_equality[atom]:
            return value[atom].abs()
        return torch.relu(value[atom] + float(self._system.gap[atom]))

    def _held(self, atom: int, value: list[Tensor]) -> Tensor:
        """Return how far a premise is from being false; 0 where it is false."""
        if self._system.is_equality[atom]:
            return torch.relu(float(self._system.strict_gap[atom]) - value[atom].abs())
        room = 0.0 if self._system.is_strict[atom] else float(self._system.strict_gap[atom])
        return torch.relu(room - value[atom])
