"""An MLflow server of our own on the loopback interface: SQLite behind, artifacts served from a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flows.local.ports import HOST, free_port
from flows.local.probes import answers
from flows.local.processes import Child, Processes, python_module

START_SECONDS = 180.0
USUAL_PORT = 5000


def start_mlflow_server(
    processes: Processes, environ: Mapping[str, str], home: Path, *, preferred_port: int = 0
) -> tuple[Child, str]:
    """Start a server and wait until it is healthy; return the process and its address.

    Raises:
        ServiceUnavailable: it did not come up.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port(preferred_port)
    own = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "DO_NOT_TRACK": "true",
    }
    command = python_module("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1")
    command += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]
    command += ["--serve-artifacts", "--artifacts-destination", str(home / "artifacts")]
    without = {key: value for key, value in environ.items() if key != "MLFLOW_TRACKING_URI"}
    child = processes.start("mlflow-server", command, without | own)
    processes.wait(child, lambda: answers(f"http://{HOST}:{port}/health"), START_SECONDS)
    return child, f"http://{HOST}:{port}"
