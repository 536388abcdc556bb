"""Gradient descent on the margin along several paths; every point that the detector sees is projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from evaluation.attacks.inner import TINY, descent_direction, step_radius
from evaluation.attacks.problem import AttackProblem, Candidates
from evaluation.attacks.starts import toward_benign
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace


@dataclass(frozen=True)
class Variant:
    """One kind of path; the kinds are the restart axis, so that no parameter has to fit every detector.

    Attributes:
        start: where it begins.
        columns: how many columns move per step, 0 for all. Few columns move far, which whole numbers need.
        repair: weight of the relations' gradient.
    """

    start: Literal["clean", "benign", "random"]
    columns: int = 0
    repair: float = 0.0


VARIANTS = (
    Variant("clean"), Variant("clean", columns=2), Variant("clean", columns=6), Variant("benign", repair=1.0),
    Variant("benign", columns=4), Variant("random", repair=0.3), Variant("random", columns=12), Variant("random"),
)  # fmt: skip
FROM_CLEAN = 3  # the first variants start at the clean row


@dataclass(frozen=True)
class FeasibleDescent:
    """Margin descent with a projection before every query; from the clean row, toward benign rows and at random.

    Attributes:
        steps: gradient steps per restart; the step size falls linearly from the whole budget to a tenth.
        restarts: paths per row, in the order of `VARIANTS`; rows that are broken leave after each restart.
    """

    steps: int = 20
    restarts: int = 5
    name: str = "feasible-descent"
    needs_gradient: bool = True

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """What the report records."""
        return {"steps": self.steps, "restarts": self.restarts}

    def run(self, problem: AttackProblem, generator: torch.Generator) -> Candidates:
        """Return per row the first verified success, else the projected row with the lowest margin."""
        result = problem.x.clone()
        alive = torch.arange(problem.x.shape[0])
        lowest = torch.full((problem.x.shape[0],), torch.inf, dtype=torch.float64)
        for restart in range(self.restarts):
            if alive.numel() == 0:
                break
            part, variant = problem.take(alive.numpy()), VARIANTS[restart % len(VARIANTS)]
            best, margins = self._descend(part, self._start(part, variant, generator), variant)
            better = margins < lowest[alive]
            result[alive[better]], lowest[alive[better]] = best[better], margins[better]
            alive = alive[~torch.as_tensor(part.evaded(best))]
        return Candidates(result)

    def _start(self, problem: AttackProblem, variant: Variant, generator: torch.Generator) -> Tensor:
        if variant.start == "clean":
            return problem.x.clone()
        if variant.start == "benign" and problem.benign.shape[0]:
            return toward_benign(problem, 1, generator)[:, 0]
        low, high = problem.compiled.limits(problem.x, problem.ball)
        return low + (high - low) * torch.rand(low.shape, generator=generator, dtype=torch.float64)

    def _descend(self, problem: AttackProblem, start: Tensor, variant: Variant) -> tuple[Tensor, Tensor]:
        """Return the lowest projected row of each path `(n, D)` and its margin; rows stop at a verified success.

        The path itself stays relaxed inside the ball and only what the detector sees is projected: steps smaller than
        one unit of a whole number add up instead of being cut off again and again.
        """
        compiled, ball, clean = problem.compiled, problem.ball, problem.x
        radius, (low, high) = step_radius(compiled, ball, clean), compiled.limits(clean, ball)
        relaxed = into_ball(compiled, ball, start, clean, (low, high))
        best, lowest = clean.clone(), torch.full((clean.shape[0],), torch.inf, dtype=torch.float64)
        alive = torch.arange(clean.shape[0])
        for step in range(self.steps + 1):
            current = compiled.project(relaxed, clean[alive], ball)
            direction, margins = descent_direction(
                problem.margins, compiled, ball, current, repair=variant.repair, columns=variant.columns
            )
            better = margins < lowest[alive]
            best[alive[better]], lowest[alive[better]] = current[better], margins[better]
            keep = ~torch.as_tensor(problem.take(alive.numpy()).evaded(current, margins))
            alive, relaxed, direction = alive[keep], relaxed[keep], direction[keep]
            if step == self.steps or alive.numel() == 0:
                break
            size = 2.0 * (1.0 - 0.9 * step / self.steps)
            moved = relaxed + size * radius[alive] * direction
            relaxed = into_ball(compiled, ball, moved, clean[alive], (low[alive], high[alive]))
        return best, lowest


def into_ball(compiled: CompiledSpace, ball: Ball, x: Tensor, clean: Tensor, box: tuple[Tensor, Tensor]) -> Tensor:
    """Return `x` `(n, D)` clamped to the per-row box and, for l2, drawn back along the way to the clean row."""
    x = x.clamp(*box)
    if ball.norm == "linf":
        return x
    length = ((x - clean) * compiled.cost).norm(dim=1, keepdim=True)
    drawn: Tensor = clean + (x - clean) * (ball.epsilon / length.clamp_min(TINY)).clamp_max(1.0)
    return drawn
