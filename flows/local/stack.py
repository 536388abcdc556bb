"""The servers and the worker of one workspace, started together and ended together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from domain.settings import SERVICES_FILE, Settings, load_settings, running_services
from flows.local import mlflow_server, prefect_server
from flows.local.environment import child_environment
from flows.local.processes import Processes, ending_on_signals
from flows.local.worker import start_worker

SERVICES = ("prefect-worker", "mlflow-server", "prefect-server")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """What is up.

    Attributes:
        settings: the workspace's settings with the addresses of the servers filled in.
        environ: the environment for everything that talks to them.
        processes: the children; what was configured elsewhere is not among them.
    """

    settings: Settings
    environ: dict[str, str]
    processes: Processes

    def start_worker(self) -> None:
        """Start the worker; deploy first, so that it finds its work."""
        folder = self.settings.home / "work"
        start_worker(self.processes, self.environ, self.settings.work_pool, folder)

    def keep(self) -> None:
        """Leave everything running; `stop_kept` ends it later."""
        self.processes.keep()

    @property
    def prefect_ui(self) -> str:
        """Address of the Prefect UI."""
        return self.settings.prefect_api_url.removesuffix("/api")


def is_configured(settings: Settings, key: str) -> bool:
    """Return whether a server is named by flag, environment or file, and not merely left over from an earlier start."""
    return bool(getattr(settings, key)) and settings.origin(key) != str(settings.home / SERVICES_FILE)


def _with_addresses(settings: Settings, prefect: str, mlflow: str) -> Settings:
    values = {key: getattr(settings, key) for key in type(settings).model_fields}
    return load_settings(**{**values, "prefect_api_url": prefect, "mlflow_tracking_uri": mlflow})


@contextmanager
def running_stack(
    settings: Settings,
    base: Mapping[str, str] | None = None,
    *,
    isolated: bool,
    progress: Progress = lambda _line: None,
) -> Iterator[Stack]:
    """Start what is not configured, yield it, and end it at the end of the block, also after SIGINT and SIGTERM.

    Args:
        settings: the workspace; configured servers are used as they are.
        base: environment to start from, by default that of this process.
        isolated: ignore all configured servers and ambient settings, and start our own on free ports.
        progress: is told each step.

    Raises:
        ServiceUnavailable: a server did not come up; nothing stays behind.
    """
    processes = Processes(settings.run_dir, settings.logs_dir)
    services = settings.home / SERVICES_FILE

    def stop() -> None:
        if processes.children:
            services.unlink(missing_ok=True)
        processes.stop()

    with ending_on_signals(stop):
        for name in SERVICES:
            processes.end_leftover(name)
        environ = child_environment(settings, os.environ if base is None else base, isolated=isolated)
        prefect, mlflow = settings.prefect_api_url, settings.mlflow_tracking_uri
        if isolated or not is_configured(settings, "prefect_api_url"):
            progress("starting the Prefect server")
            port = 0 if isolated else prefect_server.USUAL_PORT
            home = settings.home / "prefect"
            prefect = prefect_server.start_prefect_server(processes, environ, home, preferred_port=port)[1]
        if isolated or not is_configured(settings, "mlflow_tracking_uri"):
            progress("starting the MLflow server")
            port = 0 if isolated else mlflow_server.USUAL_PORT
            home = settings.home / "mlflow"
            mlflow = mlflow_server.start_mlflow_server(processes, environ, home, preferred_port=port)[1]
        ready = _with_addresses(settings, prefect, mlflow)
        _write_services(services, prefect, mlflow)
        environ = child_environment(ready, environ, isolated=False)
        yield Stack(ready, environ, processes)


def _write_services(path: Path, prefect: str, mlflow: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"prefect_api_url": prefect, "mlflow_tracking_uri": mlflow}), encoding="utf-8")


def stop_kept(settings: Settings) -> list[str]:
    """End what an earlier start left running in this workspace; return the names of what was ended."""
    processes = Processes(settings.run_dir, settings.logs_dir)
    ended = [name for name in SERVICES if processes.end_leftover(name)]
    if running_services(settings.home):
        (settings.home / SERVICES_FILE).unlink(missing_ok=True)
    return ended
