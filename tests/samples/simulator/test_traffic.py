from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from domain.errors import ConfigError
from domain.features import load_feature_space
from domain.monitor import load_monitor
from evaluation.constraints.compiled import CompiledSpace
from evaluation.detectors.portable import Encoding
from samples.simulator.knobs import Knobs
from samples.simulator.profiles import FAMILIES
from samples.simulator.traffic import SimulatorConfig, TrafficSimulator

SPACE = load_feature_space("simulator")
ENCODING = Encoding([feature.model_dump(mode="json") for feature in SPACE.features])
START = datetime(2026, 1, 5, tzinfo=UTC)
EVERYTHING = tuple(family.name for family in FAMILIES)


def make_day(day: int = 0, seed: int = 3, volume: int = 3000, **settings: object) -> pd.DataFrame:
    return TrafficSimulator(seed).day(day, volume=volume, start=START, **settings)


@given(
    seed=st.integers(0, 10_000),
    day=st.integers(0, 400),
    drift=st.floats(0, 1),
    stealth=st.floats(0.01, 0.99),
    knobs=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_every_row_holds_every_relation_bound_and_type_exactly(seed, day, drift, stealth, knobs):
    config = SimulatorConfig(client_stealth=stealth, server_stealth=1 - stealth)
    setting = Knobs(fill=0.3, extra_packets=5.0, extra_size=70.0, slow=9.0, pause_ms=5e4, split=3.0, decoys=9.0)
    frame = TrafficSimulator(seed, config).day(
        day, volume=600, start=START, prevalence=0.5, drift=drift, families=EVERYTHING, knobs=setting if knobs else None
    )
    raw = ENCODING.to_raw(frame)
    compiled = CompiledSpace(SPACE, "strong")
    assert not compiled.relation_violations(raw).any()
    assert compiled.check(raw, raw).ok.all()
    assert (frame["total_bytes"] == frame["bytes_out"] + frame["bytes_in"]).all()
    assert (frame["total_packets"] == frame["packets_out"] + frame["packets_in"]).all()


def test_the_same_seed_and_day_give_the_same_rows():
    pd.testing.assert_frame_equal(make_day(4), make_day(4))


def test_a_day_does_not_depend_on_the_days_made_before_it():
    simulator = TrafficSimulator(3)
    simulator.day(0, volume=500, start=START)
    pd.testing.assert_frame_equal(simulator.day(4, volume=3000, start=START), make_day(4))


def test_other_days_and_other_seeds_give_other_rows():
    values = [make_day(0)["bytes_out"], make_day(1)["bytes_out"], make_day(0, seed=4)["bytes_out"]]
    assert not values[0].equals(values[1])
    assert not values[0].equals(values[2])


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_day()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(("volume", "prevalence"), [(1, 0.0), (1, 0.9), (1000, 0.05), (1000, 0.0), (7, 0.5)])
def test_a_day_has_exactly_the_asked_volume_and_prevalence(volume, prevalence):
    frame = make_day(volume=volume, prevalence=prevalence)
    assert len(frame) == volume
    assert frame["label"].sum() == round(volume * prevalence)
    assert ((frame["family"] == "benign") == (frame["label"] == 0)).all()


def test_event_times_lie_on_the_asked_day_in_utc_and_in_order():
    frame = make_day(2)
    assert str(frame["event_time"].dt.tz) == "UTC"
    assert frame["event_time"].is_monotonic_increasing
    assert frame["event_time"].min() >= START + timedelta(days=2)
    assert frame["event_time"].max() < START + timedelta(days=3)


def test_a_start_in_another_time_zone_is_the_same_moment():
    elsewhere = datetime(2026, 1, 5, 2, tzinfo=timezone(timedelta(hours=2)))
    there = TrafficSimulator(3).day(0, volume=300, start=elsewhere)
    assert there["event_time"].equals(make_day(volume=300)["event_time"])


def test_offices_work_by_day():
    frame = make_day(volume=20_000, prevalence=0.0)
    hours = frame[frame["subject"].str.startswith("office")]["event_time"].dt.hour
    assert ((hours >= 8) & (hours <= 18)).mean() > 0.9


def test_offices_rest_at_the_weekend():
    share = [make_day(day, volume=20_000)["subject"].str.startswith("office").mean() for day in (0, 5)]
    assert share[1] < share[0] / 2


def test_new_families_appear_from_their_day_on():
    simulator = TrafficSimulator(3)
    assert "dns-tunnel" not in simulator.families(19)
    assert "dns-tunnel" in simulator.families(20)
    assert not set(make_day(19)["family"]) & {"dns-tunnel", "cryptomining"}
    assert {"dns-tunnel", "cryptomining"} <= set(make_day(40, volume=20_000)["family"])


def test_the_first_day_of_a_family_can_be_set():
    simulator = TrafficSimulator(3, SimulatorConfig(first_days={"dns-tunnel": 2}))
    assert "dns-tunnel" in simulator.families(2)
    assert "dns-tunnel" not in simulator.families(1)


def test_only_the_named_families_are_active():
    assert set(make_day(families=["dos"], prevalence=0.3)["family"]) == {"benign", "dos"}
    assert set(make_day(families=[])["family"]) == {"benign"}


def test_drift_makes_downloads_heavier_and_spreads_conferencing():
    still, moved = (make_day(volume=20_000, drift=drift, prevalence=0.0) for drift in (0.0, 1.0))
    web = [frame[frame["service"] == "web"]["bytes_in"].median() for frame in (still, moved)]
    assert web[1] > 1.5 * web[0]
    assert (moved["service"] == "stream").mean() > 4 * (still["service"] == "stream").mean()


def test_drift_leaves_threats_as_they_are_loud():
    still, moved = (make_day(volume=20_000, drift=drift, prevalence=0.5) for drift in (0.0, 1.0))
    medians = [frame[frame["label"] == 1]["packets_out"].median() for frame in (still, moved)]
    assert medians[1] == pytest.approx(medians[0], rel=0.25)


def area_under_curve(values: np.ndarray, malicious: np.ndarray) -> float:
    ranks, positive = rankdata(values), malicious.sum()
    area = (ranks[malicious].sum() - positive * (positive + 1) / 2) / (positive * (~malicious).sum())
    return max(area, 1 - area)


def test_no_single_feature_separates_threats_from_benign_traffic():
    frame = make_day(volume=20_000, prevalence=0.3)
    encoded, malicious = ENCODING.encode(ENCODING.to_raw(frame)), frame["label"].to_numpy() == 1
    areas = [area_under_curve(encoded[:, column], malicious) for column in range(encoded.shape[1])]
    assert max(areas) < 0.95


def test_no_family_has_a_service_of_its_own():
    frame = make_day(41, volume=20_000, prevalence=0.3)
    benign = frame[frame["label"] == 0]
    for column in ("proto", "service", "state"):
        assert set(frame[column]) == set(benign[column])


def test_rows_of_one_session_share_host_and_label():
    frame = make_day(volume=5000, prevalence=0.3)
    assert frame[["session", "subject", "caller", "label", "family"]].drop_duplicates()["session"].is_unique
    assert 3 < len(frame) / frame["session"].nunique() < 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"day": -1}, "day -1"),
        ({"volume": 0}, "volume 0"),
        ({"prevalence": 1.0}, "prevalence"),
        ({"drift": 1.5}, "drift"),
        ({"families": ["worm"]}, "worm"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_day(**arguments)


def test_a_start_without_time_zone_is_refused():
    with pytest.raises(ConfigError, match="time zone"):
        TrafficSimulator(1).day(0, volume=10, start=datetime(2026, 1, 5))  # noqa: DTZ001


@pytest.mark.parametrize("setting", [{"clients": 3}, {"client_stealth": 1.0}, {"first_days": {"worm": 1}}])
def test_a_wrong_setting_of_the_network_is_refused(setting):
    with pytest.raises(ConfigError):
        SimulatorConfig(**setting)


def test_the_shipped_monitor_of_the_simulator_is_valid():
    from importlib import resources
    from pathlib import Path

    file = resources.files("samples") / "catalogue" / "monitors" / "simulator.yaml"
    monitor = load_monitor(Path(str(file)))
    assert monitor.feature_space == SPACE.name
    assert set(SPACE.names) | {"event_time", "subject", "caller", "label", "family", "session"} == set(make_day())
