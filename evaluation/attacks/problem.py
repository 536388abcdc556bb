"""What an attack is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace

Margins = Callable[[Tensor], Tensor]


@dataclass
class Candidates:
    """What an attack proposes; nothing here counts before it is verified.

    Attributes:
        x: proposed rows `(n, D)` float64 in model space, one per attacked row.
        objects: the edited raw objects `(n,)` where the attack edits objects; else None.
    """

    x: Tensor
    objects: NDArray[Any] | None = None


@dataclass
class AttackProblem:
    """n malicious rows that the attack tries to move below the operating point.

    Attributes:
        margins: maps `(n, D)` float64 in model space to logit minus operating point `(n,)`; negative = evaded.
        compiled: the feature space with its projection and its verifier.
        ball: norm and budget around the clean row.
        x: clean rows `(n, D)` float64.
        benign: benign rows `(m, D)` float64, starts for searches.
        network: two-logit view of the detector for torchattacks: argmax 0 means evaded.
        objects: raw objects `(n,)` behind the rows, or None.
        starts: rows `(n, D)` at which earlier attacks ended, or None.
    """

    margins: Margins
    compiled: CompiledSpace
    ball: Ball
    x: Tensor
    benign: Tensor
    network: nn.Module
    objects: NDArray[Any] | None = None
    starts: Tensor | None = None

    def take(self, rows: NDArray[Any]) -> Self:
        """Return the problem of the rows that `rows` (positions) picks."""
        index = torch.as_tensor(rows)
        return replace(
            self, x=self.x[index], objects=None if self.objects is None else self.objects[rows],
            starts=None if self.starts is None else self.starts[index],
        )  # fmt: skip

    def evaded(self, x: Tensor, margins: Tensor | None = None) -> NDArray[np.bool_]:
        """Return which proposals `(n, D)` are feasible in float64 and lie below the operating point, `(n,)`.

        `margins`: the margins of `x` where they are known, which saves the queries.
        """
        if margins is None:
            with torch.no_grad():
                margins = self.margins(x)
        below = (margins < 0).numpy()
        result = np.zeros(x.shape[0], dtype=bool)
        if hits := below.nonzero()[0].tolist():
            result[hits] = self.compiled.feasible(x[hits], self.x[hits], self.ball)
        return result


class Attack(Protocol):
    """One attack with fixed parameters; all randomness comes from the generator."""

    @property
    def name(self) -> str:
        """Name in reports and metric keys."""
        ...

    @property
    def needs_gradient(self) -> bool:
        """Whether it uses gradients of the margins."""
        ...

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """What the report records."""
        ...

    def run(self, problem: AttackProblem, generator: torch.Generator) -> Candidates:
        """Return one proposal per row of the problem."""
        ...


@dataclass
class CountingMargins:
    """Margins that count the rows they were asked for."""

    margins: Margins
    queries: int = field(default=0)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the margins of `(n, D)`, `(n,)`."""
        self.queries += x.shape[0]
        return self.margins(x)


class TwoLogitView(nn.Module):
    """A binary detector as a classifier with two logits, shifted so that argmax 0 means `below the operating point`.

    Symmetric logits in float64 keep the gradient of the cross entropy alive up to margins of several hundred, where
    the usual float32 probabilities are saturated.
    """

    def __init__(self, network: nn.Module, margins: Margins) -> None:
        super().__init__()
        self.network = network  # registered, so that attacks find its device and its training flags
        self.row_margins = margins

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(n, 2)` float64 of `(n, ...)` in model space; trailing axes are flattened."""
        half = self.row_margins(x.flatten(1)).double() / 2
        return torch.stack([-half, half], dim=1)


@contextmanager
def untouched(module: nn.Module, seed: int) -> Iterator[None]:
    """Run a block that may change modes, gradients and the global RNG, and put all three back, also after an error.

    torchattacks calls `eval()` and `train()` on the whole tree, leaves `.grad` behind and reseeds the global generator.
    Inside, the module is in eval mode and the global generator is seeded with `seed`.
    """
    modes = [(part, part.training) for part in module.modules()]
    gradients = [(parameter, parameter.grad, parameter.requires_grad) for parameter in module.parameters()]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module.eval()
            for parameter, _, _ in gradients:
                parameter.grad = None
                parameter.requires_grad = False
            yield
        finally:
            for part, training in modes:
                part.training = training
            for parameter, gradient, required in gradients:
                parameter.requires_grad = required
                parameter.grad = gradient


def draw_seed(generator: torch.Generator) -> int:
    """Return a seed drawn from `generator`, for code that can only be seeded."""
    return int(torch.randint(0, 2**31 - 1, (1,), generator=generator).item())
