"""The inner attack where the raw objects exist: URLs are edited and their features extracted again.

Somebody could register and send each edited URL. Those that leave the attacker's budget, or change what he cannot
change, are left out all the same: training must meet the attacker that the evaluation measures, no stronger one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from domain.features import FeatureSpace, Level
from domain.monitor import ThreatSettings
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.rows import LabelledRows
from evaluation.urls.edits import propose_edits
from evaluation.urls.features import URL_FEATURES, extract

Margins = Callable[[Tensor], Tensor]
VARIANTS = 24
DEPTH_ROOTS = (1, 2, 2, 2)  # how many URLs are edited further at each depth
POOL_ROWS = 4_000


class PoolAdversary:
    """Variants of each row's object, drawn once and encoded; the worst for the current network is chosen in each use.

    Attributes:
        variants: `(n, V, D)`; the first of each row is the row itself, then in order of the number of edits.
    """

    def __init__(self, variants: Tensor) -> None:
        self.variants = variants
        self.memory = torch.empty(0)

    def reset(self) -> None:
        """Do nothing: the pool is all there is."""

    def perturb(
        self, margins: Margins, positions: Tensor, *, strength: float, steps: int, generator: torch.Generator
    ) -> Tensor:
        """Return attacked rows `(b, D)`: the lowest margin among the first `strength` of the variants."""
        del steps, generator
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


def object_pool(
    space: FeatureSpace, malicious: LabelledRows, threat: ThreatSettings, seed: int, variants: int = VARIANTS
) -> Tensor:
    """Return `(n, variants + 1, D)` float32: each row and edited versions of its object, one to several edits deep.

    A version that is not feasible for the attacker of `threat`, judged in float64, is replaced by the row itself. Rows
    beyond `POOL_ROWS` keep their clean features as only variant, so that the cost stays bounded.
    """
    compiled = CompiledSpace(space, threat.level)
    exact = compiled.encode(malicious.raw)
    clean = exact.float()
    pool = clean[:, None, :].repeat(1, variants + 1, 1)
    if malicious.objects is None:
        return pool
    rng = np.random.default_rng([seed, 211])
    rows = rng.permutation(len(malicious))[:POOL_ROWS]
    urls: list[str] = []
    for row in rows:
        urls.extend(_edited(str(malicious.objects[row]), variants, rng, threat.level, propose_edits))
    if urls:
        edited = compiled.encode(np.asarray(extract(urls)))
        origin = exact[torch.as_tensor(rows)].repeat_interleave(variants, dim=0)
        allowed = compiled.feasible(edited, origin, Ball(norm=threat.norm, epsilon=threat.epsilon))
        kept = torch.where(torch.as_tensor(allowed)[:, None], edited, origin)
        pool[torch.as_tensor(rows), 1:] = kept.float().reshape(len(rows), variants, -1)
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
