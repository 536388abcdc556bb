from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domain.features import load_feature_space
from domain.monitor import load_monitor
from evaluation.rows import LabelledRows
from samples.simulator.campaign import evade, summarise
from samples.simulator.traffic import TrafficSimulator
from training.fitting import TrainingData, train_detector
from training.splits import split_by_cluster

SPACE = load_feature_space("simulator")
MONITOR = load_monitor(Path(str(resources.files("samples") / "catalogue" / "monitors" / "simulator.yaml")))
START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def detector():
    simulator = TrafficSimulator(MONITOR.seed)
    days = [simulator.day(day, volume=8000, prevalence=0.2, start=START) for day in range(3)]
    rows = LabelledRows.from_frame(
        pd.concat(days, ignore_index=True), SPACE, label="label", cluster="session", family="family"
    )
    parts = split_by_cluster(rows, {"train": 0.6, "selection": 0.15, "calibration": 0.25}, 0)
    data = TrainingData(parts["train"], parts["selection"], parts["calibration"])
    return train_detector(
        data, SPACE, MONITOR.hardening, threat=MONITOR.threat, budget=MONITOR.false_positive_budget,
        adversarial=False, seed=0,
    ).detector  # fmt: skip


@pytest.fixture(scope="module")
def margin(detector):
    return lambda frame: detector.score(frame).logit - detector.threshold


def make_later_day(day: int, **settings: object) -> pd.DataFrame:
    return TrafficSimulator(MONITOR.seed).day(day, volume=15_000, prevalence=0.1, start=START, **settings)


@pytest.mark.slow
def test_a_plain_detector_is_good_on_clean_traffic_and_not_perfect(margin):
    flows = make_later_day(4)
    caught, malicious = margin(flows) >= 0, flows["label"] == 1
    assert 0.85 < caught[malicious].mean() < 0.985
    assert caught[~malicious].mean() < 0.025


@pytest.mark.slow
def test_a_campaign_inside_the_ball_of_the_monitor_brings_a_plain_detector_down(margin):
    flows = make_later_day(4)
    epsilon = MONITOR.threat.epsilon
    moved = evade(flows, margin, rng=np.random.default_rng(0), epsilon=epsilon)
    report = summarise(flows, moved, margin, epsilon=epsilon)
    assert report.detected_after < report.detected_before - 0.2
    assert report.inside_ball == 1.0


@pytest.mark.slow
def test_a_new_family_is_missed_more_often_than_the_known_ones(margin):
    flows = make_later_day(50)
    caught = pd.Series(margin(flows) >= 0).groupby(flows["family"].to_numpy()).mean()
    new = ["dns-tunnel", "cryptomining"]
    assert caught[new].mean() < caught.drop([*new, "benign"]).mean() - 0.1


@pytest.mark.slow
def test_benign_drift_raises_false_alarms(margin):
    rates = []
    for drift in (0.0, 1.0):
        flows = make_later_day(4, drift=drift)
        rates.append((margin(flows) >= 0)[flows["label"] == 0].mean())
    assert rates[1] > 1.3 * rates[0]
