from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from domain.errors import DataError, SchemaMismatch
from samples.replay import Campaign, LabelPolicy, replay
from tests.samples.helpers import HOUR, SPACE, T0, Place


def traffic(count: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = (np.arange(count) % 10 == 0).astype(int)
    return pd.DataFrame({"size": rng.integers(0, 500, count) + 400 * label, "rate": rng.random(count), "proto": "tcp",
                         "label": label, "family": np.where(label == 1, "worm", "benign")})  # fmt: skip


def champion(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    verdict = (frame["size"].to_numpy() >= 450).astype(int)
    return {"score": frame["size"].to_numpy() / 1000, "verdict": verdict}


def play(place: Place, frame: pd.DataFrame, **more: object):
    values = {"features": SPACE.names, "start": T0, "hours": 48.0, "score": champion, "model_version": 3,
              "model_digest": "d3", "store": place.store, "seed": 1}  # fmt: skip
    return replay(frame, **(values | more))


def test_the_replay_stores_every_row_scored_within_its_time(place: Place) -> None:
    summary = play(place, traffic())
    stored = place.store.read_samples(T0, T0 + 48 * HOUR)
    assert (summary.rows, len(stored)) == (2000, 2000)
    assert stored["event_time"].is_monotonic_increasing
    assert set(stored["model_version"]) == {3}
    assert stored["verdict"].sum() == summary.alerts > 0


def test_labels_come_late_from_alerts_and_from_random_negatives_only(place: Place) -> None:
    policy = LabelPolicy(audit_share=0.2, alert_delay_hours=4.0, audit_delay_hours=6.0)
    summary = play(place, traffic(), labels=policy)
    stored = place.store.read_samples(T0, T0 + 48 * HOUR).set_index("sample_id")
    labels = place.store.read_labels(stored.index.tolist()).set_index("sample_id")
    verdict = stored["verdict"].loc[labels.index]
    assert (verdict[labels["kind"] == "alert"] == 1).all()
    assert (verdict[labels["kind"] == "audit"] == 0).all()
    assert (labels["kind"] == "alert").sum() == summary.alerts
    assert set(labels.loc[labels["kind"] == "audit", "inclusion_probability"]) == {0.2}
    share = (labels["kind"] == "audit").sum() / (stored["verdict"] == 0).sum()
    assert abs(share - 0.2) < 0.05
    delay = labels["time"] - stored["event_time"].loc[labels.index]
    assert delay.min() >= pd.Timedelta(hours=2)
    truth = summary.truth.set_index("sample_id")["label"].loc[labels.index]
    assert (labels["value"] == truth).all()


def test_a_campaign_changes_only_malicious_rows_after_its_start(place: Place) -> None:
    seen: list[pd.DataFrame] = []

    def attack(victims: pd.DataFrame) -> pd.DataFrame:
        seen.append(victims)
        return victims.assign(size=10)

    summary = play(place, traffic(), campaign=Campaign(3, attack, T0 + 24 * HOUR))
    truth = summary.truth
    assert summary.attacked == 100
    assert (truth.loc[truth["attacked"], "label"] == 1).all()
    assert (truth.loc[truth["attacked"], "event_time"] >= T0 + 24 * HOUR).all()
    assert (seen[0]["label"] == 1).all()
    late = place.store.read_samples(T0 + 24 * HOUR, T0 + 48 * HOUR).set_index("sample_id")
    assert (late.loc[truth.loc[truth["attacked"], "sample_id"], "verdict"] == 0).all()
    assert summary.champion == 3


def test_a_campaign_that_loses_rows_is_refused(place: Place) -> None:
    with pytest.raises(DataError, match="must return as many"):
        play(place, traffic(), campaign=Campaign(1, lambda victims: victims.head(1), T0, name="broken"))
    assert place.store.count() == (0, 0)


def test_the_same_seed_gives_the_same_rows_and_event_times_keep_their_order(place: Place) -> None:
    frame = traffic(200)
    frame["event_time"] = pd.Timestamp("2019-01-01", tz="UTC") + pd.to_timedelta(np.arange(200)[::-1] ** 2, unit="h")
    first, second = play(place, frame, prefix="a"), play(place, frame, prefix="b")
    pd.testing.assert_frame_equal(first.truth.drop(columns="sample_id"), second.truth.drop(columns="sample_id"))
    assert first.truth["event_time"].max() < T0 + 48 * HOUR
    assert first.truth["label"].tolist() == frame["label"].tolist()[::-1]


def test_a_missing_feature_is_named(place: Place) -> None:
    with pytest.raises(SchemaMismatch, match="proto"):
        play(place, traffic().drop(columns="proto"))


def test_a_replay_of_the_past_reaches_its_windows(place: Place) -> None:
    play(place, traffic(200), start=T0 - 2000 * HOUR, hours=24.0)
    result = place.pull(T0 - 1970 * HOUR)
    assert (result.rows, result.quarantined) == (200, 0)


def test_a_replay_of_days_to_come_is_refused_with_the_clock_and_the_fix(place: Place) -> None:
    with pytest.raises(DataError, match=r"the store's clock says 2026-03-05.*start the replay earlier"):
        play(place, traffic(200), start=T0 + 90 * HOUR, hours=24.0)
    assert place.store.count() == (0, 0)
