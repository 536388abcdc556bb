from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from domain.monitor import ThreatSettings
from evaluation.constraints.ball import Ball
from evaluation.detectors.detector import Detector
from evaluation.rows import LabelledRows
from tests.training.worlds import RECIPE, SPACE, training_data, world
from training.adversarial import FeatureAdversary
from training.data import encode
from training.fitting import train_detector
from training.hardening import SuspiciousBatch, harden, rethreshold

BUDGET = 0.05
THREAT = ThreatSettings(epsilon=0.3)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def champion() -> Detector:
    return train_detector(
        training_data(), SPACE, RECIPE, threat=THREAT, budget=BUDGET, adversarial=False, seed=0
    ).detector


def run(recent: LabelledRows, seed: int = 0, **more) -> Detector:
    return harden(
        champion(), training_data(), recent, recipe=RECIPE, threat=THREAT, budget=BUDGET, seed=seed, **more
    ).detector


def detection(detector: Detector, rows: LabelledRows) -> float:
    return float(detector.score_raw(rows.malicious.raw).verdict.mean())


def false_positives(detector: Detector, rows: LabelledRows) -> float:
    return float(detector.score_raw(rows.benign.raw).verdict.mean())


def robust_detection(detector: Detector, rows: LabelledRows) -> float:
    x = encode(SPACE, rows.malicious)
    adversary = FeatureAdversary(SPACE, THREAT, rows.malicious, rows.benign)
    attacked = adversary.perturb(
        detector.margins, torch.arange(len(x)), strength=1.0, steps=10, generator=torch.Generator().manual_seed(5)
    )
    assert adversary.compiled.feasible(attacked.double(), x.double(), Ball("linf", 0.3 + 1e-5)).all()
    with torch.no_grad():
        return float((detector.margins(attacked) >= 0).float().mean())


def test_hardening_detects_what_evaded_and_survives_the_attack() -> None:
    campaign, unseen, clean = world(600, 50, shift=0.3), world(1000, 51, shift=0.3), world(2000, 52)
    hardened = run(campaign)
    assert robust_detection(hardened, clean) > robust_detection(champion(), clean) + 0.05
    assert detection(hardened, unseen) > detection(champion(), unseen)
    assert detection(hardened, clean) > detection(champion(), clean) - 0.03
    assert false_positives(hardened, clean) < 2 * BUDGET


def test_the_same_seed_hardens_to_the_same_bytes() -> None:
    recent = world(300, 53)
    assert run(recent).to_files() == run(recent).to_files()


def test_a_killed_hardening_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    recent = world(300, 54)
    calls: list[str] = []

    def kill(message: str, share: float) -> None:
        calls.append(message)
        if message.startswith("scratch") and share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recent, checkpoints=tmp_path, progress=kill)
    assert {path.name for path in tmp_path.iterdir()} == {"warm.safetensors", "scratch.safetensors"}
    assert run(recent, checkpoints=tmp_path).to_files() == run(recent).to_files()


def test_a_poisoned_batch_is_refused_as_a_whole() -> None:
    recent = world(600, 55)
    y = np.where(np.arange(600) % 2 == 0, 0, recent.y).astype(np.int8)
    with pytest.raises(SuspiciousBatch, match="labelled benign among trusted malicious"):
        run(replace(recent, y=y))


def test_dropped_rows_are_not_learnt_from() -> None:
    recent = world(400, 56)
    positions = np.flatnonzero(recent.y == 1)[:10]
    y = recent.y.copy()
    y[positions] = 0
    hardened = run(replace(recent, y=y))
    assert hardened.metadata["recent_kept"] <= 390
    assert "labelled benign among trusted malicious" in hardened.metadata["screen"]


def drifted(n: int, seed: int) -> LabelledRows:
    """Benign rows that have come to look more malicious."""
    rows = world(n, seed)
    raw = rows.raw.copy()
    raw[rows.y == 0, 1] += 0.08
    return replace(rows, raw=raw)


