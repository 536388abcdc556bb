"""The cascade: attacks in order on the rows still unbroken; a row leaves at its first verified success."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domain.digests import digest_json
from evaluation.attacks.problem import Attack, AttackProblem, Candidates, CountingMargins, TwoLogitView
from evaluation.attacks.url_search import features_of
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.detectors.detector import Detector

Clock = Callable[[], float]


@dataclass(frozen=True)
class Stage:
    """What one attack did at one budget: rows it met, rows it broke (positions), refused claims, cost."""

    attack: Attack
    rows: int
    broken: NDArray[np.intp]
    rejected: int
    cpu_seconds: float
    queries: int


@dataclass
class Target:
    """A detector with the malicious rows to be attacked, in both forms, and the benign rows for starts.

    Attributes:
        raw: clean rows `(n, d)`; x: the same `(n, D)` in model space.
        objects: raw objects `(n,)`, or None.
    """

    detector: Detector
    compiled: CompiledSpace
    raw: NDArray[np.float64]
    x: torch.Tensor
    benign: torch.Tensor
    objects: NDArray[Any] | None = None

    def problem(self, rows: NDArray[np.intp], ball: Ball, counter: CountingMargins) -> AttackProblem:
        """Return the problem of attacking `rows` (positions) within `ball`."""
        return AttackProblem(
            margins=counter, compiled=self.compiled, ball=ball, x=self.x[rows], benign=self.benign,
            network=TwoLogitView(self.detector.network, counter),
            objects=None if self.objects is None else self.objects[rows],
        )  # fmt: skip

    def verify(
        self, candidates: Candidates, rows: NDArray[np.intp], ball: Ball
    ) -> tuple[NDArray[np.bool_], torch.Tensor, NDArray[np.float64]]:
        """Return (verified, margins, raw) for one proposal per row: the one judgement that counts.

        A claim is a proposal with a margin below zero. It is verified when its decoded raw row, scored as a deployed
        detector scores it, is below the operating point too and is feasible in float64.
        """
        x = candidates.x.detach().double()
        if candidates.objects is not None:  # what counts is what the object really is, not what the attack says it is
            x = self.compiled.encode(features_of(candidates.objects))
        raw = self.compiled.decode(x)
        with torch.no_grad():
            margins = self.detector.margins(x).double()
        evades = self.detector.score_raw(raw).logit < self.detector.threshold
        verified = (margins < 0).numpy() & evades
        if hits := verified.nonzero()[0].tolist():
            verified[hits] = self.compiled.feasible(x[hits], self.x[rows[hits]], ball)
        return verified, margins, raw


@dataclass
class Broken:
    """Which rows are broken at one budget, and into what.

    Attributes:
        mask: `(n,)`.
        raw: adversarial raw rows `(n, d)`, the clean row where nothing broke it.
        objects: adversarial objects `(n,)`, or None.
    """

    mask: NDArray[np.bool_]
    raw: NDArray[np.float64]
    objects: NDArray[Any] | None

    @classmethod
    def none_of(cls, target: Target) -> Broken:
        """Nothing is broken yet."""
        n = target.raw.shape[0]
        objects = None if target.objects is None else target.objects.copy()
        return cls(np.zeros(n, dtype=bool), target.raw.copy(), objects)


def stage_generator(seed: int, epsilon: float, name: str) -> torch.Generator:
    """Return a generator that depends on seed, budget and attack alone, not on what ran before."""
    state = int(digest_json([seed, float(epsilon), name])[:15], 16)
    return torch.Generator().manual_seed(state)


def run_cascade(
    target: Target,
    attacks: Sequence[Attack],
    ball: Ball,
    rows: NDArray[np.intp],
    broken: Broken,
    *,
    seed: int,
    clock: Clock = time.process_time,
    deadline: float = np.inf,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[list[Stage], bool]:
    """Attack `rows` (positions) in order, mark what breaks in `broken`, and return (stages, ran to the end).

    No attack starts after `deadline` on `clock`; an attack that has begun is never cut short.
    """
    stages: list[Stage] = []
    alive = rows[~broken.mask[rows]]
    ends, lowest = target.x[alive].clone(), torch.full((alive.size,), torch.inf, dtype=torch.float64)
    for position, attack in enumerate(attacks):
        if alive.size and clock() > deadline:
            return stages, False
        begin, counter = clock(), CountingMargins(target.detector.margins)
        if not alive.size:
            stages.append(Stage(attack, 0, np.empty(0, dtype=np.intp), 0, 0.0, 0))
            continue
        problem = target.problem(alive, ball, counter)
        problem.starts = ends if position else None
        candidates = attack.run(problem, stage_generator(seed, ball.epsilon, attack.name))
        verified, margins, raw = target.verify(candidates, alive, ball)
        won = alive[verified]
        broken.mask[won] = True
        broken.raw[won] = raw[verified]
        if broken.objects is not None and candidates.objects is not None:
            broken.objects[won] = candidates.objects[verified]
        refused = int(((margins < 0).numpy() & ~verified).sum())
        stages.append(Stage(attack, alive.size, won, refused, clock() - begin, counter.queries))
        better, left = margins < lowest, torch.as_tensor(~verified)
        ends = torch.where(better[:, None], candidates.x.detach().double(), ends)[left]
        lowest, alive = torch.minimum(margins, lowest)[left], alive[~verified]
        if progress is not None:
            progress(f"{attack.name} at {ball.epsilon:g}: {won.size} broken", (position + 1) / len(attacks))
    return stages, True
