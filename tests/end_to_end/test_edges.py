"""Windows at the edge, through the jobs that the flows' tasks call: real ledger, store, contract, MLflow server."""

from __future__ import annotations

import os
import pickle
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from domain.errors import ArtifactRefused, ArtifactTampered, LeaseHeld
from tests.end_to_end.town import MARKS, MONITOR, SEED, copy_database, judged_at, ordinary_day

pytestmark = MARKS


class Corner:
    """A workspace of one test: the champion of the town, and a store of its own without a single sample."""

    def __init__(self, town, loop):
        self.town, self.loop, self.monitor = town, loop, town.monitor
        self.store = loop.labels(self.monitor).create()

    def play(self, frame):
        """Let the champion score `frame` as production of the first day, and return that day."""
        from dataclasses import replace

        from flows.demo.world import World

        day = replace(ordinary_day(), frame=frame)
        World(self.loop, self.monitor, SEED).play(0, day)
        return day

    def judge(self, as_of):
        """Run the re-evaluation's tasks and return the decision that the ledger keeps."""
        from flows.jobs import window as job
        from registry.reports import decisions

        state = job.pull(MONITOR, as_of, "", seed=SEED, reason="test", dry_run=False)
        assert state.due
        found = job.attack(state, job.evaluate(state, job.drift(state)))
        judged = job.decide(state, found)
        decision = decisions(self.loop.ledger, MONITOR, limit=1)[0].decision
        assert judged.verdict == decision.verdict.value
        return state, decision

    def close(self):
        self.store.close()
        self.loop.ledger.close()


def open_corner(town, ledger, home, monkeypatch):
    """Return a workspace in `home` that begins with a copy of `ledger`; the jobs find it through the environment."""
    from flows.local.environment import scrubbed, settings_environment
    from flows.wiring import open_loop

    copy_database(ledger, home / "ledger.db")
    (home / "monitors").mkdir()
    (home / "monitors" / f"{MONITOR}.yaml").write_text(town.monitor_path.read_text())
    own = {
        "REVET_HOME": home, "REVET_LEDGER_URL": f"sqlite:///{home / 'ledger.db'}",
        "REVET_STORE_URL": f"sqlite:///{home / 'samples.db'}",
    }  # fmt: skip
    for key in set(os.environ) - set(scrubbed(os.environ)):
        monkeypatch.delenv(key) if key.startswith("REVET_") else None
    for key, value in {**settings_environment(town.stack.settings), **own}.items():
        monkeypatch.setenv(key, str(value))
    return Corner(town, open_loop())


@pytest.fixture
def corner(town, tmp_path, monkeypatch):
    opened = open_corner(town, town.early, tmp_path, monkeypatch)
    yield opened
    opened.close()


def outcomes(decision):
    return {one.name: one for one in decision.criteria}


def test_a_window_that_is_too_small_abstains_and_then_silence_does_too(corner):
    day = corner.play(ordinary_day().frame.iloc[:30])
    state, decision = corner.judge(judged_at(day, corner.monitor))
    assert state.rows == 30
    assert decision.verdict.value == "abstain"
    assert any("the policy asks for 50" in reason for reason in decision.reasons), decision.reasons
    later = day.start + timedelta(hours=48 + corner.monitor.policy.label_horizon_hours)
    state, decision = corner.judge(later.isoformat())
    assert (state.rows, decision.window_start) == (0, day.start + timedelta(hours=24))
    assert decision.verdict.value == "abstain"
    assert "data/quarantined_share: the window holds no row" in decision.reasons


def test_a_window_of_one_class_abstains_and_says_which_is_missing(corner):
    frame = ordinary_day().frame
    day = corner.play(frame[frame["label"] == 0])
    state, decision = corner.judge(judged_at(day, corner.monitor))
    assert state.rows == int((frame["label"] == 0).sum())
    assert decision.verdict.value == "abstain"
    assert "production/detection_rate: no malicious row is labelled" in decision.reasons


def test_a_flood_of_malformed_rows_is_quarantined_and_the_clean_part_is_still_evaluated(corner):
    day = corner.play(ordinary_day().frame)
    good = corner.store.read_samples(day.start, day.start + timedelta(hours=24))
    broken = good.sample(len(good) // 2, random_state=SEED).copy()
    broken["sample_id"] = [f"flood-{number}" for number in range(len(broken))]
    columns = corner.loop.space(corner.monitor).names
    faults = [{columns[0]: "NaN"}, {columns[0]: 1e308}, {columns[1]: -1.0}, {}]
    broken["features"] = [faults[number % len(faults)] for number in range(len(broken))]
    corner.store.write_samples(broken)
    state, decision = corner.judge(judged_at(day, corner.monitor))
    assert (state.rows, state.quarantined) == (len(good), len(broken))
    found = outcomes(decision)
    assert (decision.verdict.value, decision.kind.value, decision.action) == ("degraded", "data-fault", False)
    assert found["data/quarantined_share"].outcome.value == "fail"
    assert found["production/detection_rate"].value is not None
    assert found["production/detection_rate"].outcome.value in {"pass", "fail"}


def artifact_folder(town, base):
    """Return the folder in which the MLflow server keeps the champion's files."""
    source = town.loop.models.client.get_model_version(f"revet-{MONITOR}", "1").source
    model = source.removeprefix("models:/")
    (folder,) = [path for path in base.rglob(f"{model}/artifacts") if path.is_dir()]
    return folder


class Hostile:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize(
    ("name", "error"),
    [("model.pkl", ArtifactRefused), ("python_model.pkl", ArtifactRefused), ("weights.safetensors", ArtifactTampered)],
)
def test_a_hostile_pickle_in_the_champions_folder_does_not_run(corner, tmp_path, tmp_path_factory, name, error):
    mark = tmp_path / "it-ran"
    assert pickle.loads(pickle.dumps(Hostile(mark))) is None  # noqa: S301 - it is hostile indeed
    assert mark.exists()
    mark.unlink()
    day = corner.play(ordinary_day().frame.iloc[:100])
    from flows.jobs import window as job

    state = job.pull(MONITOR, judged_at(day, corner.monitor), "", seed=SEED, reason="test", dry_run=False)
    measured = job.drift(state)
    planted = artifact_folder(corner.town, tmp_path_factory.getbasetemp()) / name
    before = planted.read_bytes() if planted.exists() else None
    shutil.rmtree(corner.loop.settings.cache_dir)
    planted.write_bytes(pickle.dumps(Hostile(mark)))
    try:
        with pytest.raises(error):
            job.evaluate(state, measured)
    finally:
        if before is None:
            planted.unlink()
        else:
            planted.write_bytes(before)
    assert not mark.exists()
    job.evaluate(state, measured)


def test_who_holds_the_lease_of_a_hardening_is_said(town, tmp_path, monkeypatch):
    from flows.jobs import challenger as job
    from registry import leases

    corner = open_corner(town, town.stack.settings.home / "ledger.db", tmp_path, monkeypatch)
    leases.acquire(corner.loop.ledger, MONITOR, job.LEASE, "flow-run-of-a-dead-machine", 3600)
    with pytest.raises(LeaseHeld, match="in the hands of 'flow-run-of-a-dead-machine' until"):
        job.open_hardening(MONITOR, "", "now", SEED, "test")
    corner.close()
