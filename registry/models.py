"""Detectors in MLflow's model registry: untrusted storage, written through the LoggedModel client, read by digest."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain.digests import digest_bytes
from domain.errors import ArtifactMissing, ArtifactRefused, ArtifactTampered, ServiceUnavailable
from domain.names import experiment_name, model_name
from registry.artifacts import DETECTOR_FILES, artifact_digest, as_mlflow_model, read_folder, write_folder
from registry.client import TRAINING_PAGES, answering, experiment_id, is_missing, is_taken, open_client

KEY_TAG = "revet.key"
KEY_DIGEST_TAG = "revet.key_digest"  # what is searched for: a key may hold characters that MLflow's filters refuse
DIGEST_TAG = "revet.digest"
_ATTEMPTS = 5
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in MLflow; `digest` covers every file of it and is what the ledger must record."""

    version: int
    digest: str
    model_id: str


class ModelRegistry:
    """The registered model of each monitor.

    Attributes:
        tracking_uri: MLflow's server or database.
        cache: folder of verified downloads, by digest; may be deleted at any time.
    """

    def __init__(self, tracking_uri: str, cache: Path) -> None:
        self.tracking_uri = tracking_uri
        self.cache = cache
        self._client: Any = None

    @property
    def client(self) -> Any:
        """MLflow's client, opened at the first use."""
        if self._client is None:
            self._client = open_client(self.tracking_uri)
        return self._client

    def register(
        self,
        monitor: str,
        files: Mapping[str, bytes],
        *,
        key: str,
        run_id: str = "",
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        description: str = "",
    ) -> RegisteredVersion:
        """Store the detector as a new version and return it; the version that `key` made is returned instead.

        `files` are the three files of a detector. The digest is always that of `files`, never what MLflow says.

        Raises:
            ArtifactMissing, ArtifactRefused: the files are not those of a detector.
            ArtifactTampered: the version that `key` made has another digest in MLflow.
            ServiceUnavailable: MLflow does not answer.
        """
        name = model_name(monitor)
        with answering(self.tracking_uri):
            wrapped = as_mlflow_model(files)
            digest = artifact_digest(wrapped)
            if found := self._by_key(name, key, digest):
                return found
            self._ensure_model(name, monitor)
            model_id = self._upload(monitor, name, wrapped, run_id=run_id, tags={**(tags or {}), KEY_TAG: key})
            if metrics:
                self._log_metrics(model_id, run_id, metrics)
            all_tags = {**(tags or {}), KEY_TAG: key, KEY_DIGEST_TAG: digest_bytes(key.encode()), DIGEST_TAG: digest}
            self._create_version(name, model_id, run_id, all_tags, description)
            made = self._by_key(name, key, digest)  # the lowest version of this key, should two have raced
        if made:
            return made
        raise ServiceUnavailable(f"MLflow lost the version of {name!r} with key {key!r} right after it was made")

    def fetch(self, monitor: str, version: int, expected_digest: str) -> dict[str, bytes]:
        """Return the detector's files of a version, verified against `expected_digest` before anything is parsed.

        Raises:
            ArtifactMissing: there is no such version, or its files are gone.
            ArtifactRefused, ArtifactTampered: as `read_folder`.
            ServiceUnavailable: MLflow does not answer.
        """
        cached = self.cache / expected_digest
        if cached.is_dir():
            try:
                return _detector_files(read_folder(cached, expected_digest))
            except (ArtifactRefused, ArtifactTampered, ArtifactMissing) as error:
                _LOG.warning("the cached artifact %s is damaged and is fetched again: %s", cached, error)
                shutil.rmtree(cached, ignore_errors=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".fetch-") as folder:
            with answering(self.tracking_uri):
                self._download(monitor, version, Path(folder) / "artifact")
            files = read_folder(Path(folder) / "artifact", expected_digest)
            fresh = Path(folder) / "verified"
            write_folder(fresh, files)
            if not cached.exists():
                try:
                    fresh.rename(cached)
                except OSError as error:  # another process was quicker
                    _LOG.debug("cache of %s not written: %s", expected_digest, error)
        return _detector_files(files)

    def champion_alias(self, monitor: str) -> int | None:
        """Return the version that the alias `champion` shows, or None; raises as `alias`."""
        return self.alias(monitor, "champion")

    def alias(self, monitor: str, alias: str) -> int | None:
        """Return the version that `alias` shows, or None.

        Raises:
            ServiceUnavailable: MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        with answering(self.tracking_uri):
            try:
                return int(self.client.get_model_version_by_alias(model_name(monitor), alias).version)
            except MlflowException as error:
                if is_missing(error):
                    return None
                raise

    def set_alias(self, monitor: str, alias: str, version: int) -> None:
        """Let `alias` show `version`. The champion's alias is only set by promotion, under the ledger's lock.

        Raises:
            ArtifactMissing: there is no such version.
            ServiceUnavailable: MLflow does not answer.
        """
        with self._existing(monitor, version):
            self.client.set_registered_model_alias(model_name(monitor), alias, str(version))

    def drop_alias(self, monitor: str, alias: str) -> None:
        """Take `alias` away, whatever it shows; does nothing where there is none."""
        with answering(self.tracking_uri):
            self.client.delete_registered_model_alias(model_name(monitor), alias)

    def set_tags(self, monitor: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version.

        Raises:
            ArtifactMissing: there is no such version.
            ServiceUnavailable: MLflow does not answer.
        """
        for name, value in tags.items():
            with self._existing(monitor, version):
                self.client.set_model_version_tag(model_name(monitor), str(version), name, value)

    def url(self, monitor: str, version: int) -> str:
        """Return the page of a version in the MLflow UI; empty where there is no server."""
        if not self.tracking_uri.startswith("http"):
            return ""
        return f"{self.tracking_uri.rstrip('/')}/#/models/{model_name(monitor)}/versions/{version}{TRAINING_PAGES}"

    @contextmanager
    def _existing(self, monitor: str, version: int) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        with answering(self.tracking_uri):
            try:
                yield
            except MlflowException as error:
                if is_missing(error):
                    text = f"MLflow has no version {version} of {model_name(monitor)!r}; restore MLflow's database"
                    raise ArtifactMissing(text) from error
                raise

    def _by_key(self, name: str, key: str, expected: str) -> RegisteredVersion | None:
        wanted = digest_bytes(key.encode())
        found = self.client.search_model_versions(f"name='{name}' and tags.`{KEY_DIGEST_TAG}`='{wanted}'")
        if not found:
            return None
        first = min(found, key=lambda version: int(version.version))
        if (tag := first.tags.get(DIGEST_TAG)) != expected:
            raise ArtifactTampered(
                f"version {first.version} of {name!r} (key {key!r}) has digest {tag} in MLflow, the files to register "
                f"have {expected}; find out who changed it, delete that version in MLflow and run again"
            )
        for other in found:
            if other.version != first.version and other.tags.get("revet.status") != "duplicate":
                self.client.set_model_version_tag(name, other.version, "revet.status", "duplicate")
        return RegisteredVersion(int(first.version), expected, _model_id(first))

    def _ensure_model(self, name: str, monitor: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(
                name,
                tags={"revet.monitor": monitor},
                description=f"The detector that Revet's monitor {monitor} guards.",
            )
        except MlflowException as error:
            if not is_taken(error):
                raise

    def _upload(
        self, monitor: str, name: str, files: Mapping[str, bytes], *, run_id: str, tags: Mapping[str, str]
    ) -> str:
        experiment = experiment_id(self.client, self.tracking_uri, experiment_name(monitor))
        model = self.client.create_logged_model(
            experiment, name=name, source_run_id=run_id or None, tags=dict(tags), model_type="detector"
        )
        try:
            with tempfile.TemporaryDirectory(prefix="revet-upload-") as folder:
                write_folder(Path(folder), files)
                self.client.log_model_artifacts(model.model_id, folder)
        except BaseException:
            self.client.finalize_logged_model(model.model_id, "FAILED")
            raise
        self.client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _log_metrics(self, model_id: str, run_id: str, metrics: Mapping[str, float]) -> None:
        if not run_id:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(name, float(value), now, 0, model_id=model_id) for name, value in metrics.items()]
        self.client.log_batch(run_id, metrics=entries)

    def _create_version(self, name: str, model_id: str, run_id: str, tags: Mapping[str, str], description: str) -> None:
        import mlflow
        from mlflow.exceptions import MlflowException

        if self.tracking_uri.startswith("sqlite:"):  # without a server MLflow looks the model up at the global address
            mlflow.set_tracking_uri(self.tracking_uri)
        for attempt in range(_ATTEMPTS):
            try:
                self.client.create_model_version(
                    name, source=f"models:/{model_id}", run_id=run_id or None, tags=dict(tags), model_id=model_id,
                    description=description or None,
                )  # fmt: skip
            except MlflowException as error:
                if error.error_code not in {"RESOURCE_CONFLICT", "RESOURCE_ALREADY_EXISTS"} or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
            else:
                return

    def _download(self, monitor: str, version: int, target: Path) -> None:
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version(model_name(monitor), str(version))
            location = self.client.get_logged_model(_model_id(found)).artifact_location
        except MlflowException as error:
            if is_missing(error):
                raise ArtifactMissing(f"MLflow has no version {version} of {model_name(monitor)!r}") from error
            raise
        from mlflow.artifacts import download_artifacts

        target.mkdir()
        try:
            path = Path(download_artifacts(location, dst_path=str(target), tracking_uri=self.tracking_uri))
        except (OSError, MlflowException) as error:
            text = f"the files of {model_name(monitor)!r} version {version} cannot be read: {error}"
            raise ArtifactMissing(text) from error
        _flatten(path, target)


def _model_id(version: Any) -> str:
    return str(version.model_id or str(version.source).removeprefix("models:/"))


def _detector_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name in DETECTOR_FILES}


def _flatten(path: Path, target: Path) -> None:
    """Move the files that MLflow put into a sub-folder of `target` up into it."""
    if path.resolve() == target.resolve():
        return
    for entry in list(path.iterdir()):
        entry.rename(target / entry.name)
    path.rmdir()
