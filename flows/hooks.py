"""What is put in order when a flow run fails, crashes or is cancelled: ledger steps, MLflow runs, leases."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from domain.errors import RevetError
from flows.wiring import open_loop
from registry.leases import release_holder
from registry.queues import abort_steps

_LOG = logging.getLogger(__name__)


def clean_up(flow: Any, flow_run: Any, state: Any) -> None:
    """Abort this flow run's ledger steps, end its MLflow runs, free its leases; Prefect calls it after kills too."""
    identifier, monitor = str(flow_run.id), str(flow_run.parameters.get("monitor", ""))
    loop = open_loop()
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
