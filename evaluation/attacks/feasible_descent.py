"""Projected gradient descent on the margin with several starts; every iterate is projected."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.attacks.inner import descent_direction, step_radius
from evaluation.attacks.problem import AttackProblem, Candidates
from evaluation.attacks.starts import toward_benign

# Weight of the relations' gradient per restart: the schedule is part of the restart axis instead of a parameter.
REPAIR_WEIGHTS = (0.0, 1.0, 0.3, 3.0)


@dataclass(frozen=True)
class FeasibleDescent:
    """Margin descent with projection in every step; starts at the clean row, toward benign rows and at random.

    Attributes:
        steps: gradient steps per restart; the step size falls linearly from the whole budget to a tenth.
        restarts: starts per row; rows that are broken leave after each restart.
    """

    steps: int = 20
    restarts: int = 2
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
            part = problem.take(alive.numpy())
            best, margins = self._descend(part, self._start(part, restart, generator), REPAIR_WEIGHTS[restart % 4])
            better = margins < lowest[alive]
            result[alive[better]], lowest[alive[better]] = best[better], margins[better]
            alive = alive[~torch.as_tensor(part.evaded(best))]
        return Candidates(result)

    def _start(self, problem: AttackProblem, restart: int, generator: torch.Generator) -> Tensor:
        if restart == 0:
            return problem.x.clone()
        if restart % 2 == 1 and problem.benign.shape[0]:
            return toward_benign(problem, 1, generator)[:, 0]
        low, high = problem.compiled.limits(problem.x, problem.ball)
        return low + (high - low) * torch.rand(low.shape, generator=generator, dtype=torch.float64)

    def _descend(self, problem: AttackProblem, start: Tensor, repair: float) -> tuple[Tensor, Tensor]:
        """Return the lowest projected row of each path `(n, D)` and its margin; rows stop at a verified success."""
        compiled, ball, clean = problem.compiled, problem.ball, problem.x
        radius = step_radius(compiled, ball, clean)
        current = compiled.project(start, clean, ball)
        best, lowest = current.clone(), torch.full((clean.shape[0],), torch.inf, dtype=torch.float64)
        alive = torch.arange(clean.shape[0])
        for step in range(self.steps + 1):
            direction, margins = descent_direction(problem.margins, compiled, ball, current, repair=repair)
            better = margins < lowest[alive]
            best[alive[better]], lowest[alive[better]] = current[better], margins[better]
            keep = ~torch.as_tensor(problem.take(alive.numpy()).evaded(current, margins))
            alive, current, direction = alive[keep], current[keep], direction[keep]
            if step == self.steps or alive.numel() == 0:
                break
            size = 2.0 * (1.0 - 0.9 * step / self.steps)
            current = compiled.project(current + size * radius[alive] * direction, clean[alive], ball)
        return best, lowest
