"""A Prefect server of our own on the loopback interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flows.local.ports import HOST, free_port
from flows.local.probes import answers
from flows.local.processes import Child, Processes, python_module

START_SECONDS = 180.0
USUAL_PORT = 4200


def prefect_environment(base: Mapping[str, str], home: Path, port: int) -> dict[str, str]:
    """Return the environment of the server: its own home and database, the UI's address, no telemetry."""
    api = f"http://{HOST}:{port}/api"
    environ = {key: value for key, value in base.items() if key != "PREFECT_PROFILE"}
    return environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }


def start_prefect_server(
    processes: Processes, environ: Mapping[str, str], home: Path, *, preferred_port: int = 0
) -> tuple[Child, str]:
    """Start a server and wait until it is healthy; return the process and the address of its API.

    Raises:
        ServiceUnavailable: it did not come up.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port(preferred_port)
    command = python_module("prefect", "server", "start", "--host", HOST, "--port", str(port))
    child = processes.start("prefect-server", command, prefect_environment(environ, home, port))
    processes.wait(child, lambda: answers(f"http://{HOST}:{port}/api/health"), START_SECONDS)
    return child, f"http://{HOST}:{port}/api"
