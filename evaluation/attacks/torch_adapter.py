"""torchattacks on rows: the one door to the library, which was written for images.

What the adapter takes care of, so that the attacks of the library need no change:
- they see reach coordinates `v` instead of the row. For linf `v` is the place inside the per-row box of bounds,
  direction of mutability and budget: every corner of `[0, 1]^D` is a corner of what the attacker can reach, and the
  budget is 1 whatever the costs. For l2 `v` is the cost-weighted shift around 0.5. Fixed columns get no gradient;
- every row that the attack asks about is projected, the gradient passes straight through (BPDA: Athalye et al., 2018),
  and the best projected row is remembered, because a library attack returns its last iterate;
- step sizes follow the budget and logits are tempered per row; the library's defaults do neither;
- APGD and Square get the shape `(N, 1, 1, D)`, and rows keep their identity where the library drops broken ones;
- module modes, gradients and the global random generator are put back after every call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from domain.errors import AttackError
from domain.monitor import Norm
from evaluation.attacks.problem import Attack, AttackProblem, Candidates, draw_seed, untouched

Kind = Literal["fgsm", "pgd", "apgd", "square"]
NORMS: dict[Kind, tuple[Norm, ...]] = {
    "fgsm": ("linf",), "pgd": ("linf", "l2"), "apgd": ("linf", "l2"), "square": ("linf",)
}  # fmt: skip
MALICIOUS = 1


class Reach(nn.Module):
    """What the library attacks: two logits of `(n, ..., D)` in reach coordinates, remembering the worst row seen.

    Attributes:
        start: reach coordinates of the clean rows `(n, D)`; budget: radius of the ball in these coordinates.
        best: projected row with the lowest margin so far `(n, D)`; lowest: its margin `(n,)`.
    """

    def __init__(self, problem: AttackProblem) -> None:
        super().__init__()
        self.network = problem.network
        self.problem = problem
        low, high = problem.compiled.limits(problem.x, problem.ball)
        span = (high - low).clamp_min(0)
        if problem.ball.norm == "linf":
            self.origin, self.scale, self.budget = low, span, 1.0
            self.start = torch.where(span > 0, (problem.x - low) / span.clamp_min(1e-12), 0.5).clamp(0, 1)
        else:
            cost = problem.compiled.cost.double()
            half = float(cost.max())  # the longest weighted way along one column, so that v stays in [0, 1]
            self.scale = torch.where(span > 0, 2 * half / cost, 0.0)
            self.origin, self.budget = problem.x - 0.5 * self.scale, problem.ball.epsilon / (2 * half)
            self.start = torch.full_like(problem.x, 0.5)
        self.best = problem.x.clone()
        self.lowest = torch.full((problem.x.shape[0],), torch.inf, dtype=torch.float64)
        self.rows = torch.arange(problem.x.shape[0])
        with torch.no_grad():
            clean = problem.margins(problem.x).double().abs()
        # A positive factor per row moves no decision, and keeps the cross entropy from saturating on confident rows.
        self.temper = 1 / torch.nan_to_num(clean, nan=1.0, posinf=1.0).clamp_min(1.0)

    def forward(self, v: Tensor) -> Tensor:
        """Return tempered logits `(n, 2)` of the projected rows; `rows` says which rows of the problem `v` holds."""
        moved = self.origin[self.rows] + v.flatten(1).double() * self.scale[self.rows]
        projected = self.problem.compiled.project(moved.detach(), self.problem.x[self.rows], self.problem.ball)
        logits: Tensor = self.network(moved + (projected - moved).detach())
        margins = (logits[:, 1] - logits[:, 0]).detach()
        better = margins < self.lowest[self.rows]
        self.best[self.rows[better]], self.lowest[self.rows[better]] = projected[better], margins[better]
        return logits * self.temper[self.rows, None]


@dataclass(frozen=True)
class TorchAttack:
    """One attack of torchattacks on rows.

    Attributes:
        kind: `fgsm`, `pgd` (PGDL2 where the norm is l2), `apgd` (cross entropy) or `square`.
        steps: gradient steps, or queries per row for `square`.
    """

    kind: Kind
    steps: int = 10

    @property
    def name(self) -> str:
        """Name in reports."""
        return self.kind

    @property
    def needs_gradient(self) -> bool:
        """All but Square do."""
        return self.kind != "square"

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Norms for which the library's attack makes sense on rows."""
        return NORMS[self.kind]

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """What the report records."""
        return {"library": "torchattacks"} if self.kind == "fgsm" else {"library": "torchattacks", "steps": self.steps}

    def run(self, problem: AttackProblem, generator: torch.Generator) -> Candidates:
        """Return per row the projected row with the lowest margin that the attack asked about.

        Raises:
            AttackError: the attack does not exist for the norm.
        """
        if problem.ball.norm not in self.norms:
            raise AttackError(f"attack {self.kind!r} works in {self.norms}, not in {problem.ball.norm!r}")
        if problem.x.shape[0] == 0:
            return Candidates(problem.x.clone())
        seed = draw_seed(generator)
        with untouched(problem.network, seed), torch.enable_grad():
            reach = Reach(problem)
            labels = torch.full((problem.x.shape[0],), MALICIOUS)
            attack = _BUILDERS[self.kind](reach, self.steps, problem.ball.norm)
            attack(reach.start[:, None, None, :], labels)
        return Candidates(reach.best)


