"""Work pools and workers, read and made through the API of a Prefect server."""

from __future__ import annotations

import os
import time
from typing import Any

from domain.errors import ConfigError, ServiceUnavailable

_BUSY = {429, 503}
_PAUSES = (0.5, 1.0, 2.0, 4.0)


def _request(method: str, api: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Return status and JSON of one call; the server's password is taken from PREFECT_API_AUTH_STRING.

    Raises:
        ServiceUnavailable: no answer, or the server failed.
    """
    import httpx

    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    headers = {}
    if key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    try:
        for pause in _PAUSES:
            reply = httpx.request(method, f"{api}{path}", json=body, auth=auth, headers=headers, timeout=30.0)
            if reply.status_code not in _BUSY:
                break
            time.sleep(pause)
    except httpx.HTTPError as error:
        raise ServiceUnavailable(
            f"Prefect at {api} does not answer ({error}); start it with `revet up` or set REVET_PREFECT_API_URL"
        ) from error
    if reply.status_code in {401, 403}:
        raise ServiceUnavailable(f"Prefect at {api} refuses us ({reply.status_code}); set PREFECT_API_AUTH_STRING")
    if reply.status_code >= 500:
        raise ServiceUnavailable(f"Prefect at {api} failed with {reply.status_code} on {method} {path}")
    return reply.status_code, reply.json() if reply.content else None


def read_work_pool(api: str, pool: str) -> dict[str, Any] | None:
    """Return what the server knows about `pool`, or None."""
    status, body = _request("GET", api, f"/work_pools/{pool}")
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
    status, reply = _request("POST", api, "/work_pools/", body)
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
    status, body = _request("POST", api, f"/work_pools/{pool}/workers/filter", {})
    return [worker["name"] for worker in body if worker["status"] == "ONLINE"] if status == 200 else []
