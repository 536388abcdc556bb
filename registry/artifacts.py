"""The files of a stored detector: what may be among them, their digest, and how they become an MLflow model.

Nothing here runs or unpickles anything: bytes are read once, compared with their digest, and handed on.
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domain.digests import digest_bytes, digest_json
from domain.errors import ArtifactMissing, ArtifactRefused, ArtifactTampered
from registry.client import configure_environment

DESCRIPTION = "detector.json"
WEIGHTS = "weights.safetensors"
CODE = "portable.py"
DETECTOR_FILES = (DESCRIPTION, WEIGHTS, CODE)
MODEL_CODE = "model_code.py"
WRAPPER_FILES = (MODEL_CODE, "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt")
META = "registered_model_meta"  # MLflow adds it when a version is made; it is never opened
MAX_FILE_BYTES = 2**30
_CREATED = "2000-01-01 00:00:00.000000"  # a fixed time, so that equal detectors give equal digests

_TAIL = '''

# -- what MLflow's `pyfunc` needs; everything above is a copy of portable.py ---------------------------------------

import mlflow.models  # noqa: E402
import mlflow.pyfunc  # noqa: E402
import pandas  # noqa: E402


class RevetModel(mlflow.pyfunc.PythonModel):
    """Scores a data frame: columns `score` and `verdict`."""

    def load_context(self, context):
        with open(context.artifacts["description"], "rb") as description:
            with open(context.artifacts["weights"], "rb") as weights:
                self.detector = PortableDetector(description.read(), weights.read())

    def predict(self, context, model_input: pandas.DataFrame, params=None):
        return pandas.DataFrame(self.detector.score(model_input))


mlflow.models.set_model(RevetModel())
'''


def manifest(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the digest of each file by name, `registered_model_meta` apart."""
    return {name: digest_bytes(data) for name, data in sorted(files.items()) if name != META}


def artifact_digest(files: Mapping[str, bytes]) -> str:
    """Return the digest of the manifest: one name for exactly these files."""
    return digest_json(manifest(files))


def check_names(names: set[str]) -> None:
    """Return if every file is one that an artifact may hold.

    Raises:
        ArtifactRefused: a file is not on the list, such as a pickle.
    """
    allowed = {*DETECTOR_FILES, *WRAPPER_FILES, META}
    if extra := sorted(names - allowed):
        raise ArtifactRefused(f"the artifact holds {extra}; only {sorted(allowed)} may be in it, and never a pickle")


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files into the new or empty folder `path`.

    Raises:
        ArtifactRefused: a name may not be in an artifact.
    """
    check_names(set(files))
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)


def read_folder(path: Path, expected_digest: str) -> dict[str, bytes]:
    """Return the verified files of the folder by name; nothing is parsed, links are not followed.

    Raises:
        ArtifactMissing: there is no such folder.
        ArtifactRefused: it holds a link, a folder, a too large file or one that may not be in an artifact.
        ArtifactTampered: the bytes have another digest.
    """
    if path.is_symlink() or not path.is_dir():
        raise ArtifactMissing(f"no artifact folder at {path}")
    entries = {entry.name: Path(entry.path) for entry in os.scandir(path)}
    check_names(set(entries))
    files = {name: _read_plain(entry) for name, entry in sorted(entries.items()) if name != META}
    if (found := artifact_digest(files)) != expected_digest:
        raise ArtifactTampered(
            f"the artifact at {path} has digest {found}, the ledger recorded {expected_digest}; "
            "do not use it: restore it, or roll back to an earlier version"
        )
    return files


def _read_plain(path: Path) -> bytes:
    # opened first and judged afterwards, so that nobody can exchange the file in between
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise ArtifactRefused(f"{path} is a link or cannot be read: {error}") from error
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
        os.close(handle)
        raise ArtifactRefused(f"{path} is no plain file of at most {MAX_FILE_BYTES} bytes")
    with os.fdopen(handle, "rb") as file:
        return file.read()


def as_mlflow_model(files: Mapping[str, bytes], requirements: tuple[str, ...] | None = None) -> dict[str, bytes]:
    """Return the detector's files and those that let a notebook use `mlflow.pyfunc.load_model`; equal in, equal out.

    Raises:
        ArtifactMissing: a file of the detector is absent.
        ArtifactRefused: there is another file, or the description is not JSON with a feature space.
    """
    if missing := sorted(set(DETECTOR_FILES) - set(files)):
        raise ArtifactMissing(f"the detector lacks {missing}; it has {sorted(files)}")
    if extra := sorted(set(files) - set(DETECTOR_FILES)):
        raise ArtifactRefused(f"a detector has the files {list(DETECTOR_FILES)} and no others, got {extra}")
    wrapped = dict(files)
    wrapped[MODEL_CODE] = files[CODE].rstrip() + b"\n" + _TAIL.encode()
    pinned = requirements or _installed(("mlflow", "numpy", "pandas", "safetensors", "torch"))
    wrapped.update(_environment_files(pinned))
    wrapped["MLmodel"] = _mlmodel(files)
    return wrapped


def _installed(names: tuple[str, ...]) -> tuple[str, ...]:
    from importlib.metadata import version

    return tuple(f"{name}=={version(name).split('+')[0]}" for name in names)


def _environment_files(requirements: tuple[str, ...]) -> dict[str, bytes]:
    import platform

    import yaml

    python = platform.python_version()
    conda = {
        "name": "revet",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": list(requirements)}],
    }
    env = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    return {
        "requirements.txt": "".join(f"{line}\n" for line in requirements).encode(),
        "conda.yaml": yaml.safe_dump(conda, sort_keys=False).encode(),
        "python_env.yaml": yaml.safe_dump(env, sort_keys=False).encode(),
    }


def _mlmodel(files: Mapping[str, bytes]) -> bytes:
    configure_environment()
    import mlflow.pyfunc
    from mlflow.models import Model

    model = Model(
        utc_time_created=_CREATED,
        model_uuid=uuid.UUID(artifact_digest(files)[:32]).hex,
        signature=_signature(files[DESCRIPTION]),
    )
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow.pyfunc.model",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_code_path=MODEL_CODE,
        artifacts={
            "description": {"path": DESCRIPTION, "uri": DESCRIPTION},
            "weights": {"path": WEIGHTS, "uri": WEIGHTS},
        },
    )
    return str(model.to_yaml()).encode()


def _signature(description: bytes) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    anything: Any = AnyType()  # type: ignore[no-untyped-call]
    # MLflow refuses int64 for `double` and floats for `long`; counts come as either, so they are declared open.
    types = {"real": DataType.double, "categorical": DataType.string}
    try:
        features = json.loads(description)["feature_space"]["features"]
        inputs: list[Any] = [ColSpec(types.get(str(item["kind"]), anything), str(item["name"])) for item in features]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactRefused(f"{DESCRIPTION} names no features ({error!r}); is it a detector?") from error
    outputs: list[Any] = [ColSpec(DataType.double, "score"), ColSpec(DataType.long, "verdict")]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
