"""MLflow's client: opened with telemetry and pickle off, bounded in time; its failures become Revet's errors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from domain.errors import RevetError, ServiceUnavailable

_FORCED = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_ATTEMPTS = 5


def configure_environment() -> None:
    """Set what MLflow reads from the environment: no telemetry, no pickle, short time-outs, few retries."""
    os.environ.update(_FORCED)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


configure_environment()


def open_client(tracking_uri: str) -> Any:
    """Return an `MlflowClient` for runs and models of `tracking_uri`."""
    from mlflow import MlflowClient

    with answering(tracking_uri):
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def answering(tracking_uri: str) -> Iterator[None]:
    """Turn a failure to reach MLflow into one clear error.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except RevetError:
        raise
    except (RequestException, OperationalError) as error:
        raise ServiceUnavailable(_unreachable(tracking_uri, error)) from error
    except MlflowException as error:
        lost = error.error_code in {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
        if lost or "API request to" in str(error):
            raise ServiceUnavailable(_unreachable(tracking_uri, error)) from error
        raise


def is_missing(error: Exception) -> bool:
    """Return whether MLflow says that something does not exist."""
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in str(error))


def is_taken(error: Exception) -> bool:
    """Return whether MLflow says that a name is taken already."""
    return getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS"


def _unreachable(tracking_uri: str, error: Exception) -> str:
    place = urlsplit(tracking_uri)
    shown = f"{place.scheme}://{place.hostname or ''}{f':{place.port}' if place.port else ''}{place.path}"
    return f"MLflow at {shown} does not answer: {str(error).splitlines()[0][:300]}; start it with `revet up`"


# MLflow 3.17 begins with its pages for language models, where our runs do not show.
TRAINING_PAGES = "?workflowType=machine_learning"
_KIND = {"mlflow.experimentKind": "custom_model_development"}


def experiment_id(client: Any, tracking_uri: str, name: str) -> str:
    """Return the id of the experiment `name`; makes it, or brings it back, where needed."""
    from mlflow.exceptions import MlflowException

    for attempt in range(_ATTEMPTS):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        try:
            where = _artifact_location(tracking_uri, name)
            return str(client.create_experiment(name, artifact_location=where, tags=dict(_KIND)))
        except MlflowException as error:
            if not is_taken(error) or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.1 * (attempt + 1))
    raise ServiceUnavailable(f"experiment {name!r} can neither be made nor read")


def _artifact_location(tracking_uri: str, name: str) -> str | None:
    """Return a folder beside a SQLite database (the default would be the folder of the process); servers choose."""
    if not tracking_uri.startswith("sqlite:///"):
        return None
    folder = Path(tracking_uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts" / name.replace("/", "-")
    return folder.as_uri()
