"""Fixtures for all tests: telemetry off before any library is imported, and the real servers of `tests/services.py`."""

from __future__ import annotations

import os

os.environ.update(
    DO_NOT_TRACK="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
    PREFECT_RESULTS_DEFAULT_SERIALIZER="json",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
    GX_ANALYTICS_ENABLED="false",
    MPLBACKEND="agg",
)

pytest_plugins = ["tests.services"]
