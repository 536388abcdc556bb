"""Small worlds with a known answer: an attacker who can only raise `bytes`, and a feature he cannot move."""

from __future__ import annotations

import numpy as np

from domain.features import Feature, FeatureSpace
from domain.monitor import HardeningSettings
from evaluation.rows import LabelledRows
from training.data import TrainingData
from training.splits import split_by_cluster

SPACE = FeatureSpace(
    version=1,
    name="two-signals",
    features=(
        Feature(name="bytes", kind="real", low=0.0, high=1.0, mutability="increase-only", reason="padding only adds"),
        Feature(name="ports", kind="real", low=0.0, high=1.0, mutability="fixed", reason="answered by the server"),
        Feature(name="noise", kind="integer", low=0.0, high=10.0, mutability="free"),
        Feature(name="proto", kind="categorical", categories=("tcp", "udp"), mutability="fixed", reason="a protocol"),
    ),
)
RECIPE = HardeningSettings(epochs=6, batch_size=64, hidden=(16,), attack_steps=3, learning_rate=5e-3, max_rows=5000)


def world(n: int, seed: int, *, shift: float = 0.0) -> LabelledRows:
    """Return n rows: `bytes` separates well but is movable, `ports` separates a little less and is not.

    `shift` raises `bytes` of the malicious rows: what a campaign of padding does.
    """
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(np.int8)
    raw = np.stack(
        [
            np.where(y == 1, rng.normal(0.25 + shift, 0.04, n), rng.normal(0.6, 0.06, n)),
            np.where(y == 1, rng.normal(0.68, 0.08, n), rng.normal(0.32, 0.08, n)),
            rng.integers(0, 11, n).astype(float),
            rng.integers(0, 2, n).astype(float),
        ],
        axis=1,
    )
    raw[:, :2] = raw[:, :2].clip(0, 1)
    cluster = np.array([f"{seed}-{index // 2}" for index in range(n)], dtype=object)
    family = np.where(y == 1, "bot", "benign").astype(object)
    return LabelledRows(raw=raw, y=y, cluster=cluster, family=family)


def training_data(n: int = 1500, seed: int = 0) -> TrainingData:
    """Return a split world."""
    parts = split_by_cluster(world(n, seed), {"train": 0.6, "selection": 0.2, "calibration": 0.2}, seed)
    return TrainingData(parts["train"], parts["selection"], parts["calibration"])