def _fgsm(reach: Reach, steps: int, norm: Norm) -> Any:
    import torchattacks

    del steps, norm
    return _ending_seen(torchattacks.FGSM)(reach, eps=reach.budget)


def _pgd(reach: Reach, steps: int, norm: Norm) -> Any:
    import torchattacks

    if norm == "l2":
        return _ending_seen(torchattacks.PGDL2)(
            reach, eps=reach.budget, alpha=2.5 * reach.budget / steps, steps=steps, eps_for_division=1e-30
        )
    # The clean row lies half a budget from the sides of its box, or one whole where a column may only rise or fall.
    return _ending_seen(torchattacks.PGD)(reach, eps=reach.budget, alpha=1.25 * reach.budget / steps, steps=steps)


def _ending_seen(library: type) -> Callable[..., Any]:
    """Return the library's class with one more forward pass at its last iterate, which it never looks at itself."""

    def forward(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        ending: Tensor = library.forward(self, images, labels)  # type: ignore[attr-defined]
        with torch.no_grad():
            self.model(ending)
        return ending

    return type(library.__name__, (library,), {"forward": forward})


def _apgd(reach: Reach, steps: int, norm: Norm) -> Any:
    import torchattacks

    class RowAPGD(torchattacks.APGD):  # type: ignore[misc]
        """One run over all rows: the library's own loop reseeds the global generator and drops missed rows."""

        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            result: Tensor = self.attack_single_run(images, labels)[3]
            return result

    # The difference-of-logits loss needs three classes; cross entropy of symmetric logits does not saturate here.
    name = "Linf" if norm == "linf" else "L2"
    return RowAPGD(reach, norm=name, eps=reach.budget, steps=steps, loss="ce")


def _square(reach: Reach, steps: int, norm: Norm) -> Any:
    import torchattacks

    del norm

    class RowSquare(torchattacks.Square):  # type: ignore[misc]
        """Square on one line of columns; the labels carry row numbers, because the search drops broken rows."""

        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            self.init_hyperparam(images)
            # The library never draws the last place of a line: one spare column makes all real ones reachable.
            padded = torch.nn.functional.pad(images, (0, 1))
            result: Tensor = self.attack_single_run(padded, torch.arange(len(labels)))[1]
            return result[..., :-1]

        def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            self.model.rows = y
            logits = self.model(x[..., :-1])
            self.model.rows = torch.arange(self.model.start.shape[0])
            margins = logits[:, 1] - logits[:, 0]
            return margins, margins

    return RowSquare(reach, norm="Linf", eps=reach.budget, n_queries=steps, p_init=0.3)


_BUILDERS: dict[Kind, Callable[[Reach, int, Norm], Any]] = {
    "fgsm": _fgsm, "pgd": _pgd, "apgd": _apgd, "square": _square
}  # fmt: skip


def as_torchattack(attack: Attack, problem: AttackProblem, seed: int) -> Any:
    """Return a native attack as a `torchattacks.attack.Attack`, for code that expects one (such as MultiAttack).

    Its inputs are rows in model space of any shape that flattens to `(n, D)`, its labels are ignored: all rows are
    malicious. The native attacks are plain classes behind the protocol `Attack`, because the library's base class
    compares every attribute it is given with `in`, which fails on tensors, and carries image settings that have no
    meaning for rows.
    """
    from torchattacks.attack import Attack as Base

    class Native(Base):  # type: ignore[misc]
        def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
            del labels
            rows = replace(problem, x=images.detach().flatten(1).double(), starts=None)
            found = attack.run(rows, torch.Generator().manual_seed(seed)).x
            return found.reshape(images.shape).to(images.dtype)

    return Native(attack.name, problem.network)
