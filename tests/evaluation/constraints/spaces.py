"""Random feature spaces with relations, and clean rows that keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from domain.features import FeatureSpace
from evaluation.constraints.ball import Ball

DIRECTIONS = ("fixed", "increase-only", "decrease-only", "free")


def feature(name: str, kind: str, move: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "mutability": move, "reason": "because", **more}


def make_space(moves: tuple[str, ...], costs: tuple[float, ...] = (1.0,) * 8) -> FeatureSpace:
    """Return a space of integers, reals, a flag and a category, tied by every shape of relation."""
    numeric = [
        feature("sent", "integer", moves[0], high=5000, transform="log1p", cost=costs[0]),
        feature("packets", "integer", moves[1], high=300, cost=costs[1]),
        feature("received", "integer", moves[2], high=5000, transform="log1p", cost=costs[2]),
        feature("total", "integer", moves[3], high=10000, transform="log1p", cost=costs[3]),
        feature("entropy", "real", moves[4], high=8, cost=costs[4]),
        feature("weight", "real", moves[5], high=80000, transform="log1p", cost=costs[5]),
        feature("encrypted", "binary", moves[6], cost=costs[6]),
    ]
    category = feature(
        "protocol", "categorical", "free" if moves[7] != "fixed" else "fixed", categories=["tcp", "udp", "icmp"]
    )
    return FeatureSpace(
        version=1,
        name="random-space",
        features=(*numeric, {**category, "cost": costs[7]}),
        relations=(
            "total = sent + received",
            "weight = entropy * (sent + received)",
            "sent / packets <= 1500",
            "encrypted > 0 => entropy > 0",
            "packets <= sent",
            "received > 100 => sent > 0",
        ),
    )


def clean_rows(seed: int, n: int) -> np.ndarray:
    """Return `(n, 8)` raw rows that keep all relations of `make_space`."""
    rng = np.random.default_rng(seed)
    sent = rng.integers(1, 5000, n)
    packets = np.minimum(np.maximum(rng.integers(1, 300, n), np.ceil(sent / 1500)), sent)
    received = rng.integers(0, 5000, n)
    entropy = rng.uniform(0.01, 8, n)
    total = sent + received
    flag, protocol = rng.integers(0, 2, n), rng.integers(0, 3, n)
    return np.stack([sent, packets, received, total, entropy, entropy * total, flag, protocol], axis=1).astype(float)


moves = st.tuples(*[st.sampled_from(DIRECTIONS)] * 8)
costs = st.tuples(*[st.sampled_from([0.05, 0.5, 1.0, 3.0])] * 8)
balls = st.builds(Ball, st.sampled_from(["linf", "l2"]), st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 2.0]))
