from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domain.digests import digest_bytes
from domain.errors import ArtifactMissing, ArtifactRefused, ArtifactTampered, ServiceUnavailable
from domain.names import model_name
from evaluation.detectors.detector import Detector
from registry.artifacts import artifact_digest, as_mlflow_model
from registry.models import DIGEST_TAG, KEY_DIGEST_TAG, ModelRegistry, RegisteredVersion
from tests.registry.conftest import MLFLOW_WARNINGS
from tests.registry.test_artifacts import Bomb

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]


@pytest.fixture
def models(mlflow_uri, tmp_path):
    return ModelRegistry(mlflow_uri, tmp_path / "cache")


def folder_of(models: ModelRegistry, made: RegisteredVersion) -> Path:
    location = models.client.get_logged_model(made.model_id).artifact_location
    return Path(location.removeprefix("file://"))


def rows(files: dict[str, bytes], count: int = 5) -> pd.DataFrame:
    columns = {}
    for index, feature in enumerate(json.loads(files["detector.json"])["feature_space"]["features"]):
        if feature["kind"] == "categorical":
            columns[feature["name"]] = [feature["categories"][row % 2] for row in range(count)]
        elif feature["kind"] == "real":
            columns[feature["name"]] = np.linspace(0.0, 0.5, count)
        else:
            columns[feature["name"]] = (np.arange(count) + index) % 2
    return pd.DataFrame(columns)


def test_a_detector_comes_back_byte_for_byte_and_scores_the_same(models, detector_files):
    made = models.register("m", detector_files, key="k", tags={"a": "b"}, description="first")
    assert made.version == 1
    files = models.fetch("m", 1, made.digest)
    assert files == detector_files
    before, after = Detector.from_files(detector_files), Detector.from_files(files)
    frame = rows(detector_files)
    np.testing.assert_array_equal(before.score(frame).logit, after.score(frame).logit)


def test_the_digest_is_known_before_anything_is_uploaded(models, detector_files):
    made = models.register("m", detector_files, key="k")
    assert made.digest == artifact_digest(as_mlflow_model(detector_files))


def test_the_same_key_registers_once_and_another_key_again(models, detector_files):
    first = models.register("m", detector_files, key="it's")
    assert models.register("m", detector_files, key="it's") == first
    assert models.register("m", detector_files, key="other").version == 2
    assert models.register("another", detector_files, key="it's").version == 1


def test_of_two_versions_with_one_key_the_lowest_counts_and_the_other_is_marked(models, detector_files):
    first = models.register("m", detector_files, key="k")
    models._create_version(
        model_name("m"),
        first.model_id,
        "",
        {KEY_DIGEST_TAG: digest_bytes(b"k"), "revet.digest": first.digest},
        "a race",
    )
    assert models.register("m", detector_files, key="k") == first
    assert models.client.get_model_version(model_name("m"), "2").tags["revet.status"] == "duplicate"


def test_a_digest_that_somebody_changed_in_mlflow_never_reaches_the_ledger(models, detector_files):
    models.register("m", detector_files, key="k")
    models.set_tags("m", 1, {DIGEST_TAG: "0" * 64})
    with pytest.raises(ArtifactTampered, match="has digest 0000"):
        models.register("m", detector_files, key="k")
    models.client.delete_model_version_tag(model_name("m"), "1", DIGEST_TAG)
    with pytest.raises(ArtifactTampered, match="has digest None"):
        models.register("m", detector_files, key="k")


@pytest.mark.parametrize("name", ["weights.safetensors", "detector.json", "model_code.py", "MLmodel"])
def test_changed_bytes_in_mlflow_are_found_before_they_are_parsed(models, detector_files, name):
    made = models.register("m", detector_files, key="k")
    file = folder_of(models, made) / name
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(ArtifactTampered):
        models.fetch("m", made.version, made.digest)


def test_a_hostile_pickle_in_the_artifact_never_runs(models, detector_files, tmp_path):
    made = models.register("m", detector_files, key="k")
    bomb = pickle.dumps(Bomb(tmp_path / "boom"))
    (folder_of(models, made) / "python_model.pkl").write_bytes(bomb)
    with pytest.raises(ArtifactRefused, match=r"python_model\.pkl"):
        models.fetch("m", made.version, made.digest)
    (folder_of(models, made) / "python_model.pkl").unlink()
    (folder_of(models, made) / "weights.safetensors").write_bytes(bomb)
    with pytest.raises(ArtifactTampered):
        models.fetch("m", made.version, made.digest)
    hostile = {**detector_files, "weights.safetensors": bomb}
    signed = models.register("m", hostile, key="hostile")  # even if the ledger's digest covered it
    with pytest.raises(ArtifactRefused):
        Detector.from_files(models.fetch("m", signed.version, signed.digest))
    assert not (tmp_path / "boom").exists()
    pickle.loads(bomb)  # noqa: S301 - shows that the bomb is live
    assert (tmp_path / "boom").exists()


