"""Work pools and workers, read and made through the API of a Prefect server."""

from __future__ import annotations

from typing import Any

from domain.errors import ConfigError, ServiceUnavailable
from flows.local.prefect_api import call


def read_work_pool(api: str, pool: str) -> dict[str, Any] | None:
    """Return what the server knows about `pool`, or None."""
    status, body = call("GET", api, f"/work_pools/{pool}")
    return dict(body) if status == 200 else None


def ensure_work_pool(api: str, pool: str) -> bool:
    """Make `pool` as a process pool where it is missing; return whether it was made. An existing pool is left as it is.

    Raises:
        ServiceUnavailable: the server does not answer.
    """
    from prefect.workers.process import ProcessWorker

    if read_work_pool(api, pool) is not None:
        return False
    template = ProcessWorker.get_default_base_job_template()
    body = {"name": pool, "type": "process", "base_job_template": template}
    body["description"] = "Flows of Revet, run as processes on the machines of its workers."
    status, reply = call("POST", api, "/work_pools/", body)
    if status not in {201, 409}:
        raise ServiceUnavailable(f"Prefect at {api} did not make the work pool {pool!r}: {status} {reply}")
    return bool(status == 201)


def require_process_pool(api: str, pool: str) -> None:
    """Return when a local worker can serve `pool`.

    Raises:
        ConfigError: the pool is of another type.
    """
    found = read_work_pool(api, pool) or {}
    if found.get("type") != "process":
        raise ConfigError(
            f"work pool {pool!r} is of type {found.get('type')!r}; a local worker needs type 'process': "
            "set REVET_WORK_POOL to another name"
        )


def online_workers(api: str, pool: str) -> list[str]:
    """Return the names of the workers that the server counts as online in `pool`."""
    status, body = call("POST", api, f"/work_pools/{pool}/workers/filter", {})
    return [worker["name"] for worker in body if worker["status"] == "ONLINE"] if status == 200 else []
