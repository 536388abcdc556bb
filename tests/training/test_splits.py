import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import NotEnoughRows
from evaluation.rows import LabelledRows
from tests.training.worlds import world
from training.splits import split_by_cluster

SHARES = {"train": 0.6, "selection": 0.2, "calibration": 0.2}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(20, 300))
def test_no_cluster_is_in_two_parts_and_no_row_is_lost(seed: int, n: int) -> None:
    rows = world(n, seed)
    parts = split_by_cluster(rows, SHARES, seed)
    owners = [set(part.cluster) for part in parts.values()]
    assert sum(len(part) for part in parts.values()) == n
    assert all(not a & b for index, a in enumerate(owners) for b in owners[index + 1 :])


def test_every_part_gets_its_share_of_a_rare_class() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(5000) < 100).astype(np.int8)
    names = np.arange(5000).astype(str).astype(object)
    rows = LabelledRows(raw=rng.random((5000, 2)), y=y, cluster=names, family=names)
    parts = split_by_cluster(rows, SHARES, 3)
    assert [int(part.y.sum()) for part in parts.values()] == [60, 20, 20]


def test_the_same_seed_splits_the_same_way_and_another_seed_does_not() -> None:
    rows = world(300, 1)
    first, again, other = (split_by_cluster(rows, SHARES, seed)["train"].digest for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        split_by_cluster(world(50, 0), {"a": 0.5, "b": 0.4}, 0)


def test_fewer_clusters_than_parts_is_an_error_that_counts_them() -> None:
    with pytest.raises(NotEnoughRows, match="2 clusters"):
        split_by_cluster(world(4, 0), SHARES, 0)