def test_the_threshold_follows_benign_drift() -> None:
    hardened, fresh = run(drifted(3000, 57)), drifted(2000, 58)
    assert false_positives(champion(), fresh) > 3 * BUDGET
    assert false_positives(hardened, fresh) < min(2.5 * BUDGET, 0.7 * false_positives(champion(), fresh))


@pytest.mark.slow
def test_alerts_without_their_weights_would_raise_the_threshold() -> None:
    rows = world(6000, 59)
    alerted = champion().score_raw(rows.raw).verdict
    labelled = alerted | (np.random.default_rng(0).random(6000) < 0.1)
    recent, weights = rows.take(labelled), np.where(alerted, 1.0, 10.0)[labelled]
    data, fresh = training_data(4000), world(4000, 60)
    weighted, plain = (
        harden(
            champion(), data, recent, recipe=RECIPE.model_copy(update={"epochs": 4}), threat=THREAT, budget=BUDGET,
            seed=0, recent_weights=given,
        ).detector
        for given in (weights, None)
    )  # fmt: skip
    assert false_positives(plain, fresh) < 0.7 * false_positives(weighted, fresh)
    assert 0.6 * BUDGET < false_positives(weighted, fresh) < 1.6 * BUDGET


def test_a_handful_of_recent_rows_is_enough_to_start() -> None:
    assert run(world(4, 61)).metadata["recent_rows"] == 4


def test_a_champion_of_another_shape_is_replaced_from_scratch() -> None:
    other = RECIPE.model_copy(update={"hidden": (8,)})
    hardened = harden(
        champion(), training_data(), world(200, 62), recipe=other, threat=THREAT, budget=BUDGET, seed=0
    ).detector
    assert hardened.architecture["hidden"] == [8]
    assert hardened.metadata["warm_start"] is False


def test_rethresholding_moves_nothing_but_the_operating_point() -> None:
    benign = drifted(2000, 63).benign
    moved = rethreshold(champion(), benign, budget=BUDGET)
    assert float(moved.score_raw(benign.raw).verdict.mean()) <= BUDGET
    assert moved.threshold != champion().threshold
    assert moved.to_files()["weights.safetensors"] == champion().to_files()["weights.safetensors"]
    assert moved.metadata["rethresholded_from"] == champion().threshold


def test_rethresholding_counts_a_row_for_as_many_as_it_stands_for() -> None:
    benign = drifted(4000, 64).benign
    alert = champion().score_raw(benign.raw).verdict
    audited = np.random.default_rng(65).random(len(benign)) < 0.25
    labelled = benign.take(alert | audited)
    weights = np.where(alert, 1.0, 4.0)[alert | audited]
    right = rethreshold(champion(), labelled, budget=BUDGET, weights=weights)
    assert float(right.score_raw(benign.raw).verdict.mean()) > 0.5 * BUDGET
    blind = rethreshold(champion(), labelled, budget=BUDGET)
    assert blind.threshold > right.threshold


def test_rows_that_stand_for_none_set_no_threshold() -> None:
    benign = drifted(2000, 63).benign
    weights = np.ones(len(benign))
    highest = np.argsort(-champion().score_raw(benign.raw).logit)[:200]
    weights[highest] = 0.0
    lower = rethreshold(champion(), benign, budget=BUDGET, weights=weights)
    assert lower.threshold < rethreshold(champion(), benign, budget=BUDGET).threshold


def test_benign_rows_that_only_a_feed_labelled_set_no_threshold_and_break_nothing() -> None:
    recent = world(300, 66)
    few, none = np.ones(300), np.where(recent.y == 1, 1.0, 0.0)
    few[::3] = 0.0
    quick = RECIPE.model_copy(update={"epochs": 1})
    for weights in (few, none):
        detector = harden(
            champion(), training_data(), recent, recipe=quick, threat=THREAT, budget=BUDGET, seed=0,
            recent_weights=weights,
        ).detector  # fmt: skip
        assert np.isfinite(detector.threshold)
