"""The process work pool and the worker that runs flows from it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from flows.local.processes import Child, Processes, python_module
from flows.local.work_pools import ensure_work_pool, online_workers, require_process_pool

START_SECONDS = 120.0
QUERY_SECONDS = "2"


def start_worker(processes: Processes, environ: Mapping[str, str], pool: str, home: Path) -> Child:
    """Make the pool where it is missing, start a worker on it and wait until the server has seen it.

    Args:
        processes: who ends the worker.
        environ: must hold PREFECT_API_URL.
        pool: name of the work pool.
        home: folder in which the worker runs.

    Raises:
        ConfigError: the pool is of a type that a local worker cannot serve.
        ServiceUnavailable: the server does not answer or the worker did not come up.
    """
    api = environ["PREFECT_API_URL"]
    ensure_work_pool(api, pool)
    require_process_pool(api, pool)
    name = f"revet-{uuid.uuid4().hex[:8]}"
    command = python_module("prefect", "worker", "start", "--type", "process", "--pool", pool, "--name", name)
    home.mkdir(parents=True, exist_ok=True)
    child = processes.start(
        "prefect-worker", command, {**environ, "PREFECT_WORKER_QUERY_SECONDS": QUERY_SECONDS}, folder=home
    )
    processes.wait(child, lambda: name in online_workers(api, pool), START_SECONDS)
    return child
