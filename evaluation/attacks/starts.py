"""Starts for searches: the nearest benign rows, reached as far as the budget allows."""

from __future__ import annotations

import torch
from torch import Tensor

from evaluation.attacks.problem import AttackProblem

MAX_BENIGN = 2_000


def nearest_benign(problem: AttackProblem, count: int) -> Tensor:
    """Return the `count` benign rows `(n, count, D)` nearest to each row in the coordinates the attacker can move."""
    benign = problem.benign[:MAX_BENIGN]
    movable = problem.compiled.movable.double()
    distance = torch.cdist(problem.x * movable, benign * movable)
    return benign[distance.topk(min(count, benign.shape[0]), dim=1, largest=False).indices]


def toward_benign(problem: AttackProblem, count: int, generator: torch.Generator) -> Tensor:
    """Return `(n, count, D)` rows of the ball that lie toward randomly mixed neighbours, most of the way or all of it.

    Linear relations hold between two rows that satisfy them, so that these starts are mostly feasible.
    """
    neighbours = nearest_benign(problem, 8)
    n, available, _ = neighbours.shape
    pick = torch.randint(0, available, (n, count), generator=generator)
    pick[:, 0] = 0
    target = neighbours.gather(1, pick[:, :, None].expand(-1, -1, neighbours.shape[2]))
    low, high = problem.compiled.limits(problem.x, problem.ball)
    share = 1 - 0.6 * torch.rand((n, count, 1), generator=generator, dtype=torch.float64)
    share[:, 0] = 1.0
    clean = problem.x[:, None]
    return (clean + share * (target - clean)).clamp(low[:, None], high[:, None])
