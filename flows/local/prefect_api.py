"""Calls to the API of a Prefect server, for what needs no Prefect client: one small import, one clear error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from domain.errors import ConfigError, ServiceUnavailable

_BUSY = {429, 503}
_PAUSES = (0.5, 1.0, 2.0, 4.0)
FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


def call(method: str, api: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
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


@dataclass(frozen=True)
class FlowRun:
    """A flow run as the server sees it."""

    id: str
    name: str
    state: str
    message: str

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL


def start_run(api: str, deployment: str, parameters: dict[str, Any]) -> FlowRun:
    """Ask for a run of `deployment` with changed `parameters`; a worker starts it.

    Raises:
        ConfigError: there is no such deployment, or it refuses the parameters.
        ServiceUnavailable: the server does not answer.
    """
    status, found = call("GET", api, f"/deployments/name/{deployment}")
    if status == 404:
        raise ConfigError(f"Prefect at {api} has no deployment {deployment!r}; make it with `revet deploy`")
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    status, made = call("POST", api, f"/deployments/{found['id']}/create_flow_run", body)
    if status >= 400:
        raise ConfigError(f"deployment {deployment!r} refuses {parameters}: {made.get('detail', made)}")
    return _flow_run(made)


def read_run(api: str, run: str) -> FlowRun:
    """Return the flow run with that id.

    Raises:
        ConfigError: there is none.
    """
    status, found = call("GET", api, f"/flow_runs/{run}")
    if status != 200:
        raise ConfigError(f"Prefect at {api} has no flow run {run!r}")
    return _flow_run(found)


def wait_for_run(api: str, run: str, seconds: float, progress: Callable[[FlowRun], None]) -> FlowRun:
    """Return the flow run once it has ended; `progress` sees it after each look.

    Raises:
        ServiceUnavailable: it has not ended in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = read_run(api, run)
        progress(found)
        if found.is_final:
            return found
        time.sleep(1.0)
    raise ServiceUnavailable(f"flow run {run} is still {found.state} after {seconds:.0f} s; is a worker running?")


def _flow_run(body: dict[str, Any]) -> FlowRun:
    state = body.get("state") or {}
    return FlowRun(body["id"], body["name"], state.get("type", "PENDING"), state.get("message") or "")
