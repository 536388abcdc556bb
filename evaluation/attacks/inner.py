"""Feasible projected gradient descent: the cheap attack of the training loop, and the step that others share."""

from __future__ import annotations

import torch
from torch import Tensor

from evaluation.attacks.problem import Margins
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace

TINY = 1e-12


def descent_direction(
    margins: Margins, compiled: CompiledSpace, ball: Ball, x: Tensor, *, repair: float = 0.0, columns: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the unit step `(n, D)` that lowers the margin (sign for linf, steepest for l2), and the margins `(n,)`.

    Args:
        columns: move only this many columns with the steepest slope per cost; 0 moves all.
        repair: weight of the normalised gradient of the relations' penalty; 0 leaves repair to the projection.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        values = margins(point)
        gradient = torch.autograd.grad(values.sum(), point)[0]
        gradient = torch.where(compiled.movable, torch.nan_to_num(gradient), 0.0)
        gradient = gradient / (gradient.norm(dim=1, keepdim=True) + TINY)
        if repair > 0:
            penalty = compiled.penalty(point)
            if penalty.requires_grad:
                pull = torch.nan_to_num(torch.autograd.grad(penalty.sum(), point)[0])
                pull = torch.where(compiled.movable, pull, 0.0)
                gradient = gradient + repair * pull / (pull.norm(dim=1, keepdim=True) + TINY)
    if 0 < columns < gradient.shape[1]:
        slope = (gradient / compiled.cost.to(gradient.dtype)).abs()
        gradient = torch.where(slope >= slope.topk(columns, dim=1).values[:, -1:], gradient, 0.0)
    if ball.norm == "linf":
        return -gradient.sign(), values.detach()
    # Steepest descent in the cost-weighted norm: a unit step in y = cost * x, mapped back to x.
    weighted = gradient / compiled.cost.to(gradient.dtype)
    unit = weighted / (weighted.norm(dim=1, keepdim=True) + TINY)
    return -unit / compiled.cost.to(gradient.dtype), values.detach()


def step_radius(compiled: CompiledSpace, ball: Ball, clean: Tensor) -> Tensor:
    """Return what one unit of step size moves each coordinate, `(n, D)`: half the box for linf, the budget for l2."""
    if ball.norm == "l2":
        return torch.full_like(clean, ball.epsilon)
    low, high = compiled.limits(clean, ball)
    return (high - low).clamp_min(0) / 2


def inner_attack(
    detector_margins: Margins,
    compiled: CompiledSpace,
    ball: Ball,
    x: Tensor,
    *,
    steps: int,
    step_size: float | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Return for each row of `(n, D)` the worst projected row that a few steps of gradient descent found.

    The projection runs inside every step, so that the loop sees the integers, categories and relations that the
    verifier sees; the start is a random point of the ball for one half of the rows and the clean row for the other.

    Args:
        detector_margins: differentiable margins; the caller sets the modes of its network.
        step_size: in units of the budget; default 2.5 / steps.
        generator: source of the random starts.
    """
    if steps < 1 or ball.epsilon <= 0:
        return x.detach().clone()
    dtype = x.dtype
    clean = x.detach().double()
    low, high = compiled.limits(clean, ball)
    radius = step_radius(compiled, ball, clean)
    size = step_size if step_size is not None else 2.5 / steps
    jitter = torch.rand(clean.shape, generator=generator, dtype=torch.float64)
    begin = torch.rand((clean.shape[0], 1), generator=generator, dtype=torch.float64) < 0.5
    current = compiled.project(torch.where(begin, low + jitter * (high - low), clean), clean, ball)
    with torch.no_grad():
        best, worst = clean.clone(), detector_margins(clean.to(dtype)).double()
    for _ in range(steps):
        direction, values = descent_direction(detector_margins, compiled, ball, current.to(dtype))
        improved = values.double() < worst
        best = torch.where(improved[:, None], current, best)
        worst = torch.where(improved, values.double(), worst)
        current = compiled.project(current + size * radius * direction.double(), clean, ball)
    with torch.no_grad():
        improved = detector_margins(current.to(dtype)).double() < worst
    return torch.where(improved[:, None], current, best).to(dtype)
