"""Environments for the processes that Revet starts: telemetry off, no pickle, absolute addresses."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from domain.settings import ENVIRONMENT_PREFIX, Settings, has_secret

ROOMS = ("domain", "evaluation", "training", "registry", "samples", "flows")
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
}
SAFE = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(ROOMS),
}
_FOREIGN = ("PREFECT_", "MLFLOW_", "_MLFLOW_", ENVIRONMENT_PREFIX)
_KEPT = (f"{ENVIRONMENT_PREFIX}DATA_DIR", f"{ENVIRONMENT_PREFIX}FAILPOINT")


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a copy without the settings of any other Prefect, MLflow or Revet workspace."""
    return {key: value for key, value in environ.items() if key in _KEPT or not key.upper().startswith(_FOREIGN)}


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return the variables from which another process loads the same settings, secrets left out."""
    values = {key: str(getattr(settings, key)) for key in type(settings).model_fields}
    return {
        f"{ENVIRONMENT_PREFIX}{key.upper()}": value for key, value in values.items() if value and not has_secret(value)
    }


def child_environment(settings: Settings, base: Mapping[str, str], *, isolated: bool) -> dict[str, str]:
    """Return the environment for servers, worker and flow runs of a workspace.

    Args:
        settings: the workspace; where a value holds a secret the child gets it, as we did, from the environment.
        base: the environment to start from; it is never changed.
        isolated: leave out ambient Prefect and MLflow settings and profiles, and keep Prefect's home in the workspace.
    """
    environ = scrubbed(base) if isolated else dict(base)
    environ |= {**QUIET, **SAFE}
    for key in type(settings).model_fields:
        if value := str(getattr(settings, key)):
            environ[f"{ENVIRONMENT_PREFIX}{key.upper()}"] = value
    if isolated:
        environ["PREFECT_HOME"] = str(settings.home / "prefect")
        environ["PREFECT_PROFILES_PATH"] = str(settings.home / "prefect" / "profiles.toml")
    if settings.prefect_api_url:
        environ["PREFECT_API_URL"] = settings.prefect_api_url
    if settings.mlflow_tracking_uri:
        environ["MLFLOW_TRACKING_URI"] = settings.mlflow_tracking_uri
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    return environ


def enter(environ: Mapping[str, str]) -> None:
    """Make `environ` the environment of this process; call it before Prefect or MLflow is imported."""
    for key in set(os.environ) - set(environ):
        del os.environ[key]
    os.environ.update(environ)
