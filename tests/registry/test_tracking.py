from __future__ import annotations

import json

import pytest

from domain.errors import ConfigError
from registry.tracking import Tracker
from tests.registry.conftest import MLFLOW_WARNINGS

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


@pytest.fixture
def tracker(mlflow_uri):
    return Tracker(mlflow_uri)


def test_a_run_keeps_parameters_metrics_files_tables_and_inputs(tracker, tmp_path):
    with tracker.run("m", "window 1", "reevaluate", {"window": "1"}) as run:
        run.params({"epsilon": 0.2, "hidden": [8, 8], "name": "x"})
        run.metrics({"robust/pgd/eps=0.5/detection_rate": 0.5, "nothing": None, "not": float("nan")})
        run.text("notes/verdict.md", "# healthy")
        run.figure("figures/curve.png", b"\x89PNG")
        run.table("slices.json", [{"family": "bot", "n": 3}, {"family": "scan", "rate": float("nan")}])
        run.dataset("benchmark", "a" * 64, 100, "benchmark")
        run.tags({"verdict": "healthy"})
    found = tracker.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"epsilon": "0.2", "hidden": "[8,8]", "name": "x"}
    assert found.data.metrics == {"robust/pgd/eps-0.5/detection_rate": 0.5}
    assert found.data.tags["revet.kind"] == "reevaluate"
    assert found.data.tags["verdict"] == "healthy"
    assert [(each.dataset.name, each.tags[0].value) for each in found.inputs.dataset_inputs] == [
        ("benchmark", "benchmark")
    ]
    path = tracker.client.download_artifacts(run.run_id, "slices.json", str(tmp_path))
    with open(path) as file:  # noqa: PTH123
        table = json.load(file)
    assert table == {"columns": ["family", "n", "rate"], "data": [["bot", 3, None], ["scan", None, None]]}
    assert json.loads(found.data.tags["mlflow.loggedArtifacts"]) == [{"path": "slices.json", "type": "table"}]
    assert tracker.client.get_experiment(found.info.experiment_id).name == "revet/m"


def test_more_metrics_than_one_batch_holds_arrive(tracker):
    with tracker.run("m", "many", "test") as run:
        run.metrics({f"m{index}": index for index in range(1234)})
        run.params({f"p{index}": index for index in range(150)})
    found = tracker.client.get_run(run.run_id).data
    assert (len(found.metrics), len(found.params)) == (1234, 150)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_a_run_that_fails_or_is_cancelled_says_so_and_the_error_goes_on(tracker, error, status):
    with pytest.raises(error), tracker.run("m", "x", "test") as run:
        raise error
    assert tracker.client.get_run(run.run_id).info.status == status


def test_the_error_of_the_body_wins_when_mlflow_is_gone_too(tracker, monkeypatch):
    def gone(*_):
        raise ConnectionError

    monkeypatch.setattr(tracker.client, "set_terminated", gone)
    with pytest.raises(ValueError, match="body"), tracker.run("m", "x", "test"):
        raise ValueError("body")


def test_a_child_run_is_nested_and_ends_by_itself(tracker):
    with tracker.run("m", "parent", "reevaluate") as run:
        with pytest.raises(ValueError), run.child("pgd", "attack") as child:
            raise ValueError
        assert tracker.client.get_run(run.run_id).info.status == "RUNNING"
    found = tracker.client.get_run(child.run_id)
    assert found.data.tags["mlflow.parentRunId"] == run.run_id
    assert (found.info.status, tracker.client.get_run(run.run_id).info.status) == ("FAILED", "FINISHED")


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ""])
def test_an_artifact_never_leaves_the_folder_of_its_run(tracker, path):
    with tracker.run("m", "x", "test") as run, pytest.raises(ConfigError, match="relative"):
        run.bytes(path, b"")


def test_a_deleted_experiment_comes_back(tracker):
    with tracker.run("m", "x", "test") as run:
        pass
    experiment = tracker.client.get_run(run.run_id).info.experiment_id
    tracker.client.delete_experiment(experiment)
    with tracker.run("m", "y", "test") as run:
        pass
    assert tracker.client.get_run(run.run_id).info.experiment_id == experiment


def test_a_server_shows_runs_under_their_address(mlflow_url):
    tracker = Tracker(mlflow_url)
    with tracker.run("served", "x", "test") as run:
        run.metrics({"a": 1.0})
        run.text("a.txt", "x")
    experiment = tracker.client.get_run(run.run_id).info.experiment_id
    assert run.url == f"{mlflow_url}/#/experiments/{experiment}/runs/{run.run_id}?workflowType=machine_learning"
    assert tracker.experiment_url("served") == f"{mlflow_url}/#/experiments/{experiment}?workflowType=machine_learning"
