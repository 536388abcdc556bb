"""One function family makes every key and metric name from monitor, flow and measurement.

Artifact keys of Prefect refuse `_` and capitals; metric names of MLflow refuse `@` and `=`.
"""

from __future__ import annotations

import re

_ARTIFACT_REFUSED = re.compile(r"[^a-z0-9-]+")
_METRIC_REFUSED = re.compile(r"[^A-Za-z0-9_\-. :/]+")
MAX_METRIC_LENGTH = 250


def artifact_key(*parts: str) -> str:
    """Return a Prefect artifact key: lower-case letters, digits and dashes only."""
    key = "-".join(_ARTIFACT_REFUSED.sub("-", part.lower()).strip("-") for part in parts)
    return key.strip("-") or "artifact"


def metric_name(*parts: str | float) -> str:
    """Return an MLflow metric name such as `robust/pgd/eps-0.5/detection_rate`."""
    cleaned = [_METRIC_REFUSED.sub("-", str(part)).strip("/ ") or "-" for part in parts]
    return "/".join(cleaned)[:MAX_METRIC_LENGTH]


def experiment_name(monitor: str) -> str:
    """Return the MLflow experiment of a monitor."""
    return f"revet/{monitor}"


def model_name(monitor: str) -> str:
    """Return the MLflow registered model of a monitor."""
    return f"revet-{monitor}"


def deployment_name(flow: str, monitor: str) -> str:
    """Return `<flow>/<monitor>`, as Prefect shows a deployment."""
    return f"{flow}/{monitor}"
