"""Real servers for tests: one of each a test session, ended by id; `tests/conftest.py` makes them known."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the API address of a Prefect server of this test session."""
    from flows.local.environment import QUIET, SAFE, scrubbed
    from flows.local.prefect_server import start_prefect_server
    from flows.local.processes import Processes

    folder = tmp_path_factory.mktemp("prefect")
    processes = Processes(folder / "run", folder / "logs")
    environ = {**scrubbed(os.environ), **QUIET, **SAFE, "PREFECT_PROFILES_PATH": str(folder / "profiles.toml")}
    try:
        yield start_prefect_server(processes, environ, folder / "home")[1]
    finally:
        processes.stop()