def test_fetching_and_rebuilding_a_champion_unpickles_nothing(models, detector_files, tmp_path):
    made = models.register("m", detector_files, key="k")
    code = f"""
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" else None)
from pathlib import Path
from evaluation.detectors.detector import Detector
from registry.models import KEY_DIGEST_TAG, ModelRegistry
import mlflow, mlflow.artifacts, torch
seen.clear()
files = ModelRegistry({models.tracking_uri!r}, Path({str(tmp_path / "other")!r})).fetch("m", 1, {made.digest!r})
Detector.from_files(files)
print(len(seen))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "0"


def test_a_damaged_cache_is_fetched_again(models, detector_files):
    made = models.register("m", detector_files, key="k")
    models.fetch("m", 1, made.digest)
    (models.cache / made.digest / "portable.py").write_text("import os")
    assert models.fetch("m", 1, made.digest) == detector_files


def test_the_cache_serves_while_mlflow_is_gone(models, detector_files):
    made = models.register("m", detector_files, key="k")
    models.fetch("m", 1, made.digest)
    away = ModelRegistry("http://127.0.0.1:1", models.cache)
    assert away.fetch("m", 1, made.digest) == detector_files


def test_a_version_that_does_not_exist_is_missing(models, detector_files):
    made = models.register("m", detector_files, key="k")
    with pytest.raises(ArtifactMissing, match="version 9"):
        models.fetch("m", 9, made.digest)
    with pytest.raises(ArtifactMissing, match="version 9"):
        models.set_alias("m", "champion", 9)
    with pytest.raises(ArtifactMissing, match="version 9"):
        models.set_tags("m", 9, {"a": "b"})


def test_aliases_are_set_moved_and_read(models, detector_files):
    assert models.champion_alias("m") is None
    for key in ("a", "b"):
        models.register("m", detector_files, key=key)
    assert models.champion_alias("m") is None
    models.set_alias("m", "champion", 2)
    models.set_alias("m", "champion", 1)
    models.set_tags("m", 1, {"revet.epoch": "3"})
    assert models.champion_alias("m") == 1
    assert models.client.get_model_version(model_name("m"), "1").tags["revet.epoch"] == "3"


@pytest.mark.parametrize("change", [{"model.pkl": b""}, {"weights.safetensors": None}])
def test_only_the_three_files_of_a_detector_are_registered(models, detector_files, change):
    files = {name: data for name, data in {**detector_files, **change}.items() if data is not None}
    with pytest.raises((ArtifactRefused, ArtifactMissing)):
        models.register("m", files, key="k")


def test_a_server_that_is_down_gives_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:1 .*revet up"):
        ModelRegistry("http://127.0.0.1:1", tmp_path).champion_alias("m")


def test_a_notebook_loads_the_champion_by_its_alias_without_pickle(mlflow_url, tmp_path, detector_files):
    models = ModelRegistry(mlflow_url, tmp_path / "cache")
    made = models.register("notebook", detector_files, key="k")
    models.set_alias("notebook", "champion", made.version)
    assert models.fetch("notebook", made.version, made.digest) == detector_files
    frame = rows(detector_files)
    frame.to_json(tmp_path / "rows.json", orient="table", index=False)
    code = f"""
import mlflow, pandas
mlflow.set_tracking_uri({mlflow_url!r})
model = mlflow.pyfunc.load_model("models:/revet-notebook@champion")
frame = pandas.read_json({str(tmp_path / "rows.json")!r}, orient="table")
print(model.predict(frame).to_json())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = pd.DataFrame(json.loads(done.stdout.splitlines()[-1]))
    wanted = Detector.from_files(detector_files).score(frame)
    np.testing.assert_allclose(found["score"].to_numpy(), wanted.score, atol=1e-6)
    assert found["verdict"].astype(bool).tolist() == wanted.verdict.tolist()
    assert models.url("notebook", 1).startswith(mlflow_url)
