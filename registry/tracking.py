"""MLflow runs: an experiment per monitor, a run that always ends in a state that tells the truth."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from domain.digests import canonical_json
from domain.errors import ConfigError
from domain.names import experiment_name, metric_name
from registry.client import TRAINING_PAGES, answering, experiment_id, open_client

MAX_BATCH = 1000  # MLflow's limits of one log_batch call
MAX_PARAMS = 100
MAX_PARAM_LENGTH = 6000
TABLES_TAG = "mlflow.loggedArtifacts"  # where the MLflow UI finds the tables of a run
FLOW_RUN_TAG = "prefect.flow_run_id"
Content = bytes  # inside RunHandle `bytes` is a method
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunHandle:
    """An open run.

    Attributes:
        run_id: MLflow's id.
        url: its page in the MLflow UI; empty where there is no server.
    """

    tracker: Tracker
    monitor: str
    run_id: str
    url: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; nested values as JSON. A parameter cannot be changed later."""
        from mlflow.entities import Param

        entries = [Param(metric_name(name), _shown(value)[:MAX_PARAM_LENGTH]) for name, value in values.items()]
        with answering(self.tracker.tracking_uri):
            for start in range(0, len(entries), MAX_PARAMS):
                self.tracker.client.log_batch(self.run_id, params=entries[start : start + MAX_PARAMS])

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics in batches; None and NaN, which say nothing, are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(metric_name(name), float(value), now, step)
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        with answering(self.tracker.tracking_uri):
            for start in range(0, len(entries), MAX_BATCH):
                self.tracker.client.log_batch(self.run_id, metrics=entries[start : start + MAX_BATCH])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        with answering(self.tracker.tracking_uri):
            self.tracker.client.log_batch(
                self.run_id, tags=[RunTag(name, str(value)) for name, value in values.items()]
            )

    def text(self, path: str, content: str) -> None:
        """Keep `content` as the artifact `path` (UTF-8)."""
        self.bytes(path, content.encode())

    def bytes(self, path: str, data: Content) -> None:
        """Keep `data` as the artifact `path`.

        Raises:
            ConfigError: the path is absolute or leaves the run's folder.
        """
        place = PurePosixPath(path)
        if place.is_absolute() or ".." in place.parts or not place.name:
            raise ConfigError(f"artifact path {path!r} must be relative and may not hold '..'")
        with tempfile.TemporaryDirectory(prefix="revet-artifact-") as folder, answering(self.tracker.tracking_uri):
            file = Path(folder) / place.name
            file.write_bytes(data)
            inner = str(place.parent) if place.parent != PurePosixPath() else None
            self.tracker.client.log_artifact(self.run_id, str(file), inner)

    def figure(self, path: str, png: Content) -> None:
        """Keep a PNG as the artifact `path`."""
        self.bytes(path, png)

    def table(self, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows as a table that the MLflow UI shows and compares; `path` must end in .json."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        content = {"columns": names, "data": [[_cell(row.get(name)) for name in names] for row in rows]}
        self.text(path, json.dumps(content, default=str))
        with answering(self.tracker.tracking_uri):
            known = self.tracker.client.get_run(self.run_id).data.tags.get(TABLES_TAG, "[]")
            tables = [*json.loads(known), {"path": path, "type": "table"}]
            self.tracker.client.set_tag(self.run_id, TABLES_TAG, json.dumps(tables))

    def dataset(self, name: str, digest: str, rows: int, context: str) -> None:
        """Name a data set as an input of the run, with its role (`training`, `production`, `benchmark`)."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:36],
            source_type="revet",
            source=canonical_json({"digest": digest}),
            profile=canonical_json({"num_rows": rows}),
        )
        tags = [InputTag("mlflow.data.context", context)]
        with answering(self.tracker.tracking_uri):
            self.tracker.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    @contextmanager
    def child(self, name: str, kind: str, tags: Mapping[str, str] | None = None) -> Iterator[RunHandle]:
        """Give a run that is nested in this one; ends as `Tracker.run`."""
        with self.tracker.run(self.monitor, name, kind, tags, parent=self.run_id) as handle:
            yield handle


class Tracker:
    """Opens runs at `tracking_uri`."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self._client: Any = None

    @property
    def client(self) -> Any:
        """MLflow's client, opened at the first use."""
        if self._client is None:
            self._client = open_client(self.tracking_uri)
        return self._client

    @contextmanager
    def run(
        self,
        monitor: str,
        name: str,
        kind: str,
        tags: Mapping[str, str] | None = None,
        parent: str | RunHandle | None = None,
    ) -> Iterator[RunHandle]:
        """Give an open run; it ends FINISHED, FAILED after an exception, KILLED when it is cancelled.

        Raises:
            ServiceUnavailable: MLflow does not answer.
        """
        handle = self._start(monitor, name, kind, tags or {}, parent)
        try:
            yield handle
        except Exception:
            self._end(handle, "FAILED", quiet=True)
            raise
        except BaseException:
            self._end(handle, "KILLED", quiet=True)
            raise
        self._end(handle, "FINISHED", quiet=False)

    def open(self, monitor: str, name: str, kind: str, tags: Mapping[str, str] | None = None) -> RunHandle:
        """Return a run that stays open until `end`: for work that several tasks share.

        Raises:
            ServiceUnavailable: MLflow does not answer.
        """
        return self._start(monitor, name, kind, tags or {}, None)

    def attach(self, monitor: str, run_id: str) -> RunHandle:
        """Return the handle of a run that `open` made."""
        with answering(self.tracking_uri):
            experiment = experiment_id(self.client, self.tracking_uri, experiment_name(monitor))
        url = f"{self._page(experiment)}/runs/{run_id}{TRAINING_PAGES}" if self.tracking_uri.startswith("http") else ""
        return RunHandle(self, monitor, run_id, url)

    def running(self, monitor: str, flow_run_id: str) -> list[str]:
        """Return the ids of the runs that this flow run left open."""
        with answering(self.tracking_uri):
            experiment = experiment_id(self.client, self.tracking_uri, experiment_name(monitor))
            found = self.client.search_runs(
                [experiment], f"tags.`{FLOW_RUN_TAG}` = '{flow_run_id}' and attributes.status = 'RUNNING'"
            )
        return [str(run.info.run_id) for run in found]

    def experiment_url(self, monitor: str) -> str:
        """Return the page of the monitor's experiment; empty where there is no server."""
        if not self.tracking_uri.startswith("http"):
            return ""
        with answering(self.tracking_uri):
            return self._page(experiment_id(self.client, self.tracking_uri, experiment_name(monitor))) + TRAINING_PAGES

    def end(self, run_id: str, status: str) -> None:
        """Set the final state of a run whose process is gone."""
        with answering(self.tracking_uri):
            self.client.set_terminated(run_id, status)

    def _start(
        self, monitor: str, name: str, kind: str, tags: Mapping[str, str], parent: str | RunHandle | None
    ) -> RunHandle:
        all_tags = {"revet.monitor": monitor, "revet.kind": kind, **tags}
        if parent is not None:
            all_tags["mlflow.parentRunId"] = parent.run_id if isinstance(parent, RunHandle) else parent
        with answering(self.tracking_uri):
            experiment = experiment_id(self.client, self.tracking_uri, experiment_name(monitor))
            run = self.client.create_run(experiment, tags=all_tags, run_name=name)
        run_id = str(run.info.run_id)
        url = f"{self._page(experiment)}/runs/{run_id}{TRAINING_PAGES}" if self.tracking_uri.startswith("http") else ""
        return RunHandle(self, monitor, run_id, url)

    def _end(self, handle: RunHandle, status: str, *, quiet: bool) -> None:
        """Set the final state; `quiet` lets the error that ends the run win over one of MLflow."""
        if not quiet:
            self.end(handle.run_id, status)
            return
        with suppress(Exception):
            self.end(handle.run_id, status)
            return
        _LOG.warning("run %s could not be marked %s: MLflow does not answer", handle.run_id, status)

    def _page(self, experiment: str) -> str:
        return f"{self.tracking_uri.rstrip('/')}/#/experiments/{experiment}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _cell(value: Any) -> Any:
    """Return `value`, or None for NaN and infinities, which JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
