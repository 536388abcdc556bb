from dataclasses import replace

import numpy as np
import pytest

from evaluation.rows import LabelledRows
from tests.training.worlds import SPACE, world
from training.screening import ScreenResult, screen

TRUSTED = world(2000, 1)


def run(recent: LabelledRows, max_share: float = 0.1) -> ScreenResult:
    return screen(recent, TRUSTED, max_share=max_share, seed=0, space=SPACE)


def flipped(rows: LabelledRows, source: int, count: int) -> tuple[LabelledRows, np.ndarray]:
    """The first `count` rows of label `source` get the other label."""
    positions = np.flatnonzero(rows.y == source)[:count]
    y = rows.y.copy()
    y[positions] = 1 - source
    return replace(rows, y=y), positions


def test_malicious_rows_labelled_benign_are_caught() -> None:
    rows, positions = flipped(world(800, 2), source=1, count=40)
    found = run(rows)
    assert found.suspicious[positions].mean() > 0.9
    assert not found.kept[found.suspicious].any()
    assert not found.refused


def test_honest_rows_pass() -> None:
    rows = world(800, 3)
    found = run(rows)
    assert found.kept.mean() > 0.98
    assert not found.refused


def test_an_honest_evasion_campaign_is_kept() -> None:
    rows = world(800, 4, shift=0.35)
    found = run(rows)
    assert found.kept[rows.y == 1].mean() > 0.98
    assert not found.refused


def test_too_many_false_benign_labels_refuse_the_batch_with_the_numbers() -> None:
    rows, _ = flipped(world(800, 5), source=1, count=200)
    found = run(rows)
    assert found.refused
    assert "limit is 10.0%" in found.reason


def test_a_malicious_label_on_a_row_that_equals_a_trusted_benign_one_is_dropped() -> None:
    copies = TRUSTED.benign.take(np.arange(5))
    recent = LabelledRows.concatenate([world(400, 6), replace(copies, y=np.ones(5, dtype=np.int8))])
    found = run(recent)
    assert found.suspicious[-5:].all()


def test_a_flood_of_near_duplicates_is_capped_without_suspicion() -> None:
    rows = world(500, 7)
    one = rows.malicious.take(np.zeros(300, dtype=int))
    recent = LabelledRows.concatenate([rows, one])
    found = run(recent)
    assert found.kept[-300:].sum() < 25
    assert not found.suspicious[-300:].any()
    assert found.kept[:500].mean() > 0.95


def test_a_cluster_that_lies_mostly_loses_all_its_benign_labels() -> None:
    rows, positions = flipped(world(800, 8), source=1, count=6)
    honest = np.flatnonzero(world(800, 8).y == 0)[:2]
    cluster = rows.cluster.copy()
    cluster[positions] = "liar"
    cluster[honest] = "liar"
    assert run(replace(rows, cluster=cluster)).suspicious[honest].all()


def test_new_benign_traffic_far_from_all_trusted_rows_is_not_suspicious_though_malicious_ones_are_nearest() -> None:
    rows = world(400, 9)
    far = rows.benign.take(np.arange(30))
    far = replace(far, raw=far.raw * [0.0, 0.0, 1.0, 1.0] + [0.0, 1.0, 0.0, 0.0])
    assert run(LabelledRows.concatenate([rows, far])).suspicious[-30:].mean() < 0.1


@pytest.mark.parametrize("size", [0, 1])
def test_a_tiny_batch_is_no_special_case(size: int) -> None:
    found = run(world(10, 10).take(np.arange(size)))
    assert len(found.kept) == size
    assert not found.refused


def test_the_same_seed_screens_the_same_way() -> None:
    rows = world(600, 11)
    assert (run(rows).kept == run(rows).kept).all()


def test_near_duplicates_beyond_the_cap_still_set_the_threshold() -> None:
    rows = world(500, 12)
    recent = LabelledRows.concatenate([rows, rows.benign.take(np.zeros(300, dtype=int))])
    found = run(recent)
    assert found.kept[-300:].sum() < 25
    assert found.trusted[-300:].all()
    assert (found.trusted == ~found.suspicious).all()


def test_the_suspicious_share_is_of_what_the_rows_stand_for() -> None:
    rows, positions = flipped(world(800, 13), source=1, count=150)
    weights = np.full(800, 10.0)
    weights[positions] = 1.0
    assert run(rows).refused
    weighted = screen(rows, TRUSTED, max_share=0.1, seed=0, space=SPACE, weights=weights)
    assert not weighted.refused
    assert (weighted.suspicious == run(rows).suspicious).all()


def test_rows_that_nobody_drew_count_as_one_each_in_the_suspicious_share() -> None:
    rows, positions = flipped(world(800, 14), source=1, count=200)
    weights = np.ones(800)
    weights[positions] = 0.0
    assert screen(rows, TRUSTED, max_share=0.1, seed=0, space=SPACE, weights=weights).refused
