"""The poisoning screen before hardening: which labelled production rows may be learnt from.

The two directions of a false label are not alike:

- *malicious rows labelled benign* blind the detector, and raise its threshold. Such rows sit among trusted malicious
  rows: they are the ones that the screen looks for, and dropped.
- *malicious labels among benign rows* are what an evasion campaign looks like, and what hardening is for. Such rows are
  kept unless they equal a trusted benign row: then no detector could tell the two apart, and the label only costs
  false positives. What a flood of false malicious labels could do is bounded elsewhere, by the operating point (set on
  benign rows at the budget) and by the gate.

Neither the champion's verdicts nor the names of labellers are used: a champion that is evaded would acquit the evasion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domain.features import FeatureSpace
from evaluation.rows import LabelledRows
from training.calibration import operating_point
from training.data import encode

NEIGHBOURS = 5
TRUSTED_PER_CLASS = 5_000
NATURAL_SHARE = 0.005
SCALE_FLOOR = 0.05
SAME_DISTANCE = 1e-6
FLOOD_GRID = 0.01
FLOOD_SHARE = 0.02
FLOOD_ROWS = 20
TAINTED_CLUSTER_ROWS = 4
NOVELTY_FACTOR = 3.0


@dataclass(frozen=True)
class ScreenResult:
    """What the screen found among n recent rows.

    Attributes:
        kept: rows that may be learnt from, `(n,)`: trusted, and within the cap on near-duplicates.
        trusted: rows that are not suspicious, `(n,)`. Thresholds are set on them: near-duplicates are traffic like
            any other there, and without them a rate would come out too low.
        suspicious: rows that look like false labels, `(n,)`; neither kept nor trusted.
        dropped_share: share of rows that are not kept, suspicious or beyond the cap on near-duplicates.
        refused: the suspicious share of the mass exceeds the limit; nothing of the batch may be learnt from.
        reason: in words, with the numbers.
    """

    kept: NDArray[np.bool_]
    trusted: NDArray[np.bool_]
    dropped_share: float
    suspicious: NDArray[np.bool_]
    refused: bool
    reason: str


def screen(
    recent: LabelledRows,
    trusted: LabelledRows,
    *,
    max_share: float,
    seed: int,
    space: FeatureSpace | None = None,
    weights: NDArray[np.float64] | None = None,
) -> ScreenResult:
    """Return which of the recent rows may be learnt from.

    A benign label is suspicious where its row lies deeper among trusted malicious rows than all but 0.5 % of the
    trusted benign rows do; the measure is the ratio of the distances to the k-th nearest trusted row of each class. A
    cluster most of whose benign labels are suspicious loses all of them. Near-duplicates beyond a cap are dropped, at
    random and without suspicion.

    Args:
        recent: labelled production rows.
        trusted: rows whose labels are beyond doubt: training data of the bootstrap.
        max_share: suspicious share of the mass above which the batch is refused.
        seed: of the samples.
        space: encodes the rows; without it columns are taken as numbers, on a logarithmic scale.
        weights: inverse inclusion probabilities `(n,)`. Alerts are always labelled, other rows by audit only: counted
            by rows, benign traffic that drifted into alerts would look like poison. A row of weight 0, which nobody
            drew, stands for itself.
    """
    n = len(recent)
    if n == 0:
        nothing = np.zeros(0, dtype=bool)
        return ScreenResult(nothing, nothing, 0.0, nothing, refused=False, reason="no rows")
    rng = np.random.default_rng([seed, 401])
    benign = _sample(trusted.benign, rng)
    malicious = _sample(trusted.malicious, rng)
    encoded = [_positions(space, rows) for rows in (recent, benign, malicious)]
    scale = torch.cat(encoded[1:]).std(dim=0, unbiased=False).clamp_min(SCALE_FLOOR)
    x, b, m = (part / scale for part in encoded)
    suspicious = np.zeros(n, dtype=bool)
    contradictory = np.zeros(n, dtype=bool)
    if len(b) > NEIGHBOURS and len(m) > NEIGHBOURS:
        suspicious = _false_benign(recent, x, b, m)
        contradictory = _contradictory(recent, trusted)
    tainted = suspicious | contradictory
    kept = ~tainted & ~_flood(recent, encoded[0], rng)
    mass = np.ones(n) if weights is None else np.where(weights > 0, weights, 1.0)
    share = float(mass[tainted].sum() / mass.sum())
    reason = (
        f"{int(suspicious.sum())} of {n} rows are labelled benign among trusted malicious rows, "
        f"{int(contradictory.sum())} are labelled malicious but equal trusted benign rows, "
        f"{int((~kept & ~tainted).sum())} are near-duplicates beyond the cap"
    )
    if share > max_share:
        reason = (
            f"refused: {share:.1%} of the batch, by what its rows stand for, is suspicious, "
            f"the limit is {max_share:.1%}; {reason}"
        )
    return ScreenResult(kept, ~tainted, float((~kept).mean()), tainted, refused=share > max_share, reason=reason)


def _contradictory(recent: LabelledRows, trusted: LabelledRows) -> NDArray[np.bool_]:
    """Return the malicious labels on rows that equal a trusted benign row and no trusted malicious one, `(n,)`."""
    n = len(recent)
    _, name = np.unique(np.concatenate([recent.raw, trusted.raw]), axis=0, return_inverse=True)
    benign, malicious = (np.isin(name[:n], name[n:][trusted.y == label]) for label in (0, 1))
    result: NDArray[np.bool_] = (recent.y == 1) & benign & ~malicious
    return result


def _false_benign(recent: LabelledRows, x: Tensor, benign: Tensor, malicious: Tensor) -> NDArray[np.bool_]:
    """Return the benign labels deep among trusted malicious rows, `(n,)`."""
    # A trusted benign row is its own nearest neighbour: skip it.
    natural = _depth(_distance(benign, benign, NEIGHBOURS + 1), _distance(benign, malicious, NEIGHBOURS))
    cut = max(0.0, operating_point(natural, NATURAL_SHARE))
    to_malicious = _distance(x, malicious, NEIGHBOURS)
    depth = _depth(_distance(x, benign, NEIGHBOURS), to_malicious)
    # Far from all trusted rows the ratio says nothing: new benign traffic is not poison.
    reach = NOVELTY_FACTOR * float(np.quantile(_distance(malicious, malicious, NEIGHBOURS + 1), 0.95))
    flagged = (recent.y == 0) & (depth >= cut) & (to_malicious <= max(reach, SAME_DISTANCE))
    _, cluster = np.unique(recent.cluster.astype(str), return_inverse=True)
    labelled = np.bincount(cluster[recent.y == 0], minlength=int(cluster.max()) + 1)
    doubtful = np.bincount(cluster[flagged], minlength=len(labelled))
    tainted = (labelled >= TAINTED_CLUSTER_ROWS) & (doubtful > labelled / 2)
    result: NDArray[np.bool_] = flagged | ((recent.y == 0) & tainted[cluster])
    return result


def _depth(to_benign: NDArray[np.float64], to_malicious: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log of the ratio of distances: positive where the malicious rows are nearer."""
    ratio: NDArray[np.float64] = np.log((to_benign + SAME_DISTANCE) / (to_malicious + SAME_DISTANCE))
    return ratio


