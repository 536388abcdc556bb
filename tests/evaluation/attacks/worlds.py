"""Small worlds in which the right answer of an attack is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domain.features import FeatureSpace
from evaluation.attacks.problem import AttackProblem, CountingMargins, TwoLogitView
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.detectors.detector import Detector
from evaluation.rows import LabelledRows


def feature(name: str, mutability: str = "free", **more: Any) -> dict[str, Any]:
    return {"name": name, "mutability": mutability, "reason": "planted", **more}


def real_space(width: int = 6, **more: Any) -> FeatureSpace:
    return FeatureSpace(version=1, name="real-world", features=[feature(f"f{index}", **more) for index in range(width)])


def mixed_space() -> FeatureSpace:
    """Every kind, every direction, a cost and two relations."""
    return FeatureSpace(
        version=1,
        name="mixed-world",
        features=[
            feature("total", kind="integer", low=0, high=100),
            feature("part", kind="integer", low=0, high=100),
            feature("rate"),
            feature("rising", "increase-only"),
            feature("stuck", "fixed"),
            feature("flag", kind="binary"),
            feature("proto", kind="categorical", categories=("tcp", "udp", "icmp")),
            feature("costly", cost=4.0),
        ],
        relations=["part <= total", "flag > 0 => rate > 0.05"],
    )


class Linear(nn.Module):
    """`x @ weight + bias`, in float64 so that closed forms hold to the last digits."""

    def __init__(self, weight: list[float], bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.weight.dtype) @ self.weight + self.bias


class Wrapped(nn.Module):
    """A network whose logit passes through `change`."""

    def __init__(self, inner: nn.Module, change: Any) -> None:
        super().__init__()
        self.inner = inner
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.change(self.inner(x))
        return result


def detector(network: nn.Module, space: FeatureSpace, threshold: float = 0.0) -> Detector:
    return Detector({"kind": "planted"}, network, space, threshold)


def problem_of(
    found: Detector, raw: np.ndarray, ball: Ball, *, level: str = "expected", benign: Any = None
) -> AttackProblem:
    compiled = CompiledSpace(found.space, level)  # type: ignore[arg-type]
    margins = CountingMargins(found.margins)
    x = compiled.encode(raw)
    other = x[:0] if benign is None else compiled.encode(benign)
    return AttackProblem(margins, compiled, ball, x, other, TwoLogitView(found.network, margins))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(raw: np.ndarray, y: Any, clusters: Any = None, objects: Any = None) -> LabelledRows:
    label = np.asarray(y, dtype=np.int8)
    names = np.arange(len(label)) if clusters is None else np.asarray(clusters)
    return LabelledRows(
        raw, label, names.astype(str).astype(object), np.where(label == 1, "bad", "benign").astype(object), objects
    )


def mixed_rows(n: int = 120, seed: int = 0) -> LabelledRows:
    """Rows of the mixed world that satisfy its relations; malicious ones have a high rate and a large part."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 2).astype(np.int8)
    shift = np.where(y == 1, 0.15, -0.15)
    total = rng.integers(30, 100, n)
    part = np.floor(total * np.clip(0.5 + shift + 0.1 * rng.standard_normal(n), 0, 1))
    rate = np.clip(0.5 + shift + 0.08 * rng.standard_normal(n), 0.06, 1)
    raw = np.stack(
        [
            total, part, rate, rng.random(n) * 0.5, rng.random(n), rng.integers(0, 2, n), rng.integers(0, 3, n),
            np.clip(0.5 + shift / 2 + 0.1 * rng.standard_normal(n), 0, 1),
        ],
        axis=1,
    ).astype(float)  # fmt: skip
    return rows_of(raw, y)


def trained(space: FeatureSpace, rows: LabelledRows, *, seed: int = 0, epochs: int = 60) -> Detector:
    """A small smooth network at the threshold that one benign row in twenty crosses."""
    compiled = CompiledSpace(space, "expected")
    x, y = compiled.encode(rows.raw).float(), torch.as_tensor(rows.y).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(x.shape[1], 16), nn.SiLU(), nn.Linear(16, 1), nn.Flatten(0))
        optimiser = torch.optim.Adam(network.parameters(), 0.02)
        for _ in range(epochs):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(network(x), y).backward()
            optimiser.step()
    network.zero_grad()
    network.eval()
    with torch.no_grad():
        threshold = float(network(x[y == 0]).double().quantile(0.95))
    return detector(network, space, threshold)
