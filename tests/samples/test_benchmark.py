from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domain.errors import ConfigError, SchemaMismatch
from domain.features import load_feature_space
from samples.catalogue.benchmark import Benchmark, load_benchmark
from samples.catalogue.catalogue import DATA_DIR_VARIABLE
from tests.samples.helpers import SPACE, monitor

PARTS = ("train", "selection", "calibration", "test", "golden")


def own_data(folder: Path, count: int = 3000) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": rng.integers(0, 900, count), "rate": rng.random(count).round(3),
         "proto": rng.choice(["tcp", "udp"], count),
         "label": rng.integers(0, 2, count), "host": rng.integers(0, 400, count).astype(str),
         "when": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(rng.random(count) * 900, unit="h")}
    )  # fmt: skip
    path = folder / "own.parquet"
    pd.concat([frame, frame.head(200)]).to_parquet(path, index=False)
    return path


def assert_disjoint(found: Benchmark) -> None:
    clusters = {name: set(getattr(found, name).cluster) for name in PARTS} | {"replay": set(found.replay["cluster"])}
    for first, second in combinations(clusters, 2):
        assert not clusters[first] & clusters[second], (first, second)
    for name in PARTS:
        rows = getattr(found, name)
        assert 0 < rows.y.sum() < len(rows)
        assert np.isfinite(rows.raw).all()


@pytest.mark.parametrize("extra", [{}, {"cluster": "host"}, {"time": "when"}])
def test_a_file_of_the_users_is_split_without_tearing_clusters(tmp_path: Path, extra: dict[str, str]) -> None:
    settings = {"dataset": str(own_data(tmp_path)), **extra}
    found = load_benchmark(monitor(benchmark=settings), SPACE, None, 0)
    assert_disjoint(found)
    assert load_benchmark(monitor(benchmark=settings), SPACE, None, 0).digest == found.digest
    assert load_benchmark(monitor(benchmark=settings), SPACE, None, 1).digest != found.digest
    assert list(found.reference_frame.columns) == list(SPACE.names)
    if extra.get("time"):
        assert found.replay["event_time"].is_monotonic_increasing


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = own_data(tmp_path)
    with pytest.raises(ConfigError, match="neither a set of the catalogue"):
        load_benchmark(monitor(benchmark={"dataset": "nothing.parquet"}), SPACE, tmp_path, 0)
    with pytest.raises(SchemaMismatch, match="colour"):
        load_benchmark(monitor(benchmark={"dataset": str(path), "label": "colour"}), SPACE, None, 0)
    with pytest.raises(SchemaMismatch, match="must be 0 or 1"):
        load_benchmark(monitor(benchmark={"dataset": str(path), "label": "size"}), SPACE, None, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simulator", "nsl-kdd", "url-phishing", "phishtank"])
def test_a_shipped_set_gives_disjoint_parts_of_both_classes(name: str) -> None:
    if name != "simulator" and not os.environ.get(DATA_DIR_VARIABLE):
        pytest.skip(f"{DATA_DIR_VARIABLE} is not set: the real data sets are not on this machine")
    settings = monitor(name=name, feature_space=name, benchmark={"dataset": name})
    found = load_benchmark(settings, load_feature_space(name), None, 0)
    assert_disjoint(found)
    assert set(np.unique(found.replay["label"])) == {0, 1}
    if name == "phishtank":
        assert found.replay["event_time"].is_monotonic_increasing
        assert found.train.objects is not None
        benign = found.replay[found.replay["label"] == 0]
        assert benign["object"].is_unique
    if name == "nsl-kdd":
        assert found.replay["phase"].tolist() == sorted(found.replay["phase"])