def _distance(x: Tensor, y: Tensor, k: int) -> NDArray[np.float64]:
    """Return the distance of each row of `x` to its k-th nearest row of `y`, `(n,)`."""
    parts = [torch.cdist(chunk, y).kthvalue(k, dim=1).values for chunk in torch.split(x, 1024)]
    return np.asarray(torch.cat(parts).double().numpy())


def _sample(rows: LabelledRows, rng: np.random.Generator) -> LabelledRows:
    """Return at most `TRUSTED_PER_CLASS` distinct rows: copies would be each other's neighbours."""
    _, first = np.unique(rows.raw, axis=0, return_index=True)
    if len(first) > TRUSTED_PER_CLASS:
        first = rng.choice(first, TRUSTED_PER_CLASS, replace=False)
    return rows.take(np.sort(first))


def _positions(space: FeatureSpace | None, rows: LabelledRows) -> Tensor:
    if space is not None:
        return torch.nan_to_num(encode(space, rows))
    raw = np.nan_to_num(rows.raw)
    return torch.as_tensor(np.sign(raw) * np.log1p(np.abs(raw)), dtype=torch.float32)


def _flood(recent: LabelledRows, x: Tensor, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return rows beyond the cap of their cell of a fine grid, per label; chosen at random."""
    n = len(recent)
    cap = max(FLOOD_ROWS, int(FLOOD_SHARE * n))
    cells = np.concatenate([np.round(x.numpy() / FLOOD_GRID), recent.y[:, None]], axis=1)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    order = rng.permutation(n)
    ranked = order[np.argsort(cell[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(cell))[:-1]])
    place = np.empty(n, dtype=int)
    place[ranked] = np.arange(n) - starts[cell[ranked]]
    result: NDArray[np.bool_] = place >= cap
    return result
