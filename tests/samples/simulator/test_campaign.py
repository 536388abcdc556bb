from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import AttackError
from domain.features import load_feature_space
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.detectors.portable import Encoding
from samples.simulator.campaign import evade, inside_ball, summarise
from samples.simulator.knobs import Knobs, apply_knobs
from samples.simulator.profiles import FAMILIES
from samples.simulator.traffic import TrafficSimulator

SPACE = load_feature_space("simulator")
ENCODING = Encoding([feature.model_dump(mode="json") for feature in SPACE.features])
START = datetime(2026, 1, 5, tzinfo=UTC)
EVERYTHING = tuple(family.name for family in FAMILIES)


def make_flows(seed: int = 5, volume: int = 800) -> pd.DataFrame:
    return TrafficSimulator(seed).day(1, volume=volume, start=START, prevalence=0.5, families=EVERYTHING)


def quick_and_slim(frame: pd.DataFrame) -> np.ndarray:
    """A detector that trusts what the client controls: short, slim flows are malicious."""
    return 10.5 - np.log1p(frame["duration_ms"].to_numpy()) - 0.5 * np.log1p(frame["bytes_out"].to_numpy())


def never_evaded(frame: pd.DataFrame) -> np.ndarray:
    return 1.0 + 1.0 / (1.0 + np.log1p(frame["duration_ms"].to_numpy()))


def count_failures(frame: pd.DataFrame) -> np.ndarray:
    """A detector that trusts what the client cannot move."""
    return frame["failed_flows"].to_numpy() - 1.5


@given(
    seed=st.integers(0, 1000),
    level=st.sampled_from(["weak", "expected", "strong"]),
    strength=st.floats(0.01, 1),
    epsilon=st.sampled_from([None, 0.02, 0.1, 0.4]),
)
@settings(max_examples=30, deadline=None)
def test_a_campaign_stays_legal_for_an_attacker_of_its_level(seed, level, strength, epsilon):
    flows = make_flows(seed, 200)
    moved = evade(
        flows, never_evaded, rng=np.random.default_rng(seed), rounds=4, strength=strength, level=level, epsilon=epsilon
    )
    clean_raw, moved_raw = ENCODING.to_raw(flows), ENCODING.to_raw(moved)
    check = CompiledSpace(SPACE, level).check(moved_raw, clean_raw)
    assert check.ok.all(), (check.box.all(), check.types.all(), check.relations.all(), check.mutability.all())
    if epsilon is not None and level != "strong":
        assert (np.abs(ENCODING.encode(moved_raw) - ENCODING.encode(clean_raw)) <= epsilon).all()
        assert inside_ball(flows, moved, epsilon, SPACE).all()


def test_a_bounded_campaign_passes_the_verifier_of_the_attacks():
    flows = make_flows()
    moved = evade(flows, quick_and_slim, rng=np.random.default_rng(0), epsilon=0.1)
    compiled = CompiledSpace(SPACE, "expected")
    clean_x, moved_x = (compiled.encode(ENCODING.to_raw(frame)) for frame in (flows, moved))
    assert compiled.feasible(moved_x, clean_x, Ball("linf", 0.1)).all()


def test_benign_rows_and_everything_that_identifies_a_row_stay():
    flows = make_flows()
    moved = evade(flows, quick_and_slim, rng=np.random.default_rng(0))
    benign = flows["label"] == 0
    pd.testing.assert_frame_equal(moved[benign], flows[benign])
    identity = ["event_time", "subject", "caller", "label", "family", "session"]
    pd.testing.assert_frame_equal(moved[identity], flows[identity])
    assert not moved.equals(flows)


def test_a_detector_that_trusts_the_client_is_brought_down():
    flows = make_flows()
    flows = flows[flows["family"] != "port-scan"]  # probes of one packet have little to slow down or fill up
    moved = evade(flows, quick_and_slim, rng=np.random.default_rng(0))
    report = summarise(flows, moved, quick_and_slim, epsilon=0.1)
    assert report.detected_before > 0.25
    assert report.detected_after < 0.7 * report.detected_before
    assert report.inside_ball == 1.0
    assert set(report.by_family) == set(EVERYTHING) - {"port-scan"}


def test_a_detector_that_trusts_what_the_client_cannot_move_holds():
    flows = make_flows()
    report = summarise(
        flows, evade(flows, count_failures, rng=np.random.default_rng(0)), count_failures, epsilon=0.1
    )  # fmt: skip
    assert report.detected_after == report.detected_before


def test_a_wider_ball_evades_more_and_more_often_leaves_the_small_one():
    flows = make_flows()
    reports = [
        summarise(
            flows,
            evade(flows, quick_and_slim, rng=np.random.default_rng(0), epsilon=epsilon),
            quick_and_slim,
            epsilon=0.05,
        )
        for epsilon in (0.02, 0.05, None)
    ]
    assert reports[0].detected_after > reports[1].detected_after > reports[2].detected_after
    assert reports[1].inside_ball == 1.0
    assert reports[2].inside_ball < 1.0


def test_flows_that_pass_already_are_left_alone():
    flows = make_flows()
    moved = evade(flows, lambda frame: -np.ones(len(frame)), rng=np.random.default_rng(0))
    pd.testing.assert_frame_equal(moved, flows)


def test_the_same_seed_gives_the_same_campaign():
    flows = make_flows()
    first, second = (evade(flows, quick_and_slim, rng=np.random.default_rng(7)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_strength_zero_changes_nothing():
    flows = make_flows()
    pd.testing.assert_frame_equal(evade(flows, never_evaded, rng=np.random.default_rng(0), strength=0.0), flows)


def test_knobs_do_what_their_names_say():
    flows = make_flows()
    threat = flows["label"] == 1
    padded = apply_knobs(flows, Knobs(extra_packets=2.0, extra_size=60.0))[threat]
    assert (padded["packets_out"] == 3 * flows[threat]["packets_out"]).all()
    assert (padded["small_packets_out"] - flows[threat]["small_packets_out"] == 2 * flows[threat]["packets_out"]).all()
    slowed = apply_knobs(flows, Knobs(slow=2.0))[threat]
    assert (slowed["duration_ms"] == 2 * flows[threat]["duration_ms"]).all()
    decoyed = apply_knobs(flows, Knobs(decoys=5.0))[threat]
    assert (decoyed["flows_host"] == flows[threat]["flows_host"] + 5).all()
    split = apply_knobs(flows, Knobs(split=4.0))[threat]
    assert split["bytes_out"].sum() < 0.5 * flows[threat]["bytes_out"].sum()
    assert (split["flows_same_dst"] >= flows[threat]["flows_same_dst"]).all()


@pytest.mark.parametrize("arguments", [{"rounds": 0}, {"strength": 1.5}, {"epsilon": 0.0}])
def test_a_campaign_with_impossible_settings_is_refused(arguments):
    with pytest.raises(AttackError):
        evade(make_flows(volume=50), never_evaded, rng=np.random.default_rng(0), **arguments)


def test_margins_that_do_not_fit_the_rows_are_refused():
    with pytest.raises(AttackError, match="one finite number a row"):
        evade(make_flows(volume=50), lambda _: np.zeros(3), rng=np.random.default_rng(0))
    with pytest.raises(AttackError, match="one finite number a row"):
        evade(make_flows(volume=50), lambda frame: np.full(len(frame), np.nan), rng=np.random.default_rng(0))


def test_a_campaign_without_malicious_rows_cannot_be_judged():
    flows = make_flows()
    with pytest.raises(AttackError, match="no"):
        summarise(flows[flows["label"] == 0], flows[flows["label"] == 0], never_evaded, epsilon=0.1)
