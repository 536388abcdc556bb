"""The attack inside the training loop, and the loss that it feeds.

Only malicious rows are attacked: evasion has one direction. What the attack may do comes from the feature space, never
from here. Where the raw objects exist (URLs) the attack edits objects and re-extracts their features; elsewhere it is
the feasible gradient attack of the evaluation, with the same projection as the search that judges the detector later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from domain.features import FeatureSpace
from domain.monitor import ThreatSettings
from evaluation.attacks.inner import descent_direction, step_radius
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.rows import LabelledRows
from training.objects import Margins, PoolAdversary, edits_objects, object_pool

FIRST_STEP = 2.0  # in units of half the width of the box that the attacker may use
NEIGHBOURS = 4
NEIGHBOUR_POOL = 2_000
GENERATIONS = 1
CHILDREN = 4
PROJECTED_ROWS = 256
MUTATION_RATES = torch.tensor([1.0, 3.0, 10.0])  # expected number of changed columns


class Adversary(Protocol):
    """Worst feasible versions of malicious training rows.

    Attributes:
        memory: what the attack keeps from epoch to epoch, part of a checkpoint; may be empty.
    """

    memory: Tensor

    def reset(self) -> None:
        """Forget what was kept."""
        ...

    def perturb(
        self, margins: Margins, positions: Tensor, *, strength: float, steps: int, generator: torch.Generator
    ) -> Tensor:
        """Return attacked rows `(b, D)`.

        `positions` `(b,)` number the rows within the malicious rows of the adversary, `strength` in (0, 1] is the share
        of the budget that the warm-up allows.
        """
        ...


class FeatureAdversary:
    """Feasible gradient descent in model space, with the projection that the evaluation attacks with.

    Steps shrink from the whole budget to a part of it: whole numbers are truncated toward the clean value after each
    step, so that small steps alone never move them, and large steps alone only visit corners. With steps of one size a
    network learnt to withstand that size and fell to every other. Starts: clean rows, random ones, and rows toward the
    nearest benign rows.
    """

    def __init__(
        self, space: FeatureSpace, threat: ThreatSettings, malicious: LabelledRows, benign: LabelledRows
    ) -> None:
        self.compiled = CompiledSpace(space, threat.level)
        self.threat = threat
        # float64: a clean value that is off by a rounding error loses a whole unit to the truncation.
        self.clean = self.compiled.encode(malicious.raw)
        benign_rows = self.compiled.encode(benign.raw[:NEIGHBOUR_POOL])
        self.neighbours = _nearest(self.clean.float(), benign_rows.float(), self.compiled.movable)
        self.memory = self.clean.float()

    def reset(self) -> None:
        """Forget where earlier attacks ended."""
        self.memory = self.clean.float()

    def perturb(
        self, margins: Margins, positions: Tensor, *, strength: float, steps: int, generator: torch.Generator
    ) -> Tensor:
        """Return attacked rows `(b, D)`, projected and within `strength` times the budget."""
        ball = Ball(norm=self.threat.norm, epsilon=self.threat.epsilon * strength)
        clean = self.clean[positions]
        low, high = self.compiled.limits(clean, ball)
        radius = step_radius(self.compiled, ball, clean)
        current = self._project(self._start(positions, clean, low, high, generator), clean, ball)
        best, lowest = clean, torch.full((len(clean),), torch.inf, dtype=torch.float64)
        for step in range(steps + 1):
            direction, values = descent_direction(margins, self.compiled, ball, current)
            better = values < lowest
            best = torch.where(better[:, None], current, best)
            lowest = torch.where(better, values, lowest)
            if step < steps:
                size = FIRST_STEP * (1 - 0.9 * step / steps)
                current = self._project(current + size * radius * direction, clean, ball)
        for _ in range(GENERATIONS):
            best, lowest = self._mutate(margins, positions, best, lowest, (clean, low, high), ball, generator)
        self.memory[positions] = best.detach().to(self.memory.dtype)
        return best.detach().float()

    def _start(self, positions: Tensor, clean: Tensor, low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
        """Return where the descent begins `(b, D)`: clean, random, toward benign rows, or where it ended last time."""
        kind = torch.rand((len(clean), 1), generator=generator)
        noise = torch.rand(clean.shape, generator=generator, dtype=torch.float64)
        toward, last = self._toward(positions, generator), self.memory[positions].double()
        start = torch.where(kind < 0.5, toward, last)
        start = torch.minimum(torch.maximum(start, low), high)
        return torch.where(kind < 0.2, clean, torch.where(kind < 0.3, low + noise * (high - low), start))

    def _project(self, x: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        """Return the projection in chunks that stay in the processor's cache: measured, a quarter of the time."""
        parts = zip(torch.split(x, PROJECTED_ROWS), torch.split(clean, PROJECTED_ROWS), strict=True)
        return torch.cat([self.compiled.project(part, origin, ball) for part, origin in parts])

    def _toward(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        pick = torch.randint(0, NEIGHBOURS, (len(positions),), generator=generator)
        return self.neighbours[positions, pick].double()

    def _mutate(
        self,
        margins: Margins,
        positions: Tensor,
        best: Tensor,
        lowest: Tensor,
        box: tuple[Tensor, Tensor, Tensor],
        ball: Ball,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return the better of each row and its children, which differ in few columns: what gradients cannot see.

        A child takes columns from where the attack ended last time, from a benign neighbour, from the corners of the
        box or from the clean row.
        """
        count, width = best.shape
        wide = positions.repeat_interleave(CHILDREN)
        clean, low, high = (part.repeat_interleave(CHILDREN, dim=0) for part in box)
        parent = best.repeat_interleave(CHILDREN, dim=0)
        donor = torch.where(
            torch.rand((len(wide), 1), generator=generator) < 0.5,
            self.memory[wide].double(),
            self._toward(wide, generator),
        )
        draw = torch.rand((3, len(wide), width), generator=generator)
        corner = torch.where(draw[1] < 0.5, low, high)
        source = torch.where(draw[2] < 0.4, corner, torch.where(draw[2] < 0.75, donor, clean))
        rate = MUTATION_RATES[torch.randint(0, len(MUTATION_RATES), (len(wide), 1), generator=generator)]
        movable = max(1, int(self.compiled.movable.sum()))
        child = torch.where(draw[0] < rate / movable, source, parent)
        child = self._project(torch.minimum(torch.maximum(child, low), high), clean, ball)
        with torch.no_grad():
            values = margins(child).double().reshape(count, CHILDREN)
        value, index = values.min(dim=1)
        better = value < lowest
        chosen = child.reshape(count, CHILDREN, width)[torch.arange(count), index]
        return torch.where(better[:, None], chosen, best), torch.where(better, value, lowest)


def _nearest(malicious: Tensor, benign: Tensor, movable: Tensor) -> Tensor:
    """Return `(n, NEIGHBOURS, D)`: for each malicious row the benign rows nearest where the attacker can move."""
    mask = movable.to(malicious.dtype)
    count = min(NEIGHBOURS, len(benign))
    parts = [
        torch.cdist(chunk * mask, benign * mask).topk(count, dim=1, largest=False).indices
        for chunk in torch.split(malicious, 2048)
    ]
    found = torch.cat(parts)
    return benign[found[:, torch.arange(NEIGHBOURS) % count]]


def build_adversary(
    space: FeatureSpace, threat: ThreatSettings, malicious: LabelledRows, benign: LabelledRows, seed: int
) -> Adversary:
    """Return the adversary that fits the rows: in object space where that is possible."""
    if edits_objects(space, malicious):
        return PoolAdversary(object_pool(space, malicious, threat, seed))
    return FeatureAdversary(space, threat, malicious, benign.benign)


@dataclass(frozen=True)
class Schedule:
    """How the attack grows over the epochs: the budget warms up, then the steps.

    Madry et al., "Towards deep learning models resistant to adversarial attacks" (2018), with a warm-up against
    catastrophic overfitting as in Wong et al., "Fast is better than free" (2020).
    """

    epochs: int
    steps: int
    warm_up: float = 0.3

    def strength(self, epoch: int) -> float:
        """Return the share of the budget that epoch `epoch` (from 0) may use, in (0, 1]."""
        return min(1.0, (epoch + 1) / max(1.0, self.warm_up * self.epochs))

    def attack_steps(self, epoch: int) -> int:
        """Return the steps of the inner attack: few at first, all of them in the last half."""
        return self.steps if 2 * epoch >= self.epochs else max(1, min(self.steps, 3))


def balanced_loss(logits: Tensor, y: Tensor, weight: Tensor, attacked: Tensor | None, beta: float) -> Tensor:
    """Return the loss of one batch.

    `weight` `(b,)` gives both classes equal mass; `attacked` holds the logits of the attacked malicious rows in the
    order of the batch. Loss = benign + (1 - beta) * clean malicious + beta * attacked malicious.
    """
    clean = functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    if attacked is None:
        return (clean * weight).sum() / weight.sum()
    malicious = y > 0.5
    under_attack = functional.softplus(-attacked)
    mixed = clean.clone()
    mixed[malicious] = (1 - beta) * clean[malicious] + beta * under_attack
    return (mixed * weight).sum() / weight.sum()


def class_weights(y: NDArray[np.int8], weights: NDArray[np.float64] | None = None) -> Tensor:
    """Return row weights `(n,)` float32 of mean one in which both classes have the same mass."""
    base = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    balanced = base.copy()
    for label in (0, 1):
        chosen = y == label
        balanced[chosen] *= 0.5 * len(y) / base[chosen].sum()
    return torch.as_tensor(balanced, dtype=torch.float32)
