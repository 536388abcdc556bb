"""What is put in order when a flow run fails, crashes or is cancelled: ledger steps, MLflow runs, leases."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from domain.errors import RevetError
from domain.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from flows.local.prefect_api import call
from flows.wiring import Loop, open_loop
from registry.leases import release_holder
from registry.queues import abort_steps

_LOG = logging.getLogger(__name__)


def clean_up(flow: Any, flow_run: Any, state: Any) -> None:
    """Abort this flow run's ledger steps, end its MLflow runs, free its leases; Prefect calls it after kills too."""
    identifier, monitor = str(flow_run.id), str(flow_run.parameters.get("monitor", ""))
    loop = _loop_of(flow_run)
    aborted = abort_steps(loop.ledger, flow_run_id=identifier)
    freed = release_holder(loop.ledger, identifier)
    status = "KILLED" if state.is_cancelled() or state.is_cancelling() else "FAILED"
    ended = 0
    with suppress(RevetError):  # MLflow may be the reason why we are here
        for run_id in loop.tracker.running(monitor, identifier) if monitor else []:
            loop.tracker.end(run_id, status)
            ended += 1
    _LOG.warning(
        "%s of %s ended as %s: %d ledger steps aborted, %d MLflow runs ended as %s, %d leases freed",
        flow.name, monitor or "all monitors", state.name, aborted, ended, status, freed,
    )  # fmt: skip


def _loop_of(flow_run: Any) -> Loop:
    """Return the collaborators that the flow run had, by its deployment.

    After a kill or a cancellation Prefect calls us in the worker, and a worker that was started by hand does not know
    the workspaces that it works for; its own environment would name another ledger.
    """
    from prefect.settings import PREFECT_API_URL

    api, deployment = PREFECT_API_URL.value(), flow_run.deployment_id
    environ: dict[str, str] = {}
    if api and deployment:
        with suppress(RevetError):  # without Prefect's answer our own environment is the best guess
            environ = (call("GET", api, f"/deployments/{deployment}")[1].get("job_variables") or {}).get("env", {})
    return open_loop(load_settings(**{key: environ.get(_variable(key)) for key in Settings.model_fields}))


def _variable(key: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{key.upper()}"
