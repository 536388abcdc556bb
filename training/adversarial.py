"""The attack inside the training loop, and the loss that it feeds.

Only malicious rows are attacked: evasion has one direction. What the attack may do comes from the feature space, never
from here. Where the raw objects exist (URLs) the attack edits objects and re-extracts their features; elsewhere it is
the feasible gradient attack of the evaluation, with the same projection as the search that judges the detector later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from domain.features import FeatureSpace, Level
from domain.monitor import ThreatSettings
from evaluation.attacks.inner import descent_direction, step_radius
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.rows import LabelledRows
from evaluation.urls.edits import propose_edits
from evaluation.urls.features import URL_FEATURES, extract
from training.data import encode, encoding_of

Margins = Callable[[Tensor], Tensor]
FIRST_STEP = 2.0  # in units of half the width of the box that the attacker may use
NEIGHBOURS = 4
NEIGHBOUR_POOL = 2_000
VARIANTS = 24
DEPTH_ROOTS = (1, 2, 2, 2)  # how many URLs are edited further at each depth
POOL_ROWS = 4_000


class Adversary(Protocol):
    """Worst feasible versions of malicious training rows."""

    def perturb(
        self, margins: Margins, positions: Tensor, x: Tensor, *, strength: float, steps: int, generator: torch.Generator
    ) -> Tensor:
        """Return attacked rows `(b, D)`.

        `positions` `(b,)` number the rows within the malicious rows of the adversary, `x` `(b, D)` are their clean
        encodings, `strength` in (0, 1] is the share of the budget that the warm-up allows.
        """
        ...


class FeatureAdversary:
    """Feasible gradient descent in model space, with the projection that the evaluation attacks with.

    Steps shrink from the whole budget to a part of it: whole numbers are truncated toward the clean value after each
    step, so that small steps alone never move them, and large steps alone only visit corners. With steps of one size a
    network learnt to withstand that size and fell to every other. Starts: clean rows, random ones, and rows toward the
    nearest benign rows.
    """

    def __init__(self, space: FeatureSpace, threat: ThreatSettings, malicious: Tensor, benign: Tensor) -> None:
        self.compiled = CompiledSpace(space, threat.level)
        self.threat = threat
        self.neighbours = _nearest(malicious, benign, self.compiled.movable)

    def perturb(
        self, margins: Margins, positions: Tensor, x: Tensor, *, strength: float, steps: int, generator: torch.Generator
    ) -> Tensor:
        """Return attacked rows `(b, D)`, projected and within `strength` times the budget."""
        ball = Ball(norm=self.threat.norm, epsilon=self.threat.epsilon * strength)
        clean = x.double()
        low, high = self.compiled.limits(clean, ball)
        radius = step_radius(self.compiled, ball, clean)
        current = self.compiled.project(self._start(positions, clean, low, high, generator), clean, ball)
        best, lowest = clean, torch.full((len(clean),), torch.inf, dtype=torch.float64)
        for step in range(steps + 1):
            direction, values = descent_direction(margins, self.compiled, ball, current)
            better = values < lowest
            best = torch.where(better[:, None], current, best)
            lowest = torch.where(better, values, lowest)
            if step < steps:
                size = FIRST_STEP * (1 - 0.9 * step / steps)
                current = self.compiled.project(current + size * radius * direction, clean, ball)
        return best.detach().to(x.dtype)

    def _start(self, positions: Tensor, clean: Tensor, low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
        kind = torch.rand((len(clean), 1), generator=generator)
        noise = torch.rand(clean.shape, generator=generator, dtype=torch.float64)
        random = low + noise * (high - low)
        pick = torch.randint(0, NEIGHBOURS, (len(clean),), generator=generator)
        toward = torch.minimum(torch.maximum(self.neighbours[positions, pick].double(), low), high)
        return torch.where(kind < 0.4, clean, torch.where(kind < 0.6, random, toward))


def _nearest(malicious: Tensor, benign: Tensor, movable: Tensor) -> Tensor:
    """Return `(n, NEIGHBOURS, D)`: for each malicious row the benign rows nearest where the attacker can move."""
    mask = movable.to(malicious.dtype)
    pool = benign[:NEIGHBOUR_POOL]
    count = min(NEIGHBOURS, len(pool))
    parts = [
        torch.cdist(chunk * mask, pool * mask).topk(count, dim=1, largest=False).indices
        for chunk in torch.split(malicious, 2048)
    ]
    found = torch.cat(parts)
    return pool[found[:, torch.arange(NEIGHBOURS) % count]]


class PoolAdversary:
    """Variants of each row's object, drawn once and encoded; the worst for the current network is chosen in each use.

    Attributes:
        variants: `(n, V, D)`; the first of each row is the row itself, then in order of the number of edits.
    """

    def __init__(self, variants: Tensor) -> None:
        self.variants = variants

    def perturb(
        self, margins: Margins, positions: Tensor, x: Tensor, *, strength: float, steps: int, generator: torch.Generator
    ) -> Tensor:
        """Return attacked rows `(b, D)`: the lowest margin among the first `strength` of the variants."""
        del steps, generator, x
        count = max(2, int(np.ceil(strength * self.variants.shape[1])))
        candidates = self.variants[positions, :count]
        with torch.no_grad():
            scores = margins(candidates.flatten(0, 1)).reshape(candidates.shape[:2])
        return candidates[torch.arange(len(candidates)), scores.argmin(dim=1)]


def edits_objects(space: FeatureSpace, rows: LabelledRows) -> bool:
    """Return whether the rows are URLs whose features this project extracts itself."""
    if rows.objects is None:
        return False
    return space.names == tuple(URL_FEATURES)


def build_adversary(
    space: FeatureSpace, threat: ThreatSettings, malicious: LabelledRows, benign: LabelledRows, seed: int
) -> Adversary:
    """Return the adversary that fits the rows: in object space where that is possible."""
    if edits_objects(space, malicious):
        return PoolAdversary(object_pool(space, malicious, threat.level, seed))
    return FeatureAdversary(space, threat, encode(space, malicious), encode(space, benign.benign))


def object_pool(
    space: FeatureSpace, malicious: LabelledRows, level: Level, seed: int, variants: int = VARIANTS
) -> Tensor:
    """Return `(n, variants + 1, D)` float32: each row and edited versions of its object, one to several edits deep.

    Rows beyond `POOL_ROWS` keep their clean features as only variant, so that the cost stays bounded.
    """
    encoding = encoding_of(space)
    clean = torch.as_tensor(encoding.encode(malicious.raw), dtype=torch.float32)
    pool = clean[:, None, :].repeat(1, variants + 1, 1)
    if malicious.objects is None:
        return pool
    rng = np.random.default_rng([seed, 211])
    rows = rng.permutation(len(malicious))[:POOL_ROWS]
    urls: list[str] = []
    for row in rows:
        urls.extend(_edited(str(malicious.objects[row]), variants, rng, level, propose_edits))
    if urls:
        encoded = torch.as_tensor(encoding.encode(np.asarray(extract(urls))), dtype=torch.float32)
        pool[torch.as_tensor(rows), 1:] = encoded.reshape(len(rows), variants, -1)
    return pool


def _edited(
    url: str,
    variants: int,
    rng: np.random.Generator,
    level: Level,
    propose: Callable[[str, np.random.Generator, Level], list[str]],
) -> list[str]:
    """Return `variants` edited versions in the order of their depth; a URL without any edit repeats itself."""
    found: list[str] = []
    roots, per_root = [url], -(-variants // len(DEPTH_ROOTS))
    for count in DEPTH_ROOTS:
        # Each proposal lists many edits at the price of one call: several variants grow from few roots.
        layer: list[str] = []
        for root in roots[:count]:
            proposals = propose(root, rng, level) or [root]
            picked = rng.permutation(len(proposals))[: -(-per_root // count)]
            layer.extend(proposals[int(index)] for index in picked)
        found.extend(layer)
        roots = [layer[int(index)] for index in rng.permutation(len(layer))]
    return (found * variants)[:variants]


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
