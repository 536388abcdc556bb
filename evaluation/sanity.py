"""Sanity flags: reasons not to believe a robustness number. A raised flag makes the report unreliable.

The numbers F1 to F9 follow the checks of Croce and Hein, "Reliable evaluation of adversarial robustness", 2020, and of
Carlini et al., "On evaluating adversarial robustness", 2019, turned into limits on shares of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from domain.reports import SanityFlag
from evaluation.attacks.cascade import Broken, Target, run_cascade, stage_generator
from evaluation.attacks.feasible_descent import FROM_CLEAN, FeasibleDescent
from evaluation.attacks.problem import CountingMargins
from evaluation.constraints.ball import Ball

RANDOM_LIMIT = 1e-4
GRADIENT_LIMIT = 0.01
BLACK_BOX_LIMIT = 0.25  # whole numbers and relations alone open a gap of up to 0.15 for healthy detectors in l2
MONOTONE_LIMIT = 0.02
HUGE_LIMIT = 0.1
BALL_GROWTH = (2.0, 4.0, 8.0, None)  # times the budget; None is without limit
NOISE_LIMIT = 0.02
SATURATED_MARGIN = 30.0
SATURATED_LIMIT = 0.2
NOISE_DRAWS = 8
PASSES = 3
WITNESSES, MIN_WITNESSES = 100, 5
PROBE_ROWS, PROBE_STEPS = 200, 30


@dataclass(frozen=True)
class Outcome:
    """What the cascade at the threat's budget left behind, for the flags that compare attacks.

    Attributes:
        detected: clean detection `(n,)`; broken: state after the cascade.
        from_below: rows `(n,)` that only an attack with a smaller budget broke.
        white_box: gradients were used.
        complete: no attack was left out for lack of time.
    """

    detected: NDArray[np.bool_]
    broken: Broken
    from_below: NDArray[np.bool_]
    white_box: bool
    complete: bool


def _flag(name: str, value: float | None, limit: float, meaning: str) -> SanityFlag:
    return SanityFlag(name=name, raised=value is not None and value > limit, value=value, limit=limit, meaning=meaning)


def random_outputs(target: Target) -> SanityFlag:
    """Raised where the same rows get different margins in repeated passes (F1)."""
    with torch.no_grad():
        passes = torch.stack([target.detector.margins(target.x) for _ in range(PASSES)])
    spread = float(torch.nan_to_num(passes.max(dim=0).values - passes.min(dim=0).values, nan=torch.inf).max())
    return _flag("random-outputs", min(spread, 1e30), RANDOM_LIMIT, "the detector gives different scores for one row")


def dead_gradients(target: Target) -> SanityFlag:
    """Raised where gradients are zero or not a number (F2): gradient attacks walk blind."""
    point = target.x.detach().clone().requires_grad_()
    with torch.enable_grad():
        margins = target.detector.margins(point)
        gradient = torch.autograd.grad(margins.sum(), point)[0] if margins.requires_grad else torch.zeros_like(point)
    dead = ~torch.isfinite(gradient).all(dim=1) | (gradient.abs().sum(dim=1) == 0)
    return _flag(
        "dead-gradients", float(dead.double().mean()), GRADIENT_LIMIT, "rows whose gradient is zero or not a number"
    )


def saturated_outputs(target: Target) -> SanityFlag:
    """Raised where margins are extreme or look like probabilities instead of logits (F9)."""
    with torch.no_grad():
        rows = torch.cat([target.x, target.benign])
        margins = target.detector.margins(rows)
    logits = margins + target.detector.threshold
    low, high = float(logits.min()), float(logits.max())
    probabilities = low >= 0 and high <= 1 and low < 0.05 and high > 0.95
    share = 1.0 if probabilities else float((margins.abs() > SATURATED_MARGIN).double().mean())
    return _flag(
        "saturated-outputs", share, SATURATED_LIMIT, "rows with extreme margins, or scores that are probabilities"
    )


@dataclass(frozen=True)
class Probe:
    """Rows that were detected, and which of them plain gradients broke, `(k,)`.

    The probe walks from the clean row alone: the attacks of a suite also start at random and toward benign rows, and
    what such a start breaks says nothing about the gradients.
    """

    rows: NDArray[np.intp]
    broken: NDArray[np.bool_]


def gradient_probe(target: Target, rows: NDArray[np.intp], ball: Ball, seed: int) -> Probe:
    """Return what gradient descent from the clean rows breaks within `ball`."""
    state = Broken.none_of(target)
    run_cascade(target, [FeasibleDescent(steps=PROBE_STEPS, restarts=FROM_CLEAN)], ball, rows, state, seed=seed)
    return Probe(rows, state.mask[rows])


def _standard_error(share: float, n: int) -> float:
    return float(np.sqrt(share * (1 - share) / n))


def black_box_beats_gradient(outcome: Outcome, probe: Probe) -> SanityFlag:
    """Raised where the suite, with its search without gradients, breaks far more than gradients do (F3)."""
    name, meaning = "black-box-beats-gradient", "rows that searches and starts broke beyond plain gradients"
    if probe.rows.size == 0:
        return _flag(name, None, BLACK_BOX_LIMIT, meaning)
    share = float((outcome.broken.mask[probe.rows] & ~probe.broken).mean())
    return _flag(name, share, max(BLACK_BOX_LIMIT, 2 * _standard_error(share, probe.rows.size)), meaning)


def noise_beats_gradient(target: Target, probe: Probe, ball: Ball, seed: int) -> SanityFlag:
    """Raised where random corners of the ball break more rows than plain gradients do (F8)."""
    name, meaning = "noise-beats-gradient", "rows that random noise broke beyond plain gradients, minus the reverse"
    rows = probe.rows
    if rows.size == 0:
        return _flag(name, None, NOISE_LIMIT, meaning)
    generator = stage_generator(seed, ball.epsilon, "noise")
    problem = target.problem(rows, ball, CountingMargins(target.detector.margins))
    low, high = target.compiled.limits(problem.x, ball)
    noisy = np.zeros(rows.size, dtype=bool)
    for _ in range(NOISE_DRAWS):
        corner = torch.where(torch.rand(low.shape, generator=generator) < 0.5, low, high)
        noisy |= problem.evaded(target.compiled.project(corner, problem.x, ball))
    share = float(noisy.mean())
    limit = max(NOISE_LIMIT, 2 * _standard_error(share, rows.size))
    return _flag(name, share - float(probe.broken.mean()), limit, meaning)


def not_monotone(outcome: Outcome) -> SanityFlag:
    """Raised where a smaller budget broke rows that the full suite did not (F5): the suite is too weak."""
    share = float((outcome.from_below & outcome.detected).sum()) / max(1, int(outcome.detected.sum()))
    return _flag("not-monotone", share, MONOTONE_LIMIT, "rows broken at a smaller budget but not at the full one")


def huge_budget_fails(target: Target, outcome: Outcome, ball: Ball, seed: int) -> SanityFlag:
    """Raised where gradients with an unlimited budget cannot break rows that a copied benign row does break (F4)."""
    name, meaning = "huge-budget-fails", "rows known to be breakable that gradients leave with an unlimited budget"
    rows = np.flatnonzero(outcome.detected)[:WITNESSES]
    if rows.size == 0 or target.benign.shape[0] == 0:
        return _flag(name, None, HUGE_LIMIT, meaning)
    width = target.x.shape[1]
    reach = float(target.compiled.cost.max()) * (1.0 if ball.norm == "linf" else float(np.sqrt(width)))
    huge = Ball(ball.norm, max(reach, ball.epsilon) * 2)
    problem = target.problem(rows, huge, CountingMargins(target.detector.margins))
    order = torch.cdist(problem.x, target.benign).argsort(dim=1)
    witnessed = np.zeros(rows.size, dtype=bool)
    for rank in np.unique(np.linspace(0, target.benign.shape[0] - 1, 8).astype(int)):
        copied = target.compiled.project(target.benign[order[:, rank]], problem.x, huge)
        witnessed |= problem.evaded(copied)
    if witnessed.sum() < MIN_WITNESSES:
        return _flag(name, None, HUGE_LIMIT, meaning)
    # Steps scale with the ball: in an endless one they leap over every valley, so that smaller balls, which an
    # unlimited attacker has as well, are tried first.
    left = rows[witnessed]
    for growth in BALL_GROWTH:
        walked = huge if growth is None else Ball(ball.norm, min(growth * ball.epsilon, huge.epsilon))
        left = left[~gradient_probe(target, left, walked, seed).broken]
        if left.size == 0:
            break
    share = left.size / int(witnessed.sum())
    return _flag(name, share, HUGE_LIMIT + 2 * _standard_error(share, int(witnessed.sum())), meaning)


def incomplete(outcome: Outcome) -> SanityFlag:
    """Raised where time ran out before all attacks had run."""
    value = 0.0 if outcome.complete else 1.0
    return _flag("incomplete", value, 0.0, "time ran out before every attack of the suite had run")


def sanity_flags(target: Target, outcome: Outcome, ball: Ball, seed: int) -> tuple[SanityFlag, ...]:
    """Return all flags, raised or not."""
    flags = [random_outputs(target), saturated_outputs(target), not_monotone(outcome), incomplete(outcome)]
    if outcome.white_box:
        probe = gradient_probe(target, np.flatnonzero(outcome.detected)[:PROBE_ROWS], ball, seed)
        flags += [
            dead_gradients(target),
            black_box_beats_gradient(outcome, probe),
            noise_beats_gradient(target, probe, ball, seed),
            huge_budget_fails(target, outcome, ball, seed),
        ]
    return tuple(flags)
