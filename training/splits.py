"""Splits that never tear a cluster apart."""

from __future__ import annotations

import math

import numpy as np

from domain.errors import NotEnoughRows
from evaluation.rows import LabelledRows


def split_by_cluster(rows: LabelledRows, shares: dict[str, float], seed: int) -> dict[str, LabelledRows]:
    """Return disjoint parts of about the given shares; all rows of a cluster land in one part.

    Clusters come in random order and each goes to the part that lacks most, counted per class, so that every part
    gets its share of benign and of malicious rows. A cluster larger than a part's share makes the part larger.

    Args:
        rows: what to split.
        shares: positive shares by name; they sum to one.
        seed: of the random order.

    Raises:
        ValueError: the shares are not positive or do not sum to one.
        NotEnoughRows: fewer clusters than parts.
    """
    if not shares or any(share <= 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1.0):
        raise ValueError(f"shares must be positive and sum to 1, got {shares}")
    _, cluster = np.unique(rows.cluster.astype(str), return_inverse=True)
    count = int(cluster.max(initial=-1)) + 1
    if count < len(shares):
        raise NotEnoughRows(f"{count} clusters cannot fill the {len(shares)} parts {sorted(shares)}")
    sizes = np.stack([np.bincount(cluster[rows.y == label], minlength=count) for label in (0, 1)], axis=1)
    wanted = np.array(list(shares.values()))
    totals = np.maximum(sizes.sum(axis=0), 1)
    # Deficits in units of each class's total, so that a rare class counts as much as a common one.
    deficit = np.outer(wanted, np.ones(2)).tolist()
    gain = (sizes / totals).tolist()
    part = np.empty(count, dtype=int)
    for index in np.random.default_rng([seed, 7]).permutation(count).tolist():
        benign, malicious = gain[index]
        lacks = [row[0] * benign + row[1] * malicious for row in deficit]
        best = lacks.index(max(lacks))
        deficit[best][0] -= benign
        deficit[best][1] -= malicious
        part[index] = best
    return {name: rows.take(np.flatnonzero(part[cluster] == index)) for index, name in enumerate(shares)}
